package apply

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// copyEntry is one name in a directory of the snapshot.
type copyEntry struct {
	name  string
	dtype uint8
	ino   uint64 // d_ino, for the order only
}

// openCopy is a directory that is being copied, perhaps by several workers.
type openCopy struct {
	*copyDir
	key      diff.Key
	src, dst int // descriptors
	stat     unix.Stat_t
	parts    atomic.Int32 // parts that are not done, and one for the listing

	failed atomic.Bool // a part was not done: the directory must not be completed

	mu    sync.Mutex
	kids  []copyEntry // subdirectories
	names []linkName  // of everything else, where the link index is wanted
	bad   []badEntry
}

func (d *openCopy) close() {
	unix.Close(d.src)
	unix.Close(d.dst)
}

// addBad keeps an error that concerns one name; any other is given back.
func (f *firstCopy) addBad(d *openCopy, path string, ino uint64, err error) error {
	if err == nil || !IsBadFile(err) {
		return err
	}
	key, keyErr := f.keys(path, ino)
	if keyErr != nil && key.Ino == 0 {
		key.Ino = ino // the path is what counts
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad = append(d.bad, badEntry{path, key, err})
	return nil
}

// copyDir lists a directory and copies it, or shares the work.
func (f *firstCopy) copyDir(ctx context.Context, dir *copyDir) error {
	d, err := f.openCopy(dir)
	if err != nil {
		return err
	}
	d.parts.Store(1)
	if !d.key.IsPlaceholder() {
		if dir.dirty {
			if err := f.clear(ctx, dir.path); err != nil {
				d.close()
				return err
			}
		}
		err = f.list(ctx, d)
	}
	return f.partDone(d, err)
}

// openCopy opens both sides of a directory.
func (f *firstCopy) openCopy(dir *copyDir) (*openCopy, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY
	d := &openCopy{copyDir: dir}
	var err error
	if d.src, err = f.next.Open(dir.path, flags, 0); err != nil {
		return nil, readError(dir.path, "open the directory", err)
	}
	if d.dst, err = f.mirror.Open(dir.path, flags, 0); err != nil {
		unix.Close(d.src)
		return nil, writeError(dir.path, "open the directory", err)
	}
	if err = unix.Fstat(d.src, &d.stat); err == nil {
		d.key, err = f.keys(dir.path, d.stat.Ino)
	}
	if err != nil {
		d.close()
		return nil, readError(dir.path, "identify the directory", err)
	}
	return d, nil
}

// list reads the names and copies them part by part. Parts that wait are done by any worker.
func (f *firstCopy) list(ctx context.Context, d *openCopy) error {
	var part []copyEntry
	var failed error // of the copying, not of the listing
	err := f.next.ReadDir(d.path, func(name string, dtype uint8, ino uint64) error {
		path := join(d.path, name)
		if f.exclude.Match(path) {
			return nil
		}
		if diff.TooDeep(path) {
			return f.addBad(d, path, ino, &BadFile{Path: path, Op: "copy", Err: diff.ErrTooDeep})
		}
		part = append(part, copyEntry{name, dtype, ino})
		if len(part) < partEntries {
			return nil
		}
		full := part
		part = make([]copyEntry, 0, partEntries)
		d.parts.Add(1)
		if !f.queue.offer(copyTask{of: d, entries: full}, f.workers) {
			failed = f.copyPart(ctx, d, full)
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	if err = f.addBad(d, d.path, d.stat.Ino, readError(d.path, "list the directory", err)); err != nil {
		return err
	}
	return f.copyEntries(ctx, d, part)
}

// copyPart copies one part and closes the directory when it was the last.
func (f *firstCopy) copyPart(ctx context.Context, d *openCopy, part []copyEntry) error {
	return f.partDone(d, f.copyEntries(ctx, d, part))
}

// copyEntries copies names in the order of their inode numbers, which is about that of their places on the disk.
func (f *firstCopy) copyEntries(ctx context.Context, d *openCopy, part []copyEntry) error {
	f.wait(ctx)
	slices.SortFunc(part, func(a, b copyEntry) int { return cmp.Compare(a.ino, b.ino) })
	for _, e := range part {
		if ctx.Err() != nil {
			return errStopped
		}
		path := join(d.path, e.name)
		st, err := f.copyEntry(d, e, path)
		isDir := st.Ino == 0 && err == nil
		if st.Ino == 0 {
			st.Ino = e.ino
		}
		if err := f.addBad(d, path, st.Ino, err); err != nil {
			return err
		}
		if f.index && !isDir {
			f.addName(d, path, e.name, &st, err)
		}
	}
	return nil
}

// addName keeps a name for the link index, also one that could not be copied.
func (f *firstCopy) addName(d *openCopy, path, name string, st *unix.Stat_t, failed error) {
	n := linkName{name: name}
	var err error
	if n.key, err = f.keys(path, st.Ino); err != nil {
		if n.key.Ino == 0 {
			n.key.Ino = st.Ino // the names of a number are what counts
		}
	} else if failed == nil && f.sign {
		n.sig = diff.Signature(st, n.key.Gen)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names = append(d.names, n)
}

// copyEntry copies one name.
func (f *firstCopy) copyEntry(d *openCopy, e copyEntry, path string) (unix.Stat_t, error) {
	src, dst := spot{d.src, e.name, path}, spot{d.dst, e.name, path}
	if e.dtype == unix.DT_UNKNOWN {
		var st unix.Stat_t
		if err := unix.Fstatat(src.dir, src.base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return st, readError(path, "stat", err)
		}
		e.dtype = uint8(st.Mode & unix.S_IFMT >> 12) // IFTODT
	}
	if e.dtype == unix.DT_DIR {
		return unix.Stat_t{}, f.makeDir(d, e, dst)
	}
	if err := f.at("copy"); err != nil {
		return unix.Stat_t{}, err
	}
	var group *linkGroup
	linked := false
	st, err := f.build.buildAt(src, dst, e.dtype, nil, func(st *unix.Stat_t) (bool, error) {
		var first bool
		if group, first = f.links.claim(linkIno{st.Dev, st.Ino}, uint32(st.Nlink), path); first {
			return false, nil
		}
		linked = true
		return true, f.link(group, dst)
	})
	if group != nil && !linked {
		group.settle(err)
	}
	f.count(&st, linked, err)
	return st, err
}

// count keeps the figures. An inode's bytes count with its first name.
func (f *firstCopy) count(st *unix.Stat_t, linked bool, err error) {
	if err != nil {
		return
	}
	f.counts.Files.Add(1)
	if !linked && st.Mode&unix.S_IFMT == unix.S_IFREG {
		f.counts.Bytes.Add(st.Size)
	}
}

// link gives an inode that is there, or is being made, another name.
func (f *firstCopy) link(group *linkGroup, dst spot) error {
	<-group.ready
	if group.err != nil {
		var bad *BadFile
		if errors.As(group.err, &bad) {
			return &BadFile{Path: dst.path, Op: bad.Op, Err: bad.Err}
		}
		return errStopped
	}
	if err := f.at("link"); err != nil {
		return err
	}
	return writeError(dst.path, "link", beneath.Link(f.mirror, group.path, f.mirror, dst.path))
}

// makeDir makes an empty subdirectory and remembers it for later.
func (f *firstCopy) makeDir(d *openCopy, e copyEntry, dst spot) error {
	if err := f.at("make directory"); err != nil {
		return err
	}
	if err := unix.Mkdirat(dst.dir, dst.base, 0o700); err != nil {
		return writeError(dst.path, "make the directory", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kids = append(d.kids, e)
	return nil
}

// partDone ends a part of a directory; the last one completes it.
func (f *firstCopy) partDone(d *openCopy, err error) error {
	if err != nil {
		d.failed.Store(true)
	}
	if d.parts.Add(-1) > 0 {
		return err
	}
	defer d.close()
	if d.failed.Load() {
		return err
	}
	return f.completeDir(d)
}

// completeDir sets what would have been undone by making the names in the directory (and the default ACL, which would have
// been inherited), and lets its subdirectories follow.
func (f *firstCopy) completeDir(d *openCopy) error {
	if err := f.at("finish directory"); err != nil {
		return err
	}
	to := node{spot{d.dst, ".", d.path}, d.dst}
	var err error
	if d.key.IsPlaceholder() {
		placeholder := unix.Stat_t{Mode: diff.PlaceholderAttr.Mode}
		err = setOwnModeAndTime(to, &placeholder)
	} else {
		_, err = copyAttributes(node{spot{d.src, ".", d.path}, d.src}, to, &d.stat)
	}
	if err := f.addBad(d, d.path, d.stat.Ino, err); err != nil {
		return err
	}
	f.counts.Dirs.Add(1)
	done := markedDir{copyDir: *d.copyDir, key: d.key, names: d.names}
	if f.sign && !d.key.IsPlaceholder() {
		done.sig = diff.Signature(&d.stat, d.key.Gen)
	}
	f.complete(done, d.bad)
	f.queue.addDirs(&copyFrame{path: d.path, node: d.node, names: inInodeOrder(d.kids)})
	return nil
}

// setOwnModeAndTime gives an inode of our own making its attributes, none of them extended.
func setOwnModeAndTime(to node, want *unix.Stat_t) error {
	var have unix.Stat_t
	if err := to.stat(&have); err != nil {
		return writeError(to.path, "stat", err)
	}
	if have.Uid != want.Uid || have.Gid != want.Gid {
		if err := to.chown(want.Uid, want.Gid); err != nil {
			return writeError(to.path, "change the owner of", err)
		}
	}
	if _, err := copyXattrs(node{}, to, nil); err != nil {
		return err
	}
	if err := to.stat(&have); err != nil {
		return writeError(to.path, "stat", err)
	}
	return setModeAndTime(to.path, to, &have, want)
}

// inInodeOrder sorts by inode number and keeps the names.
func inInodeOrder(kids []copyEntry) []string {
	slices.SortFunc(kids, func(a, b copyEntry) int { return cmp.Compare(a.ino, b.ino) })
	names := make([]string, len(kids))
	for i, k := range kids {
		names[i] = k.name
	}
	return names
}
