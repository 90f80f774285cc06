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
// that has this snapshot as its base, in Side.Carried, where they are compared with everything that they hold.
//
// changed are the blocks that may differ from the snapshot before, as for Diff; all of the device where there is none.
// taken is a time, by the clock of the machine that has the source mounted, at which the snapshot was not yet begun.
func Carry(ctx context.Context, s Side, changed lvm.Blocks, taken time.Time) ([]diff.Key, error) {
	fs, err := open(s)
	if err != nil {
		return nil, err
	}
	fs = fs.over(changed)
	since := taken.Add(-tick)
	var keys []diff.Key
	err = fs.scan(ctx, changed, func(num uint64) error {
		i, _, err := lookUp(fs, num)
		if err != nil {
			return err
		}
		from := since
		if i.coarse {
			from = since.Add(-time.Second)
		}
		if time.Unix(i.ctimeSec, int64(i.ctimeNsec)).After(from) {
			keys = append(keys, diff.Key{Ino: num, Gen: i.Gen})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("looking for inodes that changed while the snapshot was taken: %w", err)
	}
	return keys, nil
}
