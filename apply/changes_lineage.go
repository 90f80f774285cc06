package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// forever ends a span that has not ended.
const forever = math.MaxInt64

// span is a time in runs: the restore points p with from <= p < to. A row of run r says what was before r, so a name that
// came in run r has it from r on, and one that went in r until then.
type span struct{ from, to int64 }

func (s span) has(run int64) bool { return s.from <= run && run < s.to }

func (s span) and(o span) span { return span{max(s.from, o.from), min(s.to, o.to)} }

func (s span) empty() bool { return s.from >= s.to }

// stay is a time that a node had a name in a directory.
type stay struct {
	span
	dir  int64
	name string
}

// meaning is a time that a name in a directory meant one thing: a node, a file that never got one (live, node 0), or nothing.
type meaning struct {
	span
	node int64
	live bool // it still does: the mirror has it
	kind uint32
}

// stays gives the names that a node had, oldest first. What it says of a directory's names at a time counts only if the directory was
// there then.
func (v *View) stays(node int64) (list []stay, err error) {
	if node == rootNode {
		return []stay{{span: span{0, forever}}}, nil
	}
	const before = `(SELECT max(p.run) FROM entries p WHERE p.dir = e.dir AND p.name = e.name AND p.run < e.run)`
	const newest = `(SELECT max(p.run) FROM entries p WHERE p.dir = n.dir AND p.name = n.name)`
	read := func(row *sqlite.Stmt) error {
		s := stay{span{row.ColumnInt64(0), row.ColumnInt64(1)}, row.ColumnInt64(2), columnBytes(row, 3)}
		if last := len(list) - 1; last >= 0 && list[last].dir == s.dir && list[last].name == s.name && list[last].to == s.from {
			list[last].to = s.to // it left and came back in one run
		} else {
			list = append(list, s)
		}
		return nil
	}
	err = v.query(`SELECT coalesce(`+before+`, 0), e.run, e.dir, e.name FROM entries e WHERE e.node = ? ORDER BY e.run`, read, node)
	if err != nil {
		return nil, err
	}
	err = v.query(`SELECT coalesce(`+newest+`, 0), ?2, n.dir, n.name FROM (SELECT dir, name FROM names WHERE node = ?1
		UNION ALL SELECT parent, name FROM nodes WHERE id = ?1 AND alive AND type = 16384 AND parent > 0) n`, read, node, forever)
	return list, err
}

// meanings gives all that a name in a directory meant, oldest first, also nothing.
func (v *View) meanings(e epoch, dir int64, name string) (list []meaning, err error) {
	last := int64(0)
	err = v.query(`SELECT e.run, e.node, n.type FROM entries e LEFT JOIN nodes n ON n.id = e.node WHERE e.dir = ? AND e.name = ? ORDER BY e.run`,
		func(row *sqlite.Stmt) error {
			m := meaning{span: span{last, row.ColumnInt64(0)}, node: row.ColumnInt64(1), kind: uint32(row.ColumnInt64(2))}
			list, last = append(list, m), m.to
			return nil
		}, dir, []byte(name))
	if err != nil {
		return nil, err
	}
	now := meaning{span: span{last, forever}}
	f, err := v.liveChild(e, ViewFile{Name: name, dir: dir, seen: e.version})
	if err == nil {
		now.node, now.live, now.kind = f.node, true, f.Type
	} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
		return nil, err
	}
	return append(list, now), nil
}

// whereabouts is a path that something had during a time.
type whereabouts struct {
	span
	path string
}

// deepest is how many directories may lie above each other; a catalog that says more is damaged.
const deepest = 1 << 16

// paths gives the paths that a directory had during a time, oldest first; where it had none it was not there.
func (v *View) paths(dir int64, during span) ([]whereabouts, error) {
	return v.pathsBelow(dir, during, 0)
}

func (v *View) pathsBelow(dir int64, during span, depth int) (list []whereabouts, err error) {
	if dir == rootNode {
		return []whereabouts{{during, ""}}, nil
	}
	if depth > deepest {
		return nil, fmt.Errorf("the catalog says that directory %d lies below itself", dir)
	}
	stays, err := v.stays(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range stays {
		// Directories may have changed places, but at any one time they form a tree: the time gets shorter on the way.
		within := s.and(during)
		if within.empty() {
			continue
		}
		above, err := v.pathsBelow(s.dir, within, depth+1)
		if err != nil {
			return nil, err
		}
		for _, w := range above {
			list = append(list, whereabouts{w.span, join(w.path, s.name)})
		}
	}
	return list, nil
}

// moment finds paths at one restore point. It keeps those of directories, as many as it is asked for.
type moment struct {
	*View
	epoch epoch             // in which all of it is read
	dirs  map[int64]*string // nil: not there
}

func newMoment(v *View, e epoch) *moment {
	top := ""
	return &moment{v, e, map[int64]*string{rootNode: &top}}
}

// dir gives the path of a directory then; false when it was not there.
func (m *moment) dir(node int64) (string, bool, error) {
	if p, ok := m.dirs[node]; ok {
		if p == nil {
			return "", false, nil
		}
		return *p, true, nil
	}
	found, err := m.names(node)
	if err != nil {
		return "", false, err
	}
	if len(found) == 0 {
		m.dirs[node] = nil
		return "", false, nil
	}
	m.dirs[node] = &found[0].path
	return found[0].path, true, nil
}

// named is one name of a node at a moment.
type named struct {
	dir        int64
	name, path string
}

// names gives all names that a node had then.
func (m *moment) names(node int64) (list []named, err error) {
	stays, err := m.stays(node)
	if err != nil {
		return nil, err
	}
	return m.namesOf(stays)
}

// namesOf gives those of all names of a node that it had then.
func (m *moment) namesOf(stays []stay) (list []named, err error) {
	for _, s := range stays {
		if !s.has(m.run) {
			continue
		}
		if s.dir == 0 { // the top directory
			return []named{{}}, nil
		}
		dir, ok, err := m.dir(s.dir)
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, named{s.dir, s.name, join(dir, s.name)})
		}
	}
	return list, nil
}

// child gives what a name in a directory meant then; false: nothing, or there was no such directory.
func (m *moment) child(dir int64, name string) (f ViewFile, ok bool, err error) {
	if _, there, err := m.dir(dir); err != nil || !there {
		return f, false, err
	}
	f, err = m.View.child(m.epoch, dir, name)
	if errors.Is(err, fs.ErrNotExist) {
		return f, false, nil
	}
	return f, err == nil, err
}

// attributes gives what a node was and its encoded extended attributes. No file is looked at where the catalog knows them.
func (v *View) attributes(e epoch, f ViewFile) (a diff.Attr, xattrs []byte, err error) {
	if old, err := v.version(f.node, &a, &xattrs); old || err != nil {
		return a, xattrs, err
	}
	st, err := v.lstat(e, f)
	if err != nil {
		return a, nil, err
	}
	list, err := v.xattrs(e, f)
	return st.Attr, encodeXattrs(slices.DeleteFunc(list, func(x beneath.Xattr) bool { return !countsXattr(x.Name) })), err
}

// steadily has all that read asks of the catalog answered from one state of it, which is also cheaper. It must be short: SQLite
// cannot cut the WAL meanwhile.
func (v *View) steadily(read func() error) (err error) {
	var end func(*error)
	v.mu.Lock()
	err = v.guard.do(func() error { end = sqlitex.Transaction(v.conn); return nil })
	v.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if gerr := v.guard.do(func() error { end(&err); return nil }); gerr != nil {
			err = gerr
		}
	}()
	return read()
}
