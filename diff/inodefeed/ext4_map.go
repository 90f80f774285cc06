package inodefeed

import (
	"errors"
	"fmt"
)

// The map of a directory's blocks, whole: a tree of extents (fs/ext4/ext4_extents.h), or the old one of numbers of blocks (fs/ext4/indirect.c).
const (
	ext4ExtentHead   = 12 // struct ext4_extent_header: magic, entries, room for how many, depth, 16 bits each, and 32 bits of nothing
	ext4ExtentLevels = 5  // EXT4_MAX_EXTENT_DEPTH
	ext4ExtentTail   = 4  // struct ext4_extent_tail: the checksum, behind the room for entries
	ext4Levels       = 3  // of blocks with numbers of blocks
)

// ext4Mapper collects a map. A directory of ext4 has no holes: so extents follow one another, and no damage leads round in circles.
type ext4Mapper struct {
	*ext4Directory
	extents []dirExtent
	blocks  uint64 // how many were found
	size    uint64 // how many there are
}

// extents gives the map of a directory of size bytes from its i_block.
func (d *ext4Directory) extents(block []byte, size int64) ([]dirExtent, error) {
	m := &ext4Mapper{ext4Directory: d, size: uint64(size / d.super.blockSize)}
	var err error
	if d.flags&ext4ExtentsFlag != 0 {
		err = m.tree(block, -1)
	} else {
		err = m.numbers(block)
	}
	if err == nil && m.blocks != m.size {
		err = fmt.Errorf("of %d blocks of the directory %d are mapped", m.size, m.blocks)
	}
	return m.extents, err
}

// add adds blocks that follow the last.
func (m *ext4Mapper) add(disk, count uint64) error {
	s := &m.super
	if count == 0 || count > m.size-m.blocks || disk < uint64(s.firstDataBlock) || disk >= s.blocks || count > s.blocks-disk {
		return fmt.Errorf("%d blocks from %d on are none that the directory can have", count, disk)
	}
	at, off, length := int64(m.blocks)*s.blockSize, int64(disk)*s.blockSize, int64(count)*s.blockSize
	m.blocks += count
	if n := len(m.extents); n > 0 && m.extents[n-1].disk+m.extents[n-1].len == off {
		m.extents[n-1].len += length
		return nil
	}
	m.extents = append(m.extents, dirExtent{at, off, length})
	return nil
}

// read gives a copy of a block.
func (m *ext4Mapper) read(block uint64) ([]byte, error) {
	if block < uint64(m.super.firstDataBlock) || block >= m.super.blocks {
		return nil, fmt.Errorf("the map of the directory names block %d", block)
	}
	b, err := m.meta.bytes(int64(block)*m.super.blockSize, int(m.super.blockSize))
	return append([]byte(nil), b...), err
}

// tree goes through a node of the tree of extents; depth is -1 for the root.
func (m *ext4Mapper) tree(b []byte, depth int) error {
	count, room, levels := int(le.Uint16(b[2:])), int(le.Uint16(b[4:])), int(le.Uint16(b[6:]))
	if depth < 0 {
		depth = levels
	}
	if le.Uint16(b) != ext4ExtentMagic || levels != depth || depth > ext4ExtentLevels || count == 0 || count > room || room > (len(b)-ext4ExtentHead)/ext4ExtentSize {
		return errors.New("the map of the directory is no tree of extents")
	}
	for i := range count {
		e := b[ext4ExtentHead+i*ext4ExtentSize:]
		if uint64(le.Uint32(e)) != m.blocks {
			return fmt.Errorf("behind block %d of the directory block %d is mapped", m.blocks, le.Uint32(e))
		}
		var err error
		if depth == 0 { // struct ext4_extent
			length := uint64(le.Uint16(e[4:]))
			if length > ext4ExtentInitMax {
				return errors.New("blocks of the directory were never written")
			}
			err = m.add(uint64(le.Uint32(e[8:]))|uint64(le.Uint16(e[6:]))<<32, length)
		} else { // struct ext4_extent_idx
			err = m.node(uint64(le.Uint32(e[4:]))|uint64(le.Uint16(e[8:]))<<32, depth-1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *ext4Mapper) node(block uint64, depth int) error {
	b, err := m.read(block)
	if err != nil {
		return err
	}
	if m.super.metadataChecksums() { // ext4_extent_block_csum_verify in fs/ext4/extents.c
		tail := ext4ExtentHead + int(le.Uint16(b[4:]))*ext4ExtentSize
		if tail > len(b)-ext4ExtentTail || ext4Checksum(m.seed, b[:tail]) != le.Uint32(b[tail:]) {
			return errors.New("a checksum in the map of the directory is wrong")
		}
	}
	return m.tree(b, depth)
}

// numbers goes through the old map: 12 blocks, and then blocks of numbers one, two and three levels deep.
func (m *ext4Mapper) numbers(b []byte) error {
	for i := 0; i < ext4DirectBlocks+ext4Levels && m.blocks < m.size; i++ {
		if err := m.below(le.Uint32(b[4*i:]), max(0, i-ext4DirectBlocks+1)); err != nil {
			return err
		}
	}
	return nil
}

func (m *ext4Mapper) below(block uint32, levels int) error {
	if levels == 0 {
		return m.add(uint64(block), 1)
	}
	b, err := m.read(uint64(block))
	for ; err == nil && len(b) > 0 && m.blocks < m.size; b = b[4:] {
		err = m.below(le.Uint32(b), levels-1)
	}
	return err
}
