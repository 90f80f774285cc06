package inodefeed

import (
	"context"
	"fmt"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// tick is longer than the steps in which kernels let the time of a change go on (a jiffy, 10 ms at most).
const tick = 20 * time.Millisecond

// Carry gives the inodes of a snapshot that changed in the very moment in which it was taken: what is written to them right
// after it may leave their bytes on the device as they are, the time of change too. They must be handed to the next Diff
// that has this snapshot as its base, in Side.Carried, where they are compared with everything that they hold. Diff gives those of
// its new snapshot: Carry reads all inodes of one that was not compared.
func Carry(ctx context.Context, s Side) ([]diff.Key, error) {
	fs, err := open(s)
	if err != nil {
		return nil, err
	}
	all := lvm.Blocks{{Len: s.Size}}
	fs = fs.over(all)
	var keys []diff.Key
	err = fs.scan(ctx, all, func(num uint64) error {
		i, _, err := lookUp(fs, num)
		if err == nil && i.changedAround(s.Taken) {
			keys = append(keys, diff.Key{Ino: num, Gen: i.Gen})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for inodes that changed while the snapshot was taken: %w", err)
	}
	return keys, nil
}

// changedAround tells an inode that may have changed in the moment in which a snapshot was begun, or later.
func (i *inode) changedAround(taken time.Time) bool {
	from := taken.Add(-tick)
	if i.coarse {
		from = from.Add(-time.Second)
	}
	return time.Unix(i.ctimeSec, int64(i.ctimeNsec)).After(from)
}
