package btrfsfeed

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

const (
	emptySubvolume = 2 // BTRFS_EMPTY_SUBVOL_DIR_OBJECTID: st_ino of every placeholder of a nested subvolume
	maxU64         = ^uint64(0)
)

// tree is one snapshot, read by tree search. All that an inode has lies side by side in the tree: item, names, xattrs and
// extents are read together, and expected neighbours with them.
type tree struct {
	fd     int
	expect []diff.Candidate // what will be asked for, by number; what is behind is cut off
	ahead  *btrfs.Cursor    // over the neighbours of the last of them that was asked for
	end    uint64           // last number that ahead goes to
	apart  *btrfs.Cursor    // for everything else
	last   node             // of expect
	other  node
}

// node is an inode without its extents.
type node struct {
	num    uint64
	there  bool
	item   btrfs.InodeItem
	refs   []diff.Ref
	xattrs []string
	unread bool // the cursor stands before its first extent
}

func newTree(fd int) *tree {
	return &tree{fd: fd, ahead: btrfs.NewCursor(fd, make([]byte, 256<<10)), apart: btrfs.NewCursor(fd, nil)}
}

// Root implements diff.Tree.
func (t *tree) Root() uint64 { return btrfs.FirstInode }

// Expect implements diff.Expecter.
func (t *tree) Expect(list []diff.Candidate) { t.expect, t.end = list, 0 }

// near is how far apart the numbers of inodes may be that are read in one call: to copy what lies between costs less than a
// call.
const near = 8

// fewItems is how many items so many inodes will hardly have more of.
func fewItems(inodes uint64) int { return int(8 + 4*inodes) }

// inode reads an inode, unless it was the last one read.
func (t *tree) inode(num uint64) (*node, error) {
	if t.last.num == num {
		return &t.last, nil
	}
	i, expected := slices.BinarySearchFunc(t.expect, num, func(k diff.Candidate, num uint64) int { return cmp.Compare(k.Num, num) })
	if !expected {
		if t.other.num == num {
			return &t.other, nil
		}
		t.apart.Seek(btrfs.Of(num, btrfs.InodeItemKey, btrfs.XattrItemKey), fewItems(1))
		return &t.other, t.read(&t.other, num, t.apart)
	}
	if num > t.end {
		t.group(i)
	}
	t.expect = t.expect[i+1:]
	if err := t.ahead.SkipTo(num, 0, 0); err != nil {
		return nil, wrap(num, err)
	}
	return &t.last, t.read(&t.last, num, t.ahead)
}

// group begins to read expected inodes from the one given on. A directory is read alone: its names lie behind it.
func (t *tree) group(i int) {
	first := t.expect[i]
	if first.Type == unix.S_IFDIR {
		t.end = first.Num
		t.ahead.Seek(btrfs.Of(first.Num, btrfs.InodeItemKey, btrfs.XattrItemKey), fewItems(1))
		return
	}
	last := first
	for _, k := range t.expect[i+1:] {
		if k.Num-last.Num > near || k.Type == unix.S_IFDIR {
			break
		}
		last = k
	}
	t.end = last.Num
	key := btrfs.Of(first.Num, btrfs.InodeItemKey, btrfs.ExtentDataKey)
	key.MaxObjectID = last.Num
	t.ahead.Seek(key, fewItems(last.Num-first.Num+1))
}

// read takes an inode's items from a cursor up to its first extent.
func (t *tree) read(n *node, num uint64, from *btrfs.Cursor) error {
	*n = node{xattrs: n.xattrs[:0]}
	for {
		it, ok, err := from.Peek()
		if err != nil {
			return wrap(num, err)
		}
		if !ok || it.ObjectID != num || it.Type > btrfs.XattrItemKey {
			n.num, n.unread = num, true
			return nil
		}
		if err := n.add(it); err != nil {
			return wrap(num, err)
		}
		if _, _, err := from.Next(); err != nil {
			return wrap(num, err)
		}
	}
}

func wrap(num uint64, err error) error {
	return fmt.Errorf("reading inode %d by tree search: %w", num, err)
}

func (n *node) add(it btrfs.Item) (err error) {
	switch it.Type {
	case btrfs.InodeItemKey:
		n.there = true
		n.item, err = btrfs.DecodeInodeItem(it.Data)
	case btrfs.InodeRefKey, btrfs.InodeExtrefKey:
		for data := it.Data; len(data) > 0 && err == nil; {
			var r btrfs.Ref
			if r, data, err = btrfs.CutRef(it.Type, it.Offset, data); err == nil {
				n.refs = append(n.refs, diff.Ref{Parent: r.Parent, Name: string(r.Name)})
			}
		}
	case btrfs.XattrItemKey:
		for data := it.Data; len(data) > 0 && err == nil; {
			var d btrfs.DirItem
			if d, data, err = btrfs.CutDirItem(data); err == nil {
				n.addXattr(d)
			}
		}
	}
	return err
}

// addXattr leaves out properties (btrfs.*): they belong to the filesystem, not to the file.
func (n *node) addXattr(d btrfs.DirItem) {
	const own = "btrfs."
	if len(d.Name) >= len(own) && string(d.Name[:len(own)]) == own {
		return
	}
	b := make([]byte, 0, len(d.Name)+len(d.Data)+16)
	b = append(append(strconv.AppendInt(b, int64(len(d.Name)), 10), ':'), d.Name...)
	b = append(append(strconv.AppendInt(append(b, '='), int64(len(d.Data)), 10), ':'), d.Data...)
	n.xattrs = append(n.xattrs, string(b))
}

// Inode implements diff.Tree.
func (t *tree) Inode(num uint64) (info diff.Info, ok bool, err error) {
	n, err := t.inode(num)
	if err != nil || !n.there {
		return info, false, err
	}
	return infoOf(&n.item), true, nil
}

func infoOf(i *btrfs.InodeItem) diff.Info {
	a := diff.Attr{Mode: i.Mode, UID: i.UID, GID: i.GID, MtimeSec: i.MtimeSec, MtimeNsec: i.MtimeNsec, Nlink: i.Nlink}
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		a.Size = int64(i.Size)
	case unix.S_IFCHR, unix.S_IFBLK:
		a.Rdev = i.Rdev
	case unix.S_IFDIR:
		a.Nlink = min(a.Nlink, 1)
	}
	return diff.Info{Attr: a, Gen: i.Generation}
}

// Names implements diff.Tree.
func (t *tree) Names(num uint64) ([]diff.Ref, error) {
	if num == btrfs.FirstInode {
		return nil, nil
	}
	n, err := t.inode(num)
	if err != nil {
		return nil, err
	}
	return n.refs, nil
}

// Xattrs implements diff.Tree.
func (t *tree) Xattrs(num uint64) (string, error) {
	n, err := t.inode(num)
	if err != nil {
		return "", err
	}
	slices.Sort(n.xattrs) // names with the same hash lie in the order in which they were set
	return strings.Join(n.xattrs, ""), nil
}

// Entries implements diff.Tree.
func (t *tree) Entries(dir uint64, yield func(diff.Entry) error) error {
	var all []diff.Entry // yield searches too, with the same cursor
	t.apart.Seek(btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey), 0)
	for {
		it, ok, err := t.apart.Next()
		if err == nil && ok {
			all, err = appendEntries(all, it, func(btrfs.DirItem) bool { return true })
		}
		if err != nil {
			return fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
		if !ok {
			break
		}
	}
	for _, e := range all {
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// appendEntries decodes a directory item. It goes by the location key: d_ino of a nested subvolume is a root number.
func appendEntries(all []diff.Entry, it btrfs.Item, want func(btrfs.DirItem) bool) ([]diff.Entry, error) {
	for data := it.Data; len(data) > 0; {
		d, rest, err := btrfs.CutDirItem(data)
		if err != nil {
			return nil, err
		}
		if want(d) {
			all = append(all, diff.Entry{Name: string(d.Name), Ino: d.Location.ObjectID, Type: dirType(d.Type), Sub: d.Location.Type == btrfs.RootItemKey})
		}
		data = rest
	}
	return all, nil
}

// dirType turns BTRFS_FT_* (linux/btrfs_tree.h) into S_IFMT bits.
func dirType(kind uint8) uint32 {
	types := [...]uint32{1: unix.S_IFREG, 2: unix.S_IFDIR, 3: unix.S_IFCHR, 4: unix.S_IFBLK, 5: unix.S_IFIFO, 6: unix.S_IFSOCK, 7: unix.S_IFLNK}
	if int(kind) < len(types) {
		return types[kind]
	}
	return 0
}
