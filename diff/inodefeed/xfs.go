package inodefeed

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/lvm"
)

// xfs reads inodes of XFS in the format with checksums (version 5).
type xfs struct {
	inodes *device
	meta   *device // for the trees of inode chunks
	super  xfsSuper
	groups []xfsGroup

	// The leaf of a tree of chunks that was read last: neighbours are asked for one after another.
	leaf      []xfsChunk
	leafGroup uint32
}

func openXFS(dev *device) (*xfs, error) {
	b, err := dev.bytes(0, xfsSuperSize)
	if err != nil {
		return nil, err
	}
	super, err := decodeXFSSuper(b)
	if err != nil {
		return nil, err
	}
	if super.blocks > uint64(dev.size/super.blockSize) {
		return nil, fmt.Errorf("XFS has %d blocks of %d bytes on a device of %d bytes", super.blocks, super.blockSize, dev.size)
	}
	fs := &xfs{inodes: dev, meta: newDevice(dev.r, dev.size, int(super.blockSize)), super: super}
	for n := range super.groups {
		b, err := fs.meta.bytes(super.groupStart(n)+2*super.sectorSize, xfsAgiSize)
		if err != nil {
			return nil, fmt.Errorf("reading allocation group %d of XFS: %w", n, err)
		}
		g, err := super.decodeGroup(b, n)
		if err != nil {
			return nil, err
		}
		fs.groups = append(fs.groups, g)
	}
	return fs, nil
}

func (fs *xfs) over(blocks lvm.Blocks) filesystem {
	other := *fs
	other.inodes = fs.inodes.over(blocks)
	return &other
}

func (fs *xfs) root() uint64 { return fs.super.rootInode }

func (fs *xfs) mounted() uint64 { return 0 }

func (fs *xfs) handle(num, gen uint64) unix.FileHandle {
	b := ne.AppendUint64(nil, num)
	return unix.NewFileHandle(fileidIno64Gen, ne.AppendUint32(b, uint32(gen)))
}

func (fs *xfs) own(num uint64) bool { return slices.Contains(fs.super.own[:], num) }

// chunk finds the chunk that holds an inode.
func (fs *xfs) chunk(group, inGroup uint32) (xfsChunk, bool, error) {
	if fs.leafGroup == group && len(fs.leaf) > 0 && inGroup >= fs.leaf[0].first && inGroup <= fs.leaf[len(fs.leaf)-1].last() {
		i := sort.Search(len(fs.leaf), func(i int) bool { return fs.leaf[i].last() >= inGroup })
		return fs.leaf[i], fs.leaf[i].first <= inGroup, nil
	}
	var found xfsChunk
	ok := false
	err := fs.chunks(context.Background(), group, inGroup, inGroup, func(c xfsChunk) error {
		found, ok = c, true
		return nil
	})
	return found, ok, err
}

func (fs *xfs) raw(num uint64) ([]byte, error) {
	group, inGroup, ok := fs.super.split(num)
	if !ok {
		return nil, nil
	}
	c, ok, err := fs.chunk(group, inGroup)
	if err != nil {
		return nil, fmt.Errorf("looking for inode %d: %w", num, err)
	}
	if !ok || c.free>>(inGroup-c.first)&1 != 0 {
		return nil, nil
	}
	b, err := fs.inodes.bytes(fs.super.place(group, inGroup), int(fs.super.inodeSize))
	if err != nil {
		return nil, fmt.Errorf("reading inode %d: %w", num, err)
	}
	if err := fs.super.checkInode(b, num); err != nil {
		return nil, err
	}
	if be.Uint16(b[xfsMode:]) == 0 || be.Uint32(b[xfsNlink:]) == 0 {
		return nil, nil
	}
	return b, nil
}

func (fs *xfs) scan(ctx context.Context, blocks lvm.Blocks, yield func(uint64) error) error {
	s := &fs.super
	for group, g := range fs.groups {
		start := s.groupStart(uint32(group))
		next := uint32(0) // the first inode not looked at: a chunk may lie across several changed blocks
		err := blocks.Within(start, int64(g.blocks)*s.blockSize, func(b lvm.Block) error {
			low := max(next, uint32((b.Off-start)/s.inodeSize))
			high := uint32((b.End() - start - 1) / s.inodeSize)
			if low > high {
				return nil
			}
			next = high + 1
			return fs.chunks(ctx, uint32(group), low, high, func(c xfsChunk) error {
				return fs.inUse(uint32(group), c, low, high, yield)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inUse calls yield for the inodes of a chunk that are in use, with numbers from low to high.
func (fs *xfs) inUse(group uint32, c xfsChunk, low, high uint32, yield func(uint64) error) error {
	for i := range uint32(xfsChunkInodes) {
		if c.first+i < low || c.first+i > high {
			continue
		}
		num := fs.super.number(group, c.first+i)
		raw, err := fs.raw(num)
		if err == nil && raw != nil {
			err = yield(num)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (fs *xfs) incomparable(other filesystem) string {
	base, ok := other.(*xfs)
	if !ok {
		return "there was another kind of filesystem in the base"
	}
	b, n := base.super, fs.super
	switch {
	case b.uuid != n.uuid:
		return "the filesystem has another UUID than in the base"
	case b.groups > n.groups:
		return "the filesystem was made smaller since the base"
	}
	b.groups, n.groups, b.blocks, n.blocks = 0, 0, 0, 0
	b.own = n.own // quotas come and go
	if b != n {
		return "the filesystem's inodes are laid out in another way than in the base"
	}
	return ""
}

// Offsets in struct xfs_dinode (fs/xfs/libxfs/xfs_format.h, big endian, 176 bytes in version 3).
const (
	xfsInodeMagic = 0x494E // "IN"
	xfsInodeCore  = 176
	xfsMode       = 2
	xfsNlink      = 16
	xfsForkoff    = 82
	xfsAtime      = 32
	xfsMtime      = 40
	xfsCtime      = 48
	xfsCRC        = 100
	xfsLSN        = 112
	xfsFlags2     = 120
	xfsNumber     = 152
	xfsUUID       = 160

	xfsBigtime = 0x8 // XFS_DIFLAG2_BIGTIME
)

// checkInode makes sure that it is an inode of this number.
func (s *xfsSuper) checkInode(b []byte, num uint64) error {
	if len(b) < xfsInodeCore || be.Uint16(b) != xfsInodeMagic || b[4] != 3 || be.Uint64(b[xfsNumber:]) != num || [16]byte(b[xfsUUID:]) != s.uuid {
		return fmt.Errorf("there is no XFS inode where inode %d should lie", num)
	}
	return nil
}

// mask also wipes what says when the inode was last logged: a new time of last access is logged too. It leaves how often the
// inode was changed, which does not count those.
func (fs *xfs) mask(b []byte) {
	clear(b[xfsAtime:][:8])
	clear(b[xfsCRC:][:4])
	clear(b[xfsLSN:][:8])
}

func (fs *xfs) decode(b []byte) (i inode, err error) {
	if len(b) < xfsInodeCore {
		return i, fmt.Errorf("an XFS inode of %d bytes", len(b))
	}
	i.Gen = uint64(be.Uint32(b[92:]))
	i.Attr = diff.Attr{
		Mode: uint32(be.Uint16(b[xfsMode:])), UID: be.Uint32(b[8:]), GID: be.Uint32(b[12:]), Nlink: be.Uint32(b[xfsNlink:]),
	}
	i.plain = b[xfsForkoff] == 0 // no fork of attributes
	big := be.Uint64(b[xfsFlags2:])&xfsBigtime != 0
	i.MtimeSec, i.MtimeNsec = xfsTime(b[xfsMtime:], big)
	i.ctimeSec, i.ctimeNsec = xfsTime(b[xfsCtime:], big)
	switch i.Type() {
	case unix.S_IFREG, unix.S_IFLNK:
		i.Size = int64(be.Uint64(b[56:]))
	case unix.S_IFCHR, unix.S_IFBLK:
		// As in IRIX: 14 bits of major, 18 of minor number (sysv_encode_dev, include/linux/kdev_t.h).
		dev := be.Uint32(b[xfsInodeCore:])
		i.Rdev = unix.Mkdev(dev>>18, dev&0x3FFFF)
	case unix.S_IFDIR:
		i.Nlink = 1
	}
	if i.Size < 0 {
		return i, fmt.Errorf("an XFS inode with size %d", i.Size)
	}
	return i, nil
}

// xfsTime reads a time: nanoseconds since the lowest time that 32 bits of seconds hold, or seconds and nanoseconds (struct
// xfs_legacy_timestamp).
func xfsTime(b []byte, big bool) (sec int64, nsec int32) {
	if !big {
		return int64(int32(be.Uint32(b))), int32(be.Uint32(b[4:]))
	}
	n := be.Uint64(b)
	return int64(n/uint64(time.Second)) - 1<<31, int32(n % uint64(time.Second))
}
