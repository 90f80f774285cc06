package btrfsfeed

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/btrfs"
)

// Subvolume is one of several snapshots that are compared as one tree.
type Subvolume struct {
	Number uint64 // see diff.ChildIno; 0 is the source
	Dir    string // where it is in the tree
	Root   *beneath.Root
	Bound  uint64 // its otransid
}

// Snapshots are those of a source and of the subvolumes nested in it, taken together.
type Snapshots struct {
	// Whole shows all of them as one tree.
	Whole *beneath.Root
	All   []Subvolume
}

// parts tells how they lie in each other.
func (s Snapshots) parts() (*diff.Parts, error) {
	places := make([]diff.Place, len(s.All))
	for i, v := range s.All {
		places[i] = diff.Place{Number: v.Number, Dir: v.Dir, Top: btrfs.FirstInode}
	}
	return diff.PartsOf(s.Whole, places)
}

// DiffAll is Diff for the snapshots of several subvolumes. Of those that are in both the caller has proved that the next descends from the base.
func DiffAll(ctx context.Context, base, next Snapshots, opts diff.Options) (*diff.ChangeSet, error) {
	from, err := base.parts()
	if err != nil {
		return nil, err
	}
	to, err := next.parts()
	if err != nil {
		return nil, err
	}
	workers := workersOf(opts)
	both := map[uint64]*pair{}
	for _, v := range base.All {
		both[v.Number] = &pair{base: v.Root.FD(), bound: v.Bound}
	}
	for _, v := range next.All {
		p := both[v.Number]
		if p == nil {
			p = &pair{} // a new one: all its inodes are newer than that
			both[v.Number] = p
		}
		p.next = v.Root.FD()
	}
	list, err := allCandidates(ctx, next.All, both, workers)
	if err != nil {
		return nil, err
	}
	forests := make([]diff.Forest, min(workers, 1+len(list)/16))
	for i := range forests {
		forests[i] = &forest{both, reader{base: newTree(-1), next: newTree(-1), remounted: opts.Remounted, baseRoot: base.Whole, nextRoot: next.Whole, buf: diff.Buffers{Pace: opts.Pace}}}
	}
	set, err := diff.CompareJoined(ctx, from, to, forests, list, opts)
	if err != nil {
		return nil, fmt.Errorf("comparing btrfs snapshots: %w", err)
	}
	return set, nil
}

// allCandidates are those of all subvolumes, in joined numbers. There may be many small ones: they are searched side by side.
func allCandidates(ctx context.Context, all []Subvolume, both map[uint64]*pair, workers int) ([]diff.Candidate, error) {
	lists := make([][]diff.Candidate, len(all))
	atOnce := min(workers, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for i, v := range all {
		group.Go(func() error {
			p := both[v.Number]
			list, err := candidates(ctx, p.next, p.bound, workers/atOnce)
			for j := range list {
				if err == nil {
					list[j].Num, err = diff.ChildIno(v.Number, list[j].Num)
				}
			}
			lists[i] = list
			return err
		})
	}
	err := group.Wait()
	return slices.Concat(lists...), err
}

// pair is one subvolume in both snapshots, or in one of them.
type pair struct {
	base, next int // descriptors
	bound      uint64
}

// forest is a diff.Forest: one reader, which goes from subvolume to subvolume. There may be thousands.
type forest struct {
	all map[uint64]*pair
	reader
}

// BaseTree implements diff.Forest.
func (f *forest) BaseTree(number uint64) diff.Tree {
	f.base.use(f.all[number].base)
	return f.base
}

// NextTree implements diff.Forest.
func (f *forest) NextTree(number uint64) diff.Tree {
	f.next.use(f.all[number].next)
	return f.next
}

// Compare implements diff.Forest.
func (f *forest) Compare(number uint64) (diff.Content, func(uint64) (went, came []diff.Entry, whole bool, err error)) {
	f.bound = f.all[number].bound
	return f.content, f.names
}

// use makes a tree that of another snapshot.
func (t *tree) use(fd int) {
	ahead, apart := t.ahead, t.apart
	ahead.Use(fd)
	apart.Use(fd)
	*t = tree{fd: fd, ahead: ahead, apart: apart}
}
