package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot"
)

// ErrNoTool says that a program which LVM sources need is not installed.
var ErrNoTool = errors.New("is not installed")

// packages are those that the programs come in, by their names on Debian and Fedora.
var packages = map[string]string{
	"lvm": "lvm2", "lvs": "lvm2", "lvcreate": "lvm2", "lvremove": "lvm2", "lvchange": "lvm2",
	"thin_delta": "thin-provisioning-tools (Fedora: device-mapper-persistent-data)",
}

// tool finds a program; cron's PATH lacks the directories of the administrator's tools.
func tool(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		path := filepath.Join(dir, name)
		if unix.Access(path, unix.X_OK) == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s %w: install %s", name, ErrNoTool, packages[name])
}

// ask runs a program that changes nothing and gives its output.
func ask(ctx context.Context, name string, args ...string) ([]byte, error) {
	return run(ctx, nil, name, args...)
}

// run runs a program and gives its output. It is killed when ctx ends.
func run(ctx context.Context, in io.Reader, name string, args ...string) ([]byte, error) {
	path, err := tool(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	// Messages and figures in the form that is parsed here; and our own descriptors are no leak, they close on exec.
	cmd.Env = snapshot.Environ("LVM_SUPPRESS_FD_WARNINGS=1")
	// A Ctrl-C at the terminal is for us: a command of LVM's that dies halfway leaves a volume suspended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &CommandError{Command: name + " " + strings.Join(args, " "), Text: complaint(errs.String()), Err: err}
	}
	return out.Bytes(), nil
}

// change runs a program that changes something. It is not begun when ctx has ended, and then runs to its end.
func change(ctx context.Context, name string, args ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := ask(context.WithoutCancel(ctx), name, args...)
	return err
}

// changeAll runs several commands of LVM's that change something, in order, up to the first that fails: as a script (lvm(8)),
// since nearly all of the time that a command takes is the start of its process.
func changeAll(ctx context.Context, commands ...[]string) error {
	script, ok := scriptOf(commands)
	if len(commands) == 1 || !ok {
		for _, words := range commands {
			if err := change(ctx, words[0], words[1:]...); err != nil {
				return err
			}
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := run(context.WithoutCancel(ctx), strings.NewReader(script), "lvm", "/proc/self/fd/0")
	return err
}

// scriptWord is a word that stands for itself in a script of LVM's.
var scriptWord = regexp.MustCompile(`^[A-Za-z0-9+_./=:@%-]+$`)

// scriptOf makes a script. false: a script cannot say it; its lines have 255 bytes at most (CMD_LEN, tools/lvmcmdline.c).
func scriptOf(commands [][]string) (string, bool) {
	var script strings.Builder
	script.WriteString("#!lvm\n")
	for _, words := range commands {
		for _, word := range words {
			if !scriptWord.MatchString(word) {
				return "", false
			}
		}
		line := strings.Join(words, " ")
		if len(line) > 250 {
			return "", false
		}
		script.WriteString(line + "\n")
	}
	return script.String(), true
}

// CommandError is a failed command of LVM's, in its own words.
type CommandError struct {
	Command string
	Text    string // what it said, in one line, without its warnings
	Err     error
}

// Error is what the command said.
func (e *CommandError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("%s: %v", e.Command, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Command, e.Text)
}

// Unwrap gives the exit status.
func (e *CommandError) Unwrap() error { return e.Err }

// complaint leaves LVM's warnings out, which come with every command, unless there is nothing else.
func complaint(text string) string {
	var all, errs []string
	for _, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		all = append(all, line)
		if !strings.HasPrefix(line, "WARNING:") {
			errs = append(errs, line)
		}
	}
	if len(errs) == 0 {
		errs = all
	}
	return strings.Join(errs, "; ")
}
