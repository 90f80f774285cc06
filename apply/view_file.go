package apply

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// ViewAttr is what lstat says in a view.
type ViewAttr struct {
	diff.Attr
	// Ino is the same for all names of one file and for no other. It stays, whatever later runs do: that of the inode in
	// the store that holds the contents, or, for directories, made from the node.
	Ino uint64
}

// dirIno marks the inode numbers that are made from nodes. No filesystem's own numbers are that high.
const dirIno = 1 << 62

// errSavedRanges: this kind of history cannot be read yet.
var errSavedRanges = errors.New("its history is kept as saved ranges, which this version cannot read")

// Lstat gives the attributes that f had.
func (v *View) Lstat(f ViewFile) (a ViewAttr, err error) {
	err = v.settled(func() error { a, err = v.lstat(f); return err })
	return a, v.failed("lstat", f, err)
}

func (v *View) lstat(f ViewFile) (a ViewAttr, err error) {
	f, err = v.refresh(f)
	if err != nil {
		return a, err
	}
	old, err := v.version(f.node, &a.Attr, nil)
	if err != nil || old && f.Type == unix.S_IFDIR {
		a.Ino = dirIno | uint64(f.node)
		return a, err
	}
	path, err := v.content(f)
	if err != nil {
		return a, err
	}
	st, err := v.root.Lstat(path)
	if err != nil {
		return a, err
	}
	a.Ino = st.Ino
	if f.Type == unix.S_IFDIR {
		a.Ino = dirIno | uint64(f.node)
	}
	if !old {
		a.Attr = attrOf(&st)
		a.Nlink, err = v.liveLinks(f, a.Nlink)
	}
	return a, err
}

// attrOf takes over what counts of a stat.
func attrOf(st *unix.Stat_t) diff.Attr {
	a := diff.Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MtimeSec: st.Mtim.Sec, MtimeNsec: int32(st.Mtim.Nsec), Nlink: uint32(st.Nlink)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		a.Nlink = 1
	case unix.S_IFREG, unix.S_IFLNK:
		a.Size = st.Size
	case unix.S_IFCHR, unix.S_IFBLK:
		a.Rdev = st.Rdev
	}
	return a
}

// liveLinks is the number of a live file's names. Where it has a node, all of them are in the catalog, and the inode may have
// others in history.
func (v *View) liveLinks(f ViewFile, links uint32) (uint32, error) {
	if f.node == 0 || f.Type == unix.S_IFDIR {
		return links, nil
	}
	err := v.query(`SELECT count(*) FROM names WHERE node = ?`, func(row *sqlite.Stmt) error { links = uint32(row.ColumnInt64(0)); return nil }, f.node)
	return links, err
}

// Xattrs gives the extended attributes that f had, ACLs among them, sorted by name.
func (v *View) Xattrs(f ViewFile) (list []beneath.Xattr, err error) {
	err = v.settled(func() error {
		f, err := v.refresh(f)
		if err != nil {
			return err
		}
		var blob []byte
		old, err := v.version(f.node, &diff.Attr{}, &blob)
		if err != nil {
			return err
		}
		if old {
			list, err = decodeXattrs(blob)
			return err
		}
		path, err := v.content(f)
		if err == nil {
			list, err = v.root.Xattrs(path)
		}
		return err
	})
	return list, v.failed("read the attributes of", f, err)
}

// Readlink gives the target of a symlink.
func (v *View) Readlink(f ViewFile) (target string, err error) {
	err = v.settled(func() error {
		path, err := v.content(f)
		if err == nil {
			target, err = v.root.Readlink(path)
		}
		return err
	})
	return target, v.failed("read the symlink", f, err)
}

// Open opens a regular file for reading. Its holes can be found with SEEK_DATA and SEEK_HOLE. No file of the mirror is ever
// written to, only replaced, so what was opened stays right.
func (v *View) Open(f ViewFile) (file *os.File, err error) {
	if f.Type != unix.S_IFREG {
		return nil, v.failed("open", f, errors.New("it is no regular file"))
	}
	err = v.settled(func() error {
		if file != nil {
			file.Close()
			file = nil
		}
		path, err := v.content(f)
		if err != nil {
			return err
		}
		fd, err := v.root.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err == nil {
			file = os.NewFile(uintptr(fd), f.Name)
		}
		return err
	})
	if err != nil && file != nil {
		file.Close()
		file = nil
	}
	return file, v.failed("open", f, err)
}

func (v *View) failed(op string, f ViewFile, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q in r%d: %w", op, f.Name, v.run, err)
}

// refresh finds the node that a file may have got since it was looked up.
func (v *View) refresh(f ViewFile) (ViewFile, error) {
	if f.node != 0 {
		return f, nil
	}
	return v.child(f.dir, f.Name)
}

// version reads what a node was at the restore point. false: as it is in the mirror.
func (v *View) version(node int64, a *diff.Attr, xattrs *[]byte) (old bool, err error) {
	if node == 0 {
		return false, nil
	}
	err = v.query(`SELECT mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, xattrs FROM versions
		WHERE node = ? AND run > ? ORDER BY run LIMIT 1`, func(row *sqlite.Stmt) error {
		old = true
		*a = diff.Attr{Mode: uint32(row.ColumnInt64(0)), UID: uint32(row.ColumnInt64(1)), GID: uint32(row.ColumnInt64(2)),
			Rdev: uint64(row.ColumnInt64(3)), Size: row.ColumnInt64(4), MtimeSec: row.ColumnInt64(5),
			MtimeNsec: int32(row.ColumnInt64(6)), Nlink: uint32(row.ColumnInt64(7))}
		if xattrs != nil {
			*xattrs = []byte(columnBytes(row, 8))
		}
		return nil
	}, node, v.run)
	return old, err
}

// content is the path in the store of the inode that has a file's contents (a symlink's target): in history, or in the
// mirror under any of its names.
func (v *View) content(f ViewFile) (string, error) {
	f, err := v.refresh(f)
	if err != nil {
		return "", err
	}
	if f.Type == unix.S_IFDIR {
		return v.dirPath(f.node)
	}
	dir, name := f.dir, f.Name
	if f.node != 0 {
		run, kind := int64(0), int64(0)
		err = v.query(`SELECT run, content FROM versions WHERE node = ? AND run > ? AND content <> 0 ORDER BY run LIMIT 1`,
			func(row *sqlite.Stmt) error { run, kind = row.ColumnInt64(0), row.ColumnInt64(1); return nil }, f.node, v.run)
		if err != nil {
			return "", err
		}
		if kind == 1 {
			return historyPath(run, f.node), nil
		}
		if kind != 0 {
			return "", errSavedRanges
		}
		dir = 0
		err = v.query(`SELECT dir, name FROM names WHERE node = ? LIMIT 1`,
			func(row *sqlite.Stmt) error { dir, name = row.ColumnInt64(0), columnBytes(row, 1); return nil }, f.node)
		if err == nil && dir == 0 {
			err = fmt.Errorf("the catalog says neither where node %d is in the mirror nor where in history", f.node)
		}
		if err != nil {
			return "", err
		}
	}
	path, err := v.dirPath(dir)
	return path + "/" + name, err
}

// historyPath is where a run put the old inode of a node.
func historyPath(run, node int64) string {
	return "history/r" + strconv.FormatInt(run, 10) + "/" + strconv.FormatInt(node, 10)
}
