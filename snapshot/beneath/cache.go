package beneath

import (
	"io/fs"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Handle is an open directory (O_PATH), for callers that do many operations in it. It stays open until every holder has
// released it, also when the Root has dropped it from its cache or has been closed.
type Handle struct {
	fd   int
	path string
	refs atomic.Int32 // one for the cache (or the Root, for its top), one for every holder

	prev, next *Handle // neighbours in the ring of cached directories; nil when not cached
	stale      bool    // while being opened: the path was renamed or removed meanwhile, do not cache
}

func newHandle(fd int, path string) *Handle {
	h := &Handle{fd: fd, path: path}
	h.refs.Store(1)
	return h
}

// FD is the directory's descriptor: good for the *at system calls and for /proc/self/fd, not for reading it. It is valid
// until Release.
func (h *Handle) FD() int { return h.fd }

// Release gives the handle back. It must be called once by each holder.
func (h *Handle) Release() {
	if h.refs.Add(-1) == 0 {
		_ = unix.Close(h.fd)
	}
}

// OpenParent opens the directory that holds path, mostly from the cache, and returns it with the path's last element
// ("." for the top directory). The caller must release the handle.
func (r *Root) OpenParent(path string) (*Handle, string, error) {
	h, base, err := r.parent(path)
	if err != nil {
		return nil, "", fail("open directory of", path, err)
	}
	return h, base, nil
}

// parent is OpenParent with a bare error.
func (r *Root) parent(path string) (*Handle, string, error) {
	if !valid(path) {
		return nil, "", unix.EINVAL
	}
	if g, rest := r.grafted(path); g != r {
		return g.parent(rest)
	}
	dir, base := split(path)
	h, err := r.dir(dir)
	return h, base, err
}

// dir returns a held handle of the directory at path: from the cache, or opened by one openat2.
func (r *Root) dir(path string) (*Handle, error) {
	h, cached, err := r.lookup(path)
	if err != nil || cached {
		return h, err
	}
	h.fd, err = r.openDir(path)
	return r.insert(h, err)
}

// lookup returns the cached handle of path, held. If there is none it returns a new one without descriptor that is known
// as being opened, so that a rename of the path (or of what is above it) in the meantime keeps it out of the cache.
func (r *Root) lookup(path string) (h *Handle, cached bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, false, fs.ErrClosed
	}
	if path == "" {
		r.top.refs.Add(1)
		return r.top, true, nil
	}
	if h := r.dirs[path]; h != nil {
		h.unlink()
		h.linkAfter(&r.recent)
		h.refs.Add(1)
		return h, true, nil
	}
	h = newHandle(-1, path)
	r.opening[h] = struct{}{}
	return h, false, nil
}

// insert puts a handle that was just opened (or failed to) into the cache and returns it held. When another goroutine
// was quicker its handle is taken.
func (r *Root) insert(h *Handle, openErr error) (*Handle, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.opening, h)
	if openErr != nil {
		return nil, openErr
	}
	if r.closed || h.stale {
		return h, nil // good for the operation that asked for it, not for later ones
	}
	if other := r.dirs[h.path]; other != nil {
		h.Release()
		other.refs.Add(1)
		return other, nil
	}
	for len(r.dirs) >= r.limit {
		r.drop(r.recent.prev)
	}
	r.dirs[h.path] = h
	r.order.ReplaceOrInsert(h)
	h.linkAfter(&r.recent)
	h.refs.Add(1)
	return h, nil
}

// openDir opens the directory at path, in pieces where it is longer than a system call takes.
func (r *Root) openDir(path string) (int, error) {
	rest := path
	for len(rest) > longest {
		cut := strings.LastIndexByte(rest[:longest+1], '/')
		if cut < 0 {
			return -1, unix.ENAMETOOLONG
		}
		rest = rest[cut+1:]
	}
	from := r.top
	if len(rest) < len(path) {
		h, err := r.dir(path[:len(path)-len(rest)-1])
		if err != nil {
			return -1, err
		}
		defer h.Release()
		from = h
	}
	return r.openat2(from.fd, rest, unix.O_PATH|unix.O_DIRECTORY, 0)
}

// Forget drops the cached descriptors of path and of everything below it. Rename and Rmdir do so themselves.
func (r *Root) Forget(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for h := range r.opening {
		if within(h.path, path) {
			h.stale = true
		}
	}
	if h := r.dirs[path]; h != nil {
		r.drop(h)
	}
	var below []*Handle
	collect := func(h *Handle) bool { below = append(below, h); return true }
	if path == "" {
		r.order.Ascend(collect)
	} else {
		r.order.AscendRange(&Handle{path: path + "/"}, &Handle{path: path + "0"}, collect) // '0' comes after '/'
	}
	for _, h := range below {
		r.drop(h)
	}
}

// within tells whether path is top or below it.
func within(path, top string) bool {
	return top == "" || strings.HasPrefix(path, top) && (len(path) == len(top) || path[len(top)] == '/')
}

// drop takes a handle out of the cache; it is closed when its last holder releases it. r.mu is held.
func (r *Root) drop(h *Handle) {
	h.unlink()
	delete(r.dirs, h.path)
	r.order.Delete(h)
	h.Release()
}

func (h *Handle) linkAfter(at *Handle) {
	h.prev, h.next = at, at.next
	at.next.prev = h
	at.next = h
}

func (h *Handle) unlink() {
	h.prev.next, h.next.prev = h.next, h.prev
	h.prev, h.next = nil, nil
}
