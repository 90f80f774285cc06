package inodefeed

import (
	"encoding/binary"
	"fmt"
)

var be = binary.BigEndian

const (
	xfsMagic     = 0x58465342 // "XFSB"
	xfsSuperSize = 264        // struct xfs_dsb up to sb_meta_uuid

	xfsIncompatMetaUUID = 0x4
	// xfsIncompatKnown: FTYPE, SPINODES, META_UUID, BIGTIME, NREXT64, EXCHRANGE, PARENT. Not NEEDSREPAIR, METADIR, ZONED.
	xfsIncompatKnown = 0x1 | 0x2 | xfsIncompatMetaUUID | 0x8 | 0x20 | 0x40 | 0x80
	// xfsRoKnown: FINOBT, RMAPBT, REFLINK, INOBTCNT.
	xfsRoKnown = 0x1 | 0x2 | 0x4 | 0x8
)

// xfsSuper is what is used of struct xfs_dsb (fs/xfs/libxfs/xfs_format.h, at byte 0 of the device, big endian).
type xfsSuper struct {
	blockSize  int64
	blocks     uint64
	rootInode  uint64
	groupSize  uint32 // blocks in each allocation group but the last
	groups     uint32
	sectorSize int64
	inodeSize  int64
	perBlock   uint32 // inodes in a block
	groupLog   uint8  // bits of a block number within its group
	inodeLog   uint8  // bits of an inode number within its block
	uuid       [16]byte
	sparse     bool      // chunks of inodes may have holes
	fileTypes  bool      // directories tell the types of files
	dirLog     uint8     // blocks in a block of a directory, as a power of 2
	own        [5]uint64 // inodes of the realtime section's bitmaps and of quotas, where there are such
}

func isXFS(b []byte) bool { return be.Uint32(b) == xfsMagic }

func decodeXFSSuper(b []byte) (s xfsSuper, err error) {
	if len(b) < xfsSuperSize || !isXFS(b) {
		return s, fmt.Errorf("this is no XFS superblock")
	}
	if version := be.Uint16(b[100:]) & 0xF; version != 5 {
		return s, notNative("XFS has the old format %d, without checksums", version)
	}
	ro, incompat := be.Uint32(b[212:]), be.Uint32(b[216:])
	switch {
	case incompat&^xfsIncompatKnown != 0:
		return s, notNative("XFS has a feature that is not known here (incompatible %#x)", incompat&^xfsIncompatKnown)
	case ro&^xfsRoKnown != 0:
		return s, notNative("XFS has a feature that is not known here (read-only compatible %#x)", ro&^xfsRoKnown)
	case be.Uint64(b[16:]) != 0:
		return s, notNative("XFS has a realtime section")
	case be.Uint64(b[48:]) == 0:
		return s, notNative("XFS has its log on another device")
	}
	s = xfsSuper{
		blockSize: int64(be.Uint32(b[4:])), blocks: be.Uint64(b[8:]), uuid: [16]byte(b[32:]), rootInode: be.Uint64(b[56:]),
		groupSize: be.Uint32(b[84:]), groups: be.Uint32(b[88:]), sectorSize: int64(be.Uint16(b[102:])),
		inodeSize: int64(be.Uint16(b[104:])), perBlock: uint32(be.Uint16(b[106:])),
		inodeLog: b[123], groupLog: b[124], sparse: incompat&0x2 != 0, fileTypes: incompat&0x1 != 0, dirLog: b[192],
	}
	if incompat&xfsIncompatMetaUUID != 0 {
		s.uuid = [16]byte(b[248:]) // what inodes carry; the other can be changed
	}
	for i, at := range [...]int{64, 72, 160, 168, 232} { // sb_rbmino, sb_rsumino, sb_uquotino, sb_gquotino, sb_pquotino
		s.own[i] = be.Uint64(b[at:])
	}
	return s, s.check()
}

func (s *xfsSuper) check() error {
	power := func(n, low, high int64) bool { return n >= low && n <= high && n&(n-1) == 0 }
	if !power(s.blockSize, 512, 65536) || !power(s.sectorSize, 512, 32768) || !power(s.inodeSize, 512, 2048) ||
		s.inodeSize > s.blockSize || int64(s.perBlock) != s.blockSize/s.inodeSize || s.perBlock != 1<<s.inodeLog ||
		s.dirLog > 7 || s.blockSize<<s.dirLog > 65536 || s.groups == 0 || s.groupSize < 4 || s.groupLog > 31 || s.groupLog+s.inodeLog > 32 || uint64(s.groupSize) > 1<<s.groupLog ||
		uint64(s.groups-1)*uint64(s.groupSize) >= s.blocks {
		return fmt.Errorf("the XFS superblock does not fit together: %+v", *s)
	}
	return nil
}

// split gives an inode's allocation group and its number there (XFS_INO_TO_AGNO, XFS_INO_TO_AGINO).
func (s *xfsSuper) split(num uint64) (group uint32, inGroup uint32, ok bool) {
	bits := s.groupLog + s.inodeLog
	if num>>bits >= uint64(s.groups) {
		return 0, 0, false
	}
	return uint32(num >> bits), uint32(num & (1<<bits - 1)), true
}

// number is the opposite of split.
func (s *xfsSuper) number(group, inGroup uint32) uint64 {
	return uint64(group)<<(s.groupLog+s.inodeLog) | uint64(inGroup)
}

// groupStart is the byte at which an allocation group begins.
func (s *xfsSuper) groupStart(group uint32) int64 {
	return int64(group) * int64(s.groupSize) * s.blockSize
}

// blockAt is the byte at which a block of the filesystem lies, whose number has that of its group above groupLog; false if there is none such.
func (s *xfsSuper) blockAt(block uint64) (off int64, ok bool) {
	group, inGroup := block>>s.groupLog, uint32(block&(1<<s.groupLog-1))
	if group >= uint64(s.groups) || inGroup >= s.groupSize {
		return 0, false
	}
	return s.groupStart(uint32(group)) + int64(inGroup)*s.blockSize, true
}

// place is the byte at which an inode lies.
func (s *xfsSuper) place(group, inGroup uint32) int64 {
	return s.groupStart(group) + int64(inGroup)*s.inodeSize
}
