package inodefeed

import (
	"bytes"
	"fmt"
	"math"
	"sort"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// directory is how the names of a directory lie.
type directory struct {
	block   int64        // how many bytes are one block of it
	extents []dirExtent  // ascending; where its blocks are
	inside  []diff.Entry // names that lie in the inode itself
	links   uint32       // 2, and one for each directory in it; 0: not known
	// parse calls yield for each name in a block; at is its place in the directory, disk that on the device. spare is how many more
	// names ("." and ".." count) than entries of an index the block has: 0 for all blocks of a directory together, and for each where
	// there is no such index.
	parse func(at, disk int64, block []byte, yield func(diff.Entry)) (spare int, err error)
}

// dirExtent is a part of a directory, in bytes: its place there, where it lies on the device, how long it is.
type dirExtent struct{ at, disk, len int64 }

func (e dirExtent) end() int64 { return e.at + e.len }

// unlikePlaces are the blocks of a directory, by their places, ascending, of which a part lies at another place on the device in one
// than in the other, or in one only, or in what may differ. block is their size.
func unlikePlaces(base, next []dirExtent, changed lvm.Blocks, block int64) (places []int64) {
	mark := func(from, end int64) {
		for at := from / block * block; at < end; at += block {
			if n := len(places); n == 0 || places[n-1] < at {
				places = append(places, at)
			}
		}
	}
	for at := int64(0); ; {
		b, n := firstFrom(base, at), firstFrom(next, at)
		switch {
		case b.at == nowhere && n.at == nowhere:
			return places
		case b.at == n.at:
			at = b.at + min(b.len, n.len)
			if b.disk != n.disk {
				mark(b.at, at)
				break
			}
			changed.Within(b.disk, at-b.at, func(c lvm.Block) error {
				mark(b.at+c.Off-b.disk, b.at+c.End()-b.disk)
				return nil
			})
		case b.at < n.at:
			at = min(b.end(), n.at)
			mark(b.at, at)
		default:
			at = min(n.end(), b.at)
			mark(n.at, at)
		}
	}
}

const nowhere = math.MaxInt64

// firstFrom is what is at a place, to the end of its extent, or else the first extent behind it.
func firstFrom(es []dirExtent, at int64) dirExtent {
	i := sort.Search(len(es), func(i int) bool { return es[i].end() > at })
	if i == len(es) {
		return dirExtent{at: nowhere}
	}
	e := es[i]
	if skip := at - e.at; skip > 0 {
		e.at, e.disk, e.len = at, e.disk+skip, e.len-skip
	}
	return e
}

// parts adds where the block at a place lies, nothing if there is none.
func (d *directory) parts(all []lvm.Block, at int64) ([]lvm.Block, error) {
	start, end := at, at+d.block
	for at < end {
		e := firstFrom(d.extents, at)
		if e.at >= end && at == start {
			return all, nil
		}
		if e.at != at {
			return all, fmt.Errorf("byte %d of it is nowhere", at)
		}
		n := min(e.len, end-at)
		all = append(all, lvm.Block{Off: e.disk, Len: n})
		at += n
	}
	return all, nil
}

// blockReader reads blocks of one directory after the other.
type blockReader struct {
	dev   *device
	dir   *directory
	parts []lvm.Block
	buf   []byte
}

// open says which blocks of a directory will be asked for: what lies side by side is read together.
func (r *blockReader) open(d *directory, places []int64) (err error) {
	var all []lvm.Block
	for _, at := range places {
		if all, err = d.parts(all, at); err != nil {
			return err
		}
	}
	r.dir = d
	r.dev.turnTo(lvm.NewBlocks(all, r.dev.size))
	return nil
}

// read gives the block at a place, nil if there is none, valid until the next call.
func (r *blockReader) read(at int64) (b []byte, err error) {
	if r.parts, err = r.dir.parts(r.parts[:0], at); err != nil || len(r.parts) == 0 {
		return nil, err
	}
	if len(r.parts) == 1 {
		return r.dev.bytes(r.parts[0].Off, int(r.parts[0].Len))
	}
	r.buf = r.buf[:0]
	for _, p := range r.parts {
		b, err := r.dev.bytes(p.Off, int(p.Len))
		if err != nil {
			return nil, err
		}
		r.buf = append(r.buf, b...)
	}
	return r.buf, nil
}

// names calls yield for the names in the block that was read last. spare is as of directory.parse.
func (r *blockReader) names(at int64, b []byte, yield func(diff.Entry)) (spare int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	if spare, err = r.dir.parse(at, r.parts[0].Off, b, yield); err != nil {
		return 0, fmt.Errorf("its block at byte %d: %w", at, err)
	}
	return spare, nil
}

// newEntry makes a name of what a block has of it; false for "." and "..".
func newEntry(name []byte, ino uint64, kind byte) (e diff.Entry, ok bool, err error) {
	switch {
	case string(name) == "." || string(name) == "..":
		return e, false, nil
	case len(name) == 0 || bytes.ContainsAny(name, "/\x00"):
		return e, false, fmt.Errorf("there is a name %q in it", name)
	case kind == 0 || int(kind) >= len(fileTypes):
		return e, false, fmt.Errorf("name %q has type %d", name, kind)
	}
	return diff.Entry{Name: string(name), Ino: ino, Type: fileTypes[kind]}, true, nil
}

// fileTypes are by what directories of both filesystems say (include/linux/fs_types.h; XFS_DIR3_FT_* in xfs_da_format.h, where 8 is
// a whiteout).
var fileTypes = [...]uint32{1: unix.S_IFREG, unix.S_IFDIR, unix.S_IFCHR, unix.S_IFBLK, unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFLNK}
