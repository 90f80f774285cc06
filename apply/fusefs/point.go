package fusefs

import (
	"sync"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"snapdiff/apply"
)

// point is one restore point of a mount. Where there are many, its view is opened when somebody looks into it and closed
// some time after, for an open view keeps the restore point from being dropped.
type point struct {
	run  int64
	mask uint64                      // makes the inode numbers of one date differ from those of others
	open func() (*apply.View, error) // nil: view is always open, and closed by others

	mu    sync.Mutex
	view  *apply.View
	users int
	last  time.Time // of use
}

// use gives the view. The caller calls done when he needs it no more.
func (p *point) use() (view *apply.View, done func(), err error) {
	if p.open == nil {
		return p.view, func() {}, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view == nil {
		if p.view, err = p.open(); err != nil {
			return nil, nil, err
		}
	}
	p.users++
	return p.view, p.done, nil
}

func (p *point) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	p.last = time.Now()
}

// closeIdle closes the view if nobody has used it since a moment.
func (p *point) closeIdle(since time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view == nil || p.users > 0 || p.last.After(since) {
		return nil
	}
	view := p.view
	p.view = nil
	return view.Close()
}

func (p *point) setAttr(out *fuse.Attr, a apply.ViewAttr) {
	a.Ino ^= p.mask
	setAttr(out, a)
}

// forgetter bounds the memory of a mount. The kernel keeps what it has looked up for as long as it has memory, and makes
// us keep it too; so of more than so many inodes it is asked to forget the oldest. It keeps those that are in use.
type forgetter struct {
	mu    sync.Mutex
	queue []*gofs.Inode
	limit int
}

// How many inodes the kernel may know at once, and how many it is asked to forget at once. Tests make them smaller.
var (
	maxInodes   = 50_000
	forgetBatch = 5_000
)

func newForgetter() *forgetter { return &forgetter{limit: maxInodes} }

// add notes that the kernel learns of an inode.
func (f *forgetter) add(n *gofs.Inode) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.queue = append(f.queue, n)
	if len(f.queue) < f.limit {
		return
	}
	batch := f.queue[:forgetBatch:forgetBatch]
	f.queue = append(make([]*gofs.Inode, 0, f.limit), f.queue[forgetBatch:]...)
	go forget(batch) // the kernel may hold locks of the directory while it waits for the answer that brought us here
}

// forget asks the kernel to drop inodes. Linux before 6.18 can only be told that names are not valid any more, which
// takes away the directory that somebody works in: there directories stay.
func forget(batch []*gofs.Inode) {
	if batch[0].NotifyPrune(batch) == 0 {
		return
	}
	for _, n := range batch {
		if name, parent := n.Parent(); parent != nil && !n.IsDir() {
			parent.NotifyEntry(name)
		}
	}
}
