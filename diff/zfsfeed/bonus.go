package zfsfeed

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// fields are what the bonus buffer of an object says of its inode.
type fields struct {
	sig  uint64 // diff.Signature; 0: could not be read
	size uint64
	gen  uint64 // as in file handles; 0: could not be read
	ctim int64  // seconds of the last change
	// links counts its names; 0 where nobody need have one: deleted while open, one of ZFS's own, extended attributes.
	links uint32
	// owner is what an extended attribute belongs to that is a file: the directory of such; and of that the file itself. 0 for all else.
	owner uint64
}

// bonusFields reads a bonus buffer of system attributes: sa_hdr_phys (include/sys/sa_impl.h: magic 4 bytes, layout number in the
// lower 10 bits and header size / 8 in the upper 6 of 2 bytes), then the attributes in the order in which zfs_mknode
// (module/os/linux/zfs/zfs_znode_os.c) lays them down; include/sys/zfs_sa.h has some of the offsets. The order is that of the dataset's
// layout, which the stream does not tell: were it another one, the signature would equal none that was made of a stat, and the
// inode would be looked at. num is the object's.
func bonusFields(num uint64, b []byte) (f fields) {
	const saMagic = 0x2F505A
	const ( // offsets of the attributes, 8 bytes each, times 16
		mode, size, gen, uid, gid, parent, flags, mtime, ctime, links, end = 0, 8, 16, 24, 32, 40, 48, 72, 88, 120, 128
	)
	const flagXattr = 0x1 // ZFS_XATTR, include/sys/zfs_znode.h: an extended attribute that is a file, or the directory of such
	if len(b) < 8 {
		return f
	}
	var order binary.ByteOrder = binary.LittleEndian
	if order.Uint32(b) != saMagic {
		order = binary.BigEndian
	}
	head := int(order.Uint16(b[4:])>>10) * 8
	if order.Uint32(b) != saMagic || head < 8 || len(b) < head+end {
		return f
	}
	u64 := func(at int) uint64 { return order.Uint64(b[head+at:]) }
	st := unix.Stat_t{
		Mode: uint32(u64(mode)), Uid: uint32(u64(uid)), Gid: uint32(u64(gid)), Size: int64(u64(size)),
		Mtim: unix.Timespec{Sec: int64(u64(mtime)), Nsec: int64(u64(mtime + 8))},
		Ctim: unix.Timespec{Sec: int64(u64(ctime)), Nsec: int64(u64(ctime + 8))},
	}
	setCount(&st.Nlink, u64(links))
	generation := max(u64(gen)&0xffffffff, 1) // as in file handles
	f = fields{sig: diff.Signature(&st, generation), size: u64(size), gen: generation, ctim: st.Ctim.Sec}
	switch {
	case u64(flags)&flagXattr != 0:
		f.owner = u64(parent)
	case u64(parent) != num: // a directory of ZFS's own has no other for its parent, as the top has none
		f.links = uint32(min(u64(links), 1<<32-1))
	}
	return f
}

// setCount sets the number of links of a stat: 64 bits on amd64, 32 on arm64.
func setCount[T uint32 | uint64](to *T, n uint64) { *to = T(n) }
