package zfsfeed

import (
	"bytes"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// TestBonusFields reads the inode of a captured object whose fields were looked at by hand.
func TestBonusFields(t *testing.T) {
	found := false
	_, err := readStream(bytes.NewReader(unzip(t, "plain.zstream.gz")), func(r *record) error {
		if r.kind != object || r.object != 12 {
			return nil
		}
		found = true
		f := bonusFields(12, r.payload)
		if f.size != 7 || f.ctim < 1_700_000_000 || f.links != 1 {
			t.Errorf("size %d, changed at %d, %d links", f.size, f.ctim, f.links)
		}
		b := slices.Clone(r.payload)
		for _, change := range []func(){
			func() { b = b[:len(b)-60] }, func() { b[0]++ }, func() { b = r.payload[:7] }, func() { b = nil },
		} {
			b = slices.Clone(r.payload)
			change()
			if f := bonusFields(12, b); f.sig != 0 {
				t.Errorf("%d bytes that are no whole bonus have the signature %x", len(b), f.sig)
			}
		}
		for at, what := range map[int]string{40: "its own parent", 48: "an extended attribute", 120: "deleted while open"} {
			b := slices.Clone(r.payload)
			b[8+at] = map[int]byte{40: 12, 48: b[8+48] | 1}[at]
			if f := bonusFields(12, b); f.sig == 0 || f.links != 0 {
				t.Errorf("what is %s needs no name, and has %d links", what, f.links)
			}
		}
		b = slices.Clone(r.payload)
		b[8+56]++ // the time of last access does not count, everything else that a stat shows does
		if bonusFields(12, b).sig != f.sig {
			t.Error("the time of last access is in the signature")
		}
		for _, at := range []int{0, 8, 16, 24, 32, 72, 80, 88, 96, 120} {
			b := slices.Clone(r.payload)
			b[8+at]++
			if bonusFields(12, b).sig == f.sig {
				t.Errorf("the attribute at %d is not in the signature", at)
			}
		}
		return nil
	})
	if err != nil || !found {
		t.Fatalf("object 12: %v, %v", found, err)
	}
}

func TestSignatureIsNeverZero(t *testing.T) {
	if diff.Signature(&unix.Stat_t{}, 0) == 0 {
		t.Error("0 means that there is none")
	}
}
