package diff

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// Twins is one file, open in both snapshots, for feeds that have to read contents.
type Twins struct{ Base, Next *os.File }

// OpenTwins opens a file in both snapshots.
func OpenTwins(base, next *beneath.Root, basePath, nextPath string) (t Twins, err error) {
	if t.Base, err = openFile(base, basePath); err != nil {
		return t, err
	}
	if t.Next, err = openFile(next, nextPath); err != nil {
		t.Base.Close()
	}
	return t, err
}

func openFile(r *beneath.Root, path string) (*os.File, error) {
	fd, err := r.Open(path, unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Close closes both.
func (t Twins) Close() error { return errors.Join(t.Base.Close(), t.Next.Close()) }

// Buffers are what Same reads into; one goroutine keeps them from file to file. The zero value is ready.
type Buffers struct {
	Pace *gentle.Pace // nil: no limit

	two [2][]byte
}

// Same compares the bytes from off up to end, which both files must have.
func (t Twins) Same(off, end int64, buf *Buffers) (bool, error) {
	const piece = 256 << 10
	if buf.two[0] == nil {
		buf.two[0], buf.two[1] = make([]byte, piece), make([]byte, piece)
	}
	for ; off < end; off += piece {
		n := min(piece, end-off)
		b, x := buf.two[0][:n], buf.two[1][:n]
		if err := buf.Pace.Wait(2 * n); err != nil {
			return false, err
		}
		if _, err := io.ReadFull(io.NewSectionReader(t.Base, off, n), b); err != nil {
			return false, fmt.Errorf("reading the base snapshot at byte %d: %w", off, err)
		}
		if _, err := io.ReadFull(io.NewSectionReader(t.Next, off, n), x); err != nil {
			return false, fmt.Errorf("reading the new snapshot at byte %d: %w", off, err)
		}
		if !bytes.Equal(b, x) {
			return false, nil
		}
	}
	return true, nil
}
