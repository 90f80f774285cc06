package inodefeed

import (
	"fmt"
	"io"
)

// device reads a snapshot's block device through a window, so that neighbours cost one read together. It must not be used
// by several goroutines at once.
type device struct {
	r      io.ReaderAt
	size   int64  // bytes
	window []byte // what is at off
	off    int64
	buf    []byte
}

// newDevice makes a device that reads window bytes at a time.
func newDevice(r io.ReaderAt, size int64, window int) *device {
	return &device{r: r, size: size, buf: make([]byte, window)}
}

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
	start := off - off%int64(len(d.buf))
	if off+int64(n) > start+int64(len(d.buf)) {
		start = off
	}
	length := min(int64(len(d.buf)), d.size-start)
	d.window = nil
	if _, err := d.r.ReadAt(d.buf[:length], start); err != nil && (err != io.EOF || start+length != d.size) {
		return nil, fmt.Errorf("reading the device at byte %d: %w", start, err)
	}
	d.window, d.off = d.buf[:length], start
	return d.window[off-start:][:n], nil
}
