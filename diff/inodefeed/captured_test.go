package inodefeed

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const capturedPage = 4096

// captured is a real filesystem (see testdata/capture.sh): the pages of its device that are not all zeros.
type captured struct {
	size  int64
	pages map[int64][]byte // by number
}

func readCaptured(t testing.TB, name string) *captured {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(unzipped)
	head, err := archive.Next()
	if err != nil {
		t.Fatal(err)
	}
	c := &captured{size: head.Size, pages: map[int64][]byte{}}
	in, zeros := bufio.NewReader(archive), make([]byte, capturedPage)
	for at := int64(0); at < c.size; at += capturedPage {
		page := make([]byte, capturedPage)
		if _, err := io.ReadFull(in, page); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(page, zeros) {
			c.pages[at/capturedPage] = page
		}
	}
	return c
}

// ReadAt implements io.ReaderAt.
func (c *captured) ReadAt(b []byte, off int64) (n int, err error) {
	for n < len(b) && off < c.size {
		part := b[n:min(int64(len(b)), int64(n)+capturedPage-off%capturedPage)]
		if page := c.pages[off/capturedPage]; page != nil {
			copy(part, page[off%capturedPage:])
		} else {
			clear(part)
		}
		n, off = n+len(part), off+int64(len(part))
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// damaged is a copy with other bytes in it: patch is a list of number of a page that is not empty (2 bytes), place in it (2), count (1) and bytes.
func (c *captured) damaged(patch []byte) *captured {
	d := &captured{size: c.size, pages: maps.Clone(c.pages)}
	numbers := slices.Sorted(maps.Keys(c.pages))
	for len(patch) >= 5 {
		number := numbers[int(le.Uint16(patch))%len(numbers)]
		page := bytes.Clone(d.pages[number])
		put := patch[5:][:min(int(patch[4]), len(patch)-5)]
		copy(page[le.Uint16(patch[2:])%capturedPage:], put)
		d.pages[number] = page
		patch = patch[5+len(put):]
	}
	return d
}

// TestCaptured: of the real filesystems all inodes are found: 109 with the top one, and what each has besides: lost+found of ext4, two of XFS
// for a realtime volume.
func TestCaptured(t *testing.T) {
	for name, want := range map[string]int{"ext4": 110, "xfs": 111} {
		if found, err := scanSide(t, sideOf(readCaptured(t, name))); err != nil || len(found) != want {
			t.Errorf("%s: %d inodes, %v; want %d", name, len(found), err, want)
		}
	}
}

func sideOf(c *captured) Side { return Side{Device: c, Size: c.size} }

// FuzzCapturedExt4: a real ext4 with damage anywhere is no panic and no endless loop.
func FuzzCapturedExt4(f *testing.F) { fuzzCaptured(f, "ext4") }

// FuzzCapturedXFS is the same for XFS.
func FuzzCapturedXFS(f *testing.F) { fuzzCaptured(f, "xfs") }

func fuzzCaptured(f *testing.F, name string) {
	whole := readCaptured(f, name)
	f.Add([]byte{})
	for page := range min(len(whole.pages), 64) { // a byte of each
		f.Add([]byte{byte(page), byte(page >> 8), byte(page * 24), 0, 1, 255})
	}
	f.Fuzz(func(t *testing.T, patch []byte) { scanSide(t, sideOf(whole.damaged(patch))) })
}
