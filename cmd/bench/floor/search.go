package floor

import (
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"snapdiff/snapshot/btrfs"
)

// Search reads all leaves of a btrfs snapshot that are newer than the base, and drops what it reads. last is the highest number of
// an inode.
func Search(base, next string, last uint64, workers int) error {
	info, err := btrfs.Info(base)
	if err != nil {
		return err
	}
	snap, err := os.Open(next)
	if err != nil {
		return err
	}
	defer snap.Close()
	const parts = 128
	step := last/parts + 1
	var taken atomic.Uint64
	var g errgroup.Group
	for range workers {
		g.Go(func() error {
			cursor := btrfs.NewCursor(int(snap.Fd()), make([]byte, 256<<10))
			for {
				from := (taken.Add(1) - 1) * step
				if from > last {
					return nil
				}
				key := btrfs.SearchKey{MinObjectID: from, MaxObjectID: from + step - 1, MaxType: 255, MaxOffset: math.MaxUint64,
					MinTransid: info.OTransid + 1, MaxTransid: math.MaxUint64}
				if err := drop(cursor, key); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// drop reads what a search gives. A directory's names are there twice: once is enough.
func drop(cursor *btrfs.Cursor, key btrfs.SearchKey) error {
	const few = 64
	cursor.Most = 16 * few
	cursor.Seek(key, few)
	for {
		it, ok, err := cursor.Next()
		if err != nil || !ok {
			return err
		}
		if it.Type == btrfs.DirItemKey {
			if err := cursor.SkipTo(it.ObjectID, btrfs.DirIndexKey, few); err != nil {
				return err
			}
		}
	}
}
