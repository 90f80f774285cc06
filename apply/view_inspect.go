package apply

import (
	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// inspected is all that a copy has of a file, read at one moment.
type inspected struct {
	attr   ViewAttr
	xattrs []beneath.Xattr
	target string    // of a symlink
	file   *Contents // a regular one, open
}

func (in *inspected) close() {
	if in.file != nil {
		in.file.Close()
		in.file = nil
	}
}

// inspect reads a file at once: to make sure each time that no run comes between would cost as much as to read.
func (v *View) inspect(f ViewFile) (in inspected, err error) {
	err = v.settled(func(e epoch) (err error) {
		in.close()
		if in.attr, err = v.lstat(e, f); err != nil {
			return err
		}
		if in.xattrs, err = v.xattrs(e, f); err != nil {
			return err
		}
		switch f.Type {
		case unix.S_IFREG:
			in.file, err = v.open(e, f)
			return err
		case unix.S_IFLNK:
			return v.withContent(e, f, func(dir *beneath.Root, name string) error {
				in.target, err = dir.Readlink(name)
				return err
			})
		}
		return nil
	})
	if err != nil {
		in.close()
	}
	return in, err
}
