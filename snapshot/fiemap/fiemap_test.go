package fiemap

import (
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
)

// TestSizes: the structures that the kernel fills have its sizes (linux/fiemap.h).
func TestSizes(t *testing.T) {
	if size := unsafe.Sizeof(Extent{}); size != 56 {
		t.Errorf("struct fiemap_extent has %d bytes", size)
	}
	if at := unsafe.Offsetof(request{}.extents); fsIocFiemap>>16&0x3FFF != at || at > 32 {
		t.Errorf("struct fiemap has %d bytes", at)
	}
}

// TestSeek: of a file of which nothing is in memory lseek(2) and Seek say the same, and Seek says it still when all of it was read.
func TestSeek(t *testing.T) {
	a.NeedRoot(t)
	r := rand.New(rand.NewPCG(a.Seed(t), 21))
	for _, kind := range []a.Kind{a.Ext4, a.XFS} {
		dir := a.Mount(t, kind)
		for range 30 {
			const size, block = 400_000, 4096
			a.Apply(t, dir, a.Create("f", r.Int64N(size), 1))
			for range r.IntN(12) {
				off, n := r.Int64N(size), 1+r.Int64N(size/4)
				c := a.Write("f", off, n, 2)
				switch r.IntN(4) {
				case 0:
					c = a.Prealloc("f", off/block*block, n)
				case 1:
					c = a.Punch("f", off/block*block, n)
				case 2:
					c = a.Truncate("f", off+1)
				}
				a.Apply(t, dir, c)
			}
			a.Apply(t, dir, a.Sync())
			judgeSeek(t, filepath.Join(dir, "f"))
			a.Apply(t, dir, a.Remove("f"))
		}
	}
}

func judgeSeek(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		at  int64
		err error
	}
	ask := func(seek func(int, int64, int) (int64, error)) (all []answer) {
		for off := int64(0); off < st.Size()+5000; off += 1000 {
			for _, whence := range []int{unix.SEEK_DATA, unix.SEEK_HOLE} {
				at, err := seek(fd, off, whence)
				if err != nil {
					at = 0
				}
				all = append(all, answer{at, err})
			}
		}
		return all
	}
	want := ask(unix.Seek)
	same := func(when string) {
		for i, got := range ask(Seek) {
			if got != want[i] {
				t.Errorf("%s: offset %d, data or hole %d: %+v, want %+v", when, i/2*1000, i%2, got, want[i])
			}
		}
	}
	same("nothing read")
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, f); err != nil {
		t.Fatal(err)
	}
	same("all read")
}
