package apply

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// A run that was cut off and whose plan went with the catalog is given up when the catalog is rebuilt. Its manifest was written before
// it touched the mirror (state recorded), so what it replaces is known. Whatever it did to contents may stay, because a
// full comparison follows. But what it moves must get a name again: if all had been taken out that goes (the file detachedMark
// says so), moved things go on to where they were to go, else they go back.

// detachedMark is the file in history/rRUN which says that Detach has ended.
const detachedMark = "detached"

// cutRun is what the manifest of a run that was cut off says of moves.
type cutRun struct {
	run   int64
	keys  map[int64]diff.Key      // of the nodes that it speaks of
	went  []cutName               // names that were to go, by their directories
	comes []cutPath               // names that were to come, of what was there before
	times map[int64]unix.Timespec // of directories that the run disturbs though they did not change
}

type cutName struct {
	dir  int64
	name string
	node int64
}

type cutPath struct {
	node int64
	path string
}

// readCut reads what load passes over.
func (r *rebuilder) readCut(run int64) (*cutRun, error) {
	c := &cutRun{run: run, keys: map[int64]diff.Key{}, times: map[int64]unix.Timespec{}}
	_, err := r.s.readManifest(run, manifestVisitor{
		entry: func(dir int64, name string, node int64) error {
			if node != 0 {
				c.went = append(c.went, cutName{dir, name, node})
			}
			return nil
		},
		key:  func(node int64, k diff.Key) error { c.keys[node] = k; return nil },
		move: func(node int64, path string) error { c.comes = append(c.comes, cutPath{node, path}); return nil },
		time: func(dir int64, mtime unix.Timespec) error { c.times[dir] = mtime; return nil },
	})
	return c, err
}

// giveUp brings the mirror into a state that the rows of a cut-off run fit: every node has a name, or an object in history. It comes
// after all manifests were loaded, and may be done again.
func (r *rebuilder) giveUp(c *cutRun) error {
	detached, err := exists(r.s.history_, fmt.Sprintf("r%d/%s", c.run, detachedMark))
	if err != nil {
		return err
	}
	x := &execution{s: r.s, run: c.run, altered: true}
	if detached {
		err = r.moveOn(x, c)
	} else {
		err = r.moveBack(x, c)
	}
	for _, end := range []func() error{r.dropStaleNames, func() error { return r.reunite(c) }, func() error { return r.noObjects(c.run) }, func() error { return r.putBackTimes(c) }} {
		if err == nil {
			err = end()
		}
	}
	return err
}

// reunite makes the names of a node one inode again. Of a file that is replaced, or gets other metadata by being replaced, some names may be
// the new inode and some the old one, and what it was before is one for all of them. The old one is in history where the contents are
// others; else either will do.
func (r *rebuilder) reunite(c *cutRun) error {
	names := map[int64][]manifestPlace{}
	err := r.s.query(`SELECT n.node, n.dir, n.name FROM versions v CROSS JOIN at_names n ON n.node = v.node WHERE v.run = ? AND v.mode & 61440 <> 16384`, func(row *sqlite.Stmt) error {
		node := row.ColumnInt64(0)
		names[node] = append(names[node], manifestPlace{row.ColumnInt64(1), columnBytes(row, 2)})
		return nil
	}, c.run)
	for node, places := range names {
		if err != nil {
			return err
		}
		if len(places) > 1 {
			err = r.reuniteNode(c, node, places)
		}
	}
	return err
}

func (r *rebuilder) reuniteNode(c *cutRun, node int64, places []manifestPlace) error {
	type at struct {
		path string
		ino  uint64
	}
	var names []at
	differ := false
	for _, p := range places {
		dir, ok, err := r.pathOf(p.dir, 0)
		if err != nil {
			return err
		}
		path := join(dir, p.name)
		st, err := r.s.tree.Lstat(path)
		if !ok || missing(err) || err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if err != nil {
			return err
		}
		names = append(names, at{path, st.Ino})
		differ = differ || st.Ino != names[0].ino
	}
	if !differ {
		return nil
	}
	right, ino := place{r.s.tree, names[0].path}, names[0].ino
	object := historyObject(c.run, node)
	st, err := r.s.history_.Lstat(object)
	switch {
	case err == nil:
		right, ino = place{r.s.history_, object}, st.Ino
	case !missing(err):
		return err
	}
	tmp := newName(c.keys[node])
	for _, name := range names {
		if name.ino == ino {
			continue
		}
		err := ignoreMissing(r.s.stage.Unlink(tmp))
		if err == nil {
			err = beneath.Link(right.root, right.path, r.s.stage, tmp)
		}
		switch {
		case err == nil:
			err = beneath.Rename(r.s.stage, tmp, r.s.tree, name.path, 0)
		case errors.Is(err, syscall.EMLINK) && right.root == r.s.history_: // it has as many names as can be, and history needs none
			err = beneath.Rename(right.root, right.path, r.s.tree, name.path, 0)
			right = place{r.s.tree, name.path}
		}
		if err != nil {
			return fmt.Errorf("giving %q its other names' contents: %w", name.path, err)
		}
	}
	return nil
}

// putBackTimes sets the times of directories that the run disturbed though they did not change: nothing else has kept them.
func (r *rebuilder) putBackTimes(c *cutRun) error {
	for dir, mtime := range c.times {
		path, ok, err := r.pathOf(dir, 0)
		if err == nil && ok {
			err = ignoreMissing(r.s.tree.Utimes(path, mtime.Sec, mtime.Nsec))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// moveBack gives what waits in stage its old names, the shallowest first.
func (r *rebuilder) moveBack(x *execution, c *cutRun) error {
	paths := make([]cutPath, 0, len(c.went))
	for _, n := range c.went {
		dir, ok, err := r.pathOf(n.dir, 0)
		if err != nil {
			return err
		}
		if ok {
			paths = append(paths, cutPath{n.node, join(dir, n.name)})
		}
	}
	byDepth(paths)
	for _, p := range paths {
		if err := r.unstage(x, c.keys[p.node], p.path); err != nil {
			return err
		}
	}
	for _, n := range c.went { // it did not go
		if err := r.named(n, c.run); err != nil {
			return err
		}
	}
	return r.emptyOld(x, c)
}

// named notes that a node has a name, if the mirror has it.
func (r *rebuilder) named(n cutName, run int64) error {
	dir, ok, err := r.pathOf(n.dir, 0)
	if err != nil || !ok {
		return err
	}
	there, err := exists(r.s.tree, join(dir, n.name))
	if err != nil || !there {
		return err
	}
	return r.s.exec(`INSERT OR REPLACE INTO at_names(node, dir, name, run) VALUES (?, ?, ?, ?)`, n.node, n.dir, []byte(n.name), run)
}

// moveOn gives what waits in stage its new names, the shallowest first, and notes all new names.
func (r *rebuilder) moveOn(x *execution, c *cutRun) error {
	byDepth(c.comes)
	for _, n := range c.went {
		if err := r.s.exec(`DELETE FROM at_names WHERE node = ? AND dir = ? AND name = ?`, n.node, n.dir, []byte(n.name)); err != nil {
			return err
		}
	}
	for _, p := range c.comes {
		if err := r.unstage(x, c.keys[p.node], p.path); err != nil {
			return err
		}
		parent, name := split(p.path)
		dir, err := r.nodeAt(parent, c.run)
		if err != nil {
			return err
		}
		if err := r.s.exec(`INSERT OR REPLACE INTO at_names(node, dir, name, run) VALUES (?, ?, ?, ?)`, p.node, dir, []byte(name), c.run); err != nil {
			return err
		}
	}
	return r.emptyOld(x, c)
}

func byDepth(paths []cutPath) {
	slices.SortStableFunc(paths, func(a, b cutPath) int { return cmp.Compare(strings.Count(a.path, "/"), strings.Count(b.path, "/")) })
}

// unstage gives what waits in stage a name of the mirror, if it is free.
func (r *rebuilder) unstage(x *execution, k diff.Key, path string) error {
	staged := oldName(k)
	st, err := r.s.stage.Lstat(staged)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		err = x.onWay(path, func() error { return beneath.Rename(r.s.stage, staged, r.s.tree, path, unix.RENAME_NOREPLACE) })
	} else {
		err = x.onWay(path, func() error { return x.linkFrom(&place{r.s.stage, staged}, path) })
	}
	if errors.Is(err, fs.ErrExist) || missing(err) {
		return nil // emptyOld keeps it
	}
	return err
}

// emptyOld empties stage: what has got a name goes, directories that are empty were to go, all else is kept in history.
func (r *rebuilder) emptyOld(x *execution, c *cutRun) error {
	nodes := map[string]int64{}
	for node, k := range c.keys {
		nodes[oldName(k)] = node
	}
	var staged []string
	err := r.s.stage.ReadDir("", func(name string, _ uint8, _ uint64) error { staged = append(staged, name); return nil })
	if err != nil {
		return err
	}
	for _, name := range staged {
		st, err := r.s.stage.Lstat(name)
		if err != nil {
			return err
		}
		dir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		switch node := nodes[name]; {
		case isBuilt(name) && !dir:
			err = r.s.stage.Unlink(name)
		case !dir && st.Nlink > 1:
			err = r.s.stage.Unlink(name)
		case !dir && node != 0: // a file that has lost all names: its version keeps it
			err = beneath.Rename(r.s.stage, name, r.s.history_, historyObject(c.run, node), unix.RENAME_NOREPLACE)
		case dir:
			err = r.s.stage.Rmdir(name)
		default:
			err = x.foreign(r.s.stage, name)
		}
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
			err = x.foreign(r.s.stage, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func historyObject(run, node int64) string { return fmt.Sprintf("r%d/%d", run, node) }

// noObjects notes which contents the run had not yet put into history: the mirror has them.
func (r *rebuilder) noObjects(run int64) error {
	objects, err := r.s.objectInodes(run)
	if err != nil {
		return err
	}
	nodes, err := r.s.numbers(`SELECT node FROM versions WHERE run = ? AND content = ?`, run, contentObject)
	for _, node := range nodes {
		if _, ok := objects[node]; !ok && err == nil {
			err = r.s.noContent(node, run)
		}
	}
	return err
}

// pathOf is where a directory is as far as manifests, and what was moved since, have it: at first where it was before the run.
func (r *rebuilder) pathOf(dir int64, depth int) (string, bool, error) {
	if dir == rootNode {
		return "", true, nil
	}
	parent, name := int64(0), ""
	err := r.s.query(`SELECT dir, name FROM at_names WHERE node = ?`, func(row *sqlite.Stmt) error { parent, name = row.ColumnInt64(0), columnBytes(row, 1); return nil }, dir)
	if err != nil || parent == 0 || depth > deepest {
		return "", false, err
	}
	above, ok, err := r.pathOf(parent, depth+1)
	return join(above, name), ok, err
}

// nodeAt finds the node of a directory by its path. One that has none came with the run that was cut off, and gets one.
func (r *rebuilder) nodeAt(path string, run int64) (int64, error) {
	if path == "" {
		return rootNode, nil
	}
	up, name := split(path)
	parent, err := r.nodeAt(up, run)
	if err != nil {
		return 0, err
	}
	nodes, err := r.s.numbers(`SELECT node FROM at_names JOIN at ON at.id = node WHERE dir = ?1 AND name = ?2 AND type = 16384 AND NOT EXISTS
		(SELECT 1 FROM entries e WHERE e.dir = ?1 AND e.name = ?2 AND e.run > at_names.run) ORDER BY at_names.run DESC LIMIT 1`, parent, []byte(name))
	if err != nil || len(nodes) > 0 {
		return append(nodes, 0)[0], err
	}
	r.lastID++
	return r.lastID, r.at(run, nodePlace{id: r.lastID, kind: unix.S_IFDIR, born: run, alive: true}, []manifestPlace{{parent, name}})
}

// keysAndMoves writes, of a run that has only been recorded,
//
//	~ NODE INO GEN    what the source calls a node: in stage it waits as o-INO-GEN
//	> NODE PATH       where it is to come, of what was there before
//	^ NODE MTIME      of a directory that does not change, but in which files are replaced
func (m *manifestWriter) keysAndMoves() error {
	if !m.recorded {
		return nil
	}
	err := m.s.query(`SELECT n.id, n.ino, n.gen`+eachMentioned+`WHERE n.alive`, func(row *sqlite.Stmt) error {
		m.w.WriteByte('~')
		m.number(row.ColumnInt64(0))
		m.unsigned(uint64(row.ColumnInt64(1)))
		m.unsigned(uint64(row.ColumnInt64(2)))
		m.end()
		return nil
	}, m.mentioned)
	if err != nil {
		return err
	}
	err = m.s.query(`SELECT node, path FROM moves ORDER BY path`, func(row *sqlite.Stmt) error {
		m.w.WriteString("> " + strconv.FormatInt(row.ColumnInt64(0), 10) + " ")
		m.text(columnBytes(row, 1))
		m.end()
		return nil
	})
	if err != nil {
		return err
	}
	return m.s.query(`SELECT node, mtime_s, mtime_n FROM times ORDER BY node`, func(row *sqlite.Stmt) error {
		m.line("^ %d %d.%09d", row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2))
		return nil
	})
}
