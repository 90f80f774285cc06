package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// ErrExists says that a restore would overwrite something.
var ErrExists = errors.New("it is there already, and nothing is overwritten: name another place")

// Restore brings the file or subtree at path of the view, relative to its root, to the path to, with all that counts as equal:
// contents, holes, hard links within it, owner, mode, times, extended attributes and ACLs. An existing directory to takes
// it in under its own last name, otherwise to is its new name. Nothing that exists is overwritten. The result is where it is
// now. When it fails, what was restored so far stays.
func (v *View) Restore(ctx context.Context, path, to string) (string, error) {
	f, err := v.Lookup(path)
	if err != nil {
		return "", err
	}
	if st, err := os.Stat(to); err == nil && st.IsDir() {
		if f.Name == "" {
			return "", fmt.Errorf("restore the whole tree to %s: %w", to, ErrExists)
		}
		to = filepath.Join(to, f.Name)
	}
	to, err = filepath.Abs(to)
	if err != nil {
		return "", fmt.Errorf("restore to %s: %w", to, err)
	}
	root, err := beneath.Open(filepath.Dir(to))
	if err != nil {
		return "", fmt.Errorf("restore to %s: %w", to, err)
	}
	defer root.Close()
	r := restorer{view: v, root: root, links: make(map[uint64]*restoredLink), buf: make([]byte, copyBuffer)}
	return to, r.restore(ctx, f, filepath.Base(to))
}

// restorer is one restore going on.
type restorer struct {
	view  *View
	root  *beneath.Root // the directory that gets the top name
	links map[uint64]*restoredLink
	buf   []byte
}

// restoredLink is an inode with several names of which at least one is restored.
type restoredLink struct {
	path string
	left uint32 // names that have not been met; some may lie outside of the subtree
}

// restore makes f, and all below it, at path below the root.
func (r *restorer) restore(ctx context.Context, f ViewFile, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	attr, err := r.view.Lstat(f)
	if err != nil {
		return err
	}
	if linked, err := r.link(attr, path); linked || err != nil {
		return restoreError(path, err)
	}
	at, release, err := place{r.root, path}.open()
	if err != nil {
		return restoreError(path, err)
	}
	defer release()
	if err := r.make(f, attr, at); err != nil {
		return restoreError(path, err)
	}
	if attr.IsDir() {
		if err := r.children(ctx, f, path); err != nil {
			return err
		}
	}
	return restoreError(path, r.finish(f, attr, at))
}

// restoreError names what could not be restored.
func restoreError(path string, err error) error {
	if errors.Is(err, unix.EEXIST) {
		err = ErrExists
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("restore %q: %w", path, err)
}

func (r *restorer) children(ctx context.Context, dir ViewFile, path string) error {
	files, err := r.view.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := r.restore(ctx, f, path+"/"+f.Name); err != nil {
			return err
		}
	}
	return nil
}

// link makes path a further name of an inode that is restored already, and otherwise remembers it as its first.
func (r *restorer) link(attr ViewAttr, path string) (bool, error) {
	if attr.IsDir() || attr.Nlink < 2 {
		return false, nil
	}
	first := r.links[attr.Ino]
	if first == nil {
		r.links[attr.Ino] = &restoredLink{path, attr.Nlink - 1}
		return false, nil
	}
	if first.left--; first.left == 0 {
		delete(r.links, attr.Ino)
	}
	return true, beneath.Link(r.root, first.path, r.root, path)
}

// make makes the inode with its contents.
func (r *restorer) make(f ViewFile, attr ViewAttr, at spot) error {
	switch attr.Type() {
	case unix.S_IFDIR:
		return unix.Mkdirat(at.dir, at.base, 0o700)
	case unix.S_IFREG:
		return r.file(f, at)
	case unix.S_IFLNK:
		target, err := r.view.Readlink(f)
		if err != nil {
			return err
		}
		return unix.Symlinkat(target, at.dir, at.base)
	}
	return unix.Mknodat(at.dir, at.base, attr.Type()|0o600, int(attr.Rdev))
}

// file makes a regular file with its data and holes.
func (r *restorer) file(f ViewFile, at spot) error {
	in, err := r.view.Open(f)
	if err != nil {
		return err
	}
	defer in.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return err
	}
	out, err := unix.Openat(at.dir, at.base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	c := copier{in: int(in.Fd()), out: out, path: at.path, buf: r.buf}
	err = c.whole(&st)
	return errors.Join(err, unix.Close(out))
}

// finish sets the attributes, which for a directory comes after all that is in it.
func (r *restorer) finish(f ViewFile, attr ViewAttr, at spot) error {
	xattrs, err := r.view.Xattrs(f)
	if err != nil {
		return err
	}
	want := statOf(attr.Attr)
	to, err := openNode(at, &want)
	if err != nil {
		return err
	}
	defer to.close()
	if err := to.chown(want.Uid, want.Gid); err != nil {
		return err
	}
	if err := setXattrs(to, xattrs); err != nil {
		return err
	}
	return setModeAndTime(at.path, to, &want)
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
