package apply

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/fiemap"
	"snapdiff/snapshot/gentle"
)

// buildFile makes a regular file.
func (b *builder) buildFile(src, dst spot, p *patch, link linker) (unix.Stat_t, error) {
	var st unix.Stat_t
	in, err := openQuiet(src, unix.O_RDONLY)
	if err != nil {
		return st, readError(src.path, "open", err)
	}
	defer unix.Close(in)
	if err := unix.Fstat(in, &st); err != nil {
		return st, readError(src.path, "stat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return st, fmt.Errorf("%q in the snapshot is no regular file any more", src.path)
	}
	if st.Nlink > 1 && link != nil {
		if done, err := link(&st); done || err != nil {
			return st, err
		}
	}
	return st, b.makeFile(in, src, dst, &st, p)
}

// makeFile makes the regular file whose source is open. When it fails, nothing is left.
func (b *builder) makeFile(in int, src, dst spot, st *unix.Stat_t, p *patch) error {
	out, err := createFile(dst, st.Mode)
	if err != nil {
		return writeError(src.path, "make", err)
	}
	var sum *diff.ContentSum
	if b.built != nil && st.Size > 0 {
		sum = sumPool.Get().(*diff.ContentSum)
		defer sumPool.Put(sum)
		sum.Reset(st.Size)
	}
	whole, err := b.fill(in, out, src.path, st, p, sum)
	var made unix.Stat_t
	if err == nil {
		made, err = b.newAttributes(node{src, in}, node{dst, out}, st)
	}
	if err == nil && sum != nil {
		b.tell(src.path, &made, whole, sum)
	}
	if e := unix.Close(out); err == nil && e != nil {
		err = writeError(src.path, "close", e)
	}
	if err != nil {
		unix.Unlinkat(dst.dir, dst.base, 0) // the error to tell is the first one
	}
	return err
}

var sumPool = sync.Pool{New: func() any { return new(diff.ContentSum) }}

// tell says that a file is made.
func (b *builder) tell(path string, st *unix.Stat_t, whole bool, sum *diff.ContentSum) {
	f := fileSum{ino: st.Ino, known: whole}
	if whole {
		f.sum = sum.Sum()
	}
	b.built(path, f)
}

// createFile makes an empty file. Its mode is final already where that needs no more than the permission bits.
func createFile(at spot, mode uint32) (int, error) {
	fd := -1
	err := again(at, func() (err error) {
		fd, err = unix.Openat(at.dir, at.base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode&0o777)
		return err
	})
	return fd, err
}

// fill gives a new file its contents. whole: all of them were read, and added to sum, which may be nil.
func (b *builder) fill(in, out int, path string, st *unix.Stat_t, p *patch, sum *diff.ContentSum) (whole bool, err error) {
	if st.Size == 0 {
		return true, nil
	}
	buffers := &b.buffers
	if st.Size <= smallBuffer {
		buffers = &b.small
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	c := copier{in: b.reader.File(in, st.Size), src: in, out: out, path: path, buf: *buf, pace: b.pace}
	defer c.in.Done()
	if p != nil && !b.noClone.Load() && worthCloning(st.Size, p.ranges) {
		done, err := b.clonePatched(&c, st.Size, p)
		if done || err != nil {
			return false, err
		}
	}
	c.sum = sum
	return true, c.whole(st)
}

// worthCloning tells a large file of which a small part changed.
func worthCloning(size int64, ranges []diff.Range) bool {
	return size >= minClone && sumOfRanges(ranges) <= size/2
}

// clonePatched makes the new file a clone of the mirror's old one and copies the ranges. false without an error: it cannot be
// cloned, nothing was done.
func (b *builder) clonePatched(c *copier, size int64, p *patch) (bool, error) {
	old, err := openQuiet(p.old, unix.O_RDONLY)
	if err != nil {
		return false, writeError(p.old.path, "open", err)
	}
	defer unix.Close(old)
	if err := unix.IoctlFileClone(c.out, old); err != nil {
		if isAny(err, unix.ENOSPC, unix.EIO, unix.EROFS, unix.EDQUOT) {
			return false, writeError(c.path, "clone", err)
		}
		if isAny(err, unix.EOPNOTSUPP, unix.ENOTTY) { // EXDEV says it of this file alone: what is kept may come out of the base
			b.noClone.Store(true)
		}
		return false, nil
	}
	if err := unix.Ftruncate(c.out, size); err != nil {
		return false, writeError(c.path, "truncate", err)
	}
	for _, r := range p.ranges {
		if err := c.patchRange(r, size); err != nil {
			return false, err
		}
	}
	return true, nil
}

// copier copies data and holes of one file.
type copier struct {
	in       gentle.File
	src, out int
	path     string
	buf      []byte
	pace     *gentle.Pace
	behind   gentle.Behind    // of a file that is made anew
	sum      *diff.ContentSum // of what is copied; may be nil
	lseek    seeker           // of src; nil: lseek(2)
}

// whole copies into a new, empty file. A file of one block that is there has no hole. (More blocks than the size needs
// prove nothing: they may lie behind the end of file.)
func (c *copier) whole(st *unix.Stat_t) error {
	if st.Size <= holeBlock && st.Blocks > 0 {
		if done, err := c.oneBlock(st.Size); done || err != nil {
			return err
		}
	}
	c.behind = gentle.NewBehind(c.out)
	sized := false
	return c.segments(0, st.Size, c.span, func(int64, int64) error {
		if sized {
			return nil
		}
		// With its final size from the start, a file is not given blocks ahead of its end, where a hole is to be.
		sized = true
		return writeError(c.path, "set the size of", unix.Ftruncate(c.out, st.Size))
	})
}

// oneBlock copies a file of one block that has something else in it than zeros. (ZFS counts the room of the inode among a file's blocks, so
// these alone do not tell that there is no hole.) false without an error: nothing was done.
func (c *copier) oneBlock(size int64) (bool, error) {
	b := c.buf[:size]
	n, err := c.in.ReadAt(b, 0)
	if err != nil || n < len(b) || len(bytes.Trim(b, "\x00")) == 0 {
		return false, nil // what is wrong shows when it is read again
	}
	return true, c.put(b, 0)
}

// holeBlock is the block that ranges are rounded to: where holes begin and end on every filesystem in use. Punching a
// part of a block would write zeros where a hole is.
const holeBlock = 4096

// patchRange copies one range over other contents. What lies around it in the same blocks is copied as well.
func (c *copier) patchRange(r diff.Range, size int64) error {
	off := r.Off / holeBlock * holeBlock
	end := min(roundUp(r.Off+r.Len), size)
	punch := func(off, end int64) error {
		if end == size {
			end = roundUp(end)
		}
		err := unix.Fallocate(c.out, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, end-off)
		return writeError(c.path, "punch a hole into", err)
	}
	return c.segments(off, end, c.span, punch)
}

func roundUp(n int64) int64 { return (n + holeBlock - 1) / holeBlock * holeBlock }

// segments calls data and hole in turn for the parts of [off, end). All are found before the first is copied: what ext4 and
// XFS allocated and never wrote is a hole only until reading ahead has brought pages of it into memory.
func (c *copier) segments(off, end int64, data, hole func(off, end int64) error) error {
	lseek := c.lseek
	if lseek == nil {
		lseek = unix.Seek
	}
	parts, err := dataPartsBy(lseek, c.src, off, end)
	if err != nil {
		return readError(c.path, "look for holes in", err)
	}
	for _, p := range parts {
		if p.Off > off {
			if err := hole(off, p.Off); err != nil {
				return err
			}
		}
		off = p.Off + p.Len
		if err := data(p.Off, off); err != nil {
			return err
		}
	}
	if off < end {
		return hole(off, end)
	}
	return nil
}

// dataParts are the parts of [off, end) of an open file that are no holes.
func dataParts(in int, off, end int64) (parts []diff.Range, err error) {
	return dataPartsBy(unix.Seek, in, off, end)
}

// seeker is lseek(2), or what knows better than it where holes are.
type seeker func(fd int, off int64, whence int) (int64, error)

// seekerOf gives what tells where the holes of files are on the filesystem of a directory: files that somebody has read.
func seekerOf(dir *beneath.Root) (seeker, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(dir.FD(), &st); err != nil {
		return nil, fmt.Errorf("looking at the filesystem of the store: %w", err)
	}
	if st.Type == unix.EXT4_SUPER_MAGIC || st.Type == unix.XFS_SUPER_MAGIC {
		return fiemap.Seek, nil
	}
	return unix.Seek, nil
}

func dataPartsBy(lseek seeker, in int, off, end int64) (parts []diff.Range, err error) {
	for off < end {
		start, err := lseek(in, off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) || err == nil && start >= end { // nothing but a hole up to the end
			return parts, nil
		}
		if err != nil {
			return nil, err
		}
		stop, err := lseek(in, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, err
		}
		off = min(stop, end)
		parts = append(parts, diff.Range{Off: start, Len: off - start})
	}
	return parts, nil
}

// span copies the bytes of [off, end).
func (c *copier) span(off, end int64) error {
	for off < end {
		want := c.buf[:min(int64(len(c.buf)), end-off)]
		n, err := c.in.ReadAt(want, off)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 {
			err = errShort
		}
		if err != nil {
			return readError(c.path, "read", err)
		}
		if err := c.put(want[:n], off); err != nil {
			return err
		}
		off += int64(n)
	}
	return nil
}

// put writes what was read at off.
func (c *copier) put(b []byte, off int64) error {
	if c.sum != nil {
		c.sum.Add(off, b)
	}
	if err := c.pace.Wait(int64(len(b))); err != nil {
		return err
	}
	err := writeAll(c.out, b, off)
	if err == nil {
		err = c.behind.Wrote(off + int64(len(b)))
	}
	return writeError(c.path, "write", err)
}

func writeAll(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}

// futimens sets the times of an open file: utimensat with an empty path, which the library has no call for. ts points to
// two timespecs (atime, mtime).
func futimens(fd int, ts *unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(ts)), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
