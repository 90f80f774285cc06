package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/demofs"
)

func newDemoCommand(*app) *cobra.Command {
	return &cobra.Command{
		Use:     "demo",
		Example: "  sudo snapdiff demo",
		Short:   "Show the whole story on a throw-away filesystem",
		Long: `Makes a small btrfs in a file, a mail store on it, a first run, a day's changes and a second run, and checks the
mirror with rsync if it is there. It takes a few seconds, needs root and removes all that it made.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// demoStage is where the demo plays.
type demoStage struct {
	ctx            context.Context
	stdout, stderr io.Writer
	dir            string     // everything is below
	fs             *demofs.FS // the source's
	mail           string     // the source, a mounted btrfs
	store          string
	config         string
}

// demo plays the whole story and cleans up, whatever happens.
func demo(ctx context.Context, stdout, stderr io.Writer) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the demo mounts a filesystem: run it as root (sudo snapdiff demo)")
	}
	dir, err := os.MkdirTemp("", "snapdiff-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	d := &demoStage{ctx: ctx, stdout: stdout, stderr: stderr, dir: dir, mail: filepath.Join(dir, "mail"),
		store: filepath.Join(dir, "backup"), config: filepath.Join(dir, "snapdiff.toml")}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	for _, step := range []func() error{d.mount, d.configure, d.firstDay, d.secondDay, d.restore, d.check} {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// mount makes a btrfs in a sparse file and mounts it.
func (d *demoStage) mount() (err error) {
	if err := os.Mkdir(d.mail, 0o755); err != nil {
		return fmt.Errorf("make a place for the demo's filesystem: %w", err)
	}
	d.fs, err = demofs.Mount(filepath.Join(d.dir, "image"), d.mail, demofs.MinSize)
	return err
}

// cleanUp removes all that the demo made.
func (d *demoStage) cleanUp() error {
	if d.fs != nil {
		if err := d.fs.Close(); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

func (d *demoStage) configure() error {
	text := fmt.Sprintf("[jobs.mail]\nsource = %q\nstore  = %q\n", d.mail, d.store)
	if err := os.WriteFile(d.config, []byte(text), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(d.stdout, "# %s\n%s\n", d.config, text)
	return d.snapdiff("init")
}

const (
	demoUsers    = 20
	demoMessages = 100
)

// firstDay fills the mail store and makes the first run.
func (d *demoStage) firstDay() error {
	for user := range demoUsers {
		box := filepath.Join(d.mail, fmt.Sprintf("user%02d", user), "inbox")
		if err := os.MkdirAll(box, 0o700); err != nil {
			return err
		}
		for message := range demoMessages {
			if err := writeMessage(box, message); err != nil {
				return err
			}
		}
	}
	fmt.Fprintf(d.stdout, "\nA mail store of %d users with %d messages each. The first run copies it:\n", demoUsers, demoMessages)
	return d.snapdiff("run", "--verbose")
}

func writeMessage(box string, number int) error {
	text := fmt.Sprintf("Subject: message %d\n\n%s", number, strings.Repeat("All is well.\n", 50+number))
	return os.WriteFile(filepath.Join(box, fmt.Sprintf("%04d.eml", number)), []byte(text), 0o600)
}

// secondDay changes a little of everything and makes the second run.
func (d *demoStage) secondDay() error {
	at := func(elements ...string) string { return filepath.Join(append([]string{d.mail}, elements...)...) }
	err := errors.Join(
		writeMessage(at("user00", "inbox"), demoMessages),
		writeMessage(at("user01", "inbox"), 7777),
		os.Remove(at("user02", "inbox", "0003.eml")),
		os.Rename(at("user03"), at("user03-moved-to-another-name")),
		os.Rename(at("user04", "inbox", "0001.eml"), at("user05", "inbox", "from-user04.eml")),
		os.Link(at("user06", "inbox", "0001.eml"), at("user07", "inbox", "hard-link.eml")),
		os.Chmod(at("user08", "inbox", "0001.eml"), 0o640),
		os.Truncate(at("user09", "inbox", "0001.eml"), 100),
		os.RemoveAll(at("user10")),
		os.Symlink("inbox/0001.eml", at("user11", "newest")),
	)
	if err != nil {
		return err
	}
	fmt.Fprint(d.stdout, "\nA day later: new, deleted, moved, linked and changed mail; one user renamed, one removed. The second run touches just that:\n")
	if err := d.snapdiff("run", "--verbose"); err != nil {
		return err
	}
	fmt.Fprint(d.stdout, "\nWhat changed:\n")
	if err := d.beginning(12, "diff"); err != nil {
		return err
	}
	fmt.Fprint(d.stdout, "\nThe restore points:\n")
	return d.snapdiff("list")
}

// beginning runs a command line of our own and shows so many of the lines that it prints.
func (d *demoStage) beginning(lines int, args ...string) error {
	var out strings.Builder
	stdout, stderr := d.stdout, d.stderr
	d.stdout, d.stderr = &out, &out
	err := d.snapdiff(args...)
	d.stdout, d.stderr = stdout, stderr
	all := strings.SplitAfter(strings.TrimSuffix(out.String(), "\n"), "\n")
	rest := max(0, len(all)-lines-1) // the first is the command line
	fmt.Fprint(d.stdout, strings.Join(all[:len(all)-rest], ""))
	if rest > 0 {
		fmt.Fprintf(d.stdout, "... and %d more", rest)
	}
	fmt.Fprintln(d.stdout)
	return err
}

// restore brings back what the second day deleted.
func (d *demoStage) restore() error {
	fmt.Fprint(d.stdout, "\nWhat the second day deleted is still there:\n")
	return d.snapdiff("restore", "r1", "user10/inbox/0007.eml", filepath.Join(d.dir, "restored.eml"))
}

// check lets rsync compare the mirror with the source, which has not changed since the run.
func (d *demoStage) check() error {
	if _, err := exec.LookPath("rsync"); err != nil {
		fmt.Fprintf(d.stdout, "\nrsync is not there: the mirror was not compared with the source.\n")
		return nil
	}
	args := []string{"-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes", "--exclude=/.snapdiff",
		d.mail + "/", filepath.Join(d.store, "tree") + "/"}
	out, err := exec.CommandContext(d.ctx, "rsync", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		return fmt.Errorf("rsync finds that the mirror differs from the source (%v):\n%s", err, out)
	}
	fmt.Fprintf(d.stdout, "\nrsync --checksum compares source and mirror and finds no difference.\n")
	return nil
}

// snapdiff runs a command line of our own and shows it.
func (d *demoStage) snapdiff(args ...string) error {
	fmt.Fprintf(d.stdout, "$ snapdiff %s\n", strings.Join(args, " "))
	root := newRootCommand(&app{aligned: true, throwAway: true})
	root.SetArgs(append([]string{"--config", d.config}, args...))
	root.SetOut(d.stdout)
	root.SetErr(d.stderr)
	return root.ExecuteContext(d.ctx)
}
