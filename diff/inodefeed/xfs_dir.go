package inodefeed

import (
	"errors"
	"fmt"

	"snapdiff/diff"
)

// Directories of XFS (fs/xfs/libxfs/xfs_da_format.h, big endian): a few names lie in the inode (struct xfs_dir2_sf_hdr); those of one block
// have the index at its end ("block form"); larger ones have blocks of names from place 0 on, with gaps where blocks became empty, the
// index (leaves, nodes) from 32 GiB on, and what room is free from 64 GiB on. Each name has its entry in the index.
const (
	xfsLeafPlace = 1 << 35 // XFS_DIR2_LEAF_OFFSET
	xfsFreePlace = 2 << 35 // XFS_DIR2_FREE_OFFSET

	xfsBlockForm = 0x58444233 // "XDB3", XFS_DIR3_BLOCK_MAGIC
	xfsDataForm  = 0x58444433 // "XDD3", XFS_DIR3_DATA_MAGIC
	xfsLeafOne   = 0x3DF1     // XFS_DIR3_LEAF1_MAGIC
	xfsLeafMany  = 0x3DFF     // XFS_DIR3_LEAFN_MAGIC
	xfsLeafNode  = 0x3EBE     // XFS_DA3_NODE_MAGIC

	xfsDataHead  = 64     // struct xfs_dir3_data_hdr: struct xfs_dir3_blk_hdr of 48 bytes, and what room is free
	xfsDirTail   = 8      // struct xfs_dir2_block_tail: entries, those of them that are free, 32 bits each
	xfsLeafHead  = 64     // struct xfs_dir3_leaf_hdr: struct xfs_da3_blkinfo of 56 bytes; entries, those that are free, 16 bits each
	xfsLeafEntry = 8      // struct xfs_dir2_leaf_entry
	xfsFree      = 0xFFFF // XFS_DIR2_DATA_FREE_TAG
)

// xfsDirectory is a directory of XFS.
type xfsDirectory struct {
	*xfs
	num uint64
}

// directory implements filesystem.
func (fs *xfs) directory(num uint64, raw []byte) (*directory, error) {
	d := &xfsDirectory{fs, num}
	switch {
	case !fs.super.fileTypes:
		return nil, errors.New("XFS keeps no types of files in directories")
	case !xfsChecksum(raw, xfsCRC):
		return nil, errors.New("the checksum of the inode is wrong")
	}
	dir := &directory{block: fs.super.blockSize << fs.super.dirLog, links: be.Uint32(raw[xfsNlink:]), parse: d.parse}
	size := be.Uint64(raw[56:])
	fork, count := xfsFork(raw)
	var err error
	if raw[xfsFormat] == xfsFormatLocal {
		if size > uint64(len(fork)) {
			return nil, fmt.Errorf("%d bytes of names in an inode with %d", size, len(fork))
		}
		dir.inside, err = xfsInside(fork[:size])
		return dir, err
	}
	extents, err := d.extents(raw[xfsFormat], fork, count)
	if err != nil {
		return nil, err
	}
	end := int64(0) // of the names
	for _, e := range extents {
		if e.at < xfsLeafPlace {
			end = e.end()
		}
		if e.at < xfsFreePlace {
			dir.extents = append(dir.extents, e)
		}
	}
	if end == 0 || uint64(end) != size || end%dir.block != 0 {
		return nil, fmt.Errorf("the directory has %d bytes, and %d are mapped", size, end)
	}
	return dir, nil
}

// xfsInside reads the names that lie in an inode: struct xfs_dir2_sf_hdr has their count and how many of the numbers have 64 bits, 8 bits each, and
// the directory above; struct xfs_dir2_sf_entry the length of the name, 8 bits, 16 of no meaning here, the name, its type, and the inode.
// If any number has 64 bits all have.
func xfsInside(b []byte) (names []diff.Entry, err error) {
	if len(b) < 2 {
		return nil, fmt.Errorf("%d bytes of names", len(b))
	}
	count, number := int(b[0]), 4
	if b[1] > 0 {
		number = 8
	}
	if b = b[2:]; len(b) < number {
		return nil, errors.New("the directory above is missing")
	}
	b = b[number:]
	for range count {
		if len(b) < 3 || len(b) < 3+int(b[0])+1+number {
			return nil, fmt.Errorf("a name is cut, %d bytes are left", len(b))
		}
		name, rest := b[3:][:b[0]], b[3+int(b[0]):]
		ino := uint64(be.Uint32(rest[1:]))
		if number == 8 {
			ino = be.Uint64(rest[1:])
		}
		e, ok, err := newEntry(name, ino, rest[0])
		if err != nil || !ok {
			return nil, fmt.Errorf("no name in an inode is %q: %w", name, err)
		}
		names, b = append(names, e), rest[1+number:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%d bytes are left behind the last name", len(b))
	}
	return names, nil
}

// parse is directory.parse.
func (d *xfsDirectory) parse(at, disk int64, b []byte, yield func(diff.Entry)) (spare int, err error) {
	if at >= xfsLeafPlace {
		live, err := d.leaf(disk, b)
		return -live, err
	}
	if err := d.check(disk, b, 4, 8, 24, 40); err != nil {
		return 0, err
	}
	switch be.Uint32(b) {
	case xfsDataForm:
		return d.data(b, len(b), yield)
	case xfsBlockForm:
		count, free := uint64(be.Uint32(b[len(b)-xfsDirTail:])), uint64(be.Uint32(b[len(b)-4:]))
		if count > uint64(len(b)-xfsDataHead-xfsDirTail)/xfsLeafEntry || free > count {
			return 0, fmt.Errorf("it has %d entries in its index, %d of them free", count, free)
		}
		spare, err := d.data(b, len(b)-xfsDirTail-int(count)*xfsLeafEntry, yield)
		return spare - int(count-free), err
	}
	return 0, fmt.Errorf("it begins with %#x", be.Uint32(b))
}

// check makes sure that it is the block that should lie there, by its checksum, address, filesystem and owner at these places.
func (d *xfsDirectory) check(disk int64, b []byte, sum, block, uuid, owner int) error {
	if !xfsChecksum(b, sum) {
		return errors.New("its checksum is wrong")
	}
	if be.Uint64(b[block:]) != uint64(disk/512) || [16]byte(b[uuid:]) != d.super.uuid || be.Uint64(b[owner:]) != d.num {
		return errors.New("it is a block from elsewhere")
	}
	return nil
}

// leaf gives how many entries in use a block of the index has.
func (d *xfsDirectory) leaf(disk int64, b []byte) (live int, err error) {
	if err := d.check(disk, b, 12, 16, 32, 48); err != nil {
		return 0, err
	}
	switch magic := be.Uint16(b[8:]); magic {
	case xfsLeafNode:
		return 0, nil
	case xfsLeafOne, xfsLeafMany:
		count, free := int(be.Uint16(b[56:])), int(be.Uint16(b[58:]))
		if count > (len(b)-xfsLeafHead)/xfsLeafEntry || free > count {
			return 0, fmt.Errorf("it has %d entries, %d of them free", count, free)
		}
		return count - free, nil
	default:
		return 0, fmt.Errorf("it is no block of an index (%#x)", magic)
	}
}

// data goes through the names up to a place in a block and counts them. struct xfs_dir2_data_entry: number of the inode, 64 bits; length of
// the name, 8; the name; its type, 8; at its end, which is a multiple of 8, its place in the block, 16. struct xfs_dir2_data_unused:
// 0xFFFF, its length, at its end its place, 16 bits each.
func (d *xfsDirectory) data(b []byte, end int, yield func(diff.Entry)) (count int, err error) {
	if end < xfsDataHead {
		return 0, errors.New("its index is larger than it")
	}
	for off := xfsDataHead; off < end; {
		e := b[off:end]
		free, length := len(e) >= 8 && be.Uint16(e) == xfsFree, 0
		switch {
		case free:
			length = int(be.Uint16(e[2:]))
		case len(e) > 8:
			length = (8 + 1 + int(e[8]) + 1 + 2 + 7) &^ 7
		}
		if length < 8 || length%8 != 0 || length > len(e) || int(be.Uint16(e[length-2:])) != off {
			return 0, fmt.Errorf("the entry at byte %d has a length of %d bytes", off, length)
		}
		if off += length; free {
			continue
		}
		count++
		ino, name := be.Uint64(e), e[9:][:e[8]]
		entry, ok, err := newEntry(name, ino, e[9+len(name)])
		if err != nil {
			return 0, err
		}
		if ok {
			yield(entry)
		}
	}
	return count, nil
}
