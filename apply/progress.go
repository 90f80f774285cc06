package apply

import (
	"context"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Progress is how far something is that may take long. Whoever takes it must be quick, and safe for several goroutines.
type Progress struct {
	Doing            string // what is being done: "copying"
	Names, Bytes     int64  // done
	OfNames, OfBytes int64  // in all; 0: not known
}

// meter counts what is done of one thing and tells it.
type meter struct {
	tell         func(Progress) // nil: nobody wants to know
	doing        string
	ofNames      atomic.Int64
	ofBytes      int64
	names, bytes atomic.Int64
}

// counter tells how far something is of which there are a few, each of which may take long, or that goes on in one goroutine.
type counter struct {
	tell  func(Progress) // nil: nobody wants to know
	doing string
}

// at tells that so many of all are done.
func (c counter) at(n, of int) {
	if c.tell != nil {
		c.tell(Progress{Doing: c.doing, Names: int64(n), OfNames: int64(of)})
	}
}

// tellEvery is after how many names without contents a meter tells.
const tellEvery = 32

// add counts.
func (m *meter) add(names, bytes int64) {
	n, b := m.names.Add(names), m.bytes.Add(bytes)
	if m.tell != nil && (bytes > 0 || n%tellEvery == 0) {
		m.tell(Progress{m.doing, n, b, m.ofNames.Load(), m.ofBytes})
	}
}

// count finds out in the background how many names there are at f and below; until then that is not known. stop ends it.
func (m *meter) count(ctx context.Context, v *View, f ViewFile) (stop func()) {
	if m.tell == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if n, err := countNames(ctx, v, f); err == nil { // what is wrong with a name is met where it is needed
			m.ofNames.Add(n)
		}
	}()
	return func() { cancel(); <-ended }
}

// countNames counts the names at f and below.
func countNames(ctx context.Context, v *View, f ViewFile) (n int64, err error) {
	n = 1
	if f.Type != unix.S_IFDIR {
		return n, nil
	}
	files, err := v.ReadDir(f)
	if err == nil {
		err = ctx.Err()
	}
	for _, child := range files {
		if err != nil {
			break
		}
		below := int64(1)
		if child.Type == unix.S_IFDIR {
			below, err = countNames(ctx, v, child)
		}
		n += below
	}
	return n, err
}
