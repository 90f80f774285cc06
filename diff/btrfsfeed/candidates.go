package btrfsfeed

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// candidates finds all inodes whose item was written after the bound. The kernel skips every node of the tree that is not newer.
// The tree is searched in pieces by many goroutines: cold, each waits for the disk.
//
// One thing carries the bound itself and is still not in the base: the name of a snapshot that was taken in the same
// transaction (see putBeside). So leaves of the bound's own transaction are searched too, for directories with such a name.
func candidates(ctx context.Context, fd int, bound uint64, workers int) ([]diff.Candidate, error) {
	starts, err := pieces(fd)
	if err != nil {
		return nil, err
	}
	parts := make([][]diff.Candidate, len(starts)-1)
	var taken atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(workers, len(parts)) {
		group.Go(func() error {
			cursor, done := borrow(fd)
			defer done()
			cursor.Most = 16 * fewNames
			s := search{ctx: ctx, cursor: cursor, bound: bound}
			for {
				i := int(taken.Add(1)) - 1
				if i >= len(parts) {
					return nil
				}
				s.list = nil
				if err := s.piece(starts[i], starts[i+1]); err != nil {
					return fmt.Errorf("searching for inodes newer than transaction %d: %w", bound, err)
				}
				parts[i] = s.list
			}
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	list := slices.Concat(parts...)
	return list, complete(list, fd)
}

// buffers are those of searches.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// borrow gives a cursor for a short time.
func borrow(fd int) (cursor *btrfs.Cursor, done func()) {
	buf := buffers.Get().(*[]byte)
	return btrfs.NewCursor(fd, *buf), func() { buffers.Put(buf) }
}

// complete looks up the directories of which only a name was seen.
func complete(list []diff.Candidate, fd int) error {
	var t *tree
	for i, k := range list {
		if k.Gen > 0 {
			continue
		}
		if t == nil {
			t = newTree(fd)
		}
		info, _, err := t.Inode(k.Num)
		if err != nil {
			return err
		}
		list[i].Gen = info.Gen
	}
	return nil
}

// highest is the last number that an inode can have (BTRFS_LAST_FREE_OBJECTID).
const highest = maxU64 - 256

// pieces cuts the numbers that are in use into equal parts: each begins at one number of the list and ends before the next.
func pieces(fd int) ([]uint64, error) {
	const parts, least = 128, 512 // of fewer numbers each is not worth a search
	cursor, done := borrow(fd)
	defer done()
	top := uint64(2 * btrfs.FirstInode) // there may be hundreds of small subvolumes: it is looked for from below
	for ; top < highest/2; top *= 2 {
		key := btrfs.Of(top, 0, 255)
		key.MaxObjectID = highest
		cursor.Seek(key, 1)
		_, ok, err := cursor.Peek()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
	}
	step := max((top-btrfs.FirstInode)/parts, least)
	var starts []uint64
	for at := uint64(btrfs.FirstInode); at < top && len(starts) < parts; at += step {
		starts = append(starts, at)
	}
	return append(starts, highest+1), nil
}

// search is one goroutine that searches.
type search struct {
	list   []diff.Candidate // by number
	ctx    context.Context
	cursor *btrfs.Cursor
	bound  uint64
}

// fewNames is how many items are read at first where many may follow that nobody wants: the names of a directory.
const fewNames = 64

// piece searches the inodes from one number up to before another. The names in a directory that is a candidate are left to names; of
// the others only the DirIndexKey items are read, which tell the same as the DirItemKey items in fewer leaves.
func (s *search) piece(from, to uint64) error {
	s.cursor.Seek(btrfs.SearchKey{
		MinObjectID: from, MaxObjectID: to - 1, MaxType: 255, MaxOffset: maxU64, MinTransid: s.bound, MaxTransid: maxU64,
	}, fewNames)
	for n := 0; ; n++ {
		if n%4096 == 0 && s.ctx.Err() != nil {
			return s.ctx.Err()
		}
		it, ok, err := s.cursor.Next()
		if err != nil || !ok {
			return err
		}
		switch it.Type {
		case btrfs.InodeItemKey:
			err = s.inode(it)
		case btrfs.DirItemKey, btrfs.DirIndexKey:
			switch {
			case s.has(it.ObjectID):
				err = s.cursor.SkipTo(it.ObjectID+1, 0, fewNames)
			case it.Type == btrfs.DirItemKey:
				err = s.cursor.SkipTo(it.ObjectID, btrfs.DirIndexKey, fewNames)
			default:
				err = s.name(it)
			}
		}
		if err != nil {
			return err
		}
	}
}

// has tells that the inode at which the search is is a candidate.
func (s *search) has(num uint64) bool {
	n := len(s.list)
	return n > 0 && s.list[n-1].Num == num
}

func (s *search) inode(it btrfs.Item) error {
	inode, err := btrfs.DecodeInodeItem(it.Data)
	if err == nil && inode.Transid > s.bound {
		s.list = append(s.list, diff.Candidate{Num: it.ObjectID, Gen: inode.Generation, Type: inode.Mode & unix.S_IFMT})
	}
	return err
}

// name makes a candidate of a directory for a name in it; see complete.
func (s *search) name(it btrfs.Item) error {
	for data := it.Data; len(data) > 0; {
		d, rest, err := btrfs.CutDirItem(data)
		if err != nil {
			return err
		}
		if putBeside(d, s.bound) {
			s.list = append(s.list, diff.Candidate{Num: it.ObjectID, Type: unix.S_IFDIR})
			return nil
		}
		data = rest
	}
	return nil
}
