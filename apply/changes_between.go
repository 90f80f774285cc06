package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
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
func Compare(ctx context.Context, path, catalog string, from, to int64) (*Comparison, error) {
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
		return c.compare(ctx)
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

func (c *Comparison) compare(ctx context.Context) error {
	if err := c.names(ctx); err != nil {
		return err
	}
	err := c.view.query(`SELECT DISTINCT node FROM versions WHERE run > ? AND run <= ?`, func(row *sqlite.Stmt) error {
		c.touch(row.ColumnInt64(0))
		return nil
	}, c.old.run, c.new.run)
	for err == nil && len(c.work) > 0 {
		err = c.steadily(ctx, func() error { return c.inodes(atOnce) })
	}
	return err
}

// inodes compares some of the nodes that are still to be looked at.
func (c *Comparison) inodes(most int) error {
	for range most {
		last := len(c.work) - 1
		if last < 0 {
			break
		}
		node := c.work[last]
		c.work = c.work[:last]
		if err := c.inode(node); err != nil {
			return err
		}
	}
	return nil
}

// touch has a node looked at, once.
func (c *Comparison) touch(node int64) {
	if !c.nodes[node] {
		c.nodes[node] = true
		c.work = append(c.work, node)
	}
}

// changedName is a name that may mean something else, with what it meant in the older restore point.
type changedName struct {
	dir  int64
	name string
	node int64
}

// names looks at each name that meant something else between the two.
func (c *Comparison) names(ctx context.Context) error {
	var list []changedName
	err := c.view.query(`SELECT dir, name, node, min(run) FROM entries WHERE run > ? AND run <= ? GROUP BY dir, name`, func(row *sqlite.Stmt) error {
		list = append(list, changedName{row.ColumnInt64(0), columnBytes(row, 1), row.ColumnInt64(2)})
		return nil
	}, c.old.run, c.new.run)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(list, atOnce) {
		err := c.steadily(ctx, func() error {
			for _, n := range some {
				if err := c.name(n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// atOnce is how many names or inodes are looked at in one transaction: enough to make it cheap, few enough to let writers cut
// the WAL.
const atOnce = 200

// steadily is View.steadily for both restore points.
func (c *Comparison) steadily(ctx context.Context, read func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.before.steadily(func() error { return c.view.steadily(read) })
}

func (c *Comparison) name(n changedName) error {
	_, was, err := c.old.dir(n.dir)
	if err != nil {
		return err
	}
	if !was {
		n.node = 0
	}
	f, is, err := c.new.child(n.dir, n.name)
	if err != nil {
		return err
	}
	if n.node == 0 && !is || n.node != 0 && n.node == f.node {
		return nil // nothing at both times, or the same
	}
	c.dirs[n.dir] = true
	c.touch(n.dir)
	if n.node != 0 {
		c.touch(n.node)
	}
	if !is {
		return nil
	}
	return c.came(f)
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
	stays, err := c.view.stays(node)
	if err != nil {
		return err
	}
	old, err := c.old.namesOf(stays)
	if err != nil {
		return err
	}
	now, err := c.new.namesOf(stays)
	if err != nil {
		return err
	}
	if kind == unix.S_IFDIR && max(len(old), len(now)) > 1 {
		return &DamagedCatalog{fmt.Errorf("the directory of node %d has several names", node)}
	}
	f.sort(old, now)
	var before, after []byte
	if len(old) > 0 {
		if f.was, before, err = c.old.what(node, kind, old[0]); err != nil {
			return err
		}
	}
	if len(now) > 0 {
		if f.is, after, err = c.new.what(node, kind, now[0]); err != nil {
			return err
		}
	}
	if len(old) > 0 && len(now) > 0 {
		if f.why, err = c.why(node); err != nil {
			return err
		}
		if !bytes.Equal(before, after) {
			f.why |= ReasonXattrs
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

// what gives the attributes and the encoded extended attributes that a node had.
func (m *moment) what(node int64, kind uint32, at named) (a diff.Attr, xattrs []byte, err error) {
	a, xattrs, err = m.attributes(m.epoch, ViewFile{Name: at.name, Type: kind, dir: at.dir, node: node})
	if err != nil {
		err = fmt.Errorf("what was %q in r%d: %w", at.path, m.run, err)
	}
	return a, xattrs, err
}

// why tells what of an inode differs that its attributes and names do not show.
func (c *Comparison) why(node int64) (why Reason, err error) {
	if c.dirs[node] {
		why |= ReasonNames
	}
	err = c.view.query(`SELECT 1 FROM versions WHERE node = ? AND run > ? AND run <= ? AND content <> 0 LIMIT 1`, func(*sqlite.Stmt) error {
		why |= ReasonData
		return nil
	}, node, c.old.run, c.new.run)
	return why, err
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
