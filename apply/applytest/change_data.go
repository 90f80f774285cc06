package applytest

import (
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// block is the granularity at which holes are made and compared: the block size of every filesystem in the tests.
const block = 4096

// withFile opens a regular file for reading and writing, and does not follow a symlink. Never blocks on a fifo.
func withFile(p string, flags int, f func(fd int) error) error {
	fd, err := unix.Open(p, unix.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f(fd), unix.Close(fd))
}

// writeAll writes the pattern of seed at an offset, a megabyte at a time.
func writeAll(fd int, off, n int64, seed int) error {
	const piece = 1 << 20
	for n > 0 {
		data := pattern(seed, off, min(n, piece))
		written, err := unix.Pwrite(fd, data, off)
		if err != nil {
			return err
		}
		off, n = off+int64(written), n-int64(written)
	}
	return nil
}

// Create makes a new regular file of size bytes with the content that seed stands for.
func Create(path string, size int64, seed int) Change {
	return change("Create", path, func(p string) error {
		return withFile(p, unix.O_CREAT|unix.O_EXCL, func(fd int) error { return writeAll(fd, 0, size, seed) })
	}, size, seed)
}

// Appear makes a file without a name in the same directory, writes it, and then gives it its name.
func Appear(path string, size int64, seed int) Change {
	return change("Appear", path, func(p string) error {
		fd, err := unix.Open(filepath.Dir(p), unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o640)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := writeAll(fd, 0, size, seed); err != nil {
			return err
		}
		return unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, p, unix.AT_SYMLINK_FOLLOW)
	}, size, seed)
}

// Write overwrites n bytes at an offset, beyond the end too.
func Write(path string, off, n int64, seed int) Change {
	return change("Write", path, func(p string) error {
		return withFile(p, 0, func(fd int) error { return writeAll(fd, off, n, seed) })
	}, off, n, seed)
}

// Append writes n bytes at the end.
func Append(path string, n int64, seed int) Change {
	return change("Append", path, func(p string) error {
		return withFile(p, 0, func(fd int) error {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return err
			}
			return writeAll(fd, st.Size, n, seed)
		})
	}, n, seed)
}

// Truncate sets the size, smaller or larger.
func Truncate(path string, size int64) Change {
	return change("Truncate", path, func(p string) error {
		return withFile(p, 0, func(fd int) error { return unix.Ftruncate(fd, size) })
	}, size)
}

// allocate is fallocate(2) with a mode.
func allocate(name, path string, mode uint32, off, n int64) Change {
	return change(name, path, func(p string) error {
		return withFile(p, 0, func(fd int) error { return unix.Fallocate(fd, mode, off, n) })
	}, off, n)
}

// Punch makes a hole.
func Punch(path string, off, n int64) Change {
	return allocate("Punch", path, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// ZeroRange makes a range read as zeros, by unwritten extents.
func ZeroRange(path string, off, n int64) Change {
	return allocate("ZeroRange", path, unix.FALLOC_FL_ZERO_RANGE, off, n)
}

// Prealloc allocates unwritten blocks and grows the file where the range ends beyond it.
func Prealloc(path string, off, n int64) Change { return allocate("Prealloc", path, 0, off, n) }

// PreallocKeep allocates unwritten blocks, also beyond the end, and keeps the size.
func PreallocKeep(path string, off, n int64) Change {
	return allocate("PreallocKeep", path, unix.FALLOC_FL_KEEP_SIZE, off, n)
}

// Collapse removes a range of whole blocks and moves the rest of the file down. btrfs has no such call: there the rest is
// moved by reflink, block by block shared, which leaves the same extents as a collapse would.
func Collapse(path string, off, n int64) Change {
	return change("Collapse", path, func(p string) error {
		return withFile(p, 0, func(fd int) error {
			err := unix.Fallocate(fd, unix.FALLOC_FL_COLLAPSE_RANGE, off, n)
			if !errors.Is(err, unix.EOPNOTSUPP) {
				return err
			}
			return collapseByReflink(fd, off, n)
		})
	}, off, n)
}

// collapseByReflink moves what lies behind a range down over it in steps that do not overlap, then cuts the end off. The
// last block of a file may be shared only as the last block of another, so a partial one is copied.
func collapseByReflink(fd int, off, n int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if off+n >= st.Size || off%block != 0 || n%block != 0 || n <= 0 {
		return unix.EINVAL
	}
	whole := st.Size / block * block
	for from := off + n; from < whole; from += n {
		if err := cloneRange(fd, from, min(n, whole-from), fd, from-n); err != nil {
			return err
		}
	}
	if err := copyBytes(fd, whole, whole-n, st.Size-whole); err != nil {
		return err
	}
	return unix.Ftruncate(fd, st.Size-n)
}

// copyBytes copies less than a block inside a file.
func copyBytes(fd int, from, to, n int64) error {
	data := make([]byte, n)
	if _, err := unix.Pread(fd, data, from); err != nil {
		return err
	}
	_, err := unix.Pwrite(fd, data, to)
	return err
}

// cloneRange shares blocks. length may end at the source's end of file, else it is a multiple of the block size.
func cloneRange(src int, srcOff, length int64, dst int, dstOff int64) error {
	return unix.IoctlFileCloneRange(dst, &unix.FileCloneRange{
		Src_fd: int64(src), Src_offset: uint64(srcOff), Src_length: uint64(length), Dest_offset: uint64(dstOff),
	})
}

// Reflink makes dst, which may be there, share all blocks of src.
func Reflink(src, dst string) Change {
	return change2("Reflink", src, dst, func(a, b string) error {
		return withFile(a, 0, func(from int) error {
			return withFile(b, unix.O_CREAT, func(to int) error {
				return errors.Join(unix.Ftruncate(to, 0), unix.IoctlFileClone(to, from))
			})
		})
	})
}

// ReflinkRange makes a range of dst share blocks of src.
func ReflinkRange(src, dst string, srcOff, n, dstOff int64) Change {
	return change2("ReflinkRange", src, dst, func(a, b string) error {
		return withFile(a, 0, func(from int) error {
			return withFile(b, 0, func(to int) error { return cloneRange(from, srcOff, n, to, dstOff) })
		})
	}, srcOff, n, dstOff)
}

// MmapWrite overwrites through a shared mapping, never synced. The range must lie inside the file.
func MmapWrite(path string, off, n int64, seed int) Change {
	return change("MmapWrite", path, func(p string) error {
		return withFile(p, 0, func(fd int) error {
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				return err
			}
			if off+n > st.Size || n <= 0 || off < 0 {
				return unix.EINVAL
			}
			start := off / block * block
			mapping, err := unix.Mmap(fd, start, int(off+n-start), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			copy(mapping[off-start:], pattern(seed, off, n))
			return unix.Munmap(mapping)
		})
	}, off, n, seed)
}

// NoCow makes an empty file that is overwritten in place (chattr +C). Where the filesystem knows no such flag it is a plain
// file.
func NoCow(path string) Change {
	const noCow = 0x00800000 // FS_NOCOW_FL, linux/fs.h
	return change("NoCow", path, func(p string) error {
		return withFile(p, unix.O_CREAT|unix.O_EXCL, func(fd int) error {
			flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
			if err != nil {
				return err
			}
			err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|noCow))
			if errors.Is(err, unix.EOPNOTSUPP) {
				return nil
			}
			return err
		})
	})
}

// Fsync brings a file to disk.
func Fsync(path string) Change {
	return change("Fsync", path, func(p string) error { return withFile(p, 0, unix.Fsync) })
}

// Dedupe lets the kernel share n equal bytes at offset 0 of two files, as duperemove and bees do.
func Dedupe(src, dst string, n int64) Change {
	return change2("Dedupe", src, dst, func(a, b string) error {
		return withFile(a, 0, func(from int) error {
			return withFile(b, 0, func(to int) error { return dedupe(from, to, n) })
		})
	}, n)
}

// dedupe is FIDEDUPERANGE for one pair of files (linux/fs.h, struct file_dedupe_range).
func dedupe(from, to int, n int64) error {
	request := unix.FileDedupeRange{
		Src_length: uint64(n), Info: []unix.FileDedupeRangeInfo{{Dest_fd: int64(to)}},
	}
	if err := unix.IoctlFileDedupeRange(from, &request); err != nil {
		return err
	}
	if request.Info[0].Status != 0 {
		return unix.EINVAL // the bytes differ: the scenario is wrong
	}
	return nil
}
