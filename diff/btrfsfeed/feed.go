// Package btrfsfeed asks btrfs which inodes changed between two snapshots and lets diff work out the change set.
//
// Everything is read by BTRFS_IOC_TREE_SEARCH_V2; no btrfs-progs are needed. The bound is the base's otransid, the
// transaction in which it was taken: every later change gives the inode item a higher transid. The base's generation is
// no bound, since a balance raises it.
package btrfsfeed

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Diff gives the change set between the snapshots opened as base and next. bound is the base's otransid. The caller has
// proved that next descends from base.
func Diff(ctx context.Context, base, next *beneath.Root, bound uint64, opts diff.Options) (*diff.ChangeSet, error) {
	workers := workersOf(opts)
	list, err := candidates(ctx, next.FD(), bound, workers)
	if err != nil {
		return nil, err
	}
	readers := make([]diff.Reader, min(workers, 1+len(list)/16))
	for i := range readers {
		r := &reader{base: newTree(base.FD()), next: newTree(next.FD()), bound: bound, remounted: opts.Remounted, baseRoot: base, nextRoot: next, buf: diff.Buffers{Pace: opts.Pace}}
		readers[i] = diff.Reader{Base: r.base, Next: r.next, Content: r.content, Names: r.names}
	}
	set, err := diff.CompareWith(ctx, readers, list, opts)
	if err != nil {
		return nil, fmt.Errorf("comparing two btrfs snapshots: %w", err)
	}
	return set, nil
}

func workersOf(opts diff.Options) int {
	if opts.Workers > 0 {
		return opts.Workers
	}
	return min(max(2*runtime.NumCPU(), 6), 16) // cold, they wait for the disk most of the time
}

// Keys gives the identity of any inode of one snapshot by its number. It may be used by several goroutines at once.
func Keys(snap *beneath.Root) func(path string, ino uint64) (diff.Key, error) {
	trees := sync.Pool{New: func() any { return newTree(snap.FD()) }}
	return func(path string, ino uint64) (diff.Key, error) {
		t := trees.Get().(*tree)
		defer trees.Put(t)
		if ino == emptySubvolume {
			return t.subvolumeKey(snap, path)
		}
		i, ok, err := t.Inode(ino)
		if err == nil && !ok {
			err = fmt.Errorf("inode %d of %q: %w", ino, path, diff.ErrNoInode)
		}
		return diff.Key{Ino: ino, Gen: i.Gen}, err
	}
}

// subvolumeKey is the key of the placeholder at path. All placeholders show one inode number: which subvolume was nested
// there, only the directory tells.
func (t *tree) subvolumeKey(snap *beneath.Root, path string) (key diff.Key, err error) {
	cut := strings.LastIndexByte(path, '/')
	st, err := snap.Lstat(path[:max(cut, 0)])
	if err != nil {
		return key, err
	}
	err = t.Entries(st.Ino, func(e diff.Entry) error {
		if e.Sub && e.Name == path[cut+1:] {
			key = diff.PlaceholderKey(e.Ino)
		}
		return nil
	})
	if err == nil && key == (diff.Key{}) {
		err = fmt.Errorf("no subvolume was nested at %q", path)
	}
	return key, err
}
