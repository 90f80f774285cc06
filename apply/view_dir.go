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

func (v *View) readDir(e epoch, dir int64) ([]ViewFile, error) {
	files, replaced, err := v.oldEntries(dir)
	if err != nil {
		return nil, err
	}
	live, err := v.openDir(e, dir)
	if errors.Is(err, fs.ErrNotExist) { // it was removed: each of its names has a row
		return files, nil
	}
	if err != nil {
		return nil, err
	}
	defer live.release()
	nodes, err := v.liveNodes(dir)
	if err != nil {
		return nil, err
	}
	err = live.root.ReadDir("", func(name string, dtype uint8, _ uint64) error {
		if replaced[name] || dir == rootNode && name == ".snapdiff" {
			return nil
		}
		f := ViewFile{Name: name, Type: uint32(dtype) << 12, dir: dir, node: nodes[name], seen: e.version} // DT_x are S_IFx without the low bits
		if dtype == unix.DT_UNKNOWN || f.Type == unix.S_IFDIR && f.node == 0 {
			var err error
			if f, err = v.liveChild(e, f); err != nil {
				return err
			}
		}
		files = append(files, f)
		return nil
	})
	if missing(err) { // it was removed since it was opened
		v.dirs.forget(dir)
		err = v.lost(e, "a directory", err)
	}
	return files, err
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
