package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// restorer is one restore going on: one goroutine walks the directories, others make the files.
type restorer struct {
	ctx     context.Context
	view    *View
	root    *beneath.Root // what is restored is below it
	opts    RestoreOptions
	links   linkGroups
	buffers sync.Pool
	reader  gentle.Reader
	workers errgroup.Group
	temp    atomic.Int64

	done meter // names and bytes

	mu  sync.Mutex
	bad Unrestored
}

// maxRestoreErrors is how many errors of single names are kept.
const maxRestoreErrors = 20

func newRestorer(ctx context.Context, v *View, root *beneath.Root, opts RestoreOptions) *restorer {
	r := &restorer{ctx: ctx, view: v, root: root, opts: opts, done: meter{tell: opts.Progress, doing: "restoring"}}
	r.buffers.New = func() any { b := make([]byte, copyBuffer); return &b }
	if opts.Workers <= 0 {
		opts.Workers = defaultWorkers()
	}
	r.workers.SetLimit(opts.Workers)
	return r
}

// end waits for the workers.
func (r *restorer) end(to string) (Restored, error) {
	done := Restored{To: to}
	err := errors.Join(r.workers.Wait(), r.ctx.Err())
	done.Names, done.Bytes = r.done.names.Load(), r.done.bytes.Load()
	if err == nil && r.bad.Names > 0 {
		err = &r.bad
	}
	return done, err
}

// failed notes a name that cannot be restored.
func (r *restorer) failed(path string, err error) {
	if errors.Is(err, unix.EEXIST) {
		err = ErrExists
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bad.Names++
	if len(r.bad.Errs) < maxRestoreErrors {
		r.bad.Errs = append(r.bad.Errs, notRestored(filepath.Join(r.root.Path(), path), err))
	}
}

// restoringDir is a directory that gets its attributes when all that is in it has been made.
type restoringDir struct {
	r      *restorer
	file   ViewFile
	path   string
	parent *restoringDir
	left   atomic.Int64 // names in it that are not made, and one for who walks it
}

// newDir begins a directory that has been made.
func (r *restorer) newDir(f ViewFile, path string, parent *restoringDir) *restoringDir {
	d := &restoringDir{r: r, file: f, path: path, parent: parent}
	d.left.Store(1)
	if parent != nil {
		parent.left.Add(1)
	}
	return d
}

// done is called once for each name in it, when that is complete.
func (d *restoringDir) done() {
	if d == nil || d.left.Add(-1) > 0 {
		return
	}
	if err := d.r.finish(d.file, d.path); err != nil {
		d.r.failed(d.path, err)
	}
	d.r.done.add(1, 0)
	d.parent.done()
}

// name restores f at path, in the directory dir if that is being restored.
func (r *restorer) name(f ViewFile, path string, dir *restoringDir) {
	if f.Type != unix.S_IFDIR {
		if dir != nil {
			dir.left.Add(1)
		}
		r.workers.Go(func() error {
			defer dir.done()
			if err := r.file(f, path); err != nil {
				r.failed(path, err)
			}
			return r.ctx.Err()
		})
		return
	}
	if err := r.mkdir(path); err != nil {
		r.failed(path, err)
		return
	}
	d := r.newDir(f, path, dir)
	r.children(f, path, d)
	d.done()
}

// mkdir makes a directory; where that is allowed one that is there will do, and anything else gives way.
func (r *restorer) mkdir(path string) error {
	err := r.root.Mkdir(path, 0o700)
	if !errors.Is(err, fs.ErrExist) || !r.opts.Overwrite {
		return err
	}
	st, err := r.root.Lstat(path)
	if err != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return err
	}
	return errors.Join(r.root.Unlink(path), r.root.Mkdir(path, 0o700))
}

// children restores all that is in a directory; dir is as in name.
func (r *restorer) children(f ViewFile, path string, dir *restoringDir) {
	files, err := r.view.ReadDir(f)
	if err != nil {
		r.failed(path, err)
	}
	for _, f := range files {
		if r.ctx.Err() != nil {
			return
		}
		r.name(f, join(path, f.Name), dir)
	}
}

// file restores anything but a directory.
func (r *restorer) file(f ViewFile, path string) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	in, err := r.view.inspect(f)
	if err != nil {
		return err
	}
	defer in.close()
	build := func(at string) error { return r.inode(&in, at) }
	if in.attr.Nlink < 2 {
		return r.put(path, build)
	}
	group, first := r.links.claim(linkIno{ino: in.attr.Ino}, in.attr.Nlink, path)
	if first {
		err := r.put(path, build)
		group.settle(err)
		return err
	}
	<-group.ready
	if group.err != nil {
		return fmt.Errorf("its other name %q could not be restored: %w", group.path, group.err)
	}
	r.done.add(1, 0)
	return r.put(path, func(at string) error { return beneath.Link(r.root, group.path, r.root, at) })
}

// put has something built at path: at once, or, where it takes the place of something, under another name first, so that
// there always is either.
func (r *restorer) put(path string, build func(at string) error) error {
	if !r.opts.Overwrite {
		return build(path)
	}
	st, err := r.root.Lstat(path)
	switch {
	case missing(err):
		return build(path)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return errors.New("a directory is there: remove it first")
	}
	dir, _ := split(path)
	temp := join(dir, fmt.Sprintf(".snapdiff-restore-%d-%d", unix.Getpid(), r.temp.Add(1)))
	if err := build(temp); err != nil {
		return errors.Join(err, ignoreMissing(r.root.Unlink(temp)))
	}
	err = beneath.Rename(r.root, temp, r.root, path, 0)
	return errors.Join(err, ignoreMissing(r.root.Unlink(temp))) // it is still there if both were one file
}

// inode makes an inode with all its attributes.
func (r *restorer) inode(in *inspected, path string) error {
	at, release, err := place{r.root, path}.open()
	if err != nil {
		return err
	}
	defer release()
	to := node{spot: at, fd: -1}
	switch in.attr.Type() {
	case unix.S_IFREG:
		to.fd, err = r.contents(in, at)
	case unix.S_IFLNK:
		err = unix.Symlinkat(in.target, at.dir, at.base)
	default:
		err = unix.Mknodat(at.dir, at.base, in.attr.Type()|0o600, int(in.attr.Rdev))
	}
	if err != nil {
		return err
	}
	r.done.add(1, 0)
	err = setAttributes(to, &in.attr, in.xattrs)
	if to.fd >= 0 {
		err = errors.Join(err, unix.Close(to.fd)) // a network filesystem may say only now that it could not write
	}
	return err
}

// contents makes a regular file with its data and holes. It is open for more.
func (r *restorer) contents(in *inspected, at spot) (int, error) {
	out, err := unix.Openat(at.dir, at.base, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return -1, err
	}
	buf := r.buffers.Get().(*[]byte)
	defer r.buffers.Put(buf)
	if fd, fixed := in.file.Fixed(); fixed {
		var st unix.Stat_t
		if err = unix.Fstat(fd, &st); err == nil {
			c := copier{in: r.reader.File(fd, st.Size), src: fd, out: out, path: at.path, buf: *buf, lseek: in.file.view.lseek}
			err = restoring(c.whole(&st))
			c.in.Done()
		}
	} else {
		err = copyContents(in.file, out, *buf)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(out), unix.Unlinkat(at.dir, at.base, 0)) // half a file looks like a whole one
	}
	r.done.add(0, in.file.Size())
	return out, nil
}

// copyContents copies what may change under its hands, with its holes, into a new file.
func copyContents(in *Contents, out int, buf []byte) error {
	parts, err := in.Data()
	if err != nil {
		return err
	}
	if err := unix.Ftruncate(out, in.Size()); err != nil {
		return err
	}
	for _, p := range parts {
		for end := p.Off + p.Len; p.Off < end; {
			n, err := in.ReadAt(buf[:min(int64(len(buf)), end-p.Off)], p.Off)
			if n == 0 {
				return err
			}
			if err := writeAll(out, buf[:n], p.Off); err != nil {
				return err
			}
			p.Off += int64(n)
		}
	}
	return nil
}

// finish sets the attributes of a directory when all that is in it has been made.
func (r *restorer) finish(f ViewFile, path string) error {
	at, release, err := place{r.root, path}.open()
	if err != nil {
		return err
	}
	defer release()
	in, err := r.view.inspect(f)
	if err != nil {
		return err
	}
	want := statOf(in.attr.Attr)
	to, err := openNode(at, &want)
	if err != nil {
		return err
	}
	defer to.close()
	return setAttributes(to, &in.attr, in.xattrs)
}

// setAttributes sets owner, extended attributes, mode and time.
func setAttributes(to node, attr *ViewAttr, xattrs []beneath.Xattr) error {
	want := statOf(attr.Attr)
	if err := to.chown(want.Uid, want.Gid); err != nil {
		return err
	}
	if err := setXattrs(to, xattrs); err != nil {
		return err
	}
	var have unix.Stat_t
	if err := to.stat(&have); err != nil {
		return err
	}
	return setModeAndTime(to.path, to, &have, &want)
}

// setXattrs makes the extended attributes of to exactly these. A default ACL of the directory may have left others.
func setXattrs(to node, list []beneath.Xattr) error {
	have, err := to.xattrNames()
	if err != nil {
		return err
	}
	keep := make(map[string]bool)
	for _, x := range list {
		keep[x.Name] = true
	}
	for _, name := range have {
		if keep[name] {
			continue
		}
		if err := to.removeXattr(name); err != nil && err != unix.ENODATA {
			return fmt.Errorf("remove attribute %q: %w", name, err)
		}
	}
	for _, x := range list {
		if strings.HasPrefix(x.Name, "trusted.SGI_ACL_") { // how XFS shows an ACL a second time
			continue
		}
		if err := to.setXattr(x.Name, x.Value); err != nil {
			return fmt.Errorf("set attribute %q: %w", x.Name, err)
		}
	}
	return nil
}

// statOf is the part of a stat that is set on an inode.
func statOf(a diff.Attr) unix.Stat_t {
	return unix.Stat_t{Mode: a.Mode, Uid: a.UID, Gid: a.GID, Rdev: a.Rdev, Size: a.Size,
		Mtim: unix.Timespec{Sec: a.MtimeSec, Nsec: int64(a.MtimeNsec)}}
}
