package gentle

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// dontCache is RWF_DONTCACHE (linux/fs.h, since Linux 6.14): what a read brings into memory goes again when the read is done;
	// what was there before stays. Each filesystem has to know it: ext4 and XFS do.
	dontCache = 0x80

	// large is how many bytes a file has of which pages are dropped by advice where the filesystem does not know dontCache.
	// The call costs as much as it does to copy a small file.
	large = 1 << 20

	// window is how many bytes are read or written between two pieces of advice.
	window = 8 << 20
)

// Reader reads files of one filesystem. It may be used by several goroutines at once. The zero value is ready.
type Reader struct {
	plain atomic.Bool // the filesystem, or the kernel, does not know dontCache
}

// File is one open file that is read mostly from its beginning to its end.
type File struct {
	r     *Reader
	fd    int
	size  int64
	plain bool  // it was known, when nothing of the file had been read, that the filesystem does not know dontCache
	drop  bool  // what was read is to be dropped: nothing of the file was in memory before
	seen  int64 // end of what was read
	clean int64 // up to here it was dropped
}

// File begins to read an open file of so many bytes. It reads nothing yet.
func (r *Reader) File(fd int, size int64) File {
	f := File{r: r, fd: fd, size: size}
	if r.plain.Load() {
		f.begin()
	}
	return f
}

// begin looks at what is in memory before anything is read without dontCache.
func (f *File) begin() {
	f.plain = true
	f.drop = f.size >= large && !anyResident(f.fd, f.size)
}

// ReadAt is pread.
func (f *File) ReadAt(b []byte, off int64) (n int, err error) {
	plain := f.r.plain.Load()
	if !plain {
		n, err = unix.Preadv2(f.fd, [][]byte{b}, off, dontCache)
		if err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL {
			f.r.plain.Store(true)
			plain = true
		}
	}
	if plain {
		if !f.plain && f.seen == 0 { // the first file of all: it has just been learned
			f.begin()
		}
		n, err = unix.Pread(f.fd, b, off)
	}
	f.seen = max(f.seen, off+int64(n))
	if f.drop && f.seen-f.clean > window {
		f.forget(f.seen)
	}
	return n, err
}

// Done ends the reading. It does not close the file.
func (f *File) Done() {
	if f.drop {
		f.forget(0)
	}
}

// forget drops what lies before end; 0: everything. Advice only: no error matters.
func (f *File) forget(end int64) {
	unix.Fadvise(f.fd, 0, end, unix.FADV_DONTNEED)
	f.clean = end
}

// anyResident tells whether any page of a file is in memory. Where that cannot be told it says so too: what others have there is
// not to be dropped. Nor is it asked of files that are mostly holes: they may claim exabytes, and have little to drop.
func anyResident(fd int, size int64) bool {
	const piece = 64 << 20
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Blocks < size/1024 {
		return true
	}
	pages := make([]byte, piece>>12)
	for off := int64(0); off < size; off += piece {
		length := int(min(piece, size-off))
		m, err := unix.Mmap(fd, off, length, unix.PROT_READ, unix.MAP_SHARED)
		if err != nil {
			return true
		}
		some := pages[:(length+4095)/4096]
		_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m[0])), uintptr(length), uintptr(unsafe.Pointer(&some[0])))
		if err := unix.Munmap(m); err != nil || errno != 0 {
			return true
		}
		for _, page := range some {
			if page&1 != 0 {
				return true
			}
		}
	}
	return false
}
