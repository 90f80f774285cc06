package zfs

import (
	"context"
	"fmt"
	"io"
	"os"

	gozfs "github.com/mistifyio/go-zfs/v3"
	"golang.org/x/sys/unix"
)

// pipeSize is what a process may have without privileges, unless /proc/sys/fs/pipe-max-size says something else.
const pipeSize = 1 << 20

// Send gives the incremental send stream from one snapshot to a later one of the same dataset, by their full names. What goes
// wrong with it comes out of Read. Closing it ends the sending and waits for that: as long as it is on, neither snapshot can be destroyed.
func Send(ctx context.Context, base, next string) (io.ReadCloser, error) {
	if err := ready(); err != nil {
		return nil, err
	}
	r, w, err := os.Pipe() // the zfs program gets its end of it: nothing is copied in between
	if err != nil {
		return nil, fmt.Errorf("send the changes of %s: %w", next, err)
	}
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize) // as far as it is allowed: each time that it is full costs two changes of process
	s := &sending{r: r, ctx: ctx, done: make(chan struct{})}
	s.stop = context.AfterFunc(ctx, func() { r.Close() })
	go func() {
		from := &gozfs.Dataset{Name: base, Type: gozfs.DatasetSnapshot}
		err := (&gozfs.Dataset{Name: next, Type: gozfs.DatasetSnapshot}).IncrementalSend(from, w)
		if err != nil {
			s.err = fmt.Errorf("send the changes from %s to %s: %w", base, next, libraryError(err))
		}
		close(s.done)
		w.Close() // only now: who reads the end finds the error
	}()
	return s, nil
}

// sending is a send stream that flows.
type sending struct {
	r    *os.File
	ctx  context.Context
	stop func() bool
	done chan struct{}
	err  error // of the zfs program, once done is closed
}

// Read implements io.Reader. The end of the stream is its end only if the program ended well.
func (s *sending) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	switch {
	case err == nil:
		return n, nil
	case s.ctx.Err() != nil:
		return n, context.Cause(s.ctx)
	case err == io.EOF:
		<-s.done
		if s.err != nil {
			return n, s.err
		}
	}
	return n, err
}

// Close implements io.Closer.
func (s *sending) Close() error {
	s.stop()
	s.r.Close() // a second time after ctx ended
	<-s.done
	return nil
}
