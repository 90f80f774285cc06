package inodefeed

import (
	"errors"
	"fmt"
)

// The map of a directory's blocks, whole: extents in the inode, or the root of a tree of them there (struct xfs_bmdr_block: level and count,
// 16 bits each), whose blocks are struct xfs_btree_block in the long form of version 5 (fs/xfs/libxfs/xfs_format.h, big endian).
const (
	xfsFormatTree = 3          // XFS_DINODE_FMT_BTREE
	xfsMapMagic   = 0x424D4133 // "BMA3", XFS_BMAP_CRC_MAGIC
	xfsMapHead    = 72
	xfsMapRoot    = 4
	xfsMapLevels  = 9 // XFS_BTREE_MAXLEVELS
	xfsMapKey     = 8
)

// xfsMapper collects a map. Extents come in ascending order, so no damage leads round in circles.
type xfsMapper struct {
	*xfsDirectory
	extents []dirExtent
	count   uint64 // how many extents there are to be
}

// extents gives the map of a directory from its fork in the inode, of a form, with so many extents.
func (d *xfsDirectory) extents(form byte, fork []byte, count uint64) ([]dirExtent, error) {
	m := &xfsMapper{xfsDirectory: d, count: count}
	var err error
	switch {
	case form == xfsFormatExtents && count <= uint64(len(fork)/xfsExtentSize):
		err = m.records(fork, int(count))
	case form == xfsFormatTree && len(fork) > xfsMapRoot:
		err = m.children(fork[xfsMapRoot:], int(be.Uint16(fork)), int(be.Uint16(fork[2:])))
	default:
		err = fmt.Errorf("the directory has form %d with %d extents", form, count)
	}
	if err == nil && uint64(len(m.extents)) != count {
		err = fmt.Errorf("of %d extents of the directory %d are mapped", count, len(m.extents))
	}
	return m.extents, err
}

// records reads extents.
func (m *xfsMapper) records(b []byte, count int) error {
	s := &m.super
	for i := range count {
		x := decodeXFSExtent(b[i*xfsExtentSize:])
		first, ok := s.blockAt(x.block)
		_, last := s.blockAt(x.block + uint64(x.count) - 1)
		e := dirExtent{int64(x.at) * s.blockSize, first, int64(x.count) * s.blockSize}
		if !ok || !last || x.count == 0 || x.unwritten || x.at >= 1<<40 || uint64(len(m.extents)) >= m.count {
			return fmt.Errorf("an extent of the directory cannot be: %+v", x)
		}
		if n := len(m.extents); n > 0 && m.extents[n-1].end() > e.at {
			return errors.New("extents of the directory are not in order")
		}
		m.extents = append(m.extents, e)
	}
	return nil
}

// children goes to what lies below a node: keys, and behind the room for as many as there could be pointers.
func (m *xfsMapper) children(body []byte, level, count int) error {
	room := len(body) / (2 * xfsMapKey)
	if level == 0 || level > xfsMapLevels || count == 0 || count > room {
		return fmt.Errorf("a node of the map of the directory has level %d and %d entries", level, count)
	}
	for i := range count {
		if err := m.node(be.Uint64(body[(room+i)*xfsMapKey:]), level-1); err != nil {
			return err
		}
	}
	return nil
}

// node reads a block of the tree.
func (m *xfsMapper) node(block uint64, level int) error {
	off, ok := m.super.blockAt(block)
	if !ok {
		return fmt.Errorf("the map of the directory names block %d", block)
	}
	b, err := m.meta.bytes(off, int(m.super.blockSize))
	if err != nil {
		return err
	}
	b = append([]byte(nil), b...)
	count := int(be.Uint16(b[6:]))
	if be.Uint32(b) != xfsMapMagic || int(be.Uint16(b[4:])) != level || count == 0 {
		return errors.New("there is no block of the map of the directory where it should lie")
	}
	if err := m.check(off, b, 64, 24, 40, 56); err != nil {
		return fmt.Errorf("a block of the map of the directory: %w", err)
	}
	if level > 0 {
		return m.children(b[xfsMapHead:], level, count)
	}
	if count > (len(b)-xfsMapHead)/xfsExtentSize {
		return fmt.Errorf("a block of the map of the directory has %d entries", count)
	}
	return m.records(b[xfsMapHead:], count)
}
