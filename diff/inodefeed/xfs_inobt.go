package inodefeed

import (
	"context"
	"fmt"
)

// xfsChunk is a record of the tree of inode chunks (struct xfs_inobt_rec, 16 bytes): 64 inodes with numbers that follow one
// another, which lie one behind the other on the device.
type xfsChunk struct {
	first uint32 // number of the first inode within its allocation group
	free  uint64 // a bit for each inode that is not in use, or has no place on the device
}

// last is the number of its last inode.
func (c xfsChunk) last() uint32 { return c.first + xfsChunkInodes - 1 }

const (
	xfsChunkInodes   = 64         // XFS_INODES_PER_CHUNK
	xfsChunkSize     = 16         // struct xfs_inobt_rec
	xfsInobtMagic    = 0x49414233 // "IAB3", XFS_IBT_CRC_MAGIC
	xfsInobtHead     = 56         // struct xfs_btree_block with the short form of version 5
	xfsInobtLevels   = 9          // XFS_BTREE_MAXLEVELS
	xfsHolemaskShare = 4          // XFS_INODES_PER_HOLEMASK_BIT

	xfsAgiMagic = 0x58414749 // "XAGI"
	xfsAgiSize  = 344        // struct xfs_agi
)

// xfsGroup is what is used of struct xfs_agi: the third sector of each allocation group.
type xfsGroup struct {
	blocks uint32 // in this group
	root   uint32 // block of the tree's root
	levels uint32 // of the tree
}

func (s *xfsSuper) decodeGroup(b []byte, number uint32) (g xfsGroup, err error) {
	if len(b) < xfsAgiSize || be.Uint32(b) != xfsAgiMagic || be.Uint32(b[8:]) != number {
		return g, fmt.Errorf("allocation group %d of XFS has no header of inodes", number)
	}
	g = xfsGroup{blocks: be.Uint32(b[12:]), root: be.Uint32(b[20:]), levels: be.Uint32(b[24:])}
	if g.levels == 0 || g.levels > xfsInobtLevels || g.root >= g.blocks || g.blocks > s.groupSize {
		return g, fmt.Errorf("allocation group %d of XFS does not fit together: %+v", number, g)
	}
	return g, nil
}

// decodeChunk reads a record.
func (s *xfsSuper) decodeChunk(b []byte) xfsChunk {
	c := xfsChunk{first: be.Uint32(b), free: be.Uint64(b[8:])}
	if !s.sparse {
		return c
	}
	holes := be.Uint16(b[4:])
	for bit := range 16 {
		if holes&(1<<bit) != 0 {
			c.free |= 0xF << (bit * xfsHolemaskShare)
		}
	}
	return c
}

// xfsNode is a block of the tree: chunks in a leaf, else the first inode and the block of each part below.
type xfsNode struct {
	chunks []xfsChunk
	firsts []uint32
	blocks []uint32
}

// decodeNode reads a block of the tree of a group: struct xfs_btree_block, then records, or all keys and, behind the room
// for as many as there could be, all pointers.
func (s *xfsSuper) decodeNode(b []byte, group, level uint32) (n xfsNode, err error) {
	if int64(len(b)) != s.blockSize || be.Uint32(b) != xfsInobtMagic || uint32(be.Uint16(b[4:])) != level || be.Uint32(b[48:]) != group {
		return n, fmt.Errorf("it is no block of level %d of the inode tree of group %d", level, group)
	}
	room := (len(b) - xfsInobtHead) / xfsChunkSize
	if level > 0 {
		room = (len(b) - xfsInobtHead) / 8
	}
	count := int(be.Uint16(b[6:]))
	if count > room {
		return n, fmt.Errorf("it has %d records and room for %d", count, room)
	}
	body := b[xfsInobtHead:]
	if level == 0 {
		n.chunks = make([]xfsChunk, 0, count)
	}
	for i := range count {
		if level == 0 {
			c := s.decodeChunk(body[i*xfsChunkSize:])
			if i > 0 && (c.first < n.chunks[i-1].first || c.first-n.chunks[i-1].first < xfsChunkInodes) {
				return n, fmt.Errorf("its records %d and %d are not in order", i-1, i)
			}
			n.chunks = append(n.chunks, c)
			continue
		}
		n.firsts = append(n.firsts, be.Uint32(body[i*4:]))
		n.blocks = append(n.blocks, be.Uint32(body[room*4+i*4:]))
	}
	return n, nil
}

// chunks calls yield for all chunks of a group that have inodes with numbers from low up to high, ascending.
func (fs *xfs) chunks(ctx context.Context, group, low, high uint32, yield func(xfsChunk) error) error {
	g := fs.groups[group]
	return fs.below(ctx, group, g.root, g.levels-1, low, high, yield)
}

func (fs *xfs) below(ctx context.Context, group, block, level, low, high uint32, yield func(xfsChunk) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if block >= fs.groups[group].blocks {
		return fmt.Errorf("block %d of the inode tree lies behind the end of group %d", block, group)
	}
	b, err := fs.meta.bytes(fs.super.groupStart(group)+int64(block)*fs.super.blockSize, int(fs.super.blockSize))
	if err != nil {
		return err
	}
	n, err := fs.super.decodeNode(b, group, level)
	if err != nil {
		return fmt.Errorf("block %d of group %d: %w", block, group, err)
	}
	for i, first := range n.firsts {
		if first > high {
			break
		}
		if i+1 < len(n.firsts) && n.firsts[i+1] <= low {
			continue // the next part begins there or before
		}
		if err := fs.below(ctx, group, n.blocks[i], level-1, low, high, yield); err != nil {
			return err
		}
	}
	if level == 0 {
		fs.leaf, fs.leafGroup = n.chunks, group
	}
	for _, c := range n.chunks {
		if c.first <= high && low-min(low, c.first) < xfsChunkInodes {
			if err := yield(c); err != nil {
				return err
			}
		}
	}
	return nil
}
