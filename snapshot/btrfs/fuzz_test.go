package btrfs

import (
	"bytes"
	"testing"
)

func dirItem(name, data string) []byte {
	b := make([]byte, dirItemSize)
	le.PutUint64(b, 257)
	b[8] = InodeItemKey
	le.PutUint16(b[25:], uint16(len(data)))
	le.PutUint16(b[27:], uint16(len(name)))
	return append(append(b, name...), data...)
}

func FuzzCutDirItem(f *testing.F) {
	f.Add([]byte{})
	f.Add(dirItem("name", ""))
	f.Add(append(dirItem("user.a", "1"), dirItem("user.b", "")...))
	f.Add(dirItem("cut", "data")[:35])
	f.Add(bytes.Repeat([]byte{255}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		if it, rest, err := CutDirItem(b); err == nil && dirItemSize+len(it.Name)+len(it.Data)+len(rest) != len(b) {
			t.Errorf("%d bytes: name of %d, data of %d, rest of %d", len(b), len(it.Name), len(it.Data), len(rest))
		}
	})
}

func FuzzCutRef(f *testing.F) {
	f.Add(false, []byte{})
	f.Add(false, []byte{2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'a', 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 'b', 'c'})
	f.Add(false, []byte{2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 'a'})
	f.Add(false, []byte{2, 0, 0})
	f.Add(true, []byte{0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'a'})
	f.Add(true, []byte{0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, ext bool, b []byte) {
		kind, size := uint32(InodeRefKey), inodeRefSize
		if ext {
			kind, size = InodeExtrefKey, inodeExtrefSize
		}
		if r, rest, err := CutRef(kind, 7, b); err == nil && size+len(r.Name)+len(rest) != len(b) || err == nil && !ext && r.Parent != 7 {
			t.Errorf("%d bytes: %+v, rest of %d", len(b), r, len(rest))
		}
	})
}

func FuzzDecodeInodeItem(f *testing.F) {
	f.Add(make([]byte, inodeItemSize))
	f.Add(bytes.Repeat([]byte{255}, inodeItemSize))
	f.Add(make([]byte, inodeItemSize-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := DecodeInodeItem(b); (err == nil) != (len(b) >= inodeItemSize) {
			t.Errorf("%d bytes: %v", len(b), err)
		}
	})
}

func FuzzDecodeExtentData(f *testing.F) {
	regular := make([]byte, extentOnDiskSize)
	regular[20] = ExtentRegular
	f.Add(regular)
	f.Add(regular[:40])
	f.Add(append(make([]byte, extentHeadSize), "inline"...))
	f.Add(bytes.Repeat([]byte{3}, extentOnDiskSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := DecodeExtentData(b)
		if err == nil && e.Type == ExtentInline && len(e.Inline) != len(b)-extentHeadSize {
			t.Errorf("%d inline bytes of %d", len(e.Inline), len(b))
		}
	})
}

func FuzzCutItem(f *testing.F) {
	one := make([]byte, itemHeadSize, itemHeadSize+3)
	one[28] = 3
	one = append(one, "abc"...)
	f.Add(one)
	f.Add(one[:34])
	f.Fuzz(func(t *testing.T, b []byte) {
		if it, err := cutItem(b); err == nil && itemHeadSize+len(it.Data) > len(b) {
			t.Errorf("an item of %d bytes in %d", len(it.Data), len(b))
		}
	})
}
