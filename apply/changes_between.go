package apply

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// ErrOrder says that the older of two restore points was given last.
var ErrOrder = errors.New("the older restore point comes first")

// Comparison is what differs between two restore points. It is read from the catalog's rows between the two, and the mirror is
// only asked about the files that they name: the cost follows the changes, not the tree. Its memory does so too.
type Comparison struct {
	before    *View // the older one
	view      *View // the newer one
	old, new  *moment
	list      *changeList
	lost      *changeList         // names of the older point that went, by the path that they had there
	dirs      map[int64]bool      // directories that names came to or went from
	nodes     map[int64]bool      // inodes that may have changed: false until looked at
	work      []int64             // those that are still to be looked at
	movedFrom map[string]ViewFile // directories that moved, by the path that they had
	movedTo   map[string]ViewFile // the same, by the path that they have
}

// Compare finds out what differs between the restore points of two runs of the store at path. catalog is as in OpenView.
func Compare(path, catalog string, from, to int64) (*Comparison, error) {
	if from > to {
		return nil, fmt.Errorf("r%d is newer than r%d: %w", from, to, ErrOrder)
	}
	c := &Comparison{}
	var err error
	if c.before, err = OpenView(path, catalog, from); err != nil {
		return nil, err
	}
	if c.view, err = OpenView(path, catalog, to); err != nil {
		return nil, errors.Join(err, c.before.Close())
	}
	err = c.settled(func(was, is epoch) error {
		c.old, c.new = newMoment(c.before, was), newMoment(c.view, is)
		c.list, c.lost = newChangeList(), newChangeList()
		c.dirs, c.nodes = map[int64]bool{}, map[int64]bool{}
		c.movedFrom, c.movedTo = map[string]ViewFile{}, map[string]ViewFile{}
		return c.compare()
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("comparing r%d with r%d: %w", from, to, err), c.Close())
	}
	return c, nil
}

// settled is View.settled for both restore points.
func (c *Comparison) settled(read func(was, is epoch) error) error {
	return c.before.settled(func(was epoch) error {
		return c.view.settled(func(is epoch) error { return read(was, is) })
	})
}

// Close frees what Compare opened.
func (c *Comparison) Close() error { return errors.Join(c.before.Close(), c.view.Close()) }

// Changes hands over all changes, in the order of a walk.
func (c *Comparison) Changes(yield func(Change) error) error { return c.list.each(yield) }

func (c *Comparison) compare() error {
	if err := c.names(); err != nil {
		return err
	}
	err := c.view.query(`SELECT DISTINCT node FROM versions WHERE run > ? AND run <= ?`, func(row *sqlite.Stmt) error {
		c.touch(row.ColumnInt64(0))
		return nil
	}, c.old.run, c.new.run)
	for err == nil && len(c.work) > 0 {
		node := c.work[len(c.work)-1]
		c.work = c.work[:len(c.work)-1]
		err = c.inode(node)
	}
	return err
}

// touch has a node looked at, once.
func (c *Comparison) touch(node int64) {
	if !c.nodes[node] {
		c.nodes[node] = true
		c.work = append(c.work, node)
	}
}

// names looks at each name that meant something else between the two.
func (c *Comparison) names() error {
	type name struct {
		dir  int64
		name string
		node int64 // what it meant in the older one
	}
	var list []name
	err := c.view.query(`SELECT dir, name, node, min(run) FROM entries WHERE run > ? AND run <= ? GROUP BY dir, name`, func(row *sqlite.Stmt) error {
		list = append(list, name{row.ColumnInt64(0), columnBytes(row, 1), row.ColumnInt64(2)})
		return nil
	}, c.old.run, c.new.run)
	if err != nil {
		return err
	}
	for _, n := range list {
		if _, was, err := c.old.dir(n.dir); err != nil {
			return err
		} else if !was {
			n.node = 0
		}
		f, is, err := c.new.child(n.dir, n.name)
		if err != nil {
			return err
		}
		if n.node == 0 && !is || n.node != 0 && n.node == f.node {
			continue // nothing at both times, or the same
		}
		c.dirs[n.dir] = true
		c.touch(n.dir)
		if n.node != 0 {
			c.touch(n.node)
		}
		if is {
			if err := c.came(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// came looks at a name that the newer restore point has and the older one has not.
func (c *Comparison) came(f ViewFile) error {
	if f.node != 0 {
		c.touch(f.node)
		return nil
	}
	dir, _, err := c.new.dir(f.dir)
	if err != nil {
		return err
	}
	a, err := c.new.lstat(c.new.epoch, f)
	if err != nil {
		return err
	}
	c.list.add(Change{Kind: Added, Path: join(dir, f.Name), Type: f.Type, Size: a.Size})
	return nil
}

// inode compares one node at both moments.
func (c *Comparison) inode(node int64) error {
	kind, err := c.view.nodeType(node)
	if err != nil {
		return err
	}
	f := facts{kind: kind}
	old, err := c.old.names(node)
	if err != nil {
		return err
	}
	now, err := c.new.names(node)
	if err != nil {
		return err
	}
	f.sort(old, now)
	if len(old) > 0 {
		if f.was, err = c.attr(c.old, node, kind, old[0]); err != nil {
			return err
		}
	}
	if len(now) > 0 {
		if f.is, err = c.attr(c.new, node, kind, now[0]); err != nil {
			return err
		}
	}
	if len(old) > 0 && len(now) > 0 {
		if f.why, err = c.why(node, kind, old[0], now[0]); err != nil {
			return err
		}
	}
	c.list.inode(f)
	for _, path := range f.old {
		c.lost.add(Change{Kind: Removed, Path: path, Type: kind})
	}
	if kind != unix.S_IFDIR || len(now) == 0 {
		return nil
	}
	if len(old) == 0 {
		return c.newDir(node)
	}
	if len(f.old) > 0 && f.old[0] != f.new[0] {
		dir := ViewFile{Type: kind, node: node}
		c.movedFrom[f.old[0]], c.movedTo[f.new[0]] = dir, dir
	}
	return nil
}

// sort parts the names of an inode at two moments into those that went, came and stayed.
func (f *facts) sort(old, now []named) {
	for _, o := range old {
		i := slices.IndexFunc(now, func(n named) bool { return n.dir == o.dir && n.name == o.name })
		if i < 0 {
			f.old = append(f.old, o.path)
		} else {
			f.kept = append(f.kept, [2]string{o.path, now[i].path})
		}
	}
	for _, n := range now {
		if !slices.ContainsFunc(old, func(o named) bool { return n.dir == o.dir && n.name == o.name }) {
			f.new = append(f.new, n.path)
		}
	}
}

func (c *Comparison) attr(m *moment, node int64, kind uint32, at named) (diff.Attr, error) {
	a, err := m.lstat(m.epoch, ViewFile{Name: at.name, Type: kind, dir: at.dir, node: node})
	if err != nil {
		return a.Attr, fmt.Errorf("what was %q in r%d: %w", at.path, m.run, err)
	}
	return a.Attr, nil
}

// why tells what of an inode differs that its attributes and names do not show.
func (c *Comparison) why(node int64, kind uint32, old, now named) (why Reason, err error) {
	if c.dirs[node] {
		why |= ReasonNames
	}
	err = c.view.query(`SELECT 1 FROM versions WHERE node = ? AND run > ? AND run <= ? AND content <> 0 LIMIT 1`, func(*sqlite.Stmt) error {
		why |= ReasonData
		return nil
	}, node, c.old.run, c.new.run)
	if err != nil {
		return 0, err
	}
	before, err := c.old.xattrs(ViewFile{Name: old.name, Type: kind, dir: old.dir, node: node})
	if err != nil {
		return 0, err
	}
	after, err := c.new.xattrs(ViewFile{Name: now.name, Type: kind, dir: now.dir, node: node})
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(before, after) {
		why |= ReasonXattrs
	}
	return why, nil
}

// xattrs gives the extended attributes that f had, encoded.
func (m *moment) xattrs(f ViewFile) ([]byte, error) {
	list, err := m.View.xattrs(m.epoch, f)
	return encodeXattrs(slices.DeleteFunc(list, func(x beneath.Xattr) bool { return !countsXattr(x.Name) })), err
}

// newDir adds what is in a directory that the older restore point does not have. There are no rows for what was in it when it was
// made: nobody could look into it before.
func (c *Comparison) newDir(node int64) error {
	files, err := c.new.readDir(c.new.epoch, node)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := c.came(f); err != nil {
			return err
		}
	}
	return nil
}
