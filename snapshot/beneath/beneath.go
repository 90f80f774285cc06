// Package beneath works on the files below one directory without ever leaving it. The trees that snapdiff copies are full
// of names and symlinks that strangers made: every path is resolved by openat2(2) with RESOLVE_BENEATH and
// RESOLVE_NO_SYMLINKS, the last element is never followed, and every operation then goes through the descriptor of the
// directory that holds the name.
//
// A path is relative to the top directory: elements of any bytes but NUL and '/', separated by one slash, without a
// leading or trailing one, none of them "." or "..". "" is the top directory itself. It may be longer than PATH_MAX: it is
// then walked in pieces.
//
// Errors are *fs.PathError around a unix.Errno, so errors.Is(err, fs.ErrNotExist) and errors.Is(err, unix.ENOTEMPTY) work.
package beneath

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/google/btree"
	"golang.org/x/sys/unix"
)

// ErrMount says that a path leads through a mount point into another filesystem. The error also is a unix.EXDEV.
var ErrMount = errors.New("another filesystem is mounted there")

// ErrSymlink says that something on the way is a symbolic link, which is never followed. The error also is a unix.ELOOP.
var ErrSymlink = errors.New("a symbolic link is in the way and is not followed")

const (
	// longest is the longest path that one system call takes (PATH_MAX without its final NUL).
	longest = unix.PathMax - 1
	stay    = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS
)

// Root is an opened top directory and a bounded cache of descriptors of directories below it. It is safe for concurrent
// use.
//
// The cache follows directories that are renamed or removed through the Root itself. What is renamed behind its back (by
// another Root on the same tree, or by another process) it cannot see: use one Root for one tree, or call Forget.
type Root struct {
	path    string
	resolve uint64
	top     *Handle

	mu      sync.Mutex
	closed  bool
	grafts  map[string]*Root       // what other Roots show at these paths; see Graft
	graftIn map[string][]string    // their names by directory
	limit   int                    // most directories in the cache
	dirs    map[string]*Handle     // cached directories by path
	order   *btree.BTreeG[*Handle] // the same in the order of their paths: what is below one is together
	opening map[*Handle]struct{}   // directories being opened, not in the cache yet
	recent  Handle                 // head of the ring of cached directories, most recently used first
}

// Open opens the directory at path, which may itself be reached through symlinks, as the top of a tree. Nothing below
// mount points inside the tree can be reached: such paths give ErrMount.
func Open(path string) (*Root, error) {
	return open(path, unix.RESOLVE_NO_XDEV)
}

// OpenCrossing is Open for trees in which mount points may be crossed.
func OpenCrossing(path string) (*Root, error) {
	return open(path, 0)
}

func open(path string, resolve uint64) (*Root, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return newRoot(fd, path, resolve|stay), nil
}

func newRoot(fd int, path string, resolve uint64) *Root {
	r := &Root{
		path:    path,
		resolve: resolve,
		top:     newHandle(fd, ""),
		limit:   cacheLimit(),
		dirs:    make(map[string]*Handle),
		order:   btree.NewG(32, func(a, b *Handle) bool { return a.path < b.path }),
		opening: make(map[*Handle]struct{}),
	}
	r.recent.prev, r.recent.next = &r.recent, &r.recent
	return r
}

// cacheLimit leaves most of the process's descriptors to others: there are several Roots, and workers with open files.
// (The Go runtime has raised the soft limit to the hard one.)
func cacheLimit() int {
	const fewest, most, share = 32, 4096, 16
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fewest
	}
	return int(min(max(lim.Cur/share, fewest), most))
}

// OpenRoot opens the directory at path below r as a Root of its own, with the same rule about mount points.
func (r *Root) OpenRoot(path string) (*Root, error) {
	fd, err := r.Open(path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return newRoot(fd, r.path+"/"+path, r.resolve), nil
}

// Path is the path that the Root was opened by, for messages only.
func (r *Root) Path() string { return r.path }

// FD is the descriptor of the top directory, opened for reading. It stays the Root's own.
func (r *Root) FD() int { return r.top.fd }

// Close closes the top directory and all cached descriptors. Handles that are still held stay usable until released.
func (r *Root) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return &fs.PathError{Op: "close", Path: r.path, Err: fs.ErrClosed}
	}
	r.closed = true
	var fds []int
	for _, h := range r.dirs {
		h.unlink()
		if h.refs.Add(-1) == 0 {
			fds = append(fds, h.fd)
		}
	}
	clear(r.dirs)
	r.order.Clear(false)
	closeAll(fds)
	r.top.Release()
	return nil
}

// closeAll closes descriptors, those that lie side by side by one call.
func closeAll(fds []int) {
	slices.Sort(fds)
	for len(fds) > 0 {
		n := 1
		for n < len(fds) && fds[n] == fds[0]+n {
			n++
		}
		if n == 1 || unix.CloseRange(uint(fds[0]), uint(fds[n-1]), 0) != nil { // Linux before 5.9 has no such call
			for _, fd := range fds[:n] {
				_ = unix.Close(fd)
			}
		}
		fds = fds[n:]
	}
}

// split cuts path into the directory that holds it and its last element. The top directory is held by itself, as ".".
func split(path string) (dir, base string) {
	if path == "" {
		return "", "."
	}
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

// valid refuses what would give one directory several paths and so fool the cache: empty, "." and ".." elements. A NUL
// would cut the path short.
func valid(path string) bool {
	if path == "" {
		return true
	}
	start := 0
	for i := 0; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' {
			if path[i] == 0 {
				return false
			}
			continue
		}
		switch path[start:i] {
		case "", ".", "..":
			return false
		}
		start = i + 1
	}
	return true
}

// openat2 resolves a path of at most longest bytes from the directory fd.
func (r *Root) openat2(fd int, path string, flags int, perm uint32) (int, error) {
	if flags&(unix.O_PATH|unix.O_DIRECTORY) == unix.O_PATH {
		flags |= unix.O_NOFOLLOW // the symlink itself; all else refuses one because of RESOLVE_NO_SYMLINKS
	}
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: r.resolve}
	if flags&(unix.O_CREAT|unix.O_TMPFILE&^unix.O_DIRECTORY) != 0 {
		how.Mode = uint64(perm & 0o7777)
	}
	for {
		got, err := unix.Openat2(fd, path, &how)
		switch err {
		case nil:
			return got, nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: a rename somewhere came between; the kernel asks to try again
			if flags&unix.O_NONBLOCK == 0 || err == unix.EINTR {
				continue
			}
			return -1, err
		case unix.EXDEV:
			return -1, both{ErrMount, unix.EXDEV}
		case unix.ELOOP:
			return -1, both{ErrSymlink, unix.ELOOP}
		default:
			return -1, err
		}
	}
}

// both is an error with a better text than its errno has.
type both struct {
	error
	errno unix.Errno
}

func (b both) Unwrap() []error { return []error{b.error, b.errno} }

func fail(op, path string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}
