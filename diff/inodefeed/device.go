package inodefeed

import (
	"fmt"
	"io"

	"snapdiff/snapshot/lvm"
)

// device reads a snapshot's block device through a window, so that neighbours cost one read together. It must not be used
// by several goroutines at once.
type device struct {
	r      io.ReaderAt
	size   int64  // bytes
	window []byte // what is at off
	off    int64
	buf    []byte
	// within, if not nil, are the parts in which one reading follows another: there the window is cut at their ends, and
	// elsewhere nothing but what is asked for is read.
	within lvm.Blocks
}

const (
	window     = 16 << 10  // how many bytes of a device are read at a time where inodes here and there are read
	longWindow = 256 << 10 // where they are read one after another
)

// newDevice makes a device that reads window bytes at a time.
func newDevice(r io.ReaderAt, size int64, window int) *device {
	return &device{r: r, size: size, buf: make([]byte, window)}
}

// over makes another device of the same for reading the blocks one after another.
func (d *device) over(blocks lvm.Blocks) *device {
	return &device{r: d.r, size: d.size, buf: make([]byte, longWindow), within: blocks}
}

// turnTo says which blocks will be read one after another.
func (d *device) turnTo(blocks lvm.Blocks) { d.within, d.window = blocks, nil }

// bytes gives n bytes at an offset, valid until the next call.
func (d *device) bytes(off int64, n int) ([]byte, error) {
	if off < 0 || n < 0 || off > d.size-int64(n) {
		return nil, fmt.Errorf("bytes %d to %d lie outside the device of %d bytes", off, off+int64(n), d.size)
	}
	if off >= d.off && off+int64(n) <= d.off+int64(len(d.window)) {
		return d.window[off-d.off:][:n], nil
	}
	if n > len(d.buf) {
		d.buf = make([]byte, n)
	}
	start, length := d.around(off, int64(n))
	d.window = nil
	if _, err := d.r.ReadAt(d.buf[:length], start); err != nil && (err != io.EOF || start+length != d.size) {
		return nil, fmt.Errorf("reading the device at byte %d: %w", start, err)
	}
	d.window, d.off = d.buf[:length], start
	return d.window[off-start:][:n], nil
}

// around is what to read so that n bytes at off are in the window.
func (d *device) around(off, n int64) (start, length int64) {
	most := int64(len(d.buf))
	if d.within != nil {
		block, _ := d.within.At(off)
		return off, max(n, min(most, block.End()-off, d.size-off))
	}
	start = off - off%most
	if off+n > start+most {
		start = off
	}
	return start, min(most, d.size-start)
}
