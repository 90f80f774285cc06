package apply

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Where a view finds things while a run R is on, which has recorded its rows and has not committed. What has no row of R is
// not changed by R: only its directory may move. A directory moves with what it holds, so below an open directory every
// name without a row of R is where it was: directories are opened one by one, each below its parent, and never by a long path.
// What R takes out of the mirror or moves is in turn
//
//   - at its old name, until Detach has come to it; nothing is put at a name that went before all is detached;
//   - in stage, as o-INO-GEN;
//   - at the name that the table moves has (it was only moved), or in history (replaced or deleted). A file that is
//     replaced has its name in history before anything takes its place.
//
// The state says whether Detach has ended, unless nothing is ever put at a name that went, and no directory goes (plan.apart): then all of R may
// happen in one state, and old names stay good. Within one state things go on in this order only, so to look in the reverse order
// of the list and to find nothing means that it moved meanwhile: errMoved, look again.

// errMoved: a run moved it while it was being looked for.
var errMoved = errors.New("moved")

// openDir opens the directory of a node in the mirror, wherever a run has it; fs.ErrNotExist when it is gone. The caller
// releases it.
func (v *View) openDir(e epoch, node int64) (*openedDir, error) {
	if d := v.dirs.get(node); d != nil {
		return d, nil
	}
	root, err := v.findDir(e, node)
	if err != nil {
		return nil, err
	}
	return v.dirs.put(node, root), nil
}

func (v *View) findDir(e epoch, node int64) (*beneath.Root, error) {
	if node == rootNode {
		return v.root.OpenRoot(mirrorDir)
	}
	var key diff.Key
	parent, name := int64(0), ""
	err := v.query(`SELECT parent, name, ino, gen FROM nodes WHERE id = ? AND alive`, func(row *sqlite.Stmt) error {
		parent, name = row.ColumnInt64(0), columnBytes(row, 1)
		key = diff.Key{Ino: uint64(row.ColumnInt64(2)), Gen: uint64(row.ColumnInt64(3))}
		return nil
	}, node)
	if err != nil {
		return nil, err
	}
	if parent == 0 {
		return nil, fs.ErrNotExist
	}
	if e.running() {
		if root, err := v.findMovedDir(e, node, key); root != nil || err != nil {
			return root, err
		}
	}
	above, err := v.openDir(e, parent)
	if err != nil {
		return nil, err
	}
	defer above.release()
	root, err := above.root.OpenRoot(name)
	if err != nil {
		return nil, v.lost(e, name, err)
	}
	return root, nil
}

// findMovedDir opens a directory that a run moves or removes. nil without an error: it is still at its old name.
func (v *View) findMovedDir(e epoch, node int64, key diff.Key) (*beneath.Root, error) {
	moves := false
	err := v.query(`SELECT 1 FROM entries WHERE node = ? AND run = ?`, func(*sqlite.Stmt) error { moves = true; return nil }, node, e.run)
	if err != nil || !moves {
		return nil, err
	}
	root, err := v.root.OpenRoot(stageDir + oldName(key))
	if !missing(err) {
		return root, err
	}
	if e.detaching() {
		return nil, nil
	}
	to := ""
	err = v.query(`SELECT path FROM moves WHERE node = ?`, func(row *sqlite.Stmt) error { to = columnBytes(row, 0); return nil }, node)
	if err != nil {
		return nil, err
	}
	if to == "" {
		return nil, fs.ErrNotExist
	}
	top, err := beneath.Open(v.path) // one that knows no directory by a path that it had before
	if err != nil {
		return nil, err
	}
	defer top.Close()
	root, err = top.OpenRoot(mirrorDir + "/" + to)
	if err != nil {
		return nil, v.lost(e, to, err)
	}
	return root, nil
}

// lost makes of the answer that something is not there what that means: a run may have moved it, otherwise it ought to be.
func (v *View) lost(e epoch, path string, err error) error {
	if !missing(err) {
		return err
	}
	if e.running() {
		return errMoved
	}
	return fmt.Errorf("the mirror lacks %q, which no run removed: run snapdiff check", path)
}

// contentPlace is where the contents of a file are.
type contentPlace struct {
	run   int64 // that replaced them and has them in history; 0: none did, they are in the mirror
	saved bool  // ranges of them were saved by runs before that (see savedRange)
}

// errNoBase: the mirror has no such file any more, and all that was in it was saved.
var errNoBase = errors.New("all of it is in saved ranges")

// withContent calls use with a place that has f's contents (a symlink's target), until it finds the file there. Where ranges
// of them were saved it has the rest.
func (v *View) withContent(e epoch, f ViewFile, use func(dir *beneath.Root, name string) error) error {
	f, err := v.refresh(e, f)
	if err != nil {
		return err
	}
	where, err := v.where(f.node)
	if err != nil {
		return err
	}
	return v.withContentAt(e, f, where, use)
}

// withContentAt is withContent when it is known where they are.
func (v *View) withContentAt(e epoch, f ViewFile, where contentPlace, use func(dir *beneath.Root, name string) error) error {
	if f.node == 0 {
		return v.useName(e, f.dir, f.Name, use)
	}
	if where.run == 0 && where.saved {
		if alive, err := v.alive(f.node); !alive {
			return errors.Join(err, errNoBase)
		}
	}
	if where.run == 0 || e.running() && where.run == e.run {
		return v.withLiveContent(e, f, where.run, use)
	}
	return missingObject(historyPath(where.run, f.node), use(v.root, historyPath(where.run, f.node)))
}

// missingObject says so where an error means that.
func missingObject(path string, err error) error {
	if missing(err) {
		return fmt.Errorf("%s is missing from the store", path)
	}
	return err
}

// where finds out where the contents are that a node had.
func (v *View) where(node int64) (p contentPlace, err error) {
	if node == 0 {
		return p, nil
	}
	const first = `(SELECT run FROM versions WHERE node = ?1 AND run > ?2 AND content = %d ORDER BY run LIMIT 1)`
	err = v.query(fmt.Sprintf(`SELECT `+first+`, `+first, contentObject, contentSaved), func(row *sqlite.Stmt) error {
		saved := row.ColumnInt64(1)
		p.run = row.ColumnInt64(0)
		p.saved = saved != 0 && (p.run == 0 || saved < p.run)
		return nil
	}, node, v.run)
	return p, err
}

// alive tells whether a node is in the mirror.
func (v *View) alive(node int64) (alive bool, err error) {
	err = v.query(`SELECT alive FROM nodes WHERE id = ?`, func(row *sqlite.Stmt) error { alive = row.ColumnBool(0); return nil }, node)
	return alive, err
}

// withLiveContent looks for a node that is in the mirror, or was when the run began that is on. run: it replaces it.
func (v *View) withLiveContent(e epoch, f ViewFile, run int64, use func(dir *beneath.Root, name string) error) error {
	object := historyPath(run, f.node)
	if run != 0 {
		if err := use(v.root, object); !missing(err) {
			return err
		}
	}
	err := v.inMirror(e, f, use)
	if err != nil || run == 0 {
		return err
	}
	if there, err := exists(v.root, object); there || err != nil {
		return errors.Join(errMoved, err) // by now the name may mean what replaces it
	}
	return nil
}

// inMirror looks in stage and at the names that the node has, or comes to have.
func (v *View) inMirror(e epoch, f ViewFile, use func(dir *beneath.Root, name string) error) error {
	if e.running() {
		key, err := v.liveKey(f.node)
		if err != nil {
			return err
		}
		if err := use(v.root, stageDir+oldName(key)); !missing(err) {
			return err
		}
	}
	names, err := v.liveNames(e, f.node)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := v.useName(e, n.dir, n.name, use); !errors.Is(err, errMoved) {
			return err
		}
	}
	if !e.running() {
		return fmt.Errorf("the catalog says neither where node %d is in the mirror nor where in history", f.node)
	}
	return v.atNewName(f.node, use)
}

// useName calls use with a name in a directory of the mirror.
func (v *View) useName(e epoch, dir int64, name string, use func(dir *beneath.Root, name string) error) error {
	d, err := v.openDir(e, dir)
	if err != nil {
		return v.lost(e, name, err)
	}
	defer d.release()
	return v.lost(e, name, use(d.root, name))
}

// atNewName looks where the run that is on puts a node that it moves.
func (v *View) atNewName(node int64, use func(dir *beneath.Root, name string) error) error {
	var paths []string
	err := v.query(`SELECT path FROM moves WHERE node = ?`, func(row *sqlite.Stmt) error { paths = append(paths, columnBytes(row, 0)); return nil }, node)
	if err != nil {
		return err
	}
	top, err := beneath.Open(v.path)
	if err != nil {
		return err
	}
	defer top.Close()
	for _, path := range paths {
		if err := use(top, mirrorDir+"/"+path); !missing(err) {
			return err
		}
	}
	return errMoved
}

// liveName is a name in the mirror.
type liveName struct {
	dir  int64
	name string
}

// liveNames are names of a node that mean it now: one, or while a run is on all that it does not take away. (Until Detach has
// ended the others are good too, for nothing takes their place before that.)
func (v *View) liveNames(e epoch, node int64) (names []liveName, err error) {
	sql := `SELECT dir, name FROM names WHERE node = ?1 LIMIT 1`
	args := []any{node}
	switch {
	case e.detaching():
		sql = `SELECT dir, name FROM names WHERE node = ?1`
	case e.running():
		sql = `SELECT dir, name FROM names n WHERE node = ?1 AND NOT EXISTS (SELECT 1 FROM entries e WHERE e.dir = n.dir AND e.name = n.name AND e.run = ?2)`
		args = append(args, e.run)
	}
	err = v.query(sql, func(row *sqlite.Stmt) error {
		names = append(names, liveName{row.ColumnInt64(0), columnBytes(row, 1)})
		return nil
	}, args...)
	return names, err
}

// liveKey is the key of a live node.
func (v *View) liveKey(node int64) (key diff.Key, err error) {
	err = v.query(`SELECT ino, gen FROM nodes WHERE id = ?`, func(row *sqlite.Stmt) error {
		key = diff.Key{Ino: uint64(row.ColumnInt64(0)), Gen: uint64(row.ColumnInt64(1))}
		return nil
	}, node)
	return key, err
}

const (
	mirrorDir = "tree"   // the mirror's name in the store
	stageDir  = "stage/" // before the name of what is in stage
)

// openDirs keeps the directories open that were used last. An open directory stays that of its node wherever it is moved.
type openDirs struct {
	mu     sync.Mutex
	byNode map[int64]*list.Element // of *openedDir
	recent list.List               // the one used last comes first
}

// maxOpenDirs is how many of them a view keeps. Of --all there may be some dozen views.
const maxOpenDirs = 64

type openedDir struct {
	root *beneath.Root
	node int64
	from *openDirs
	refs int // one for the list, one for each user; guarded by from.mu

	plain   bool  // see isPlain; guarded by from.mu
	plainOf int64 // the epoch's version for which it is known
}

func (d *openedDir) plainAt(version int64) (known, plain bool) {
	d.from.mu.Lock()
	defer d.from.mu.Unlock()
	known = version != 0 && d.plainOf == version
	return known, known && d.plain
}

func (d *openedDir) setPlain(version int64, plain bool) {
	d.from.mu.Lock()
	defer d.from.mu.Unlock()
	d.plainOf, d.plain = version, plain
}

func (o *openDirs) get(node int64) *openedDir {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.byNode[node]
	if at == nil {
		return nil
	}
	o.recent.MoveToFront(at)
	d := at.Value.(*openedDir)
	d.refs++
	return d
}

// put takes over an open directory and gives it back for use.
func (o *openDirs) put(node int64, root *beneath.Root) *openedDir {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.byNode == nil {
		o.byNode = make(map[int64]*list.Element)
	}
	if at := o.byNode[node]; at != nil { // another was quicker
		o.remove(at)
	}
	for o.recent.Len() >= maxOpenDirs {
		o.remove(o.recent.Back())
	}
	d := &openedDir{root: root, node: node, from: o, refs: 2}
	o.byNode[node] = o.recent.PushFront(d)
	return d
}

func (o *openDirs) remove(at *list.Element) {
	d := o.recent.Remove(at).(*openedDir)
	delete(o.byNode, d.node)
	d.drop()
}

// forget closes the directory of a node as soon as nobody uses it.
func (o *openDirs) forget(node int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at := o.byNode[node]; at != nil {
		o.remove(at)
	}
}

// flush forgets all of them. Those in use stay open until they are released.
func (o *openDirs) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.recent.Len() > 0 {
		o.remove(o.recent.Back())
	}
}

func (d *openedDir) release() {
	d.from.mu.Lock()
	defer d.from.mu.Unlock()
	d.drop()
}

func (d *openedDir) drop() {
	if d.refs--; d.refs == 0 {
		d.root.Close()
	}
}
