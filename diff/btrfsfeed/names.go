package btrfsfeed

import (
	"bytes"
	"fmt"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// names gives the names that went from and came into a directory. It is diff.Reader.Names.
//
// The name's item tells when it was put there, and btrfs keeps twice the sum of the lengths of a directory's names as its
// size: if the names that are newer than the base make up for all of the growth, then none went, and only the leaves that hold
// new names are read.
func (r *reader) names(dir uint64) (went, came []diff.Entry, err error) {
	base, err := r.base.inode(dir)
	if err != nil {
		return nil, nil, err
	}
	next, err := r.next.inode(dir)
	if err != nil {
		return nil, nil, err
	}
	if grown := r.grown[dir]; grown != noProof && next.item.Size == base.item.Size+grown {
		if grown > 0 {
			came, err = r.newer(dir)
		}
		return nil, came, err
	}
	return r.unlike(dir)
}

// newer gives the names in a directory that were put there after the base was taken.
func (r *reader) newer(dir uint64) (came []diff.Entry, err error) {
	key := btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey)
	key.MinTransid = r.bound + 1
	r.next.apart.Seek(key, 0)
	for {
		it, ok, err := r.next.apart.Next()
		if err == nil && ok {
			came, err = appendEntries(came, it, func(d btrfs.DirItem) bool { return d.Transid > r.bound })
		}
		if err != nil {
			return nil, fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
		if !ok {
			return came, nil
		}
	}
}

// putBeside tells the name of a snapshot that was taken in the same transaction as the base. Nothing else that carries the bound
// is not in the base: to take a snapshot puts its name into a directory after the tree was copied.
func putBeside(d btrfs.DirItem, bound uint64) bool {
	return d.Transid == bound && d.Location.Type == btrfs.RootItemKey
}

// unlike reads a directory whole on both sides. An item that is there on both is the same name of the same inode: it has
// its place in the directory and its transaction in it.
func (r *reader) unlike(dir uint64) (went, came []diff.Entry, err error) {
	key := btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey)
	b, n := r.base.apart, r.next.apart
	b.Seek(key, 0)
	n.Seek(key, 0)
	every := func(btrfs.DirItem) bool { return true }
	for {
		bi, inBase, err := b.Peek()
		if err != nil {
			return nil, nil, fmt.Errorf("reading directory %d of the base by tree search: %w", dir, err)
		}
		ni, inNext, err := n.Peek()
		if err != nil {
			return nil, nil, fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
		if !inBase && !inNext {
			return went, came, nil
		}
		// Of two the one that comes first; both where they have one place.
		inBase, inNext = inBase && (!inNext || bi.Offset <= ni.Offset), inNext && (!inBase || ni.Offset <= bi.Offset)
		same := inBase && inNext && bytes.Equal(bi.Data, ni.Data)
		if inBase && !same {
			went, err = appendEntries(went, bi, every)
		}
		if inNext && !same && err == nil {
			came, err = appendEntries(came, ni, every)
		}
		if inBase && err == nil {
			_, _, err = b.Next()
		}
		if inNext && err == nil {
			_, _, err = n.Next()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
	}
}
