package apply

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// rekey makes nodes and names fit the mirror as it is, with the keys that a full comparison found: every live node gets
// its key, a directory without a node gets one (an adopted mirror has none at all), and what the mirror lacks loses its
// place. Rows of earlier runs stay as they are. With links, the link index gets the names that the mirror has.
func (s *Store) rekey(keyOf func(path string) (diff.Key, error), links, signatures bool) error {
	if err := s.clearLinks(); err != nil {
		return err
	}
	// Keys may swap: all leave first. What still has the number -1 in the end was not met.
	if err := s.exec(`UPDATE nodes SET ino = -1, gen = id WHERE alive`); err != nil {
		return err
	}
	err := s.exec(`INSERT OR IGNORE INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (?, -1, ?, 0, x'', 16384, 1)`, rootNode, rootNode)
	if err != nil {
		return err
	}
	w := &rekeying{s: s, keyOf: keyOf, links: links, met: map[int64]bool{}}
	if err := w.revive(rootNode, ""); err != nil {
		return err
	}
	queue := []rekeyDir{{rootNode, ""}}
	for len(queue) > 0 {
		d := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		sub, err := w.dir(d)
		if err != nil {
			return err
		}
		queue = append(queue, sub...)
	}
	if err := s.setFileNames(w.files); err != nil {
		return err
	}
	if links {
		if err := s.beginLinks(signatures); err != nil {
			return err
		}
	}
	return w.bury()
}

// bury takes what was not met from the living. Manifests have told that it is there, and perhaps nothing else will tell them otherwise: then
// all are written anew by the next run.
func (w *rekeying) bury() error {
	for _, sql := range []string{
		`DELETE FROM names WHERE node IN (SELECT id FROM nodes WHERE alive AND ino = -1)`,
		`UPDATE nodes SET alive = 0, parent = NULL, name = NULL WHERE alive AND ino = -1`,
	} {
		if err := w.s.exec(sql); err != nil {
			return err
		}
		w.buried = w.buried || w.s.conn.Changes() > 0
	}
	if !w.buried {
		return nil
	}
	return errors.Join(w.s.SetMeta(metaManifests, ""), w.s.exec(`DELETE FROM nodes WHERE NOT alive AND NOT EXISTS (SELECT 1 FROM versions WHERE node = nodes.id) AND
		NOT EXISTS (SELECT 1 FROM entries WHERE node = nodes.id) AND NOT EXISTS (SELECT 1 FROM entries WHERE dir = nodes.id)`))
}

type rekeyDir struct {
	node int64
	path string
}

type rekeying struct {
	s      *Store
	keyOf  func(path string) (diff.Key, error)
	links  bool
	met    map[int64]bool // file nodes
	files  int64          // names of files
	buried bool           // something lost its place
}

// dir goes through one directory of the mirror and its rows, and gives its subdirectories.
func (w *rekeying) dir(d rekeyDir) (sub []rekeyDir, err error) {
	dirs, files, err := w.rows(d.node)
	if err != nil {
		return nil, err
	}
	err = w.s.tree.ReadDir(d.path, func(name string, dtype uint8, _ uint64) error {
		path := join(d.path, name)
		if dtype == unix.DT_UNKNOWN {
			st, err := w.s.tree.Lstat(path)
			if err != nil {
				return err
			}
			dtype = uint8(st.Mode & unix.S_IFMT >> 12)
		}
		if dtype == unix.DT_DIR {
			sub = append(sub, rekeyDir{dirs[name], path})
			return nil
		}
		w.files++
		if w.links {
			if err := w.link(d.node, name, path); err != nil {
				return err
			}
		}
		if node, ok := files[name]; ok {
			delete(files, name)
			return w.file(node, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for name := range files { // names of files that the mirror lacks
		if err := w.s.exec(`DELETE FROM names WHERE dir = ? AND name = ?`, d.node, []byte(name)); err != nil {
			return nil, err
		}
		w.buried = true
	}
	for i := range sub {
		if sub[i].node != 0 {
			err = w.revive(sub[i].node, sub[i].path)
		} else {
			sub[i].node, err = w.add(d.node, sub[i].path)
		}
		if err != nil {
			return nil, err
		}
	}
	return sub, nil
}

// rows reads what the catalog has of a directory.
func (w *rekeying) rows(dir int64) (dirs, files map[string]int64, err error) {
	dirs, files = map[string]int64{}, map[string]int64{}
	err = w.s.query(`SELECT id, name FROM nodes WHERE parent = ? AND alive AND type = 16384`, func(row *sqlite.Stmt) error {
		dirs[columnBytes(row, 1)] = row.ColumnInt64(0)
		return nil
	}, dir)
	if err != nil {
		return nil, nil, err
	}
	err = w.s.query(`SELECT name, node FROM names WHERE dir = ?`, func(row *sqlite.Stmt) error {
		files[columnBytes(row, 0)] = row.ColumnInt64(1)
		return nil
	}, dir)
	return dirs, files, err
}

// link puts a name of the mirror into the link index. If the snapshot has it not, it goes again with the same key.
func (w *rekeying) link(dir int64, name, path string) error {
	k, err := w.keyOf(path)
	if err != nil {
		return fmt.Errorf("finding %q again: %w", path, err)
	}
	return addLink(w.s.conn, dir, linkName{name: name, key: k})
}

// file gives a file's node its key; all its names have the same.
func (w *rekeying) file(node int64, path string) error {
	if w.met[node] {
		return nil
	}
	w.met[node] = true
	return w.revive(node, path)
}

func (w *rekeying) revive(node int64, path string) error {
	k, err := w.keyOf(path)
	if err != nil {
		return fmt.Errorf("finding %q again: %w", path, err)
	}
	return w.s.exec(`UPDATE nodes SET ino = ?, gen = ? WHERE id = ?`, int64(k.Ino), int64(k.Gen), node)
}

// add makes a node for a directory that has none.
func (w *rekeying) add(parent int64, path string) (int64, error) {
	k, err := w.keyOf(path)
	if err != nil {
		return 0, fmt.Errorf("finding %q again: %w", path, err)
	}
	_, name := split(path)
	err = w.s.exec(`INSERT INTO nodes(ino, gen, parent, name, type, alive) VALUES (?, ?, ?, ?, 16384, 1)`, int64(k.Ino), int64(k.Gen), parent, []byte(name))
	return w.s.conn.LastInsertRowID(), err
}

// keyOfNode is the key of a live node.
func (s *Store) keyOfNode(id int64) (k diff.Key, err error) {
	err = s.query(`SELECT ino, gen FROM nodes WHERE id = ? AND alive`, func(row *sqlite.Stmt) error {
		k = diff.Key{Ino: uint64(row.ColumnInt64(0)), Gen: uint64(row.ColumnInt64(1))}
		return nil
	}, id)
	return k, err
}
