package btrfs

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"slices"
	"testing"
)

// captured gives the items of a real filesystem (see testdata/capture.sh), each with its head.
func captured(t testing.TB) (items [][]byte) {
	t.Helper()
	file, err := os.Open("testdata/items.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	for len(b) > 0 {
		it, err := cutItem(b)
		if err != nil {
			t.Fatal(err)
		}
		size := itemHeadSize + len(it.Data)
		items, b = append(items, b[:size]), b[size:]
	}
	return items
}

// capturedData gives the data of the items of some kinds.
func capturedData(t testing.TB, kinds ...uint32) (list [][]byte) {
	t.Helper()
	for _, b := range captured(t) {
		it, err := cutItem(b)
		if err == nil && slices.Contains(kinds, it.Type) {
			list = append(list, it.Data)
		}
	}
	return list
}

// TestCaptured: the decoders make of the items of a real filesystem what capture.sh put there.
func TestCaptured(t *testing.T) {
	links, inodes, names, kinds := 0, 0, map[string]bool{}, map[uint8]int{}
	for _, b := range captured(t) {
		it, err := cutItem(b)
		for rest := it.Data; err == nil && len(rest) > 0; {
			switch it.Type {
			case InodeRefKey, InodeExtrefKey:
				_, rest, err = CutRef(it.Type, it.Offset, rest)
				links++
				continue
			case DirItemKey, XattrItemKey:
				var d DirItem
				if d, rest, err = CutDirItem(rest); err == nil {
					names[string(d.Name)] = true
				}
				continue
			case InodeItemKey:
				_, err = DecodeInodeItem(rest)
				inodes++
			case ExtentDataKey:
				var e ExtentData
				if e, err = DecodeExtentData(rest); err == nil {
					kinds[e.Type]++
				}
			}
			rest = nil
		}
		if err != nil {
			t.Fatalf("item of type %d: %v", it.Type, err)
		}
	}
	if inodes < 13 || links < 300+13 || !names["user.large"] || !names["a\nb\377"] || !names["sub"] || len(kinds) != 3 {
		t.Errorf("%d inodes, %d links, kinds of extents %v, names %q", inodes, links, kinds, slices.Collect(maps.Keys(names)))
	}
}

func dirItem(name, data string) []byte {
	b := make([]byte, dirItemSize)
	le.PutUint64(b, 257)
	b[8] = InodeItemKey
	le.PutUint16(b[25:], uint16(len(data)))
	le.PutUint16(b[27:], uint16(len(name)))
	return append(append(b, name...), data...)
}

func FuzzCutDirItem(f *testing.F) {
	for _, b := range capturedData(f, DirItemKey, DirIndexKey, XattrItemKey) {
		f.Add(b)
	}
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
	for _, kind := range []uint32{InodeRefKey, InodeExtrefKey} {
		for _, b := range capturedData(f, kind) {
			f.Add(kind == InodeExtrefKey, b)
		}
	}
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
	for _, b := range capturedData(f, InodeItemKey) {
		f.Add(b)
	}
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
	for _, b := range capturedData(f, ExtentDataKey) {
		f.Add(b)
	}
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
	for _, b := range captured(f) {
		f.Add(b)
	}
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
