package apply

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/snapshot/beneath"
)

// ErrUnsettled says that mirror and catalog do not agree, though they should while a run is on too: what is asked for is not
// where the run leaves it.
var ErrUnsettled = errors.New("the mirror does not have it where the catalog says: a run is going on or was cut off, finish it with snapdiff run and look again")

// ErrNoRestorePoint says that a run is no finished one.
var ErrNoRestorePoint = errors.New("no such restore point")

// RestorePoint is a finished run.
type RestorePoint struct {
	Run  int64
	Date time.Time // when the snapshot was taken, UTC
}

// View is the tree as it was at one restore point. It reads rows and files when asked and keeps some open directories, so its
// memory does not grow with the tree. It has a connection and descriptors of its own and may be used by any number of
// goroutines, also while a run changes the store (see view_place.go).
//
// A row that a run writes says what was there before that run; so of the rows of one name, or of one chain of a node's
// versions, the first of a run after the restore point counts, and if there is none, the mirror counts.
type View struct {
	run   int64
	path  string
	root  *beneath.Root // the store; nothing below the mirror is opened through it by path, for directories move
	dirs  openDirs
	lease *os.File // keeps the restore point from being dropped

	patched bool // files of the mirror may be patched in place
	lseek   seeker

	catalog catalogPlace

	mu     sync.Mutex // guards what follows
	conn   *sqlite.Conn
	guard  faultGuard // of conn
	frozen *frozen    // set where the catalog cannot be followed
	opened int64      // how often it was opened
	seen   epoch
	format int64 // of the catalog
}

// RestorePoints lists the finished runs of the store at path, oldest first. catalog is the path of its catalog when that lies elsewhere.
func RestorePoints(path, catalog string) (points []RestorePoint, err error) {
	conn, err := openCatalogReadOnly(path, catalog, isFull)
	if err != nil {
		return nil, err
	}
	s := &Store{conn: conn}
	defer s.Close()
	err = s.query(`SELECT id, date FROM runs WHERE state = 'done' ORDER BY id`, func(row *sqlite.Stmt) error {
		points = append(points, RestorePoint{row.ColumnInt64(0), time.Unix(0, row.ColumnInt64(1)).UTC()})
		return nil
	})
	return points, catalogError("list the restore points", err)
}

// OpenView opens the restore point of a finished run in the store at path. catalog is the path of the catalog when it does
// not lie in the store, else "". Nothing is written; a store on read-only media will do.
func OpenView(path, catalog string, run int64) (*View, error) {
	place, err := findCatalog(path, catalog)
	if err != nil {
		return nil, err
	}
	root, err := beneath.Open(path)
	if err != nil {
		return nil, err
	}
	v := &View{run: run, path: path, root: root, catalog: place}
	if err := v.openCatalog(); err != nil {
		root.Close()
		return nil, err
	}
	v.patched, err = patchesInPlace(root)
	if err == nil {
		v.lseek, err = seekerOf(root)
	}
	if err == nil {
		err = v.begin()
	}
	if err != nil {
		v.Close()
		return nil, fmt.Errorf("open restore point r%d: %w", run, err)
	}
	return v, nil
}

// begin makes sure that the restore point is there and stays there.
func (v *View) begin() error {
	if err := v.settled(v.checkFormat); err != nil {
		return err
	}
	if err := v.settled(func(epoch) error { return v.checkRun() }); err != nil {
		return err
	}
	lease, err := takeLease(v.root, v.run, unix.LOCK_SH)
	if errors.Is(err, errInUse) {
		return ErrNoRestorePoint // it is just being dropped
	}
	if v.lease = lease; err != nil {
		return err
	}
	return v.settled(func(epoch) error { return v.checkRun() })
}

// Close frees the view. Files that were opened through it stay open.
func (v *View) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dirs.flush()
	return errors.Join(v.guard.close(v.conn), v.root.Close(), giveBack(v.lease))
}

// Run is the run whose end the view shows.
func (v *View) Run() int64 { return v.run }

// checkFormat refuses a catalog of format 1 in the middle of a run: it does not say where the run puts things.
func (v *View) checkFormat(e epoch) error {
	if v.format < 2 && e.running() {
		return ErrUnsettled
	}
	return nil
}

// checkRun tells whether the view's run is a restore point.
func (v *View) checkRun() error {
	found := false
	err := v.query(`SELECT 1 FROM runs WHERE id = ? AND state = 'done'`, func(*sqlite.Stmt) error { found = true; return nil }, v.run)
	if err == nil && !found {
		err = ErrNoRestorePoint
	}
	return err
}

// epoch is a state of the catalog. It never comes back.
type epoch struct {
	version int64 // another number after each commit of others
	run     int64 // the newest run
	state   string
}

// running tells that the newest run is on or was cut off: its rows are there, but the mirror is between two states.
func (e epoch) running() bool { return e.state != Done && e.state != Abandoned }

// detaching tells that names of the mirror may be taken away, and none of them has been filled.
func (e epoch) detaching() bool { return e.state == Recorded || e.state == Saved || e.state == Patched }

// known is the epoch that was seen last.
func (v *View) known() (epoch, error) {
	v.mu.Lock()
	seen := v.seen
	v.mu.Unlock()
	if seen.state == "" {
		return v.epoch()
	}
	return seen, nil
}

// epoch looks which epoch it is.
func (v *View) epoch() (epoch, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := v.thaw(); err != nil {
		return v.seen, err
	}
	now := epoch{version: v.opened << 32}
	err := v.rows(`PRAGMA data_version`, func(row *sqlite.Stmt) error { now.version |= row.ColumnInt64(0); return nil })
	if err != nil || now.version == v.seen.version && v.seen.state != "" {
		return v.seen, catalogError("read", err)
	}
	if err := v.guard.do(v.followFormat); err != nil {
		return now, err
	}
	err = v.rows(`SELECT id, state FROM runs ORDER BY id DESC LIMIT 1`,
		func(row *sqlite.Stmt) error { now.run, now.state = row.ColumnInt64(0), row.ColumnText(1); return nil })
	if err != nil {
		return now, catalogError("read", err)
	}
	v.seen = now
	v.dirs.flush()
	v.root.Forget("")
	return now, nil
}

// followFormat sees to it that what the connection shows of an older catalog does not hide what it has since it was upgraded.
func (v *View) followFormat() error {
	format, err := formatOf(v.conn)
	if err == nil && format != v.format {
		v.format, err = showAsNewest(v.conn)
	}
	return err
}

// tries is how often a view looks again for what a run moves while it looks. Each move can cost one look.
const tries = 1000

// settled does what read does and looks at the catalog afterwards: if nothing was committed since the epoch that read was told,
// the rows that it saw belong together, and what it opened was what they spoke of. Otherwise it starts over.
func (v *View) settled(read func(epoch) error) error {
	for try := 0; ; try++ {
		before, err := v.known()
		if err != nil {
			return err
		}
		err = read(before)
		after, afterErr := v.epoch()
		switch {
		case afterErr != nil:
			return afterErr
		case before != after || errors.Is(err, errMoved) && try < tries:
			continue
		case errors.Is(err, errMoved):
			return ErrUnsettled
		}
		return err
	}
}

// query reads rows in a transaction of its own.
func (v *View) query(sql string, row func(*sqlite.Stmt) error, args ...any) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return catalogError("read", v.rows(sql, row, args...))
}

// rows is query with v.mu held.
func (v *View) rows(sql string, row func(*sqlite.Stmt) error, args ...any) error {
	return v.guard.do(func() error { return sqlitex.Execute(v.conn, sql, &sqlitex.ExecOptions{Args: args, ResultFunc: row}) })
}

// ViewFile is one name in a view. It stays good while later runs change the mirror.
type ViewFile struct {
	Name string // the last element; "" for the root
	Type uint32 // S_IFMT part of the mode
	dir  int64  // node of the directory that holds it; 0 for the root
	node int64  // 0: it had none when the catalog had the version seen, and is found by dir and Name
	seen int64
}

// Generation tells files apart that have the same inode number one after the other: mending the mirror frees inodes, and makes others. It is
// the same for one file for as long as the process lives, or until a run changes the file. Several names of a file may have several.
func (f ViewFile) Generation() uint64 {
	if f.node != 0 {
		return uint64(f.node)
	}
	var h maphash.Hash
	h.SetSeed(generationSeed)
	binary.Write(&h, binary.NativeEndian, f.dir)
	h.WriteString(f.Name)
	return h.Sum64() | 1<<63
}

var generationSeed = maphash.MakeSeed()

// Root is the top directory.
func (v *View) Root() ViewFile { return ViewFile{Type: unix.S_IFDIR, node: rootNode} }

// Lookup finds a path, relative to the root; "" is the root. Symlinks are not followed. fs.ErrNotExist when there was no such
// name at the restore point.
func (v *View) Lookup(path string) (ViewFile, error) {
	at := v.Root()
	if path == "" {
		return at, nil
	}
	for name := range strings.SplitSeq(path, "/") {
		next, err := v.Child(at, name)
		if errors.Is(err, fs.ErrNotExist) {
			return ViewFile{}, &NotInPoint{v.run, path}
		}
		if err != nil {
			return ViewFile{}, &fs.PathError{Op: fmt.Sprintf("look up in r%d", v.run), Path: path, Err: err}
		}
		at = next
	}
	return at, nil
}

// NotInPoint says that a restore point has no such name. It is an fs.ErrNotExist.
type NotInPoint struct {
	Run  int64
	Path string
}

// Error names both.
func (n *NotInPoint) Error() string { return fmt.Sprintf("r%d has no %q", n.Run, n.Path) }

// Is makes it an fs.ErrNotExist.
func (n *NotInPoint) Is(target error) bool { return target == fs.ErrNotExist }

// Child finds one name in a directory.
func (v *View) Child(dir ViewFile, name string) (f ViewFile, err error) {
	if err := checkName(dir, name); err != nil {
		return f, err
	}
	err = v.settled(func(e epoch) error { f, err = v.child(e, dir.node, name); return err })
	return f, err
}

// ChildAttr is Child and Lstat in one.
func (v *View) ChildAttr(dir ViewFile, name string) (f ViewFile, a ViewAttr, err error) {
	if err := checkName(dir, name); err != nil {
		return f, a, err
	}
	err = v.settled(func(e epoch) error { f, a, err = v.childAttr(e, dir.node, name); return err })
	return f, a, err
}

// FileAttr is a file with its attributes, or why they cannot be had.
type FileAttr struct {
	ViewFile
	ViewAttr
	Err error
}

// ChildAttrs is ChildAttr for many names of one directory, which costs much less than one after the other: to make sure that no run came
// between takes as long as to look.
func (v *View) ChildAttrs(dir ViewFile, names []string) []FileAttr {
	found := make([]FileAttr, len(names))
	err := v.settled(func(e epoch) (moved error) {
		for i, name := range names {
			f := &found[i]
			if f.Err = checkName(dir, name); f.Err == nil {
				f.ViewFile, f.ViewAttr, f.Err = v.childAttr(e, dir.node, name)
			}
			if errors.Is(f.Err, errMoved) {
				return f.Err
			}
		}
		return nil
	})
	for i := range found {
		if err != nil {
			found[i].Err = err
		}
	}
	return found
}

// childAttr is ChildAttr inside of settled.
func (v *View) childAttr(e epoch, dir int64, name string) (f ViewFile, a ViewAttr, err error) {
	var st unix.Stat_t
	switch f, err = v.childStat(e, dir, name, &st); {
	case err != nil:
		return f, a, err
	case f.node == 0:
		return f, ViewAttr{Attr: attrOf(&st), Ino: st.Ino, Blocks: st.Blocks}, nil
	}
	a, err = v.lstat(e, f)
	return f, a, err
}

// checkName refuses what cannot be a name in dir.
func checkName(dir ViewFile, name string) error {
	if dir.Type != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	if name == "" || strings.IndexByte(name, '/') >= 0 {
		return fs.ErrNotExist
	}
	return nil
}

// child is Child inside of settled.
func (v *View) child(e epoch, dir int64, name string) (ViewFile, error) {
	return v.childStat(e, dir, name, new(unix.Stat_t))
}

// childStat is child, and fills in st for a file without a node.
func (v *View) childStat(e epoch, dir int64, name string, st *unix.Stat_t) (ViewFile, error) {
	f := ViewFile{Name: name, dir: dir, seen: e.version}
	if d := v.dirs.get(dir); d != nil {
		defer d.release()
		plain, err := v.isPlain(e, d)
		if err != nil {
			return f, err
		}
		if plain {
			return v.liveStat(e, f, st)
		}
	}
	old := false
	err := v.query(`SELECT node FROM entries WHERE dir = ? AND name = ? AND run > ? ORDER BY run LIMIT 1`,
		func(row *sqlite.Stmt) error { old, f.node = true, row.ColumnInt64(0); return nil }, dir, []byte(name), v.run)
	if err != nil {
		return f, err
	}
	if !old {
		return v.liveStat(e, f, st)
	}
	if f.node == 0 {
		return f, fs.ErrNotExist
	}
	f.Type, err = v.nodeType(f.node)
	return f, err
}

// isPlain tells that all names in a directory are what they were at the restore point and, but for directories, have no
// node: the catalog need not be asked for each.
func (v *View) isPlain(e epoch, d *openedDir) (plain bool, err error) {
	if known, plain := d.plainAt(e.version); known {
		return plain, nil
	}
	err = v.query(`SELECT NOT EXISTS (SELECT 1 FROM entries WHERE dir = ?1 AND run > ?2) AND NOT EXISTS (SELECT 1 FROM names WHERE dir = ?1)`,
		func(row *sqlite.Stmt) error { plain = row.ColumnBool(0); return nil }, d.node, v.run)
	if err == nil {
		d.setPlain(e.version, plain)
	}
	return plain, err
}

// liveChild finds a name that means the same since the restore point, also after a run that is on.
func (v *View) liveChild(e epoch, f ViewFile) (ViewFile, error) {
	return v.liveStat(e, f, new(unix.Stat_t))
}

// liveStat is liveChild, and fills in st.
func (v *View) liveStat(e epoch, f ViewFile, st *unix.Stat_t) (ViewFile, error) {
	if f.dir == rootNode && f.Name == ".snapdiff" || f.Name == "." || f.Name == ".." {
		return f, fs.ErrNotExist
	}
	dir, err := v.openDir(e, f.dir)
	if err != nil {
		return f, err
	}
	defer dir.release()
	if *st, err = dir.root.Lstat(f.Name); err != nil {
		return f, err
	}
	f.Type = st.Mode & unix.S_IFMT
	sql := `SELECT node FROM names WHERE dir = ? AND name = ?`
	if f.Type == unix.S_IFDIR {
		sql = `SELECT id FROM nodes WHERE parent = ? AND name = ? AND alive AND type = 16384`
	} else if _, plain := dir.plainAt(e.version); plain {
		return f, nil
	}
	err = v.query(sql, func(row *sqlite.Stmt) error { f.node = row.ColumnInt64(0); return nil }, f.dir, []byte(f.Name))
	if err == nil && f.node == 0 && f.Type == unix.S_IFDIR {
		err = fmt.Errorf("the catalog does not know the directory %q of the mirror", f.Name)
	}
	return f, err
}

// nodeType is the type of a node. A node never changes its type.
func (v *View) nodeType(node int64) (kind uint32, err error) {
	err = v.query(`SELECT type FROM nodes WHERE id = ?`, func(row *sqlite.Stmt) error { kind = uint32(row.ColumnInt64(0)); return nil }, node)
	if err == nil && kind == 0 {
		err = fmt.Errorf("the catalog lacks node %d", node)
	}
	return kind, err
}
