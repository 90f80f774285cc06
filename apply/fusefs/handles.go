package fusefs

import "sync"

// handles are the open files of a mount. The kernel need not tell of each that it is closed when the mount ends.
type handles struct {
	mu   sync.Mutex
	open map[*handle]bool
}

func newHandles() *handles { return &handles{open: map[*handle]bool{}} }

func (o *handles) add(h *handle) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open[h] = true
}

// remove tells whether a file was open.
func (o *handles) remove(h *handle) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := o.open[h]
	delete(o.open, h)
	return was
}

// closeAll closes what the kernel has not, once the mount has ended.
func (o *handles) closeAll() {
	o.mu.Lock()
	left := o.open
	o.open = map[*handle]bool{}
	o.mu.Unlock()
	for h := range left {
		h.close()
	}
}
