package inodefeed

import (
	"snapdiff/snapshot/lvm"
)

// Where the data of a file lies is for the kernel to tell (see extents), but to ask it takes three system calls a file. The maps of
// most files are so short that all of them lies in the inode: that is read here. It only tells which files to look at; their contents are
// never found by it.

// Offsets in struct ext4_inode and in its i_block; of a map of extents (fs/ext4/ext4_extents.h, little endian): struct ext4_extent_header,
// then struct ext4_extent, 12 bytes each.
const (
	ext4Flags         = 0x20
	ext4Map           = 0x28 // i_block
	ext4MapSize       = 60
	ext4ExtentsFlag   = 0x80000    // EXT4_EXTENTS_FL
	ext4InlineFlag    = 0x10000000 // EXT4_INLINE_DATA_FL
	ext4ExtentMagic   = 0xF30A     // EXT4_EXT_MAGIC
	ext4ExtentSize    = 12
	ext4ExtentInitMax = 1 << 15 // EXT_INIT_MAX_LEN: longer ones are allocated and not written
	ext4DirectBlocks  = 12      // EXT4_NDIR_BLOCKS
)

// places implements filesystem.
func (fs *ext4) places(raw []byte) (all []lvm.Block, ok bool) {
	m := raw[ext4Map:][:ext4MapSize]
	add := func(block uint64, count int64) {
		all = append(all, lvm.Block{Off: int64(block) * fs.super.blockSize, Len: count * fs.super.blockSize})
	}
	switch flags := le.Uint32(raw[ext4Flags:]); {
	case flags&ext4InlineFlag != 0:
		return nil, true // compared with the inode
	case flags&ext4ExtentsFlag == 0: // numbers of blocks, then three of blocks with more of them
		for i := range ext4DirectBlocks {
			if n := le.Uint32(m[4*i:]); n != 0 {
				add(uint64(n), 1)
			}
		}
		return all, [12]byte(m[4*ext4DirectBlocks:]) == [12]byte{}
	}
	count := int(le.Uint16(m[2:]))
	if le.Uint16(m) != ext4ExtentMagic || le.Uint16(m[6:]) != 0 || count > ext4MapSize/ext4ExtentSize-1 { // the depth
		return nil, false
	}
	for i := range count {
		e := m[(i+1)*ext4ExtentSize:]
		if n := le.Uint16(e[4:]); n <= ext4ExtentInitMax {
			add(uint64(le.Uint32(e[8:]))|uint64(le.Uint16(e[6:]))<<32, int64(n))
		}
	}
	return all, true
}

// Offsets in struct xfs_dinode, and struct xfs_bmbt_rec (fs/xfs/libxfs/xfs_format.h, big endian): 16 bytes in which, from the highest bit
// on, 1 says that it is not written, 54 are the place in the file, 52 the block, 21 how many.
const (
	xfsFormat        = 5
	xfsFormatLocal   = 1 // XFS_DINODE_FMT_LOCAL
	xfsFormatExtents = 2 // XFS_DINODE_FMT_EXTENTS
	xfsExtents64     = 24
	xfsExtents32     = 76
	xfsExtentSize    = 16
	xfsNrext64       = 0x10 // XFS_DIFLAG2_NREXT64
)

// places implements filesystem.
func (fs *xfs) places(raw []byte) (all []lvm.Block, ok bool) {
	if raw[xfsFormat] != xfsFormatExtents {
		return nil, raw[xfsFormat] == xfsFormatLocal
	}
	fork, count := xfsFork(raw)
	if count > uint64(len(fork)/xfsExtentSize) {
		return nil, false
	}
	for i := range int(count) {
		e := decodeXFSExtent(fork[i*xfsExtentSize:])
		if e.unwritten {
			continue
		}
		off, ok := fs.super.blockAt(e.block)
		if !ok {
			return nil, false
		}
		all = append(all, lvm.Block{Off: off, Len: int64(e.count) * fs.super.blockSize})
	}
	return all, true
}

// xfsFork gives the part of an inode where its data, or the map of it, lies, and how many extents there are.
func xfsFork(raw []byte) (fork []byte, extents uint64) {
	extents = uint64(be.Uint32(raw[xfsExtents32:]))
	if be.Uint64(raw[xfsFlags2:])&xfsNrext64 != 0 {
		extents = be.Uint64(raw[xfsExtents64:])
	}
	fork = raw[xfsInodeCore:]
	if at := 8 * int(raw[xfsForkoff]); at > 0 && at < len(fork) {
		fork = fork[:at] // behind it are the attributes
	}
	return fork, extents
}

// xfsExtent is a part of a file, in blocks.
type xfsExtent struct {
	at        uint64 // place in the file
	block     uint64
	count     uint32
	unwritten bool
}

func decodeXFSExtent(b []byte) xfsExtent {
	high, low := be.Uint64(b), be.Uint64(b[8:])
	return xfsExtent{at: high << 1 >> 10, block: high&(1<<9-1)<<43 | low>>21, count: uint32(low & (1<<21 - 1)), unwritten: high>>63 != 0}
}
