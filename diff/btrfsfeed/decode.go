package btrfsfeed

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

var le = binary.LittleEndian

// errShort says that an item is shorter than its structure.
var errShort = errors.New("item of a wrong length")

// rawInode is struct btrfs_inode_item (linux/btrfs_tree.h), 160 bytes, as far as it is used.
type rawInode struct {
	gen, transid, size uint64
	nlink              uint32
	uid, gid, mode     uint32
	rdev               uint64
	mtimeSec           int64
	mtimeNsec          uint32
}

const inodeItemSize = 160

func decodeInode(b []byte) (rawInode, error) {
	if len(b) < inodeItemSize {
		return rawInode{}, fmt.Errorf("inode item: %w", errShort)
	}
	return rawInode{
		gen: le.Uint64(b), transid: le.Uint64(b[8:]), size: le.Uint64(b[16:]),
		nlink: le.Uint32(b[40:]), uid: le.Uint32(b[44:]), gid: le.Uint32(b[48:]), mode: le.Uint32(b[52:]),
		rdev: le.Uint64(b[56:]),
		// From 112 on: atime, ctime, mtime, otime, each 8 + 4 bytes.
		mtimeSec: int64(le.Uint64(b[136:])), mtimeNsec: le.Uint32(b[144:]),
	}, nil
}

func (r rawInode) info() diff.Info {
	a := diff.Attr{Mode: r.mode, UID: r.uid, GID: r.gid, MtimeSec: r.mtimeSec, MtimeNsec: int32(r.mtimeNsec), Nlink: r.nlink}
	switch r.mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		a.Size = int64(r.size)
	case unix.S_IFCHR, unix.S_IFBLK:
		// On disk it is the kernel's dev_t: 12 bits major, 20 bits minor (include/linux/kdev_t.h).
		a.Rdev = unix.Mkdev(uint32(r.rdev>>20), uint32(r.rdev&0xfffff))
	case unix.S_IFDIR:
		a.Nlink = 1
	}
	return diff.Info{Attr: a, Gen: r.gen}
}

// dirItem is struct btrfs_dir_item: key (17 bytes), transid (8), data_len (2), name_len (2), type (1), name, data.
type dirItem struct {
	objectid    uint64
	keyType     uint8
	kind        uint8
	transid     uint64 // of the transaction that put it there
	name, value string
}

const dirItemSize = 30

func decodeDirItem(b []byte) (d dirItem, rest []byte, err error) {
	if len(b) < dirItemSize {
		return d, nil, fmt.Errorf("directory item: %w", errShort)
	}
	dlen, nlen := int(le.Uint16(b[25:])), int(le.Uint16(b[27:]))
	name, end := dirItemSize+nlen, dirItemSize+nlen+dlen
	if len(b) < end {
		return d, nil, fmt.Errorf("directory item: %w", errShort)
	}
	return dirItem{
		objectid: le.Uint64(b), keyType: b[8], kind: b[29], transid: le.Uint64(b[17:]),
		name: string(b[dirItemSize:name]), value: string(b[name:end]),
	}, b[end:], nil
}

// decodeRefs reads struct btrfs_inode_ref (index 8, name_len 2, name; the key's offset is the parent) and
// btrfs_inode_extref (parent 8, index 8, name_len 2, name), several to an item.
func decodeRefs(refs []diff.Ref, typ uint32, offset uint64, b []byte) ([]diff.Ref, error) {
	head := 10
	if typ == inodeExtref {
		head = 18
	}
	for len(b) > 0 {
		if len(b) < head {
			return refs, fmt.Errorf("inode reference: %w", errShort)
		}
		n := int(le.Uint16(b[head-2:]))
		if len(b) < head+n {
			return refs, fmt.Errorf("inode reference: %w", errShort)
		}
		parent := offset
		if typ == inodeExtref {
			parent = le.Uint64(b)
		}
		refs = append(refs, diff.Ref{Parent: parent, Name: string(b[head : head+n])})
		b = b[head+n:]
	}
	return refs, nil
}

// extent is struct btrfs_file_extent_item: generation 8, ram_bytes 8, compression 1, encryption 1, other_encoding 2,
// type 1, then either inline bytes or disk_bytenr 8, disk_num_bytes 8, offset 8, num_bytes 8.
type extent struct {
	off, len    int64
	hole        bool // no bytes of its own: a hole, or preallocated and not written
	compression uint8
	inline      string
	disk        uint64 // address of the whole extent; from says where in it this part begins
	diskLen     uint64
	from        uint64
}

const (
	extentHead = 21
	extentSize = 53
)

func decodeExtent(off uint64, b []byte) (extent, error) {
	if len(b) < extentHead {
		return extent{}, fmt.Errorf("extent item: %w", errShort)
	}
	e := extent{off: int64(off), compression: b[16]}
	switch kind := b[20]; kind {
	case 0: // inline
		e.len, e.inline = int64(le.Uint64(b[8:])), string(b[extentHead:])
		return e, nil
	case 1, 2: // regular, preallocated
		if len(b) < extentSize {
			return extent{}, fmt.Errorf("extent item: %w", errShort)
		}
		e.disk, e.diskLen = le.Uint64(b[21:]), le.Uint64(b[29:])
		e.from, e.len = le.Uint64(b[37:]), int64(le.Uint64(b[45:]))
		e.hole = e.disk == 0 || kind == 2
		return e, nil
	default:
		return extent{}, fmt.Errorf("extent item of unknown type %d: %w", kind, diff.ErrNotNative)
	}
}

// at is the part of the extent that begins at file offset off: equal in two files exactly when the bytes from there on
// are the same ones on the disk.
func (e extent) at(off int64) extent {
	switch {
	case e.hole:
		return extent{hole: true}
	case e.inline != "":
		return extent{off: e.off - off, inline: e.inline, compression: e.compression}
	}
	return extent{compression: e.compression, disk: e.disk, diskLen: e.diskLen, from: e.from + uint64(off-e.off)}
}
