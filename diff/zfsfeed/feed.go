// Package zfsfeed finds out from an incremental send stream (zfs send -i) which inodes changed between two ZFS snapshots and
// lets diff work out the change set. An object's number is its inode number. The stream omits nothing: replication rests on
// it. Names come from the changed directories and the link index; zfs diff, which gets them wrong, is not asked.
package zfsfeed

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

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
	// AttrFiles: extended attributes become files (xattr=dir), by the dataset's property. Those that the stream has are taken for a sign of it too.
	AttrFiles bool
}

// Diff gives the change set between two mounted snapshots of which sent is the incremental send stream. links are the names in
// the base; if it is a diff.SignatureIndex, most of what did not change is not looked at. sent is read to its end unless there is an error.
func Diff(ctx context.Context, s Snapshots, sent io.Reader, links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	f := &feed{objects: &objects{data: map[uint64]*extents{}}, baseRoot: s.Base, nextRoot: s.Next, index: signedIndex(links), opts: opts}
	if err := f.read(s, sent); err != nil {
		return nil, err
	}
	if err := f.trees(ctx); err != nil {
		return nil, fmt.Errorf("finding names: %w", err)
	}
	list, err := f.candidates(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at objects: %w", err)
	}
	readers := make([]diff.Reader, f.workers())
	for i := range readers {
		readers[i] = diff.Reader{Base: f.base, Next: f.next, Content: (&contents{feed: f, buf: &diff.Buffers{Pace: opts.Pace}}).compare}
	}
	set, err := diff.CompareWith(ctx, readers, list, opts)
	if err != nil {
		return nil, fmt.Errorf("comparing two ZFS snapshots: %w", err)
	}
	return set, nil
}

// read takes in a stream.
func (f *feed) read(s Snapshots, sent io.Reader) error {
	f.settled, f.known, f.attrFiles = s.Settled.Unix(), f.asKnown, s.AttrFiles
	head, err := readStream(sent, f.note)
	if err != nil {
		return fmt.Errorf("reading the changes that ZFS sent: %w", err)
	}
	if head.fromGUID != s.BaseGUID || head.toGUID != s.NextGUID {
		return fmt.Errorf("the stream leads from snapshot %d to %d, wanted are %d and %d", head.fromGUID, head.toGUID, s.BaseGUID, s.NextGUID)
	}
	if err := f.dropKnown(); err != nil {
		return err
	}
	f.sort()
	f.attrFiles = f.attrFiles || slices.ContainsFunc(f.all, func(c candidate) bool { return c.owner != 0 })
	return nil
}

// workers is how many look at objects at once: cold, they wait for the disk most of the time.
func (f *feed) workers() int {
	if f.opts.Workers > 0 {
		return f.opts.Workers
	}
	return min(max(4, 2*runtime.NumCPU()), 16)
}

// feed compares two snapshots by what a stream told. Once its trees are made it is for several goroutines.
type feed struct {
	*objects
	baseRoot, nextRoot *beneath.Root
	base, next         diff.Tree
	mounted            *diff.Mounted // what base is made of; nil where it shows nothing
	mountedNext        *diff.Mounted
	index              diff.SignatureIndex
	opts               diff.Options
	settled            int64
	attrFiles          bool            // see Snapshots
	owned              map[uint64]bool // see objects.owners
	// hidden are names that base and next have not, because other datasets have their places. See DiffAll.
	hidden [2]map[diff.Ref]bool
	// more are directories that are to be read though nothing was written to them.
	more []uint64
}

// trees makes both trees. Directories that were written to are read; one that was not holds what it held (each change of a ZAP, as
// directories are, writes its first block).
func (f *feed) trees(ctx context.Context) error {
	base, err := f.tree(0, f.baseRoot, f.baseGeneration)
	if err != nil {
		return err
	}
	next, err := f.tree(1, f.nextRoot, f.nextGeneration)
	if err != nil {
		return err
	}
	dirs := append(f.writtenDirs(), f.more...)
	f.base, f.next, err = diff.Linked(ctx, base, next, f.index, dirs, f.opts.Exclude)
	return err
}

// tree makes one of the trees. A dataset that one of the snapshots has not shows nothing there.
func (f *feed) tree(side int, root *beneath.Root, known func(*unix.Stat_t) (uint64, error)) (diff.Tree, error) {
	if root == nil {
		top, err := topNumber([]*beneath.Root{f.nextRoot, f.baseRoot}[side])
		return nothing{top}, err
	}
	t, err := newTree(root, known)
	if side == 0 {
		f.mounted = t
	} else {
		f.mountedNext = t
	}
	if err != nil || len(f.hidden[side]) == 0 {
		return t, err
	}
	return hiding{t, f.hidden[side]}, nil
}

// baseGeneration takes a generation from the link index, 0 if it is not there.
func (f *feed) baseGeneration(st *unix.Stat_t) (uint64, error) { return f.index.Generation(st.Ino) }

// nextGeneration takes a generation from the stream, 0 if it is not there. That the attributes of the inode lie in the stream where they
// were looked for is sure when all others that a stat shows are what the stat says. What is not in the stream is the base's inode.
func (f *feed) nextGeneration(st *unix.Stat_t) (uint64, error) {
	c, ok := f.find(st.Ino)
	if !ok {
		return f.index.Generation(st.Ino)
	}
	if c.sig == 0 || c.sig != diff.Signature(st, c.gen) {
		return 0, nil
	}
	return c.gen, nil
}

// candidates are the objects that are new or differ.
func (f *feed) candidates(ctx context.Context) ([]diff.Candidate, error) {
	all := f.all
	for num := range f.data {
		if c, ok := f.find(num); !ok { // an object of ZFS's own, or one whose records came in another order
			all = append(all[:len(all):len(all)], c)
		}
	}
	f.owned = map[uint64]bool{}
	for _, num := range f.owners() {
		f.owned[num] = true
		if c, ok := f.find(num); !ok && f.data[num] == nil {
			all = append(all[:len(all):len(all)], c)
		}
	}
	list := make([]diff.Candidate, len(all))
	const piece = 32
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(f.workers())
	for from := 0; from < len(all); from += piece {
		group.Go(func() error {
			piece := all[from:min(from+piece, len(all))]
			if err := f.index.Expect(numbers(piece)); err != nil {
				return err
			}
			for i := range piece {
				if err := ctx.Err(); err != nil {
					return err
				}
				var err error
				if list[from+i], err = f.candidate(piece[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(list, func(k diff.Candidate) bool { return k.Type == 0 }), err
}

func numbers(list []candidate) []uint64 {
	nums := make([]uint64, len(list))
	for i, c := range list {
		nums[i] = c.num
	}
	return nums
}

// candidate looks at one object; zero if it has no name in next, or is as it was. What has an OBJECT record only is looked at in
// both snapshots.
func (f *feed) candidate(c candidate) (k diff.Candidate, err error) {
	if c.dir && !f.wrote(c.num) && !f.owned[c.num] {
		if same, err := f.sameDir(c); same || err != nil {
			return k, err
		}
	}
	n, ok, err := f.next.Inode(c.num)
	if err == nil && !ok && c.links > 0 && f.opts.NamesAll() {
		err = diff.Nameless(c.num, uint64(c.links))
	}
	if err != nil || !ok {
		return k, err
	}
	touched, err := f.touched(c.num)
	if err != nil {
		return k, err
	}
	if !touched && !f.wrote(c.num) {
		if same, err := f.unchanged(c, n); same || err != nil {
			return k, err
		}
	}
	return diff.Candidate{Num: c.num, Gen: n.Gen, Type: n.Type(), Attrs: touched}, nil
}

// touched tells that an inode of both snapshots has another time of last change. That is then all that shows of an extended attribute which the base has already, in
// a file (see objects.owners), while the mirror that was made of the base may have it not.
func (f *feed) touched(num uint64) (bool, error) {
	if !f.attrFiles || f.mounted == nil || f.mountedNext == nil {
		return false, nil
	}
	_, b, ok, err := f.mounted.Path(num)
	if err != nil || !ok {
		return false, err
	}
	_, n, ok, err := f.mountedNext.Path(num)
	return ok && b.Ctim != n.Ctim, err
}

// asKnown tells of objects which have the signature that the base's inode of their number had, and no range that may differ.
func (f *feed) asKnown(list []candidate) ([]bool, error) {
	sigs, err := f.index.Signatures(numbers(list))
	if err != nil {
		return nil, err
	}
	known := make([]bool, len(list))
	for i, c := range list {
		if c.sig == 0 || c.sig != sigs[i] || c.ctim >= f.settled {
			continue
		}
		ranges, _ := f.rangesOf(c, int64(c.size), int64(c.size))
		known[i] = len(ranges) == 0
	}
	return known, nil
}

// sameDir tells that a directory has the signature that the base's has, where the link index does not know it: after a full comparison.
func (f *feed) sameDir(c candidate) (bool, error) {
	if c.sig == 0 || c.ctim >= f.settled || f.mounted == nil {
		return false, nil
	}
	gen, err := f.index.Generation(c.num)
	if err != nil || gen == 0 {
		return false, err
	}
	_, st, ok, err := f.mounted.Path(c.num)
	return ok && diff.Signature(&st, gen) == c.sig, err
}

// unchanged tells that an object, which n is in next, is the same inode with the same metadata in base. What was written to it is
// not asked here.
func (f *feed) unchanged(c candidate, n diff.Info) (bool, error) {
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
