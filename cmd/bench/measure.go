package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// bench is one run: rounds of changes to one source, each held in a snapshot, and what was measured.
type bench struct {
	options
	work, source, snapshots string
	tree                    *tree
	rounds                  []round
	figures                 []figure
}

// round is one set of changes; round 0 is the source as made.
type round struct {
	cold     bool
	snapshot string // read-only, made by the bench
}

// figure is one measurement. Figures with the same what and who are repetitions.
type figure struct {
	what, who string
	command   string // for people, see shown
	seconds   float64
	peak      int64 // bytes, of the largest single process; 0: not told
	room      int64 // bytes that something takes on a disk, where nothing was timed
}

// contestant is one way to keep a copy. prepare gets an empty mounted target. find, incremental and idle may do nothing.
type contestant interface {
	name() string
	target() string // filesystem
	prepare(target string) error
	first() *exec.Cmd
	incremental(base, next string) *exec.Cmd
	find(base, next string) *exec.Cmd
	idle(last string) *exec.Cmd
	copyOf(next string) string // where the copy of the snapshot lies
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...) }

// makeSource fills the source and takes the first snapshot. Later rounds are made while snapdiff, which takes its own
// snapshots, is measured; the others then find them all.
func (b *bench) makeSource() error {
	say("making %d files", b.files)
	if err := command("btrfs", "subvolume", "create", b.source); err != nil {
		return err
	}
	release, err := b.hold()
	if err != nil {
		return err
	}
	defer release()
	if b.tree, err = newTree(b.source, b.files, b.seed, b.shape); err != nil {
		return err
	}
	return b.newRound(false)
}

func (b *bench) newRound(cold bool) error {
	path := filepath.Join(b.snapshots, fmt.Sprintf("round-%d", len(b.rounds)))
	b.rounds = append(b.rounds, round{cold, path})
	if err := command("sync"); err != nil { // as snapdiff does
		return err
	}
	return command("btrfs", "subvolume", "snapshot", "-r", b.source, path)
}

// round gives round n, making it if nobody has yet: cold and warm take turns.
func (b *bench) round(n int) (round, error) {
	if n == len(b.rounds) {
		if err := b.step(growthStep{changes: b.changes}); err != nil {
			return round{}, fmt.Errorf("changing the source: %w", err)
		}
		if err := b.newRound(n%2 == 1); err != nil {
			return round{}, err
		}
	}
	return b.rounds[n], nil
}

// measure takes one contestant through all rounds, on a target of its own.
func (b *bench) measure(c contestant) (err error) {
	target, err := newDisk(b.work, "target", c.target(), 2*b.files)
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, target.remove(), os.Remove(target.mount)) }()
	if err := c.prepare(target.mount); err != nil {
		return err
	}
	if err := b.time("first copy, cold", c.name(), c.first(), true, b.source, target.mount); err != nil {
		return err
	}
	if once, ok := c.(interface{ once() bool }); ok && once.once() {
		return nil
	}
	for n := 1; n <= 2*b.repeat; n++ {
		next, err := b.round(n)
		if err != nil {
			return err
		}
		base, temp := b.rounds[n-1].snapshot, "warm"
		if next.cold {
			temp = "cold"
		}
		for _, step := range []struct {
			what string
			cmd  *exec.Cmd
		}{
			{"finding the changes", c.find(base, next.snapshot)},
			{"incremental run", c.incremental(base, next.snapshot)},
		} {
			if err := b.time(step.what+", "+temp, c.name(), step.cmd, next.cold, next.snapshot, target.mount); err != nil {
				return err
			}
		}
		if err := b.check(c, next.snapshot); err != nil {
			return err
		}
	}
	return b.time("nothing changed, warm", c.name(), c.idle(b.rounds[2*b.repeat].snapshot), false, b.source, target.mount)
}

// time runs one command and keeps its figure. Before a cold one the caches are dropped; before a warm one the names and
// inodes of both sides are read, so that no contestant profits from what another left in memory.
func (b *bench) time(what, who string, cmd *exec.Cmd, cold bool, sides ...string) error {
	if cmd == nil {
		return nil
	}
	job := timedJob{Args: cmd.Args, Env: cmd.Env, Cold: cold, Btrfs: b.snapshots}
	if !cold {
		job.Warm = sides
	}
	t, err := b.timing(job)
	if err != nil {
		return err
	}
	b.add(figure{what: what, who: who, command: b.shown(cmd.Args), seconds: t.Seconds, peak: t.Peak})
	for line := range strings.Lines(t.Output) { // of the floor
		var seconds float64
		if n, _ := fmt.Sscanf(line, "part %f", &seconds); n == 1 {
			b.add(figure{what: what, who: who + ": " + strings.TrimSpace(strings.SplitN(line, " ", 3)[2]), seconds: seconds})
		}
	}
	return nil
}

func (b *bench) add(f figure) {
	if f.room > 0 {
		say("%-44s %-24s %12d bytes", f.what, f.who, f.room)
	} else {
		say("%-44s %-24s %8.2f s %5d MB", f.what, f.who, f.seconds, f.peak>>20)
	}
	b.figures = append(b.figures, f)
	b.keep(f)
}

// check lets rsync judge snapdiff's mirror and that of the floor, when asked to. (rsync's own copy would not pass: it takes times of the same
// second for equal unless told otherwise.)
func (b *bench) check(c contestant, snapshot string) error {
	switch c.(type) {
	case *snapdiff, *bare:
	default:
		return nil
	}
	if !b.verify {
		return nil
	}
	out, err := exec.Command("rsync", "-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes",
		"--exclude=/.snapdiff", snapshot+"/", c.copyOf(snapshot)+"/").CombinedOutput()
	if err == nil && len(out) > 0 {
		err = errors.New("they differ")
	}
	if err != nil {
		return fmt.Errorf("comparing the copy with %s: %w\n%.2000s", snapshot, err, out)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
