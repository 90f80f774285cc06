package inodefeed

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// The structures on the disk, field by field as the kernel's headers have them; what lies between those that are read is room.
type (
	// struct ext4_super_block, fs/ext4/ext4.h
	ext4SuperBlock struct {
		InodesCount, BlocksCountLo, RBlocksCountLo, FreeBlocksCountLo, FreeInodesCount, FirstDataBlock, LogBlockSize, LogClusterSize,
		BlocksPerGroup, ClustersPerGroup, InodesPerGroup, Mtime, Wtime uint32
		MntCount, MaxMntCount, Magic, State, Errors, MinorRevLevel uint16
		Lastcheck, Checkinterval, CreatorOS, RevLevel              uint32
		DefResuid, DefResgid                                       uint16
		FirstIno                                                   uint32
		InodeSize, BlockGroupNr                                    uint16
		FeatureCompat, FeatureIncompat, FeatureRoCompat            uint32
		UUID, VolumeName                                           [16]byte
		LastMounted                                                [64]byte
		AlgorithmUsageBitmap                                       uint32
		PreallocBlocks, PreallocDirBlocks                          uint8
		ReservedGdtBlocks                                          uint16
		JournalUUID                                                [16]byte
		JournalInum, JournalDev, LastOrphan                        uint32
		HashSeed                                                   [4]uint32
		DefHashVersion, JnlBackupType                              uint8
		DescSize                                                   uint16
		DefaultMountOpts, FirstMetaBg, MkfsTime                    uint32
		JnlBlocks                                                  [17]uint32
		BlocksCountHi, RBlocksCountHi, FreeBlocksCountHi           uint32
		MinExtraIsize, WantExtraIsize                              uint16
		Flags                                                      uint32
		RaidStride, MmpUpdateInterval                              uint16
		MmpBlock                                                   uint64
		RaidStripeWidth                                            uint32
		LogGroupsPerFlex, ChecksumType, EncryptionLevel, _         uint8
		KbytesWritten                                              uint64
		SnapshotInum, SnapshotID                                   uint32
		SnapshotRBlocksCount                                       uint64
		SnapshotList, ErrorCount, FirstErrorTime, FirstErrorIno    uint32
		FirstErrorBlock                                            uint64
		FirstErrorFunc                                             [32]byte
		FirstErrorLine, LastErrorTime, LastErrorIno, LastErrorLine uint32
		LastErrorBlock                                             uint64
		LastErrorFunc                                              [32]byte
		MountOpts                                                  [64]byte
		UsrQuotaInum, GrpQuotaInum, OverheadClusters               uint32
		BackupBgs                                                  [2]uint32
		EncryptAlgos                                               [4]uint8
		EncryptPwSalt                                              [16]byte
		LpfIno, PrjQuotaInum, ChecksumSeed                         uint32
		WtimeHi, MtimeHi, MkfsTimeHi, LastcheckHi, FirstErrorTimeHi,
		LastErrorTimeHi, FirstErrorErrcode, LastErrorErrcode uint8
		Encoding, EncodingFlags uint16
		OrphanFileInum          uint32
		_                       [94]uint32
		Checksum                uint32
	}
	// struct ext4_group_desc, fs/ext4/ext4.h
	ext4GroupDesc struct {
		BlockBitmapLo, InodeBitmapLo, InodeTableLo                     uint32
		FreeBlocksLo, FreeInodesLo, UsedDirsLo, Flags                  uint16
		ExcludeBitmapLo                                                uint32
		BlockBitmapCsumLo, InodeBitmapCsumLo, ItableUnusedLo, Checksum uint16
		BlockBitmapHi, InodeBitmapHi, InodeTableHi                     uint32
		FreeBlocksHi, FreeInodesHi, UsedDirsHi, ItableUnusedHi         uint16
		ExcludeBitmapHi                                                uint32
		BlockBitmapCsumHi, InodeBitmapCsumHi                           uint16
		_                                                              uint32
	}
	// struct ext4_inode, fs/ext4/ext4.h
	ext4InodeDisk struct {
		Mode, UID                                                                  uint16
		SizeLo, Atime, Ctime, Mtime, Dtime                                         uint32
		GID, LinksCount                                                            uint16
		BlocksLo, Flags, Osd1                                                      uint32
		Block                                                                      [15]uint32
		Generation, FileACLLo, SizeHigh, ObsoFaddr                                 uint32
		BlocksHigh, FileACLHigh, UIDHigh, GIDHigh, ChecksumLo, _                   uint16
		ExtraIsize, ChecksumHi                                                     uint16
		CtimeExtra, MtimeExtra, AtimeExtra, Crtime, CrtimeExtra, VersionHi, Projid uint32
	}
	// struct xfs_dsb up to sb_meta_uuid, fs/xfs/libxfs/xfs_format.h
	xfsDsb struct {
		Magicnum, Blocksize                                                            uint32
		Dblocks, Rblocks, Rextents                                                     uint64
		UUID                                                                           [16]byte
		Logstart, Rootino, Rbmino, Rsumino                                             uint64
		Rextsize, Agblocks, Agcount, Rbmblocks, Logblocks                              uint32
		Versionnum, Sectsize, Inodesize, Inopblock                                     uint16
		Fname                                                                          [12]byte
		Blocklog, Sectlog, Inodelog, Inopblog, Agblklog, Rextslog, Inprogress, ImaxPct uint8
		Icount, Ifree, Fdblocks, Frextents, Uquotino, Gquotino                         uint64
		Qflags                                                                         uint16
		Flags, SharedVn                                                                uint8
		Inoalignmt, Unit, Width                                                        uint32
		Dirblklog, Logsectlog                                                          uint8
		Logsectsize                                                                    uint16
		Logsunit, Features2, BadFeatures2, FeaturesCompat, FeaturesRoCompat,
		FeaturesIncompat, FeaturesLogIncompat, CRC, SpinoAlign uint32
		Pquotino, LSN uint64
		MetaUUID      [16]byte
	}
	// struct xfs_agi, fs/xfs/libxfs/xfs_format.h
	xfsAgi struct {
		Magicnum, Versionnum, Seqno, Length, Count, Root, Level, Freecount, Newino, Dirino uint32
		Unlinked                                                                           [64]uint32
		UUID                                                                               [16]byte
		CRC, _                                                                             uint32
		LSN                                                                                uint64
		FreeRoot, FreeLevel, Iblocks, Fblocks                                              uint32
	}
	// struct xfs_inobt_rec, fs/xfs/libxfs/xfs_format.h, of a filesystem with sparse inodes
	xfsInobtRec struct {
		Startino         uint32
		Holemask         uint16
		Count, Freecount uint8
		Free             uint64
	}
	// struct xfs_dinode of version 3, fs/xfs/libxfs/xfs_format.h
	xfsDinode struct {
		Magic, Mode                            uint16
		Version, Format                        uint8
		Onlink                                 uint16
		UID, GID, Nlink                        uint32
		ProjidLo, ProjidHi                     uint16
		BigNextents, Atime, Mtime, Ctime, Size uint64
		Nblocks                                uint64
		Extsize, Nextents                      uint32
		Anextents                              uint16
		Forkoff, Aformat                       uint8
		Dmevmask                               uint32
		Dmstate, Flags                         uint16
		Gen, NextUnlinked, CRC                 uint32
		Changecount, LSN, Flags2               uint64
		Cowextsize                             uint32
		_                                      [12]byte
		Crtime, Ino                            uint64
		UUID                                   [16]byte
	}
)

// TestSizes: the sizes of what lies on the disk, as the kernel's structures have them.
func TestSizes(t *testing.T) {
	for name, c := range map[string]struct {
		structure any
		size      int
	}{
		"struct ext4_super_block": {ext4SuperBlock{}, ext4SuperSize}, "struct ext4_group_desc": {ext4GroupDesc{}, 64}, "struct ext4_inode": {ext4InodeDisk{}, 160},
		"struct xfs_dsb": {xfsDsb{}, xfsSuperSize}, "struct xfs_agi": {xfsAgi{}, xfsAgiSize}, "struct xfs_inobt_rec": {xfsInobtRec{}, xfsChunkSize},
		"struct xfs_dinode": {xfsDinode{}, xfsInodeCore},
	} {
		if got := binary.Size(c.structure); got != c.size {
			t.Errorf("%s has %d bytes, is taken for %d", name, got, c.size)
		}
	}
}

// onDisk are the bytes of a structure.
func onDisk(t *testing.T, order binary.ByteOrder, structure any) []byte {
	t.Helper()
	b, err := binary.Append(nil, order, structure)
	must(t, err)
	return b
}

// TestFieldsExt4: each field is read from where the kernel's structure has it.
func TestFieldsExt4(t *testing.T) {
	s, err := decodeExt4Super(onDisk(t, le, ext4SuperBlock{
		InodesCount: 4001, BlocksCountLo: 100_003, BlocksCountHi: 0, FirstDataBlock: 5, LogBlockSize: 2, BlocksPerGroup: 32000, InodesPerGroup: 1008, Mtime: 77, MtimeHi: 2,
		MntCount: 9, Magic: ext4Magic, Lastcheck: 88, LastcheckHi: 3, RevLevel: 1, FirstIno: 12, InodeSize: 512, FeatureCompat: 0x210,
		FeatureIncompat: ext4Incompat64bit | ext4IncompatCsumSeed, FeatureRoCompat: ext4RoMetadataCsum, UUID: [16]byte{1, 15: 16}, DescSize: 64, FirstMetaBg: 6,
		BackupBgs: [2]uint32{1, 3}, ChecksumSeed: 0xABCDEF01,
	}))
	must(t, err)
	if want := (ext4Super{inodes: 4001, blocks: 100_003, firstDataBlock: 5, blockSize: 4096, blocksPerGroup: 32000, inodesPerGroup: 1008, lastCheck: 3<<32 | 88,
		mounted: (2<<32|77)<<16 | 9, firstInode: 12, inodeSize: 512, compat: 0x210, incompat: ext4Incompat64bit | ext4IncompatCsumSeed,
		roCompat: ext4RoMetadataCsum, uuid: [16]byte{1, 15: 16}, descSize: 64, firstMetaBG: 6, backupGroups: [2]uint32{1, 3}, groups: 4, seed: 0xABCDEF01}); s != want {
		t.Errorf("the superblock is %+v, want %+v", s, want)
	}
	desc := ext4GroupDesc{InodeTableLo: 33, InodeTableHi: 1, ItableUnusedLo: 8}
	s.blocks = 1 << 40
	g, err := s.decodeGroup(onDisk(t, le, desc))
	if want := (ext4Group{table: (1<<32 + 33) * 4096, used: 1000}); err != nil || g != want {
		t.Errorf("the group is %+v (%v), want %+v", g, err, want)
	}
	desc.Flags = ext4InodeUninit
	if g, err := s.decodeGroup(onDisk(t, le, desc)); err != nil || g.used != 0 {
		t.Errorf("the group that was never used is %+v (%v)", g, err)
	}
	desc.Flags, desc.ItableUnusedHi = 0, 1
	if g, err := s.decodeGroup(onDisk(t, le, desc)); err == nil {
		t.Errorf("a group with 65,544 inodes that are not in use of 1,008 is %+v", g)
	}
	i, err := new(ext4).decode(onDisk(t, le, ext4InodeDisk{
		Mode: unix.S_IFREG | 0o640, UID: 1, UIDHigh: 2, GID: 3, GIDHigh: 4, SizeLo: 5, SizeHigh: 6, Ctime: 7, Mtime: 8, LinksCount: 9, Generation: 10,
		ExtraIsize: 32, CtimeExtra: 11<<2 | 1, MtimeExtra: 12<<2 | 2,
	}))
	must(t, err)
	want := inode{ctimeSec: 1<<32 + 7, ctimeNsec: 11, plain: true}
	want.Gen = 10
	want.Attr = diff.Attr{Mode: unix.S_IFREG | 0o640, UID: 2<<16 | 1, GID: 4<<16 | 3, Size: 6<<32 | 5, MtimeSec: 2<<32 + 8, MtimeNsec: 12, Nlink: 9}
	if i != want {
		t.Errorf("the inode is %+v, want %+v", i, want)
	}
	for name, d := range map[string]ext4InodeDisk{"low": {FileACLLo: 1, ExtraIsize: 32}, "high": {FileACLHigh: 1, ExtraIsize: 32}} {
		if ext4Plain(onDisk(t, le, d)) {
			t.Errorf("an inode with a block of attributes (%s bits) is said to have none", name)
		}
	}
	masked := onDisk(t, le, ext4InodeDisk{Atime: 1, ChecksumLo: 2, ChecksumHi: 3, AtimeExtra: 4})
	new(ext4).mask(masked)
	if string(masked) != string(make([]byte, len(masked))) {
		t.Errorf("with time of last access and checksum wiped it is %x", masked)
	}
}

// TestFieldsXFS is the same for XFS.
func TestFieldsXFS(t *testing.T) {
	sb := xfsDsb{
		Magicnum: xfsMagic, Blocksize: 4096, Dblocks: 70_000, UUID: [16]byte{1, 15: 16}, Logstart: 7, Rootino: 128, Agblocks: 20_000, Agcount: 4, Versionnum: 0xB4A5,
		Sectsize: 512, Inodesize: 1024, Inopblock: 4, Inopblog: 2, Agblklog: 15, Dirblklog: 1, FeaturesRoCompat: 0x5, FeaturesIncompat: 0xB, MetaUUID: [16]byte{2, 15: 17},
	}
	s, err := decodeXFSSuper(onDisk(t, be, sb))
	must(t, err)
	want := xfsSuper{blockSize: 4096, blocks: 70_000, rootInode: 128, groupSize: 20_000, groups: 4, sectorSize: 512, inodeSize: 1024, perBlock: 4, groupLog: 15, inodeLog: 2,
		uuid: [16]byte{1, 15: 16}, sparse: true, fileTypes: true, dirLog: 1}
	if s != want {
		t.Errorf("the superblock is %+v, want %+v", s, want)
	}
	sb.FeaturesIncompat |= xfsIncompatMetaUUID
	if s, err := decodeXFSSuper(onDisk(t, be, sb)); err != nil || s.uuid != sb.MetaUUID {
		t.Errorf("with another UUID in inodes that is %x (%v)", s.uuid, err)
	}
	g, err := s.decodeGroup(onDisk(t, be, xfsAgi{Magicnum: xfsAgiMagic, Seqno: 3, Length: 10_000, Root: 44, Level: 2}), 3)
	if want := (xfsGroup{blocks: 10_000, root: 44, levels: 2}); err != nil || g != want {
		t.Errorf("the group is %+v (%v), want %+v", g, err, want)
	}
	c := s.decodeChunk(onDisk(t, be, xfsInobtRec{Startino: 640, Holemask: 0x8001, Count: 56, Freecount: 1, Free: 1 << 30}))
	if want := (xfsChunk{first: 640, free: 1<<30 | 0xF | 0xF<<60}); c != want {
		t.Errorf("the chunk is %+v, want %+v", c, want)
	}
	disk := xfsDinode{Magic: xfsInodeMagic, Mode: unix.S_IFREG | 0o640, Version: 3, UID: 1, GID: 2, Nlink: 3, Mtime: 4<<32 | 5, Ctime: 6<<32 | 7, Size: 8, Gen: 9, Ino: 650, UUID: sb.UUID}
	raw := onDisk(t, be, disk)
	must(t, s.checkInode(raw, 650))
	i, err := new(xfs).decode(raw)
	must(t, err)
	wantInode := inode{ctimeSec: 6, ctimeNsec: 7, plain: true}
	wantInode.Gen = 9
	wantInode.Attr = diff.Attr{Mode: unix.S_IFREG | 0o640, UID: 1, GID: 2, Size: 8, MtimeSec: 4, MtimeNsec: 5, Nlink: 3}
	if i != wantInode {
		t.Errorf("the inode is %+v, want %+v", i, wantInode)
	}
	disk.Flags2, disk.Mtime, disk.Forkoff = xfsBigtime, (1<<31+20)*1_000_000_000+21, 1
	if i, err := new(xfs).decode(onDisk(t, be, disk)); err != nil || i.MtimeSec != 20 || i.MtimeNsec != 21 || i.plain {
		t.Errorf("with large times and a fork of attributes it is %+v (%v)", i, err)
	}
	masked := onDisk(t, be, xfsDinode{Atime: 1, CRC: 2, LSN: 3})
	new(xfs).mask(masked)
	if string(masked) != string(make([]byte, len(masked))) {
		t.Errorf("with what no change makes wiped it is %x", masked)
	}
}
