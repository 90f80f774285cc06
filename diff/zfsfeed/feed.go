// Package zfsfeed finds out from an incremental send stream (zfs send -i) which inodes changed between two ZFS snapshots and
// lets diff work out the change set. An object's number is its inode number. The stream omits nothing: replication rests on
// it. Names come from the changed directories and the link index; zfs diff, which gets them wrong, is not asked.
package zfsfeed

import (
	"context"
	"fmt"
	"io"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Snapshots are the two that are compared.
type Snapshots struct {
	Base, Next         *beneath.Root
	BaseGUID, NextGUID uint64
	// Settled is a time before the base was taken: what changed last before it has changed since exactly if the time of its last
	// change did. The clock has a grain, so of what changed around the taking nobody can say.
	Settled time.Time
}

// Diff gives the change set between two mounted snapshots of which sent is the incremental send stream. links are the names in
// the base; if it is a diff.SignatureIndex, most of what did not change is not looked at. sent is read to its end unless there is an error.
func Diff(ctx context.Context, s Snapshots, sent io.Reader, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	o := &objects{data: map[uint64]*extents{}}
	f := &feed{objects: o, baseRoot: s.Base, nextRoot: s.Next, settled: s.Settled.Unix(), buf: diff.Buffers{Pace: opts.Pace}}
	if f.signed, _ = links.(diff.SignatureIndex); f.signed != nil {
		o.known = f.asKnown
	}
	head, err := readStream(sent, o.note)
	if err != nil {
		return nil, fmt.Errorf("reading the changes that ZFS sent: %w", err)
	}
	if head.fromGUID != s.BaseGUID || head.toGUID != s.NextGUID {
		return nil, fmt.Errorf("the stream leads from snapshot %d to %d, wanted are %d and %d", head.fromGUID, head.toGUID, s.BaseGUID, s.NextGUID)
	}
	o.sort()
	if err := f.trees(ctx, links); err != nil {
		return nil, fmt.Errorf("finding names: %w", err)
	}
	nums, err := f.candidates(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at objects: %w", err)
	}
	set, err := diff.Compare(ctx, f.base, f.next, f.content, nums, opts)
	if err != nil {
		return nil, fmt.Errorf("comparing two ZFS snapshots: %w", err)
	}
	return set, nil
}

// feed compares two snapshots by what a stream told.
type feed struct {
	*objects
	baseRoot, nextRoot *beneath.Root
	base, next         diff.Tree
	signed             diff.SignatureIndex // nil: there is none
	settled            int64
	buf                diff.Buffers
}

// trees makes both trees. Directories that were written to are read; one that was not holds what it held (each change of a ZAP, as
// directories are, writes its first block).
func (f *feed) trees(ctx context.Context, links diff.LinkIndex) error {
	base, err := newTree(f.baseRoot)
	if err != nil {
		return err
	}
	next, err := newTree(f.nextRoot)
	if err != nil {
		return err
	}
	var dirs []uint64
	for _, c := range f.all {
		if c.dir && f.wrote(c.num) {
			dirs = append(dirs, c.num)
		}
	}
	f.base, f.next, err = diff.Linked(ctx, base, next, links, dirs)
	return err
}

// candidates are the objects that are new or differ. What has an OBJECT record only is looked at in both snapshots.
func (f *feed) candidates(ctx context.Context) (nums []uint64, err error) {
	for _, c := range f.all {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		same := false
		if !f.wrote(c.num) {
			if same, err = f.unchanged(c); err != nil {
				return nil, err
			}
		}
		if !same {
			nums = append(nums, c.num)
		}
	}
	for num := range f.data {
		if _, ok := f.find(num); !ok { // an object of ZFS's own, or one whose records came in another order
			nums = append(nums, num)
		}
	}
	return nums, nil
}

// asKnown tells that an object has the signature that the base's inode of its number had, and no range that may differ.
func (f *feed) asKnown(c candidate) (bool, error) {
	if c.sig == 0 || c.ctim >= f.settled {
		return false, nil
	}
	if ranges, _ := f.rangesOf(c, int64(c.size), int64(c.size)); len(ranges) > 0 {
		return false, nil
	}
	sig, err := f.signed.Signature(c.num)
	return sig == c.sig, err
}

// unchanged tells that an object is the same inode with the same metadata in both, or has no name in next. What was written to
// it is not asked here.
func (f *feed) unchanged(c candidate) (bool, error) {
	n, ok, err := f.next.Inode(c.num)
	if err != nil || !ok {
		return true, err
	}
	b, ok, err := f.base.Inode(c.num)
	if err != nil || !ok || b != n {
		return false, err
	}
	if n.IsRegular() {
		if ranges, _ := f.ranges(c.num, b.Size, n.Size); len(ranges) > 0 {
			return false, nil // there may be new holes
		}
	}
	bx, err := f.base.Xattrs(c.num)
	if err != nil {
		return false, err
	}
	nx, err := f.next.Xattrs(c.num)
	return bx == nx, err
}
