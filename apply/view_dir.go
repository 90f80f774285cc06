package apply

import (
	"errors"
	"io/fs"
	"sort"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// ReadDir lists a directory, sorted by the bytes of the names. What it holds in memory is this one directory.
func (v *View) ReadDir(dir ViewFile) (files []ViewFile, err error) {
	if dir.Type != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	err = v.settled(func(e epoch) error { files, err = v.readDir(e, dir.node); return err })
	sort.Slice(files, func(i, j int) bool { return files[i].Name < files[j].Name })
	return files, err
}

func (v *View) readDir(e epoch, dir int64) (files []ViewFile, err error) {
	nodes, err := v.liveNodes(dir)
	if err != nil {
		return nil, err
	}
	err = v.eachName(e, dir, func(f ViewFile, live bool) error {
		if live && (f.Type == 0 || f.Type == unix.S_IFDIR && nodes[f.Name] == 0) {
			f, err = v.liveChild(e, f)
		} else if live {
			f.node = nodes[f.Name]
		}
		files = append(files, f)
		return err
	})
	return files, err
}

// eachName calls yield for all names in a directory, in no order. live: it is a name of the mirror, its node is not looked
// up, and its type is 0 where the filesystem does not tell.
func (v *View) eachName(e epoch, dir int64, yield func(f ViewFile, live bool) error) error {
	files, replaced, err := v.oldEntries(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := yield(f, false); err != nil {
			return err
		}
	}
	live, err := v.openDir(e, dir)
	if errors.Is(err, fs.ErrNotExist) { // it was removed: each of its names has a row
		return nil
	}
	if err != nil {
		return err
	}
	defer live.release()
	err = live.root.ReadDir("", func(name string, dtype uint8, _ uint64) error {
		if replaced[name] || dir == rootNode && name == ".snapdiff" {
			return nil
		}
		return yield(ViewFile{Name: name, Type: uint32(dtype) << 12, dir: dir, seen: e.version}, true) // DT_x are S_IFx without the low bits
	})
	if missing(err) { // it was removed since it was opened
		v.dirs.forget(dir)
		err = v.lost(e, "a directory", err)
	}
	return err
}

// Listing is the names of one directory with their types, in as little memory as it takes.
type Listing struct {
	names []byte // one after the other
	ends  []int  // where each ends
	types []byte // S_IFMT part of the mode, shifted right by 12 bits
}

// Len is the number of names.
func (l *Listing) Len() int { return len(l.ends) }

// At gives name number i, from 0, and its type (S_IFMT part of the mode; 0 if the filesystem does not tell).
func (l *Listing) At(i int) (name string, kind uint32) {
	from := 0
	if i > 0 {
		from = l.ends[i-1]
	}
	return string(l.names[from:l.ends[i]]), uint32(l.types[i]) << 12
}

// List lists a directory, in no order. It is ReadDir for directories of any size.
func (v *View) List(dir ViewFile) (*Listing, error) {
	if dir.Type != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	var l *Listing
	err := v.settled(func(e epoch) error {
		l = &Listing{}
		return v.eachName(e, dir.node, func(f ViewFile, _ bool) error {
			l.names = append(l.names, f.Name...)
			l.ends, l.types = append(l.ends, len(l.names)), append(l.types, byte(f.Type>>12))
			return nil
		})
	})
	return l, v.failed("list", dir, err)
}

// oldEntries are the names of a directory that have meant something else since the restore point: those that were there, and
// all of them.
func (v *View) oldEntries(dir int64) (files []ViewFile, replaced map[string]bool, err error) {
	replaced = make(map[string]bool)
	err = v.query(`SELECT e.name, e.node, n.type FROM entries e LEFT JOIN nodes n ON n.id = e.node
		WHERE e.dir = ? AND e.run > ? ORDER BY e.name, e.run`, func(row *sqlite.Stmt) error {
		name := columnBytes(row, 0)
		if replaced[name] { // only the first run counts
			return nil
		}
		replaced[name] = true
		if node := row.ColumnInt64(1); node != 0 {
			files = append(files, ViewFile{Name: name, Type: uint32(row.ColumnInt64(2)), dir: dir, node: node})
		}
		return nil
	}, dir, v.run)
	return files, replaced, err
}

// liveNodes are the nodes of the live names in a directory.
func (v *View) liveNodes(dir int64) (map[string]int64, error) {
	nodes := make(map[string]int64)
	err := v.query(`SELECT name, node FROM names WHERE dir = ?1
		UNION ALL SELECT name, id FROM nodes WHERE parent = ?1 AND alive AND type = 16384`, func(row *sqlite.Stmt) error {
		nodes[columnBytes(row, 0)] = row.ColumnInt64(1)
		return nil
	}, dir)
	return nodes, err
}
