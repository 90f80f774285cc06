package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
			return fmt.Errorf("-growth %s: known are 100k, 1m, 4m, wide, deep, mail1k, mail10k, and all (but mail10k)", name)
		}
		some := cases[:len(cases)-1]
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
		defer func() { err = errors.Join(err, s.sizes(c)) }()
		if err := b.time("first copy", s.name(), s.first(), true); err != nil {
			return err
		}
		for _, step := range c.steps {
			for _, cold := range []bool{true, false} {
				if err := b.step(step); err != nil {
					return fmt.Errorf("changing the source: %w", err)
				}
				what := step.what + ", cold"
				if !cold {
					what = step.what + ", with the caches that the run before left"
				}
				if err := b.time(what, s.name(), s.first(), cold); err != nil {
					return err
				}
				if step.changes > b.files/20 {
					break // once is enough
				}
			}
		}
		return b.time("nothing changed", s.name(), s.idle(""), false)
	})
}

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

// sizes notes what the catalog takes.
func (s *snapdiff) sizes(c growthCase) error {
	var sum int64
	for _, name := range []string{"catalog.db", "catalog.db-wal"} {
		if st, err := os.Stat(filepath.Join(s.store, name)); err == nil {
			sum += st.Size()
		}
	}
	say("%s: the catalog has %d bytes, %d files, %d folders", c.name, sum, len(s.tree.files), s.tree.dirs)
	return nil
}
