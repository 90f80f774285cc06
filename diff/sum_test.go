package diff

import (
	"math/rand/v2"
	"testing"
)

// The checksum of a file is the same however it is handed over, and whether zeros are holes or not; every changed bit and size
// changes it.
func TestContentSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var c ContentSum
	for range 300 {
		data := make([]byte, 1+rng.IntN(40_000))
		for off := 0; off < len(data); {
			n := min(1+rng.IntN(9000), len(data)-off)
			if rng.IntN(2) == 0 {
				for i := range n {
					data[off+i] = byte(rng.Uint32())
				}
			}
			off += n
		}
		size := int64(len(data))
		c.Reset(size)
		c.Add(0, data)
		want := c.Sum()
		c.Reset(size)
		for off := 0; off < len(data); {
			n := min(1+rng.IntN(10_000), len(data)-off)
			if rng.IntN(3) == 0 {
				n = min(4096*(1+rng.IntN(3)), len(data)-off)
			}
			zero := true
			for _, b := range data[off : off+n] {
				zero = zero && b == 0
			}
			if !zero || rng.IntN(2) == 0 {
				c.Add(int64(off), data[off:off+n])
			}
			off += n
		}
		if got := c.Sum(); got != want {
			t.Fatalf("%d bytes: %x in parts, %x at once", size, got, want)
		}
		at := rng.IntN(len(data))
		data[at] ^= 1 << rng.IntN(8)
		c.Reset(size)
		c.Add(0, data)
		if c.Sum() == want {
			t.Fatalf("%d bytes: a flipped bit at %d changes nothing", size, at)
		}
		data[at] = 0
		c.Reset(size)
		c.Add(0, data)
		short := c.Sum()
		c.Reset(size + 4096)
		c.Add(0, data)
		if c.Sum() == short {
			t.Fatal("zeros at the end change nothing")
		}
	}
}
