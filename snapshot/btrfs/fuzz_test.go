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

func FuzzDecodeDirItems(f *testing.F) {
	f.Add([]byte{})
	f.Add(dirItem("name", ""))
	f.Add(append(dirItem("user.a", "1"), dirItem("user.b", "")...))
	f.Add(dirItem("cut", "data")[:35])
	f.Add(bytes.Repeat([]byte{255}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeDirItems(b)
		size := 0
		for _, it := range list {
			size += dirItemSize + len(it.Name) + len(it.Data)
		}
		if err == nil && size != len(b) {
			t.Errorf("%d of %d bytes decoded", size, len(b))
		}
	})
}

func FuzzDecodeInodeRefs(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'a', 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 'b', 'c'})
	f.Add([]byte{2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 'a'})
	f.Add([]byte{2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeInodeRefs(7, b)
		size := 0
		for _, r := range list {
			size += inodeRefSize + len(r.Name)
		}
		if err == nil && size != len(b) {
			t.Errorf("%d of %d bytes decoded", size, len(b))
		}
	})
}

func FuzzDecodeInodeExtrefs(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 'a'})
	f.Add([]byte{0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 255, 255, 'a'})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := DecodeInodeExtrefs(b)
		size := 0
		for _, r := range list {
			size += inodeExtrefSize + len(r.Name)
		}
		if err == nil && size != len(b) {
			t.Errorf("%d of %d bytes decoded", size, len(b))
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

func FuzzEachItem(f *testing.F) {
	one := make([]byte, itemHeadSize, itemHeadSize+3)
	one[28] = 3
	one = append(one, "abc"...)
	f.Add(one, uint32(1))
	f.Add(one, uint32(2))
	f.Add(one[:34], uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, items uint32) {
		_, _ = eachItem(b, items, SearchKey{MaxType: 255}, func(Item) error { return nil })
	})
}
