package btrfsfeed

import (
	"testing"

	"snapdiff/diff"
)

// FuzzDecode gives any bytes to every decoder: they may refuse them, never fail otherwise, and never give more than there was.
func FuzzDecode(f *testing.F) {
	f.Add(make([]byte, inodeItemSize))
	f.Add(make([]byte, extentSize))
	f.Add([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x03\x00abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = decodeInode(b)
		if d, rest, err := decodeDirItem(b); err == nil && dirItemSize+len(d.name)+len(d.value)+len(rest) != len(b) {
			t.Error("directory item: bytes lost")
		}
		for _, kind := range []uint32{inodeRef, inodeExtref} {
			var refs []diff.Ref
			refs, err := decodeRefs(refs, kind, 5, b)
			if err == nil && len(refs) > len(b)/10 {
				t.Errorf("%d names in %d bytes", len(refs), len(b))
			}
		}
		if e, err := decodeExtent(0, b); err == nil && e.len >= 0 {
			differing([]extent{e}, nil, e.len, e.len)
		}
	})
}
