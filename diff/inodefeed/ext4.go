package inodefeed

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// ext4 reads inodes of ext4, ext3 and ext2.
type ext4 struct {
	dev   *device
	meta  *device // for maps
	super ext4Super
	// groups of inodes, by number.
	groups []ext4Group
}

// ext4Group is what is used of struct ext4_group_desc (fs/ext4/ext4.h, 32 bytes, or s_desc_size with 64-bit).
type ext4Group struct {
	table int64  // byte at which the inode table begins
	used  uint32 // how many inodes at its beginning have ever been in use; what follows may be anything
}

const ext4InodeUninit = 0x1 // EXT4_BG_INODE_UNINIT in bg_flags

func openExt4(dev *device) (*ext4, error) {
	b, err := dev.bytes(ext4SuperOffset, ext4SuperSize)
	if err != nil {
		return nil, err
	}
	super, err := decodeExt4Super(b)
	if err != nil {
		return nil, err
	}
	if super.blocks > uint64(dev.size/super.blockSize) {
		return nil, fmt.Errorf("ext4 has %d blocks of %d bytes on a device of %d bytes", super.blocks, super.blockSize, dev.size)
	}
	fs := &ext4{dev: dev, meta: newDevice(dev.r, dev.size, int(super.blockSize)), super: super}
	return fs, fs.readGroups()
}

func (fs *ext4) readGroups() error {
	s := &fs.super
	perBlock := uint32(s.blockSize / s.descSize)
	for n := uint32(0); uint32(len(fs.groups)) < s.groups; n++ {
		block := s.descriptors(n)
		if block >= s.blocks {
			return fmt.Errorf("block %d of ext4's group descriptors lies behind the end", n)
		}
		b, err := fs.dev.bytes(int64(block)*s.blockSize, int(s.blockSize))
		if err != nil {
			return fmt.Errorf("reading ext4's group descriptors: %w", err)
		}
		for i := uint32(0); i < perBlock && uint32(len(fs.groups)) < s.groups; i++ {
			g, err := s.decodeGroup(b[int64(i)*s.descSize:][:s.descSize])
			if err != nil {
				return fmt.Errorf("ext4's group %d: %w", len(fs.groups), err)
			}
			fs.groups = append(fs.groups, g)
		}
	}
	return nil
}

func (s *ext4Super) decodeGroup(b []byte) (g ext4Group, err error) {
	block := uint64(le.Uint32(b[0x08:]))
	unused := uint32(le.Uint16(b[0x1C:]))
	if len(b) >= 64 {
		block |= uint64(le.Uint32(b[0x28:])) << 32
		unused |= uint32(le.Uint16(b[0x32:])) << 16
	}
	tableBlocks := (uint64(s.inodesPerGroup)*uint64(s.inodeSize) + uint64(s.blockSize) - 1) / uint64(s.blockSize)
	if block >= s.blocks || s.blocks-block < tableBlocks {
		return g, fmt.Errorf("its inode table at block %d lies behind the end", block)
	}
	g = ext4Group{table: int64(block) * s.blockSize, used: s.inodesPerGroup}
	if !s.checksummed() {
		return g, nil
	}
	switch {
	case le.Uint16(b[0x12:])&ext4InodeUninit != 0:
		g.used = 0
	case unused > s.inodesPerGroup:
		return g, fmt.Errorf("it has %d unused inodes of %d", unused, s.inodesPerGroup)
	default:
		g.used -= unused
	}
	return g, nil
}

func (fs *ext4) over(blocks lvm.Blocks) filesystem {
	other := *fs
	other.dev = fs.dev.over(blocks)
	return &other
}

func (fs *ext4) root() uint64 { return ext4Root }

func (fs *ext4) mounted() uint64 { return fs.super.mounted }

func (fs *ext4) handle(num, gen uint64) unix.FileHandle {
	b := ne.AppendUint32(nil, uint32(num))
	return unix.NewFileHandle(fileidIno32Gen, ne.AppendUint32(b, uint32(gen)))
}

// named tells whether an inode of this number can have a name: not those reserved for the filesystem's own files.
func (fs *ext4) named(num uint64) bool {
	return num == ext4Root || num >= uint64(fs.super.firstInode) && num <= uint64(fs.super.inodes)
}

// journaled tells that a crash leaves nothing half done.
func (fs *ext4) journaled() bool { return fs.super.compat&ext4CompatJournal != 0 }

func (fs *ext4) own(num uint64) bool {
	return slices.Contains(fs.super.own[:], uint32(num)) && num < 1<<32
}

func (fs *ext4) raw(num uint64) ([]byte, error) {
	if !fs.named(num) {
		return nil, nil
	}
	group, index := (num-1)/uint64(fs.super.inodesPerGroup), uint32((num-1)%uint64(fs.super.inodesPerGroup))
	g := fs.groups[group]
	if index >= g.used {
		return nil, nil
	}
	b, err := fs.dev.bytes(g.table+int64(index)*fs.super.inodeSize, int(fs.super.inodeSize))
	if err != nil {
		return nil, fmt.Errorf("reading inode %d: %w", num, err)
	}
	if !ext4InUse(b) {
		return nil, nil
	}
	return b, nil
}

func (fs *ext4) scan(ctx context.Context, blocks lvm.Blocks, yield func(uint64) error) error {
	size := fs.super.inodeSize
	for _, n := range fs.byPlace() {
		if err := ctx.Err(); err != nil {
			return err
		}
		g := fs.groups[n]
		first := uint64(n)*uint64(fs.super.inodesPerGroup) + 1
		next := int64(0) // index of the first inode not looked at: one may lie across two changed blocks
		err := blocks.Within(g.table, int64(g.used)*size, func(b lvm.Block) error {
			end := (b.End() - g.table + size - 1) / size
			for next = max(next, (b.Off-g.table)/size); next < end; next++ {
				raw, err := fs.raw(first + uint64(next))
				if err != nil {
					return err
				}
				if raw == nil {
					continue
				}
				if err := yield(first + uint64(next)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// byPlace are the numbers of the groups in the order of their inode tables on the device.
func (fs *ext4) byPlace() []uint32 {
	order := make([]uint32, len(fs.groups))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return cmp.Compare(fs.groups[a].table, fs.groups[b].table) })
	return order
}

func (fs *ext4) incomparable(other filesystem) string {
	base, ok := other.(*ext4)
	if !ok {
		return "there was another kind of filesystem in the base"
	}
	b, n := &base.super, &fs.super
	switch {
	case b.uuid != n.uuid:
		return "the filesystem has another UUID than in the base"
	case b.blockSize != n.blockSize || b.inodeSize != n.inodeSize || b.inodesPerGroup != n.inodesPerGroup ||
		b.blocksPerGroup != n.blocksPerGroup || b.firstDataBlock != n.firstDataBlock || b.firstInode != n.firstInode:
		return "the filesystem's inode tables are laid out in another way than in the base"
	case b.lastCheck != n.lastCheck:
		return "e2fsck went through the filesystem since the base: what it mends need not show in inodes"
	case len(base.groups) > len(fs.groups):
		return "the filesystem was made smaller since the base: inodes may have got other numbers"
	}
	for i, g := range base.groups {
		if g.table != fs.groups[i].table {
			return "inode tables were moved since the base"
		}
	}
	return ""
}

// Offsets in struct ext4_inode (fs/ext4/ext4.h, little endian, 160 bytes of which an inode of 128 bytes has the first 128).
const (
	ext4InodeOld     = 128
	ext4Atime        = 0x08
	ext4Ctime        = 0x0C
	ext4Mtime        = 0x10
	ext4ChecksumLow  = 0x7C
	ext4ExtraSize    = 0x80
	ext4ChecksumHigh = 0x82
	ext4CtimeExtra   = 0x84
	ext4MtimeExtra   = 0x88
	ext4AtimeExtra   = 0x8C
	ext4FileACLLow   = 0x68 // the block of extended attributes
	ext4FileACLHigh  = 0x76
	ext4EaInode      = 0x200000   // EXT4_EA_INODE_FL: holds the value of an xattr
	ext4XattrMagic   = 0xEA020000 // EXT4_XATTR_MAGIC, fs/ext4/xattr.h
)

// ext4InUse tells an inode that has a name, or may have one.
func ext4InUse(b []byte) bool {
	return le.Uint16(b) != 0 && le.Uint16(b[0x1A:]) != 0 && le.Uint32(b[ext4Flags:])&ext4EaInode == 0
}

func (fs *ext4) mask(b []byte) {
	clear(b[ext4Atime:][:4])
	clear(b[ext4ChecksumLow:][:2])
	if len(b) > ext4InodeOld {
		clear(b[ext4ChecksumHigh:][:2])
		clear(b[ext4AtimeExtra:][:4])
	}
}

func (fs *ext4) decode(b []byte) (i inode, err error) {
	if len(b) < ext4InodeOld {
		return i, fmt.Errorf("an ext4 inode of %d bytes", len(b))
	}
	i.Gen = uint64(le.Uint32(b[0x64:]))
	i.Attr = diff.Attr{
		Mode: uint32(le.Uint16(b)), Nlink: uint32(le.Uint16(b[0x1A:])),
		UID: uint32(le.Uint16(b[0x02:])) | uint32(le.Uint16(b[0x78:]))<<16,
		GID: uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7A:]))<<16,
	}
	i.MtimeSec, i.MtimeNsec, _ = ext4Time(b, ext4Mtime, ext4MtimeExtra)
	var fine bool
	i.ctimeSec, i.ctimeNsec, fine = ext4Time(b, ext4Ctime, ext4CtimeExtra)
	i.coarse = !fine
	i.plain = ext4Plain(b)
	switch i.Type() {
	case unix.S_IFREG:
		i.Size = int64(uint64(le.Uint32(b[0x04:])) | uint64(le.Uint32(b[0x6C:]))<<32)
	case unix.S_IFLNK:
		i.Size = int64(le.Uint32(b[0x04:]))
	case unix.S_IFCHR, unix.S_IFBLK:
		i.Rdev = ext4Device(b[0x28:])
	case unix.S_IFDIR:
		i.Nlink = 1
	}
	if i.Size < 0 {
		return i, fmt.Errorf("an ext4 inode with size %d", i.Size)
	}
	return i, nil
}

// ext4Plain tells an inode without extended attributes: it has no block of them, and those in the inode itself, which would begin
// behind its fields with their magic number, are not there (ext4_iget_extra_inode in fs/ext4/inode.c).
func ext4Plain(b []byte) bool {
	if le.Uint32(b[ext4FileACLLow:]) != 0 || le.Uint16(b[ext4FileACLHigh:]) != 0 {
		return false
	}
	if len(b) <= ext4InodeOld {
		return true
	}
	at := ext4InodeOld + int(le.Uint16(b[ext4ExtraSize:]))
	return at+4 > len(b) || le.Uint32(b[at:]) != ext4XattrMagic
}

// ext4Time reads seconds, and the two bits above them and the nanoseconds where the inode has room for them
// (EXT4_INODE_GET_XTIME, ext4_decode_extra_time).
func ext4Time(b []byte, at, extraAt int) (sec int64, nsec int32, fine bool) {
	sec = int64(int32(le.Uint32(b[at:])))
	if len(b) <= ext4InodeOld || ext4InodeOld+int(le.Uint16(b[ext4ExtraSize:])) < extraAt+4 {
		return sec, 0, false
	}
	extra := le.Uint32(b[extraAt:])
	return sec + int64(extra&3)<<32, int32(extra >> 2), true
}

// ext4Device reads a device number from i_block: the first word has the old form, 8 bits each, else the second the new one
// (old_decode_dev and new_decode_dev in include/linux/kdev_t.h).
func ext4Device(block []byte) uint64 {
	if old := le.Uint32(block); old != 0 {
		return unix.Mkdev(old>>8&0xFF, old&0xFF)
	}
	dev := le.Uint32(block[4:])
	return unix.Mkdev(dev>>8&0xFFF, dev&0xFF|dev>>12&0xFFF00)
}
