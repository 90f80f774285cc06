package inodefeed

import (
	"bytes"
	"testing"

	"snapdiff/snapshot/lvm"
)

// Numbers of the smallest filesystems that make sense.
const (
	fuzzBlock  = 1024
	fuzzBlocks = 64
)

// fuzzExt4 is an ext4 with one group and one inode in use.
func fuzzExt4() []byte {
	b := make([]byte, fuzzBlock*fuzzBlocks)
	s := b[ext4SuperOffset:]
	for at, value := range map[int]uint32{0x00: 16, 0x04: fuzzBlocks, 0x14: 1, 0x20: 8192, 0x28: 16, 0x4C: 1, 0x54: 11, 0x60: 0x42, 0x64: 0x400} {
		le.PutUint32(s[at:], value)
	}
	le.PutUint16(s[0x38:], ext4Magic)
	le.PutUint16(s[0x58:], 256)
	le.PutUint32(b[2*fuzzBlock+0x08:], 8) // the inode table
	root := b[8*fuzzBlock+256:]
	le.PutUint16(root, 0o40755)
	le.PutUint16(root[0x1A:], 2)
	le.PutUint16(root[ext4ExtraSize:], 32)
	return b
}

// fuzzXFS is an XFS with one group, a tree of two levels and one chunk of inodes.
func fuzzXFS() []byte {
	b := make([]byte, fuzzBlock*fuzzBlocks)
	for at, value := range map[int]uint32{0: xfsMagic, 4: fuzzBlock, 12: fuzzBlocks, 52: 9, 60: 64, 84: fuzzBlocks, 88: 1, 216: 0x3} {
		be.PutUint32(b[at:], value)
	}
	be.PutUint16(b[100:], 5)
	be.PutUint16(b[102:], 512)
	be.PutUint16(b[104:], 512)
	be.PutUint16(b[106:], 2)
	b[123], b[124] = 1, 6
	agi := b[2*512:]
	for at, value := range map[int]uint32{0: xfsAgiMagic, 12: fuzzBlocks, 20: 4, 24: 2} {
		be.PutUint32(agi[at:], value)
	}
	for block, level := range map[int]uint16{4: 1, 5: 0} {
		node := b[block*fuzzBlock:]
		be.PutUint32(node, xfsInobtMagic)
		be.PutUint16(node[4:], level)
		be.PutUint16(node[6:], 1)
		be.PutUint32(node[xfsInobtHead:], 64) // first inode of the part below, or of the chunk
	}
	be.PutUint32(b[4*fuzzBlock+xfsInobtHead+(fuzzBlock-xfsInobtHead)/8*4:], 5)
	be.PutUint64(b[5*fuzzBlock+xfsInobtHead+8:], ^uint64(1))
	inode := b[32*fuzzBlock:]
	be.PutUint16(inode, xfsInodeMagic)
	be.PutUint16(inode[xfsMode:], 0o40755)
	inode[4] = 3
	be.PutUint32(inode[xfsNlink:], 2)
	be.PutUint64(inode[xfsNumber:], 64)
	return b
}

// scanAll gives the numbers that a scan of a whole device finds.
func scanAll(t testing.TB, device []byte) (found []uint64, err error) {
	return scanSide(t, Side{Device: bytes.NewReader(device), Size: int64(len(device))})
}

func scanSide(t testing.TB, side Side) (found []uint64, err error) {
	fs, err := open(side)
	if err != nil {
		return nil, err
	}
	return found, fs.scan(t.Context(), lvm.Blocks{{Len: side.Size}}, func(num uint64) error {
		raw, err := fs.raw(num)
		if err == nil && raw == nil {
			t.Fatalf("inode %d is in use and is not", num)
		}
		if err != nil {
			return err
		}
		if _, err := fs.decode(raw); err == nil {
			found = append(found, num)
		}
		fs.places(raw)
		if d, err := fs.directory(num, bytes.Clone(raw)); err == nil {
			namesIn(side, d)
		}
		fs.mask(bytes.Clone(raw))
		return nil
	})
}

// TestSmallest makes sure that the fuzz tests begin with filesystems.
func TestSmallest(t *testing.T) {
	for want, device := range map[uint64][]byte{ext4Root: fuzzExt4(), 64: fuzzXFS()} {
		if found, err := scanAll(t, device); err != nil || len(found) != 1 || found[0] != want {
			t.Errorf("found inodes %v, %v; want %d", found, err, want)
		}
	}
}

// FuzzExt4: no superblock, group descriptors or inode make the parsers panic or go on for ever.
func FuzzExt4(f *testing.F) {
	b := fuzzExt4()
	f.Add(b[ext4SuperOffset:][:ext4SuperSize], b[2*fuzzBlock:][:64], b[8*fuzzBlock+256:][:256])
	f.Fuzz(func(t *testing.T, super, group, inode []byte) {
		b := fuzzExt4()
		copy(b[8*fuzzBlock+256:][:1024], inode)
		copy(b[ext4SuperOffset:][:ext4SuperSize], super)
		copy(b[2*fuzzBlock:3*fuzzBlock], group)
		scanAll(t, b)
	})
}

// FuzzXFS: no superblock, header of a group, tree of inode chunks or inode make the parsers panic or go on for ever.
func FuzzXFS(f *testing.F) {
	b := fuzzXFS()
	f.Add(b[:xfsSuperSize], b[1024:][:xfsAgiSize], b[4*fuzzBlock:][:fuzzBlock], b[5*fuzzBlock:][:fuzzBlock], b[32*fuzzBlock:][:512])
	f.Fuzz(func(t *testing.T, super, agi, node, leaf, inode []byte) {
		b := fuzzXFS()
		copy(b[32*fuzzBlock:][:2048], inode)
		copy(b[:512], super)
		copy(b[1024:][:512], agi)
		copy(b[4*fuzzBlock:][:fuzzBlock], node)
		copy(b[5*fuzzBlock:][:fuzzBlock], leaf)
		scanAll(t, b)
	})
}

// FuzzHandle reads anything as a file handle.
func FuzzHandle(f *testing.F) {
	f.Add(int32(fileidIno32Gen), []byte{1, 0, 0, 0, 2, 0, 0, 0})
	f.Add(int32(fileidIno64Gen), make([]byte, 12))
	f.Fuzz(func(t *testing.T, kind int32, b []byte) { decodeHandle(kind, b) })
}
