package gentle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

// Whatever the pieces, n bytes take as long as the rate says, less what may go at once.
func TestPace(t *testing.T) {
	const rate = 1 << 20
	for _, piece := range []int64{1, 4096, rate / 10, 1 << 20, 10 << 20} {
		var clock time.Time
		p := NewPace(context.Background(), rate)
		p.now = func() time.Time { return clock }
		p.sleep = func(_ context.Context, d time.Duration) error { clock = clock.Add(max(d, 0)); return nil }
		start := clock
		total := max(20*piece, 5*4096)
		for sum := int64(0); sum < total; sum += piece {
			if err := p.Wait(piece); err != nil {
				t.Fatal(err)
			}
		}
		want := float64(max(p.Moved()-rate/10, 0)) / rate
		if took := clock.Sub(start).Seconds(); took < want-0.001 || took > want+0.001 {
			t.Errorf("in pieces of %d, %d bytes took %.3f s, want %.3f", piece, p.Moved(), took, want)
		}
	}
}

// Who waits hears why the run is over; without a limit nobody waits.
func TestPaceIsStopped(t *testing.T) {
	why := errors.New("SIGTERM")
	ctx, stop := context.WithCancelCause(context.Background())
	p := NewPace(ctx, 512)
	time.AfterFunc(10*time.Millisecond, func() { stop(why) })
	if err := p.Wait(1 << 40); !errors.Is(err, why) {
		t.Errorf("the error is %v", err)
	}
	if none := NewPace(ctx, 0); none != nil || none.Wait(1<<40) != nil || none.Moved() != 0 {
		t.Error("without a limit there is something to wait for")
	}
}

// What a reader brings into memory is not there any more afterwards; what was there before is.
func TestReadLeavesMemoryAsItWas(t *testing.T) {
	for _, kind := range []applytest.Kind{applytest.Ext4, applytest.XFS, applytest.Btrfs} {
		dir := applytest.Mount(t, kind)
		for _, older := range []bool{false, true} {
			for _, cached := range []bool{false, true} {
				fd, size := bigFile(t, dir)
				if cached {
					readAll(t, func(b []byte, off int64) (int, error) { return unix.Pread(fd, b, off) }, size)
				}
				var r Reader
				if older || kind == applytest.Btrfs {
					r.plain.Store(true) // as on a kernel before 6.14
				}
				f := r.File(fd, size)
				readAll(t, f.ReadAt, size)
				f.Done()
				pages, all := resident(t, fd, size), size/4096
				if cached && pages < all || !cached && pages > all/20 {
					t.Errorf("%s, older kernel %v, in memory before %v: %d of %d pages are afterwards", kind, older, cached, pages, all)
				}
			}
		}
	}
}

// A reader learns by itself what a filesystem can do.
func TestReadWithoutTheFlag(t *testing.T) {
	fd, size := bigFile(t, applytest.Mount(t, applytest.Btrfs))
	var r Reader
	f := r.File(fd, size)
	readAll(t, f.ReadAt, size) // fails unless it falls back where it must
	f.Done()
	if pages := resident(t, fd, size); pages > size/4096/20 {
		t.Errorf("of the file by which it learned that, %d of %d pages are in memory", pages, size/4096)
	}
}

// A large file that is written leaves a few windows in memory, and its bytes are right.
func TestWriteBehind(t *testing.T) {
	dir := applytest.Mount(t, applytest.Ext4)
	fd, err := unix.Open(filepath.Join(dir, "new"), unix.O_RDWR|unix.O_CREAT, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	const size = 64 << 20
	b, piece := NewBehind(fd), make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(piece)) {
		for i := range piece {
			piece[i] = byte(off>>20) + 1
		}
		if _, err := unix.Pwrite(fd, piece, off); err != nil {
			t.Fatal(err)
		}
		if err := b.Wrote(off + int64(len(piece))); err != nil {
			t.Fatal(err)
		}
	}
	if pages := resident(t, fd, size); pages > 3*window/4096 {
		t.Errorf("%d pages of %d are in memory", pages, size/4096)
	}
	for off := int64(0); off < size; off += int64(len(piece)) {
		if _, err := unix.Pread(fd, piece, off); err != nil || piece[0] != byte(off>>20)+1 || piece[len(piece)-1] != piece[0] {
			t.Fatalf("at %d there is %d, error %v", off, piece[0], err)
		}
	}
}

// bigFile makes a file of which nothing is in memory.
func bigFile(t *testing.T, dir string) (fd int, size int64) {
	t.Helper()
	size = 24 << 20
	f, err := os.CreateTemp(dir, "big")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); os.Remove(f.Name()) })
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	fd = int(f.Fd())
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	if pages := resident(t, fd, size); pages > 0 {
		t.Fatalf("%d pages of a file that was dropped are in memory", pages)
	}
	return fd, size
}

func readAll(t *testing.T, read func(b []byte, off int64) (int, error), size int64) {
	t.Helper()
	b := make([]byte, 1<<20)
	for off := int64(0); off < size; {
		n, err := read(b, off)
		if err != nil || n == 0 {
			t.Fatalf("read %d bytes at %d: %v", n, off, err)
		}
		off += int64(n)
	}
}

// resident counts the pages of a file that are in memory.
func resident(t *testing.T, fd int, size int64) (pages int64) {
	t.Helper()
	m, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	v := make([]byte, size/4096)
	if _, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(size), uintptr(unsafe.Pointer(&v[0]))); errno != 0 {
		t.Fatal(errno)
	}
	for _, b := range v {
		pages += int64(b & 1)
	}
	return pages
}
