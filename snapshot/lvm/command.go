package lvm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
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

// command is a program that is not yet started. It is killed when ctx ends.
func command(ctx context.Context, name string, args ...string) (*exec.Cmd, error) {
	path, err := tool(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	// Messages and figures in the form that is parsed here; and our own descriptors are no leak, they close on exec.
	cmd.Env = snapshot.Environ("LVM_SUPPRESS_FD_WARNINGS=1")
	// A Ctrl-C at the terminal is for us: a command of LVM's that dies halfway leaves a volume suspended.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// ask runs a program and gives its output. It is killed when ctx ends.
func ask(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd, err := command(ctx, name, args...)
	if err != nil {
		return nil, err
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, &CommandError{Command: name + " " + strings.Join(args, " "), Text: complaint(errs.String()), Err: err}
	}
	return out.Bytes(), nil
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
