package inodefeed

import (
	"encoding/binary"
	"fmt"

	"snapdiff/snapshot/lvm"
)

var le = binary.LittleEndian

const (
	ext4SuperOffset = 1024
	ext4SuperSize   = 1024
	ext4Magic       = 0xEF53
	ext4Root        = 2  // EXT4_ROOT_INO
	ext4FirstOld    = 11 // EXT4_GOOD_OLD_FIRST_INO
)

// Features, EXT4_FEATURE_* in fs/ext4/ext4.h.
const (
	ext4CompatJournal      = 0x4
	ext4CompatSparseSuper2 = 0x200

	ext4RoSparseSuper  = 0x1
	ext4RoGdtCsum      = 0x10
	ext4RoMetadataCsum = 0x400

	ext4IncompatFiletype = 0x2
	ext4IncompatRecover  = 0x4
	ext4IncompatMetaBG   = 0x10
	ext4Incompat64bit    = 0x80
	ext4IncompatCsumSeed = 0x2000
	ext4IncompatLargeDir = 0x4000

	// ext4IncompatKnown: FILETYPE, RECOVER, META_BG, EXTENTS, 64BIT, MMP, FLEX_BG, EA_INODE, CSUM_SEED, LARGEDIR,
	// INLINE_DATA, CASEFOLD. Not COMPRESSION, JOURNAL_DEV, DIRDATA, ENCRYPT.
	ext4IncompatKnown = ext4IncompatFiletype | ext4IncompatRecover | ext4IncompatMetaBG | 0x40 | ext4Incompat64bit | 0x100 | 0x200 | 0x400 |
		ext4IncompatCsumSeed | ext4IncompatLargeDir | 0x8000 | 0x20000
	// ext4RoKnown: SPARSE_SUPER, LARGE_FILE, BTREE_DIR, HUGE_FILE, GDT_CSUM, DIR_NLINK, EXTRA_ISIZE, QUOTA, BIGALLOC,
	// METADATA_CSUM, READONLY, PROJECT, VERITY, ORPHAN_PRESENT. A feature that only forbids to write can still say which parts
	// of the inode tables hold nothing, as GDT_CSUM does: an unknown one is refused too.
	ext4RoKnown = ext4RoSparseSuper | 0x2 | 0x4 | 0x8 | ext4RoGdtCsum | 0x20 | 0x40 | 0x100 | 0x200 | ext4RoMetadataCsum |
		0x1000 | 0x2000 | 0x8000 | 0x10000
)

// ext4Super is what is used of struct ext4_super_block (fs/ext4/ext4.h, 1,024 bytes at byte 1,024 of the device, little
// endian).
type ext4Super struct {
	inodes         uint32
	blocks         uint64
	firstDataBlock uint32
	blockSize      int64
	blocksPerGroup uint32
	inodesPerGroup uint32
	lastCheck      uint64 // when e2fsck last went through all of it
	mounted        uint64 // when it was last mounted for writing, and the lowest 16 bits of how often
	firstInode     uint32 // that is not reserved
	inodeSize      int64
	compat         uint32
	incompat       uint32
	roCompat       uint32
	uuid           [16]byte
	descSize       int64
	firstMetaBG    uint32
	backupGroups   [2]uint32
	groups         uint32    // how many groups there are
	seed           uint32    // of all checksums of metadata
	own            [5]uint32 // inodes of the journal, of quotas, and of the list of orphans, where there are such
}

func isExt4(super []byte) bool { return le.Uint16(super[0x38:]) == ext4Magic }

func decodeExt4Super(b []byte) (s ext4Super, err error) {
	if len(b) < ext4SuperSize || !isExt4(b) {
		return s, fmt.Errorf("this is no ext4 superblock")
	}
	logBlock := le.Uint32(b[0x18:])
	s = ext4Super{
		inodes: le.Uint32(b), blocks: uint64(le.Uint32(b[0x04:])), firstDataBlock: le.Uint32(b[0x14:]),
		blocksPerGroup: le.Uint32(b[0x20:]), inodesPerGroup: le.Uint32(b[0x28:]),
		mounted:   (uint64(le.Uint32(b[0x2C:]))|uint64(b[0x275])<<32)<<16 | uint64(le.Uint16(b[0x34:])),
		lastCheck: uint64(le.Uint32(b[0x40:])) | uint64(b[0x277])<<32, firstInode: ext4FirstOld, inodeSize: 128,
		uuid: [16]byte(b[0x68:]), descSize: 32,
	}
	if le.Uint32(b[0x4C:]) > 0 { // s_rev_level: EXT4_DYNAMIC_REV
		s.firstInode, s.inodeSize = le.Uint32(b[0x54:]), int64(le.Uint16(b[0x58:]))
		s.compat, s.incompat, s.roCompat = le.Uint32(b[0x5C:]), le.Uint32(b[0x60:]), le.Uint32(b[0x64:])
	}
	if s.incompat&ext4Incompat64bit != 0 {
		s.descSize = int64(le.Uint16(b[0xFE:]))
		s.blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	s.firstMetaBG = le.Uint32(b[0x104:])
	s.backupGroups = [2]uint32{le.Uint32(b[0x24C:]), le.Uint32(b[0x250:])}
	for i, at := range [...]int{0xE0, 0x240, 0x244, 0x26C, 0x280} { // s_journal_inum, s_usr_quota_inum, s_grp_quota_inum, s_prj_quota_inum, s_orphan_file_inum
		s.own[i] = le.Uint32(b[at:])
	}
	s.seed = ext4Checksum(1<<32-1, s.uuid[:])
	if s.incompat&ext4IncompatCsumSeed != 0 {
		s.seed = le.Uint32(b[0x270:])
	}
	if logBlock > 6 { // EXT4_MAX_BLOCK_LOG_SIZE: 64 KiB
		return s, fmt.Errorf("the ext4 superblock has a block size of 2^%d KiB", logBlock)
	}
	s.blockSize = 1024 << logBlock
	return s, s.check()
}

// check refuses what is not known and what does not fit together.
func (s *ext4Super) check() error {
	if unknown := s.incompat &^ ext4IncompatKnown; unknown != 0 {
		return notNative("ext4 has a feature that is not known here (incompatible %#x)", unknown)
	}
	if unknown := s.roCompat &^ ext4RoKnown; unknown != 0 {
		return notNative("ext4 has a feature that is not known here (read-only compatible %#x)", unknown)
	}
	if s.incompat&ext4IncompatRecover != 0 {
		return lvm.ErrRecovery
	}
	power := func(n int64) bool { return n > 0 && n&(n-1) == 0 }
	wrong := s.blocksPerGroup == 0 || s.inodesPerGroup == 0 || s.blocks <= uint64(s.firstDataBlock) ||
		!power(s.inodeSize) || s.inodeSize < 128 || s.inodeSize > s.blockSize ||
		!power(s.descSize) || s.descSize < 32 || s.descSize > s.blockSize || s.firstInode < ext4FirstOld
	if s.incompat&ext4Incompat64bit != 0 {
		wrong = wrong || s.descSize < 64
	}
	if wrong {
		return fmt.Errorf("the ext4 superblock does not fit together: %+v", *s)
	}
	groups := (s.blocks - uint64(s.firstDataBlock) + uint64(s.blocksPerGroup) - 1) / uint64(s.blocksPerGroup)
	if groups > 1<<32-1 || groups*uint64(s.inodesPerGroup) < uint64(s.inodes) {
		return fmt.Errorf("the ext4 superblock does not fit together: %d groups for %d inodes", groups, s.inodes)
	}
	s.groups = uint32(groups)
	return nil
}

// checksummed tells that group descriptors say how much of an inode table is in use (ext4_has_group_desc_csum).
func (s *ext4Super) checksummed() bool { return s.roCompat&(ext4RoGdtCsum|ext4RoMetadataCsum) != 0 }

// metadataChecksums tells that all metadata has checksums.
func (s *ext4Super) metadataChecksums() bool { return s.roCompat&ext4RoMetadataCsum != 0 }

// hasSuper tells whether a group begins with a copy of the superblock (ext4_bg_has_super in fs/ext4/balloc.c).
func (s *ext4Super) hasSuper(group uint32) bool {
	switch {
	case group == 0:
		return true
	case s.compat&ext4CompatSparseSuper2 != 0:
		return group == s.backupGroups[0] || group == s.backupGroups[1]
	case group == 1 || s.roCompat&ext4RoSparseSuper == 0:
		return true
	}
	for _, base := range [...]uint32{3, 5, 7} {
		n := uint64(base)
		for n < uint64(group) {
			n *= uint64(base)
		}
		if n == uint64(group) {
			return true
		}
	}
	return false
}

// descriptors is the number of the block that holds the n-th block of group descriptors (descriptor_loc in
// fs/ext4/super.c).
func (s *ext4Super) descriptors(n uint32) uint64 {
	if s.incompat&ext4IncompatMetaBG == 0 || n < s.firstMetaBG {
		return uint64(ext4SuperOffset/s.blockSize) + uint64(n) + 1
	}
	group := uint64(n) * uint64(s.blockSize/s.descSize)
	block := group*uint64(s.blocksPerGroup) + uint64(s.firstDataBlock)
	if s.hasSuper(uint32(group)) {
		block++
		if s.blockSize == 1024 && n == 0 && s.firstDataBlock == 0 {
			block++ // the superblock is in block 1, not in block 0
		}
	}
	return block
}
