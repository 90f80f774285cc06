package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// snapdiff is the product: the real binary with a configuration of its own.
type snapdiff struct {
	*bench
	config, store string
	dryRun        bool // the binary can find changes without applying them
}

func (s *snapdiff) name() string   { return "snapdiff run" }
func (s *snapdiff) target() string { return s.mirror }

func (s *snapdiff) prepare(target string) error {
	s.config, s.store = filepath.Join(s.work, "snapdiff.toml"), filepath.Join(target, "store")
	text := fmt.Sprintf("[jobs.bench]\nsource = %q\nstore = %q\n", s.source, s.store)
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		return err
	}
	help, err := exec.Command(s.binary, "run", "--help").Output()
	if err != nil {
		return fmt.Errorf("%s run --help: %w", s.binary, err)
	}
	if s.dryRun = bytes.Contains(help, []byte("--dry-run")); !s.dryRun {
		say("%s has no run --dry-run: finding the changes is measured for btrfs send alone", s.binary)
	}
	return command(s.binary, "--config", s.config, "init")
}

func (s *snapdiff) command(args ...string) *exec.Cmd {
	return exec.Command(s.binary, append([]string{"--config", s.config}, args...)...)
}
func (s *snapdiff) first() *exec.Cmd                  { return s.command("run") }
func (s *snapdiff) incremental(_, _ string) *exec.Cmd { return s.command("run") }
func (s *snapdiff) idle(string) *exec.Cmd             { return s.command("run") }
func (s *snapdiff) copyOf(string) string              { return filepath.Join(s.store, "tree") }

func (s *snapdiff) find(_, _ string) *exec.Cmd {
	if !s.dryRun {
		return nil
	}
	return s.command("run", "--dry-run")
}

// rsync walks both sides.
type rsync struct {
	*bench
	copy string
}

func (r *rsync) name() string   { return "rsync -aHAX --delete" }
func (r *rsync) target() string { return r.mirror }

func (r *rsync) prepare(target string) error {
	r.copy = filepath.Join(target, "tree")
	return nil
}

func (r *rsync) from(snapshot string) *exec.Cmd {
	return exec.Command("rsync", "-aHAX", "--delete", "--exclude=/.snapdiff", snapshot+"/", r.copy+"/")
}
func (r *rsync) first() *exec.Cmd                     { return r.from(r.rounds[0].snapshot) }
func (r *rsync) incremental(_, next string) *exec.Cmd { return r.from(next) }
func (r *rsync) find(_, _ string) *exec.Cmd           { return nil }
func (r *rsync) idle(last string) *exec.Cmd           { return r.from(last) }
func (r *rsync) copyOf(string) string                 { return r.copy }

// btrfsSend needs btrfs on both sides and keeps whole snapshots.
type btrfsSend struct {
	*bench
	place string
}

func (s *btrfsSend) name() string   { return "btrfs send | receive" }
func (s *btrfsSend) target() string { return "btrfs" }

func (s *btrfsSend) prepare(target string) error {
	s.place = target
	return nil
}

func (s *btrfsSend) first() *exec.Cmd {
	return shell(`btrfs send -q "$1" | btrfs receive -q "$2"`, s.rounds[0].snapshot, s.place)
}

func (s *btrfsSend) incremental(base, next string) *exec.Cmd {
	return shell(`btrfs send -q -p "$1" "$2" | btrfs receive -q "$3"`, base, next, s.place)
}

// find is the stream without data: the nearest thing to a list of changes that btrfs itself has.
func (s *btrfsSend) find(base, next string) *exec.Cmd {
	return shell(`btrfs send -q --no-data -p "$1" "$2" | cat >/dev/null`, base, next)
}
func (s *btrfsSend) idle(string) *exec.Cmd     { return nil }
func (s *btrfsSend) copyOf(next string) string { return filepath.Join(s.place, filepath.Base(next)) }

// shell runs a pipeline of which every part must succeed.
func shell(pipeline string, args ...string) *exec.Cmd {
	return exec.Command("bash", append([]string{"-o", "pipefail", "-c", pipeline, "bash"}, args...)...)
}
