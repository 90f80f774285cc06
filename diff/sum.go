package diff

import (
	"bytes"
	"encoding/binary"

	"github.com/cespare/xxhash/v2"
)

// ContentSum makes a checksum (XXH64) of a file's contents, handed over in ascending order, that does not depend on where the
// file has holes: it is of the blocks of 4096 bytes that are not all zeros, of the places where such blocks begin after
// others, and of the size. It finds rot, it does not withstand malice.
type ContentSum struct {
	digest xxhash.Digest
	size   int64
	end    int64 // of the last block that was taken in
	block  int64 // where the block in part begins
	part   [sumBlock]byte
	n      int // its length; 0: there is none
}

const sumBlock = 4096

var zeros [sumBlock]byte

// Reset begins the checksum of a file of this size.
func (c *ContentSum) Reset(size int64) {
	c.digest.Reset()
	c.size, c.end, c.n = size, 0, 0
}

// Add takes in the bytes at off, which is not below the end of those before. What is never handed over is zeros; bytes
// behind the size do not count.
func (c *ContentSum) Add(off int64, p []byte) {
	p = p[:max(min(int64(len(p)), c.size-off), 0)]
	for len(p) > 0 {
		block := off &^ (sumBlock - 1)
		length := min(sumBlock, c.size-block)
		if c.n > 0 && c.block != block {
			c.flush()
		}
		var took int
		if c.n == 0 && off == block && int64(len(p)) >= length {
			took = len(p)
			if off+int64(took) < c.size {
				took &^= sumBlock - 1
			}
			c.blocks(off, p[:took])
		} else {
			if c.n == 0 {
				clear(c.part[:])
				c.block, c.n = block, int(length)
			}
			took = copy(c.part[off-block:length], p)
		}
		p, off = p[took:], off+int64(took)
	}
}

func (c *ContentSum) flush() {
	if c.n > 0 {
		c.blocks(c.block, c.part[:c.n])
		c.n = 0
	}
}

// blocks takes in whole blocks, the last of which may be cut by the end of the file.
func (c *ContentSum) blocks(off int64, p []byte) {
	for len(p) > 0 {
		n := min(sumBlock, len(p))
		if bytes.Equal(p[:n], zeros[:n]) {
			p, off = p[n:], off+int64(n)
			continue
		}
		for n < len(p) && !bytes.Equal(p[n:min(n+sumBlock, len(p))], zeros[:min(sumBlock, len(p)-n)]) {
			n = min(n+sumBlock, len(p))
		}
		if off != c.end {
			c.number(off)
		}
		c.digest.Write(p[:n])
		p, off = p[n:], off+int64(n)
		c.end = off
	}
}

func (c *ContentSum) number(n int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(n))
	c.digest.Write(b[:])
}

// Sum ends the checksum.
func (c *ContentSum) Sum() uint64 {
	c.flush()
	c.number(c.size)
	return c.digest.Sum64()
}
