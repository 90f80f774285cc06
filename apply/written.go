package apply

import (
	"fmt"

	"zombiezen.com/go/sqlite"
)

// WrittenBy tells what the newest run has written: the names that came or changed, all of new directories, and the directories above.
func (s *Store) WrittenBy(run int64) (only func(path string, dir bool) bool, err error) {
	w := &written{s: s, paths: map[string]bool{"": true}, whole: map[string]bool{}, dirs: dirPaths{s: s}}
	type name struct {
		dir  int64
		name string
		born bool // a directory that the run made
	}
	var names []name
	read := func(row *sqlite.Stmt) error {
		names = append(names, name{row.ColumnInt64(0), columnBytes(row, 1), row.ColumnInt64(2) == run})
		return nil
	}
	for _, sql := range []string{
		`SELECT e.dir, e.name, n.born FROM entries e LEFT JOIN nodes n ON n.parent = e.dir AND n.name = e.name AND n.alive AND n.type = 16384 WHERE e.run = ?`,
		`SELECT x.dir, x.name, 0 FROM versions v JOIN names x ON x.node = v.node WHERE v.run = ?`,
		`SELECT n.parent, n.name, 0 FROM versions v JOIN nodes n ON n.id = v.node WHERE v.run = ? AND n.alive AND n.type = 16384 AND n.id <> 1`,
	} {
		if err := s.query(sql, read, run); err != nil {
			return nil, catalogError("read what the newest run wrote", err)
		}
	}
	for _, n := range names {
		dir, err := w.dir(n.dir)
		if err != nil {
			return nil, fmt.Errorf("what the newest run wrote: %w", err)
		}
		if dir == nil {
			continue // gone
		}
		path := join(*dir, n.name)
		w.add(path)
		if n.born {
			w.whole[path] = true
		}
	}
	return w.only, nil
}

// written knows what a run has written.
type written struct {
	s     *Store
	paths map[string]bool // with all directories above
	whole map[string]bool // directories of which everything counts
	dirs  dirPaths
}

// dir is where a live directory is; nil: nowhere.
func (w *written) dir(node int64) (*string, error) {
	path, err := w.dirs.of(node)
	if missing(err) {
		return nil, nil
	}
	return &path, err
}

func (w *written) add(path string) {
	for !w.paths[path] {
		w.paths[path] = true
		path, _ = split(path)
	}
}

func (w *written) only(path string, _ bool) bool {
	if w.paths[path] {
		return true
	}
	for dir, _ := split(path); dir != ""; dir, _ = split(dir) {
		if w.whole[dir] {
			return true
		}
	}
	return false
}
