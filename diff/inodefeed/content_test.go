package inodefeed

import (
	"math/rand/v2"
	"testing"

	a "snapdiff/apply/applytest"
	"snapdiff/snapshot/lvm"
)

// drawnFile is a file of few bytes on a device of few bytes.
type drawnFile struct {
	at   []int64 // where each byte lies; -1: a hole, -2: elsewhere
	size int64
}

func draw(r *rand.Rand, like *drawnFile) drawnFile {
	f := drawnFile{size: r.Int64N(40)}
	for i := 0; len(f.at) < 40; i++ {
		at := []int64{-1, -2, r.Int64N(50)}[r.IntN(3)]
		for n := range 1 + r.IntN(9) {
			next := at
			if at >= 0 {
				next += int64(n)
			}
			if like != nil && r.IntN(8) > 0 {
				next = like.at[min(len(f.at), 39)]
			}
			f.at = append(f.at, next)
		}
	}
	f.at = f.at[:40]
	return f
}

func (f drawnFile) extents() (out []extent) {
	for off, at := range f.at {
		switch {
		case at == -1:
		case at == -2:
			out = append(out, extent{off: int64(off), len: 1, kind: elsewhere})
		case len(out) > 0 && out[len(out)-1].kind == written && out[len(out)-1].disk+out[len(out)-1].len == at && out[len(out)-1].off+out[len(out)-1].len == int64(off):
			out[len(out)-1].len++
		default:
			out = append(out, extent{off: int64(off), len: 1, kind: written, disk: at})
		}
	}
	return out
}

// TestPairs: what is not said to be different or unclear is the same, byte for byte, and holes are holes; what has only
// to be read is no hole on one side alone.
func TestPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(a.Seed(t), 0))
	for range 20_000 {
		base := draw(r, nil)
		next := draw(r, &base)
		changed := lvm.NewBlocks([]lvm.Block{{Off: r.Int64N(64) / 8 * 8, Len: 8}, {Off: r.Int64N(64) / 8 * 8, Len: 8}}, 64)
		p := &pairs{base: base.extents(), next: next.extents(), baseSize: base.size, nextSize: next.size, changed: changed, surely: r.IntN(2) == 0}
		said := make([]verdict, 41)
		last := int64(0)
		err := p.each(func(off, end int64, v verdict) error {
			if off < last || end <= off || end > next.size || v == same {
				t.Fatalf("%+v: %d to %d behind %d is %d", p, off, end, last, v)
			}
			for last = off; last < end; last++ {
				said[last] = v
			}
			return nil
		})
		must(t, err)
		for off := range next.size {
			b, n := base.at[off], next.at[off]
			equal := off < base.size && b == n && n != -2 && (n < 0 || !changed.Any(n, 1))
			oneHole := off >= base.size || b != n && (b == -1 || n == -1)
			if (said[off] == same) != equal || oneHole && said[off] != different {
				t.Fatalf("%+v: byte %d, at %d in the base and %d now, is %d", p, off, b, n, said[off])
			}
		}
	}
}
