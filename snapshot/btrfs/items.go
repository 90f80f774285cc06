package btrfs

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Item types (BTRFS_..._KEY of linux/btrfs_tree.h).
const (
	InodeItemKey   = 1
	InodeRefKey    = 12
	InodeExtrefKey = 13
	XattrItemKey   = 24
	OrphanItemKey  = 48
	DirItemKey     = 84
	DirIndexKey    = 96
	ExtentDataKey  = 108
	RootItemKey    = 132
)

// All on-disk integers are little-endian, all structures packed.
var le = binary.LittleEndian

const (
	inodeItemSize    = 160
	dirItemSize      = 30
	inodeRefSize     = 10
	inodeExtrefSize  = 18
	extentHeadSize   = 21
	extentOnDiskSize = 53
)

// InodeItem is struct btrfs_inode_item, what matters of it. Key: (inode, InodeItemKey, 0).
type InodeItem struct {
	Generation uint64 // transaction in which the inode was made
	Transid    uint64 // transaction of its last change
	Size       uint64 // bytes; of a directory twice the sum of the lengths of its names
	Nbytes     uint64
	Nlink      uint32
	UID, GID   uint32
	Mode       uint32 // as st_mode
	Rdev       uint64 // as st_rdev (on disk it is the kernel's own form, 20 bits for the minor number)
	Flags      uint64 // BTRFS_INODE_...
	Sequence   uint64
	CtimeSec   int64
	CtimeNsec  int32
	MtimeSec   int64
	MtimeNsec  int32
}

// Mtime is the time of last modification.
func (i InodeItem) Mtime() time.Time { return time.Unix(i.MtimeSec, int64(i.MtimeNsec)) }

// DecodeInodeItem decodes the data of an InodeItemKey item.
func DecodeInodeItem(b []byte) (InodeItem, error) {
	if len(b) < inodeItemSize {
		return InodeItem{}, short("inode item", b, inodeItemSize)
	}
	rdev := le.Uint64(b[56:])
	it := InodeItem{
		Generation: le.Uint64(b), Transid: le.Uint64(b[8:]), Size: le.Uint64(b[16:]), Nbytes: le.Uint64(b[24:]),
		Nlink: le.Uint32(b[40:]), UID: le.Uint32(b[44:]), GID: le.Uint32(b[48:]), Mode: le.Uint32(b[52:]),
		Flags: le.Uint64(b[64:]), Sequence: le.Uint64(b[72:]),
		CtimeSec: int64(le.Uint64(b[124:])), CtimeNsec: int32(le.Uint32(b[132:])),
		MtimeSec: int64(le.Uint64(b[136:])), MtimeNsec: int32(le.Uint32(b[144:])),
	}
	if rdev != 0 {
		it.Rdev = unix.Mkdev(uint32(rdev>>20), uint32(rdev&(1<<20-1)))
	}
	return it, nil
}

// Location is the key that a directory item points to. Type is InodeItemKey with the inode number in ObjectID, or
// RootItemKey with the number of a nested subvolume's tree.
type Location struct {
	ObjectID uint64
	Type     uint8
	Offset   uint64
}

// DirItem is struct btrfs_dir_item with its name and data: a name in a directory, or an xattr. Keys: (directory,
// DirItemKey, hash of the name), (directory, DirIndexKey, sequence number), (inode, XattrItemKey, hash of the name).
type DirItem struct {
	Location Location
	Transid  uint64 // transaction that put it there
	Type     uint8  // BTRFS_FT_...: 1 regular, 2 directory, 3 and 4 devices, 5 fifo, 6 socket, 7 symlink, 8 xattr
	Name     []byte // part of the item's data
	Data     []byte // the xattr's value; part of the item's data
}

// CutDirItem decodes the first entry in the data of a DirItemKey, DirIndexKey or XattrItemKey item and gives what is behind it:
// names with the same hash share an item.
func CutDirItem(b []byte) (it DirItem, rest []byte, err error) {
	if len(b) < dirItemSize {
		return it, nil, short("directory item", b, dirItemSize)
	}
	dataLen, nameLen := int(le.Uint16(b[25:])), int(le.Uint16(b[27:]))
	name, end := dirItemSize+nameLen, dirItemSize+nameLen+dataLen
	if len(b) < end {
		return it, nil, short("name in a directory item", b, end)
	}
	return DirItem{
		Location: Location{ObjectID: le.Uint64(b), Type: b[8], Offset: le.Uint64(b[9:])},
		Transid:  le.Uint64(b[17:]), Type: b[29],
		Name: b[dirItemSize:name:name], Data: b[name:end:end],
	}, b[end:], nil
}

// Ref is one name of an inode.
type Ref struct {
	Parent uint64 // inode number of the directory
	Index  uint64 // offset of the name's DirIndexKey item
	Name   []byte // part of the item's data
}

// CutRef decodes the first name in the data of an InodeRefKey item (struct btrfs_inode_ref: the names of an inode in one
// directory; key: (inode, InodeRefKey, parent)) or of an InodeExtrefKey item (struct btrfs_inode_extref: names of an inode
// that has too many in one directory; key: (inode, InodeExtrefKey, hash of parent and name)), and gives what is behind it.
func CutRef(kind uint32, offset uint64, b []byte) (r Ref, rest []byte, err error) {
	r.Parent = offset
	if kind == InodeExtrefKey {
		if len(b) < inodeExtrefSize {
			return Ref{}, nil, short("inode extref", b, inodeExtrefSize)
		}
		r.Parent, b = le.Uint64(b), b[inodeExtrefSize-inodeRefSize:]
	}
	if len(b) < inodeRefSize {
		return Ref{}, nil, short("inode ref", b, inodeRefSize)
	}
	end := inodeRefSize + int(le.Uint16(b[8:]))
	if len(b) < end {
		return Ref{}, nil, short("name in an inode ref", b, end)
	}
	r.Index, r.Name = le.Uint64(b), b[inodeRefSize:end:end]
	return r, b[end:], nil
}

// Extent types (BTRFS_FILE_EXTENT_...).
const (
	ExtentInline   = 0 // the bytes are in the item
	ExtentRegular  = 1
	ExtentPrealloc = 2 // allocated, not written: reads as zeros
)

// ExtentData is struct btrfs_file_extent_item. Key: (inode, ExtentDataKey, offset in the file).
type ExtentData struct {
	Generation   uint64
	RAMBytes     uint64 // size of the extent, decompressed
	Compression  uint8
	Encryption   uint8
	Type         uint8
	DiskBytenr   uint64 // address of the extent on disk; 0 is a hole
	DiskNumBytes uint64
	Offset       uint64 // where in the (decompressed) extent this part begins
	NumBytes     uint64 // length of the part in the file; of an inline extent RAMBytes
	Inline       []byte // as stored, perhaps compressed; part of the item's data
}

// DecodeExtentData decodes the data of an ExtentDataKey item.
func DecodeExtentData(b []byte) (ExtentData, error) {
	if len(b) < extentHeadSize {
		return ExtentData{}, short("extent item", b, extentHeadSize)
	}
	e := ExtentData{
		Generation: le.Uint64(b), RAMBytes: le.Uint64(b[8:]), Compression: b[16], Encryption: b[17], Type: b[20],
	}
	switch e.Type {
	case ExtentInline:
		e.Inline, e.NumBytes = b[extentHeadSize:], e.RAMBytes
		return e, nil
	case ExtentRegular, ExtentPrealloc:
	default:
		return ExtentData{}, fmt.Errorf("extent item of unknown type %d", e.Type)
	}
	if len(b) < extentOnDiskSize {
		return ExtentData{}, short("extent item", b, extentOnDiskSize)
	}
	e.DiskBytenr, e.DiskNumBytes = le.Uint64(b[21:]), le.Uint64(b[29:])
	e.Offset, e.NumBytes = le.Uint64(b[37:]), le.Uint64(b[45:])
	return e, nil
}

func short(what string, b []byte, want int) error {
	return fmt.Errorf("%s is cut: %d bytes, want %d", what, len(b), want)
}
