package inodefeed

import (
	"errors"
	"fmt"

	"snapdiff/diff"
)

// Directories of ext4 (fs/ext4/ext4.h, fs/ext4/namei.c): blocks full of struct ext4_dir_entry_2, each as long as it says: number of the
// inode (0: none), 32 bits; length of the entry, 16; length of the name, 8; type, 8; the name. With an index the blocks of that look as
// if they held "." and ".." (struct dx_root), or one empty entry (struct dx_node), and nothing else.
const (
	ext4EntryHead = 8
	ext4EntryMin  = 12 // EXT4_DIR_REC_LEN(1)
	ext4TailSize  = 12 // struct ext4_dir_entry_tail: an empty entry of type 0xDE with the checksum as its name
	ext4TailType  = 0xDE
	ext4DxTail    = 8  // struct dx_tail: 32 bits of nothing, checksum
	ext4DxEntry   = 8  // struct dx_entry; the first has limit and count, 16 bits each (struct dx_countlimit)
	ext4DxRoot    = 32 // where the entries begin in struct dx_root,
	ext4DxNode    = 8  // and in struct dx_node

	ext4IndexFlag = 0x1000 // EXT4_INDEX_FL
	// ext4DirFlags are what a directory may have: SYNC, IMMUTABLE, APPEND, NODUMP, NOATIME, INDEX, JOURNAL_DATA, NOTAIL, DIRSYNC,
	// TOPDIR, HUGE_FILE, EXTENTS, DAX, PROJINHERIT. Not ENCRYPT, INLINE_DATA, CASEFOLD and what is not known.
	ext4DirFlags = 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | ext4IndexFlag | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x40000 | ext4ExtentsFlag |
		0x2000000 | 0x20000000
)

// ext4Directory is a directory of ext4.
type ext4Directory struct {
	*ext4
	num   uint64
	seed  uint32 // of its checksums, ei->i_csum_seed
	flags uint32
}

// directory implements filesystem.
func (fs *ext4) directory(num uint64, raw []byte) (*directory, error) {
	s := &fs.super
	switch {
	case s.incompat&ext4IncompatFiletype == 0:
		return nil, errors.New("ext4 keeps no types of files in directories")
	case s.incompat&ext4IncompatLargeDir != 0:
		return nil, errors.New("ext4 has large directories")
	case s.blockSize > 32<<10:
		return nil, errors.New("ext4 has blocks so large that lengths of entries are coded")
	}
	d := &ext4Directory{ext4: fs, num: num, flags: le.Uint32(raw[ext4Flags:])}
	if unknown := d.flags &^ ext4DirFlags; unknown != 0 {
		return nil, fmt.Errorf("the directory has flags that are not known here (%#x)", unknown)
	}
	if err := d.checkInode(raw); err != nil {
		return nil, err
	}
	size := int64(le.Uint32(raw[0x04:]))
	if size == 0 || size%s.blockSize != 0 {
		return nil, fmt.Errorf("the directory has %d bytes", size)
	}
	extents, err := d.extents(raw[ext4Map:][:ext4MapSize], size)
	if err != nil {
		return nil, err
	}
	dir := &directory{block: s.blockSize, extents: extents, links: uint32(le.Uint16(raw[0x1A:])), parse: d.parse}
	if dir.links == 1 { // too many to be counted
		dir.links = 0
	}
	return dir, nil
}

// checkInode makes sure of the inode's checksum (ext4_inode_csum_verify in fs/ext4/inode.c) and notes the seed of those of its blocks.
func (d *ext4Directory) checkInode(raw []byte) error {
	if !d.super.metadataChecksums() {
		return nil
	}
	d.seed = ext4Checksum(d.super.seed, le.AppendUint32(nil, uint32(d.num)))
	d.seed = ext4Checksum(d.seed, raw[0x64:][:4]) // generation
	b := append([]byte(nil), raw...)
	clear(b[ext4ChecksumLow:][:2])
	has := uint32(le.Uint16(raw[ext4ChecksumLow:]))
	mask := uint32(0xFFFF)
	if len(b) > ext4InodeOld && ext4InodeOld+int(le.Uint16(b[ext4ExtraSize:])) >= ext4ChecksumHigh+2 {
		clear(b[ext4ChecksumHigh:][:2])
		has |= uint32(le.Uint16(raw[ext4ChecksumHigh:])) << 16
		mask = 1<<32 - 1
	}
	if ext4Checksum(d.seed, b)&mask != has {
		return errors.New("the checksum of the inode is wrong")
	}
	return nil
}

// parse is directory.parse.
func (d *ext4Directory) parse(at, _ int64, b []byte, yield func(diff.Entry)) (spare int, err error) {
	end, err := d.check(at, b)
	if err != nil {
		return 0, err
	}
	for off := 0; off < end; {
		if end-off < ext4EntryMin {
			return 0, fmt.Errorf("%d bytes are left behind its last entry", end-off)
		}
		e := b[off:end]
		length, nameLen := int(le.Uint16(e[4:])), int(e[6])
		if length < ext4EntryMin || length%4 != 0 || length > len(e) || length < ext4EntryHead+nameLen {
			return 0, fmt.Errorf("the entry at byte %d has a length of %d bytes, its name one of %d", off, length, nameLen)
		}
		off += length
		ino := le.Uint32(e)
		if ino == 0 {
			continue
		}
		entry, ok, err := newEntry(e[ext4EntryHead:][:nameLen], uint64(ino), e[7])
		switch {
		case err != nil:
			return 0, err
		case !ok:
		case ino > d.super.inodes:
			return 0, fmt.Errorf("name %q means inode %d of %d", entry.Name, ino, d.super.inodes)
		default:
			yield(entry)
		}
	}
	return 0, nil
}

// check makes sure of a block's checksum, if it has one, and tells where its entries end.
func (d *ext4Directory) check(at int64, b []byte) (end int, err error) {
	if !d.super.metadataChecksums() {
		return len(b), nil
	}
	// As __ext4_read_dirblock tells them apart.
	if first := int(le.Uint16(b[4:])); d.flags&ext4IndexFlag != 0 && (at == 0 || first == len(b)) {
		return len(b), d.checkIndex(b)
	}
	end = len(b) - ext4TailSize
	tail := b[end:]
	if le.Uint32(tail) != 0 || le.Uint16(tail[4:]) != ext4TailSize || tail[6] != 0 || tail[7] != ext4TailType {
		return 0, errors.New("there is no checksum in it")
	}
	if ext4Checksum(d.seed, b[:end]) != le.Uint32(tail[8:]) {
		return 0, errors.New("its checksum is wrong")
	}
	return end, nil
}

// checkIndex makes sure of the checksum of a block of the index (ext4_dx_csum in fs/ext4/namei.c).
func (d *ext4Directory) checkIndex(b []byte) error {
	from := ext4DxNode
	if int(le.Uint16(b[4:])) != len(b) {
		from = ext4DxRoot
	}
	limit, count := int(le.Uint16(b[from:])), int(le.Uint16(b[from+2:]))
	tail := from + limit*ext4DxEntry
	if count > limit || tail > len(b)-ext4DxTail {
		return fmt.Errorf("it is a block of the index with %d entries and room for %d", count, limit)
	}
	sum := ext4Checksum(d.seed, b[:from+count*ext4DxEntry])
	sum = ext4Checksum(sum, b[tail:][:4])
	if ext4Checksum(sum, make([]byte, 4)) != le.Uint32(b[tail+4:]) {
		return errors.New("its checksum is wrong")
	}
	return nil
}
