package inodefeed

import (
	"context"
	"fmt"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// tick is longer than the steps in which kernels let the time of a change go on: a jiffy, 10 ms at most, and more in a virtual machine whose processor for
// that is made to wait.
const tick = time.Second

// Carry gives the inodes of a snapshot of which the next one's bytes on the device may not tell that they changed: those that changed in the very
// moment in which it was taken (what is written to them right after it may leave even the time of change as it is), and swap files. They must be
// handed to the next Diff
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
		if err == nil && carries(s, fs, num, &i) {
			keys = append(keys, diff.Key{Ino: num, Gen: i.Gen})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for inodes whose changes may not show: %w", err)
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
