package lvm

import (
	"math"
	"math/rand"
	"slices"
	"testing"
)

func TestNewBlocks(t *testing.T) {
	for _, c := range []struct {
		in   []Block
		size int64
		want Blocks
	}{
		{nil, 10, nil},
		{[]Block{{4, 2}, {0, 2}, {2, 2}}, 10, Blocks{{0, 6}}},
		{[]Block{{4, 2}, {0, 3}}, 10, Blocks{{0, 3}, {4, 2}}},
		{[]Block{{0, 9}, {2, 3}}, 10, Blocks{{0, 9}}},
		{[]Block{{8, 9}, {12, 3}}, 10, Blocks{{8, 2}}},
		{[]Block{{5, 0}, {6, -1}, {-3, 4}}, 10, Blocks{{0, 1}}},
		{[]Block{{5, math.MaxInt64}}, 10, Blocks{{5, 5}}},
	} {
		if got := NewBlocks(c.in, c.size); !slices.Equal(got, c.want) {
			t.Errorf("NewBlocks(%v, %d) = %v, want %v", c.in, c.size, got, c.want)
		}
	}
}

// TestBlocksRandom holds Blocks against a bitmap.
func TestBlocksRandom(t *testing.T) {
	const size = 64
	rnd := rand.New(rand.NewSource(1))
	for range 2000 {
		var in []Block
		var bits [size]bool
		for range rnd.Intn(8) {
			b := Block{rnd.Int63n(size + 10), rnd.Int63n(12)}
			in = append(in, b)
			for i := b.Off; i < min(b.End(), size); i++ {
				bits[i] = true
			}
		}
		bs := NewBlocks(in, size)
		off, length := rnd.Int63n(size), rnd.Int63n(size)
		var got [size]bool
		any := false
		bs.Within(off, length, func(b Block) error {
			for i := b.Off; i < b.End(); i++ {
				got[i] = true
			}
			return nil
		})
		for i := range bits {
			inside := int64(i) >= off && int64(i) < off+length
			if got[i] != (bits[i] && inside) {
				t.Fatalf("%v: byte %d of %v within %d+%d is %v", in, i, bs, off, length, got[i])
			}
			any = any || got[i]
		}
		if bs.Any(off, length) != any {
			t.Fatalf("%v: Any(%d, %d) is %v", bs, off, length, !any)
		}
		for i := 1; i < len(bs); i++ {
			if bs[i].Off <= bs[i-1].End() {
				t.Fatalf("%v: blocks touch", bs)
			}
		}
	}
}
