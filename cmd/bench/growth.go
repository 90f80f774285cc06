package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// growthCase is one source and what happens to it. Only snapdiff is measured: the peers walk, so what grows with them is known.
type growthCase struct {
	name  string
	files int
	shape
	steps []growthStep
}

// growthStep is one change of the source.
type growthStep struct {
	what    string
	changes int
	busy    uint32 // only so many folders change; 0: all
	deliver bool   // one new file in each of so many folders
}

// growthCases are what -growth runs, by their names. Files are small, so that 4,000,000 of them fit on a disk.
func growthCases() []growthCase {
	small := shape{perDir: filesPerDir, bytes: 300}
	steps := []growthStep{{"10,000 in 200 folders", 10_000, 200, false}, {"10,000 in all folders", 10_000, 0, false}}
	return []growthCase{
		{"100k", 100_000, small, steps},
		{"1m", 1_000_000, small, append(steps[:2:2], growthStep{"1,000 in all folders", 1_000, 0, false},
			growthStep{"100,000 in all folders", 100_000, 0, false}, growthStep{"1,000,000 in all folders", 1_000_000, 0, false})},
		{"4m", 4_000_000, small, steps},
		{"wide", 1_000_000, shape{perDir: 1_000_000, bytes: 300}, []growthStep{{"1,000 in the one folder", 1_000, 0, false}}},
		{"deep", 100_000, shape{perDir: 500, bytes: 300, deep: true}, []growthStep{{"1,000 down to 200 folders deep", 1_000, 0, false}}},
		{"mail1k", 1_000_000, shape{perDir: 1_000, bytes: 300}, []growthStep{{"a message in each of 1,000 folders of 1,000", 1_000, 0, true}}},
		{"mail10k", 10_000_000, shape{perDir: 10_000, bytes: 0}, []growthStep{{"a message in each of 1,000 folders of 10,000", 1_000, 0, true}}},
	}
}

// runGrowth runs the cases that were asked for, one at a time.
func runGrowth(o options) error {
	cases := growthCases()
	for name := range strings.SplitSeq(o.growth, ",") {
		i := slices.IndexFunc(cases, func(c growthCase) bool { return c.name == name })
		if i < 0 && name != "all" {
			return fmt.Errorf("-growth %s: known are 100k, 1m, 4m, wide, deep, mail1k, mail10k, and all", name)
		}
		some := cases
		if i >= 0 {
			some = cases[i : i+1]
		}
		for _, c := range some {
			if err := o.growCase(c); err != nil {
				return fmt.Errorf("growth %s: %w", c.name, err)
			}
		}
	}
	return nil
}

// growCase makes the source of one case and measures the first copy and the runs after each step.
func (o options) growCase(c growthCase) (err error) {
	o.files, o.shape, o.title = c.files, c.shape, c.name
	return o.withSource(func(b *bench) (err error) {
		target, err := newDisk(b.work, "target", b.mirror, 2*b.files)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, target.remove()) }()
		s := &snapdiff{bench: b}
		if err := s.prepare(target.mount); err != nil {
			return err
		}
		if err := s.sizes(emptyStore); err != nil {
			return err
		}
		if err := b.time("first copy, cold", s.name(), s.first(), true); err != nil {
			return err
		}
		if err := s.sizes("first copy"); err != nil {
			return err
		}
		small := slices.IndexFunc(c.steps, s.isLarge)
		if small < 0 {
			small = len(c.steps)
		}
		if err := s.growAll(c.steps[:small]); err != nil {
			return err
		}
		// After a large change the kernel is still busy with the old snapshot for a while.
		if err := b.time("nothing changed, warm", s.name(), s.idle(""), false); err != nil {
			return err
		}
		return s.growAll(c.steps[small:])
	})
}

func (s *snapdiff) growAll(steps []growthStep) error {
	for _, step := range steps {
		if err := s.grow(step); err != nil {
			return err
		}
	}
	return nil
}

// grow measures the runs after one step, cold and with what the run before left in memory. Large ones take turns once: a sample that
// something disturbed shows less there.
func (s *snapdiff) grow(step growthStep) error {
	repeat := s.repeat
	if s.isLarge(step) {
		repeat = 1
	}
	for n := range 2 * repeat {
		cold := n%2 == 0
		if !cold && s.isLarge(step) {
			break
		}
		if err := s.step(step); err != nil {
			return fmt.Errorf("changing the source: %w", err)
		}
		what := step.what + ", cold"
		if !cold {
			what = step.what + ", warm"
		}
		if err := s.time(what, s.name(), s.first(), cold); err != nil {
			return err
		}
		if err := s.sizes(step.what); err != nil {
			return err
		}
	}
	return nil
}

// isLarge tells a step that changes more than a twentieth of the files.
func (s *snapdiff) isLarge(step growthStep) bool { return step.changes > s.files/20 }

func (b *bench) step(s growthStep) error {
	release, err := b.hold()
	if err != nil {
		return err
	}
	defer release()
	b.tree.busy = s.busy
	if s.deliver {
		return b.tree.deliver(s.changes)
	}
	return b.tree.change(s.changes)
}

// emptyStore is when the source is full and nothing was copied yet.
const emptyStore = "an empty store"

const sourceRoom = "source and its snapshots"

// sizes notes what catalog, mirror with history, and source take on their disks.
func (s *snapdiff) sizes(after string) error {
	catalog := int64(0)
	for _, name := range []string{"catalog.db", "catalog.db-wal"} {
		if st, err := os.Stat(filepath.Join(s.store, name)); err == nil {
			catalog += st.Size()
		}
	}
	if err := command("sync"); err != nil { // btrfs gives room only then
		return err
	}
	for _, d := range []struct {
		who, path string
		less      int64
	}{{"mirror and history", s.store, catalog}, {sourceRoom, s.snapshots, 0}} {
		var st unix.Statfs_t
		if err := unix.Statfs(d.path, &st); err != nil {
			return err
		}
		s.add(figure{what: after, who: d.who, room: int64(st.Blocks-st.Bfree)*st.Bsize - d.less})
	}
	s.add(figure{what: after, who: "catalog", room: catalog})
	return nil
}
