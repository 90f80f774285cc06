package apply

import (
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// place is a path below an open top directory.
type place struct {
	root *beneath.Root
	path string
}

// spot is one name in an open directory. All calls on it have a single path element that is never followed, so they
// cannot leave the directory, whatever the tree is full of.
type spot struct {
	dir  int    // descriptor of the directory
	base string // the name in it; "." for the top directory itself
	path string // the whole path, for messages
}

// open finds the directory of a place. The second result must be called when the spot is not needed any more.
func (p place) open() (spot, func(), error) {
	if p.path == "" {
		return spot{dir: p.root.FD(), base: "."}, func() {}, nil
	}
	h, base, err := p.root.OpenParent(p.path)
	if err != nil {
		return spot{}, nil, err
	}
	return spot{dir: h.FD(), base: base, path: p.path}, h.Release, nil
}

// builder makes inodes of a snapshot in the store. It may be used by any number of workers at once.
type builder struct {
	buffers sync.Pool   // of *[]byte, copyBuffer long
	small   sync.Pool   // likewise, smallBuffer long: for most files, so that many workers take up little
	noClone atomic.Bool // the store's filesystem has no FICLONE
	reader  gentle.Reader
	pace    *gentle.Pace // nil: no limit
	// inStage: it makes files in stage alone, which get what uid, gid and bare say.
	inStage  bool
	uid, gid int
	bare     bareness
	// built, if not nil, is told of every regular file that was made and is not empty: its path in the snapshot, its inode in the
	// store, and the checksum of what was copied unless it was cloned in part. Many workers call it.
	built func(path string, f fileSum)
}

const (
	copyBuffer  = 1 << 20   // bytes read and written at once
	smallBuffer = 64 << 10  // of a file that is no larger
	minClone    = 128 << 10 // smaller files are copied whole
)

func newBuilder(pace *gentle.Pace) *builder {
	buffers := func(size int) sync.Pool {
		return sync.Pool{New: func() any { b := make([]byte, size); return &b }}
	}
	return &builder{pace: pace, buffers: buffers(copyBuffer), small: buffers(smallBuffer), uid: os.Geteuid(), gid: os.Getegid()}
}

// build makes the inode that the snapshot has at from, with all that counts as equal, at to: contents, holes, owner, mode,
// extended attributes and, last, mtime. Whatever a cut-off run left at to is replaced (a directory: kept, its
// attributes set). The result is how the inode is in the snapshot. When it fails, nothing but a directory stays at to.
//
// With old, a large regular file is made as a clone of old and only ranges (see diff.Inode) are copied, where the
// store's filesystem can do that. nil: everything is copied.
//
// typ is the type of the inode, bits of S_IFMT, or 0: it is not known.
func (b *builder) build(from, to place, typ uint32, old *place, ranges []diff.Range) (unix.Stat_t, error) {
	src, release, err := from.open()
	if err != nil {
		return unix.Stat_t{}, readError(from.path, "open the directory of", err)
	}
	defer release()
	dst, release, err := to.open()
	if err != nil {
		return unix.Stat_t{}, writeError(to.path, "open the directory of", err)
	}
	defer release()
	dtype := uint8(typ >> 12) // IFTODT
	if old == nil || ranges == nil {
		return b.buildAt(src, dst, dtype, nil, nil)
	}
	was, release, err := old.open()
	if err != nil {
		return unix.Stat_t{}, writeError(old.path, "open the directory of", err)
	}
	defer release()
	return b.buildAt(src, dst, dtype, &patch{old: was, ranges: ranges}, nil)
}

// patch says of which file of the mirror a clone can be made and what is to be copied on top of it.
type patch struct {
	old    spot
	ranges []diff.Range
}

// linker is asked before an inode with several names is made. true: the name has been linked to an inode that is there
// already, nothing is left to do.
type linker func(st *unix.Stat_t) (bool, error)

// buildAt is build on open directories. dtype is the type if the caller knows it (a regular file then needs no lstat).
// link may be nil.
func (b *builder) buildAt(src, dst spot, dtype uint8, p *patch, link linker) (unix.Stat_t, error) {
	if dtype == unix.DT_REG {
		return b.buildFile(src, dst, p, link)
	}
	var st unix.Stat_t
	if err := unix.Fstatat(src.dir, src.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return st, readError(src.path, "stat", err)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG {
		return b.buildFile(src, dst, p, link)
	}
	if st.Nlink > 1 && link != nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if done, err := link(&st); done || err != nil {
			return st, err
		}
	}
	return st, b.buildSpecial(src, dst, &st)
}

// buildSpecial makes everything that has no data: directories, symlinks, devices, fifos and sockets.
func (b *builder) buildSpecial(src, dst spot, st *unix.Stat_t) error {
	if err := makeSpecial(src, dst, st); err != nil {
		return err
	}
	from, err := openNode(src, st)
	if err == nil {
		defer from.close()
		var to node
		if to, err = openNode(dst, st); err != nil {
			err = writeError(src.path, "open", err)
		} else {
			defer to.close()
			_, err = copyAttributes(from, to, st)
		}
	} else {
		err = readError(src.path, "open", err)
	}
	if err != nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		unix.Unlinkat(dst.dir, dst.base, 0) // the error to tell is the first one
	}
	return err
}

// makeSpecial makes the bare inode.
func makeSpecial(src, dst spot, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err := unix.Mkdirat(dst.dir, dst.base, 0o700)
		if err == unix.EEXIST {
			err = checkDir(dst)
		}
		return writeError(src.path, "make the directory", err)
	case unix.S_IFLNK:
		target, err := readlink(src, st.Size)
		if err != nil {
			return readError(src.path, "read the symlink", err)
		}
		err = again(dst, func() error { return unix.Symlinkat(target, dst.dir, dst.base) })
		return writeError(src.path, "make the symlink", err)
	}
	err := again(dst, func() error {
		return unix.Mknodat(dst.dir, dst.base, st.Mode&unix.S_IFMT|0o600, int(st.Rdev))
	})
	return writeError(src.path, "make the special file", err)
}

// checkDir says EEXIST again where there is something else than a directory.
func checkDir(at spot) error {
	var st unix.Stat_t
	if err := unix.Fstatat(at.dir, at.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.EEXIST
	}
	return nil
}

// again makes a name; what a run that was cut off left there is removed first.
func again(at spot, make func() error) error {
	err := make()
	if err != unix.EEXIST {
		return err
	}
	if err := unix.Unlinkat(at.dir, at.base, 0); err != nil {
		return err
	}
	return make()
}

// readlink reads a symlink of the given size. Its length is that of the kernel's answer, not of st_size alone.
func readlink(at spot, size int64) (string, error) {
	buf := make([]byte, size+1)
	for {
		n, err := unix.Readlinkat(at.dir, at.base, buf)
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// applyMeta gives the existing inode at to the owner, mode, extended attributes and mtime that the snapshot has at from.
// Only what differs is set. It must not be used on an inode that also lives in history.
func (b *builder) applyMeta(from, to place) error {
	src, release, err := from.open()
	if err != nil {
		return readError(from.path, "open the directory of", err)
	}
	defer release()
	dst, release, err := to.open()
	if err != nil {
		return writeError(to.path, "open the directory of", err)
	}
	defer release()
	return applyMetaAt(src, dst)
}

// applyMetaAt is applyMeta on open directories.
func applyMetaAt(src, dst spot) error {
	var st unix.Stat_t
	if err := unix.Fstatat(src.dir, src.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return readError(src.path, "stat", err)
	}
	from, err := openNode(src, &st)
	if err != nil {
		return readError(src.path, "open", err)
	}
	defer from.close()
	to, err := openNode(dst, &st)
	if err != nil {
		return writeError(dst.path, "open", err)
	}
	defer to.close()
	_, err = copyAttributes(from, to, &st)
	return err
}
