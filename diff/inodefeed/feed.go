// Package inodefeed finds the inodes that changed between two snapshots of a block device with ext4 or XFS on it, and lets
// diff work out the change set.
//
// It is told which blocks of the device may differ. They are cut against the inode tables of ext4 or the inode chunks of
// XFS, on both devices, and the inodes that lie there are compared byte by byte: those that differ are the candidates. Of a
// directory that changed the blocks that may differ are read too (dirs.go). Nothing else is parsed: other names, extended
// attributes and contents come from the two snapshots mounted read-only. Where the filesystem has anything that is not known
// here, the answer is diff.ErrNotNative, never a guess.
package inodefeed

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/lvm"
)

// Side is one of two snapshots of a device.
type Side struct {
	// Device is the snapshot itself, Size bytes long. It must not change.
	Device io.ReaderAt
	Size   int64
	// Root is the filesystem on it, mounted read-only.
	Root *beneath.Root
	// Taken is a time, by the clock of the machine that has the source mounted, at which the snapshot was not yet begun.
	Taken time.Time
	// Carried is of use in a base only: what Diff or Carry gave for this snapshot.
	Carried []diff.Key
	// Boot names the time for which the source was mounted without a break, as the boot id of its machine does roughly; "" where that is not
	// known. Where it is not the same in both snapshots, data may have been written in place of which a crash left no trace in
	// the inode, and all files are asked whether they lie in changed blocks: that takes a system call or two for each
	// file. Of ext4, which says by itself when it was mounted last for writing, that is enough where it is known in neither.
	Boot string
}

// Diff gives the change set between two snapshots. changed are the parts of the device that may differ, up to the end of the
// smaller one; what lies behind that end is taken as changed. links knows the names in the base. carry is for the Diff that will
// have next as its base: see Carry.
//
// diff.ErrNotNative says that only a full comparison can be trusted, and why; lvm.ErrRecovery that nothing can be, since the
// journal of a snapshot was not written back.
func Diff(ctx context.Context, base, next Side, changed lvm.Blocks, links diff.LinkIndex, opts diff.Options) (set *diff.ChangeSet, carry []diff.Key, err error) {
	f, err := newFeed(base, next, changed)
	if err != nil {
		return nil, nil, err
	}
	nums, dirs, err := f.candidates(ctx, base.Carried)
	if err == nil && (mountedAnew(base, next, f.base.fs, f.next.fs) || setBack(base, next)) {
		err = f.sweep(ctx, next.Size, func(num uint64) error { nums = append(nums, num); return nil })
	}
	if err != nil {
		return nil, nil, fmt.Errorf("comparing the inodes of two snapshots: %w", err)
	}
	if err := f.findStanding(links); err != nil {
		return nil, nil, err
	}
	f.base.workers, f.next.workers = workersOf(opts), workersOf(opts)
	f.base.later = f.next
	bt, nt, err := diff.Linked(ctx, f.base, nextTree{f.next, f}, links, dirs, opts.Exclude)
	if err != nil {
		return nil, nil, fmt.Errorf("finding the names in a snapshot: %w", err)
	}
	set, err = diff.Compare(ctx, diff.Reader{Base: bt, Next: nt, Content: f.contents(ctx, opts.Pace).compare, Names: f.names}, nums, opts)
	if err != nil {
		return nil, nil, fmt.Errorf("comparing two snapshots: %w", err)
	}
	if setBack(base, next) { // times that have been may come again
		f.carry, err = Carry(ctx, next)
	}
	slices.SortFunc(f.carry, func(a, b diff.Key) int { return cmp.Compare(a.Ino, b.Ino) })
	return set, slices.Compact(f.carry), err // an inode may be carried on and have changed
}

// workersOf is how many inodes are looked up at once.
func workersOf(opts diff.Options) int {
	if opts.Workers > 0 {
		return opts.Workers
	}
	return 16 // they wait for the disk most of the time
}

// feed is what one Diff works with.
type feed struct {
	base, next *tree
	changed    lvm.Blocks // of the new snapshot, also where the base had ended
	side       Side       // the new snapshot
	// reused are the numbers of inodes that mean others in the base, standing the names of those in the base by directory.
	reused   map[uint64]reusedNumber
	standing map[uint64][]againName
	named    named
	// carry are the inodes that the next comparison has to look at. Those that are as they were in the base need it no more, or are among those
	// that it carried.
	carry []diff.Key
}

func newFeed(base, next Side, changed lvm.Blocks) (*feed, error) {
	bt, err := newTree(base)
	if err != nil {
		return nil, fmt.Errorf("reading the base snapshot: %w", err)
	}
	nt, err := newTree(next)
	if err != nil {
		return nil, fmt.Errorf("reading the new snapshot: %w", err)
	}
	if why := nt.fs.incomparable(bt.fs); why != "" {
		return nil, notNative("%s", why)
	}
	if e, ok := nt.fs.(*ext4); ok && !e.journaled() && mountedAnew(base, next, bt.fs, nt.fs) {
		return nil, notNative("the filesystem, which has no journal, was mounted again since the base")
	}
	grown := lvm.Block{Off: base.Size, Len: next.Size - base.Size} // empty where it did not grow
	blocks := lvm.NewBlocks(append(changed[:len(changed):len(changed)], grown), next.Size)
	return &feed{
		base: bt, next: nt, changed: blocks, side: next,
		reused: map[uint64]reusedNumber{}, standing: map[uint64][]againName{}, named: named{dirs: map[uint64]unlikeNames{}},
	}, nil
}

// candidates are the inodes in use in the new snapshot whose bytes are not those of the base; dirs are the directories among
// them. carried are more that may have changed.
func (f *feed) candidates(ctx context.Context, carried []diff.Key) (nums, dirs []uint64, err error) {
	add := func(num uint64, i inode) {
		nums = append(nums, num)
		if i.IsDir() {
			dirs = append(dirs, num)
		}
		if carries(f.side, f.next.fs, num, &i) {
			f.carry = append(f.carry, diff.Key{Ino: num, Gen: i.Gen})
		}
	}
	base, next := f.base.fs.over(f.changed), f.next.fs.over(f.changed)
	var b, n []byte // copies
	err = next.scan(ctx, f.changed, func(num uint64) error {
		after, err := next.raw(num)
		if err != nil {
			return err
		}
		before, err := base.raw(num)
		if err != nil || bytes.Equal(before, after) {
			return err
		}
		b, n = append(b[:0], before...), append(n[:0], after...)
		next.mask(n)
		if len(b) > 0 {
			base.mask(b)
		}
		if bytes.Equal(b, n) {
			return nil
		}
		i, err := f.next.remember(num, n)
		add(num, i)
		if err != nil || len(b) == 0 {
			return err
		}
		was, err := f.base.remember(num, b)
		if was.Gen != i.Gen && len(f.reused) <= mostReused {
			f.reused[num] = reusedNumber{was.Type(), i.Type()}
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	more := f.written()
	for _, k := range carried {
		more = append(more, k.Ino)
	}
	for _, num := range more {
		i, ok, err := f.next.inode(num)
		if err != nil {
			return nil, nil, err
		}
		if ok {
			add(num, i)
		}
	}
	return nums, dirs, nil
}

// tree is a diff.Tree of one snapshot: fields of inodes from the device, all else from the mount.
type tree struct {
	*diff.Mounted
	root *beneath.Root
	fs   filesystem
	// blocks reads directories.
	blocks blockReader
	known  map[uint64]inode // candidates, which are asked for again and again
	// workers look up at once what will be asked for.
	workers int
	// later is that of the new snapshot, where this one is the base and the new one's names are known: see standing.go.
	later *tree
}

// Expect implements diff.Expecter.
func (t *tree) Expect(list []diff.Candidate) {
	if t.later != nil {
		list = t.toLookUp(list)
	}
	t.Mounted.LookUp(list, t.workers)
}

const mostKnown = 100_000 // some 20 MB

// remember reads an inode from its bytes and keeps it.
func (t *tree) remember(num uint64, raw []byte) (inode, error) {
	i, err := decode(t.fs, num, raw)
	if err != nil {
		return i, err
	}
	if len(t.known) < mostKnown {
		t.known[num] = i
	}
	return i, nil
}

// inode reads an inode; false when none is in use under this number.
func (t *tree) inode(num uint64) (inode, bool, error) {
	if i, ok := t.known[num]; ok {
		return i, true, nil
	}
	return lookUp(t.fs, num)
}

// directory tells how the names of a directory lie.
func (t *tree) directory(num uint64) (*directory, error) {
	raw, err := t.fs.raw(num)
	if err == nil && raw == nil {
		err = errors.New("it is not there")
	}
	if err != nil {
		return nil, err
	}
	return t.fs.directory(num, raw)
}

func newTree(s Side) (*tree, error) {
	fs, err := open(s)
	if err != nil {
		return nil, err
	}
	t := &tree{root: s.Root, fs: fs, blocks: blockReader{dev: newDevice(s.Device, s.Size, longWindow)}, known: map[uint64]inode{}}
	t.Mounted, err = diff.NewMounted(s.Root, t.generation)
	if err == nil && t.Mounted.Root() != fs.root() {
		err = notNative("inode %d is mounted at %s, the top directory is inode %d", t.Mounted.Root(), s.Root.Path(), fs.root())
	}
	return t, err
}

func (t *tree) generation(_ string, st *unix.Stat_t) (uint64, error) {
	i, ok, err := t.Inode(st.Ino)
	if err == nil && !ok {
		err = fmt.Errorf("inode %d is not on the device", st.Ino)
	}
	return i.Gen, err
}

// Inode implements diff.Tree.
func (t *tree) Inode(num uint64) (diff.Info, bool, error) {
	i, ok, err := t.inode(num)
	return i.Info, ok, err
}

// Xattrs implements diff.Tree. Where there are none, the names are made sure of all the same: contents are opened by them.
func (t *tree) Xattrs(num uint64) (string, error) {
	i, ok, err := t.inode(num)
	if err != nil {
		return "", err
	}
	if !ok || !i.plain {
		return t.Mounted.Xattrs(num)
	}
	if t.later != nil {
		if stands, err := t.stands(num, i); stands || err != nil {
			return "", err
		}
	}
	_, _, _, err = t.Mounted.Path(num)
	return "", err
}

// lookUp reads an inode; false when none is in use under this number.
func lookUp(fs filesystem, num uint64) (i inode, ok bool, err error) {
	raw, err := fs.raw(num)
	if err != nil || raw == nil {
		return i, false, err
	}
	i, err = decode(fs, num, raw)
	return i, err == nil, err
}

// decode reads an inode from its bytes.
func decode(fs filesystem, num uint64, raw []byte) (inode, error) {
	i, err := fs.decode(raw)
	if err != nil {
		return i, fmt.Errorf("inode %d: %w", num, err)
	}
	if fs.own(num) {
		i.Nlink = 0
	}
	return i, nil
}
