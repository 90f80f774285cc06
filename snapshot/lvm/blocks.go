package lvm

import (
	"slices"
	"sort"
)

// Block is a range of bytes of a volume.
type Block struct{ Off, Len int64 }

// End is the first byte behind the block.
func (b Block) End() int64 { return b.Off + b.Len }

// Blocks are the parts of a volume that may differ between two snapshots of it: sorted by offset, none empty, no two of
// them overlapping or touching, none behind the end of the smaller of the two. What lies behind that end (of a volume that
// grew or shrank) is in one snapshot only and is not listed. A range that is not listed reads the same in both. A listed
// one may still be equal.
type Blocks []Block

// NewBlocks puts ranges into the form that Blocks promises and cuts them at size.
func NewBlocks(ranges []Block, size int64) Blocks {
	all := slices.Clone(ranges)
	slices.SortFunc(all, func(a, b Block) int {
		if a.Off < b.Off {
			return -1
		}
		return 1
	})
	var out Blocks
	for _, b := range all {
		b = clamp(b, size)
		switch n := len(out); {
		case b.Len <= 0:
		case n > 0 && b.Off <= out[n-1].End():
			out[n-1].Len = max(out[n-1].Len, b.End()-out[n-1].Off)
		default:
			out = append(out, b)
		}
	}
	return out
}

// clamp cuts a block to the range from 0 to size.
func clamp(b Block, size int64) Block {
	if b.Off < 0 {
		b.Len, b.Off = b.Len+b.Off, 0
	}
	if b.Len > size-b.Off {
		b.Len = size - b.Off
	}
	return b
}

// Any tells whether any byte of the range from off on, length bytes long, may differ.
func (bs Blocks) Any(off, length int64) bool {
	i := bs.after(off)
	return length > 0 && i < len(bs) && bs[i].Off < off+length
}

// At gives the block that an offset lies in; false when it may not differ.
func (bs Blocks) At(off int64) (Block, bool) {
	if i := bs.after(off); i < len(bs) && bs[i].Off <= off {
		return bs[i], true
	}
	return Block{}, false
}

// Within calls yield for each part of the range from off on, length bytes long, that may differ, ascending, and stops at
// its first error.
func (bs Blocks) Within(off, length int64, yield func(Block) error) error {
	end := off + length
	for i := bs.after(off); off < end && i < len(bs) && bs[i].Off < end; i++ {
		from, to := max(bs[i].Off, off), min(bs[i].End(), end)
		if err := yield(Block{from, to - from}); err != nil {
			return err
		}
	}
	return nil
}

// Bytes is the sum of all lengths.
func (bs Blocks) Bytes() (sum int64) {
	for _, b := range bs {
		sum += b.Len
	}
	return sum
}

// after is the index of the first block that ends behind off.
func (bs Blocks) after(off int64) int {
	return sort.Search(len(bs), func(i int) bool { return bs[i].End() > off })
}
