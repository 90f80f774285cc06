package apply

import (
	"errors"
	"fmt"
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
	// Blocks is the space that the contents take up, in units of 512 bytes.
	Blocks int64
}

// dirIno marks the inode numbers that are made from nodes. No filesystem's own numbers are that high.
const dirIno = 1 << 62

// Lstat gives the attributes that f had.
func (v *View) Lstat(f ViewFile) (a ViewAttr, err error) {
	err = v.settled(func(e epoch) error { a, err = v.lstat(e, f); return err })
	return a, v.failed("lstat", f, err)
}

func (v *View) lstat(e epoch, f ViewFile) (a ViewAttr, err error) {
	f, err = v.refresh(e, f)
	if err != nil {
		return a, err
	}
	old, err := v.version(f.node, &a.Attr, nil)
	if err != nil {
		return a, err
	}
	if f.Type == unix.S_IFDIR {
		a.Ino = dirIno | uint64(f.node)
		if !old {
			err = v.liveDir(e, f.node, func(dir *beneath.Root) error {
				st, err := dir.Lstat("")
				a.Attr = attrOf(&st)
				return err
			})
		}
		if err == nil && !old && e.running() {
			err = v.undisturbed(f.node, &a.Attr)
		}
		return a, err
	}
	err = v.withContent(e, f, func(dir *beneath.Root, name string) error {
		st, err := dir.Lstat(name)
		a.Ino, a.Blocks = st.Ino, st.Blocks
		if !old {
			a.Attr = attrOf(&st)
		}
		return err
	})
	if errors.Is(err, errNoBase) {
		a.Ino, err = v.inoOfSaved(f.node)
	}
	if err == nil && !old {
		a.Nlink, err = v.liveLinks(f, a.Nlink)
	}
	if err == nil && f.Type == unix.S_IFREG && old {
		err = v.countBlocks(e, f, &a)
	}
	return a, err
}

// inoOfSaved is the inode number of a file of which there is nothing but saved ranges: that of the newest object.
func (v *View) inoOfSaved(node int64) (ino uint64, err error) {
	object := int64(0)
	err = v.query(`SELECT max(object) FROM saved WHERE node = ? AND run > ?`, func(row *sqlite.Stmt) error { object = row.ColumnInt64(0); return nil }, node, v.run)
	if err != nil {
		return 0, err
	}
	st, err := v.root.Lstat(savedPath(object, node))
	return st.Ino, missingObject(savedPath(object, node), err)
}

// countBlocks counts the blocks of a file that is put together. (What is in the mirror may have other holes.)
func (v *View) countBlocks(e epoch, f ViewFile, a *ViewAttr) error {
	where, err := v.where(f.node)
	if err != nil || !where.saved {
		return err
	}
	l, err := v.layers(e, f)
	if err != nil {
		return err
	}
	defer l.close()
	parts, err := l.data(0, l.size)
	a.Blocks = 0
	for _, p := range parts {
		a.Blocks += (roundUp(p.Off+p.Len) - p.Off) / 512
	}
	return err
}

// undisturbed gives a directory the time that it had before files in it were replaced by the run that is on, and that it
// will have again.
func (v *View) undisturbed(node int64, a *diff.Attr) error {
	return v.query(`SELECT mtime_s, mtime_n FROM times WHERE node = ?`, func(row *sqlite.Stmt) error {
		a.MtimeSec, a.MtimeNsec = row.ColumnInt64(0), int32(row.ColumnInt64(1))
		return nil
	}, node)
}

// liveDir calls use with the directory of a node in the mirror.
func (v *View) liveDir(e epoch, node int64, use func(dir *beneath.Root) error) error {
	dir, err := v.openDir(e, node)
	if err != nil {
		return err
	}
	defer dir.release()
	return use(dir.root)
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
	err = v.settled(func(e epoch) error { list, err = v.xattrs(e, f); return err })
	return list, v.failed("read the attributes of", f, err)
}

func (v *View) xattrs(e epoch, f ViewFile) (list []beneath.Xattr, err error) {
	f, err = v.refresh(e, f)
	if err != nil {
		return nil, err
	}
	var blob []byte
	old, err := v.version(f.node, &diff.Attr{}, &blob)
	switch {
	case err != nil:
		return nil, err
	case old:
		return decodeXattrs(blob)
	case f.Type == unix.S_IFDIR:
		err = v.liveDir(e, f.node, func(dir *beneath.Root) error { list, err = dir.Xattrs(""); return err })
	default:
		err = v.withContent(e, f, func(dir *beneath.Root, name string) error { list, err = dir.Xattrs(name); return err })
	}
	return list, err
}

// Readlink gives the target of a symlink.
func (v *View) Readlink(f ViewFile) (target string, err error) {
	err = v.settled(func(e epoch) error {
		return v.withContent(e, f, func(dir *beneath.Root, name string) error { target, err = dir.Readlink(name); return err })
	})
	return target, v.failed("read the symlink", f, err)
}

func (v *View) failed(op string, f ViewFile, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q in r%d: %w", op, f.Name, v.run, err)
}

// refresh finds the node that a file may have got since it was looked up.
func (v *View) refresh(e epoch, f ViewFile) (ViewFile, error) {
	if f.node != 0 || f.seen == e.version {
		return f, nil
	}
	return v.child(e, f.dir, f.Name)
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

// historyPath is where a run put the old inode of a node.
func historyPath(run, node int64) string {
	return "history/r" + strconv.FormatInt(run, 10) + "/" + strconv.FormatInt(node, 10)
}
