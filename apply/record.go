package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Where the content of a version is (versions.content).
const (
	contentLater  = 0 // that of the next later version, else the mirror's
	contentObject = 1 // history/rRUN/NODE
	contentSaved  = 2 // see savedRange
)

// recorder writes the history rows of one run: what each name meant and what each inode was before it.
type recorder struct {
	s       *Store
	run     int64
	plan    *plan
	base    *beneath.Root
	next    *beneath.Root
	newDirs map[diff.Key]bool
	nodes   map[diff.Key]int64
	dirs    map[string]int64  // nodes of directories by their paths in the base
	xattrs  map[string][]byte // of what gets a version, by a path of it
	// disturbed are the directories that times is about.
	disturbed []disturbed
}

func (r *recorder) record() error {
	for _, in := range r.plan.Inodes {
		if in.What&diff.New != 0 && in.Attr.IsDir() {
			r.newDirs[in.Key] = true
		}
	}
	for _, in := range r.plan.Inodes {
		if in.What&diff.New != 0 {
			continue
		}
		content := contentLater
		if in.What&diff.Data != 0 && !in.Attr.IsDir() {
			content = contentObject
		}
		if err := r.version(in.Key, in.BaseAttr, in.BasePaths, content); err != nil {
			return err
		}
	}
	if err := r.times(); err != nil {
		return err
	}
	for _, g := range r.plan.Gone {
		content := contentObject
		if g.BaseAttr.IsDir() {
			content = contentLater
		}
		if err := r.version(g.Key, g.BaseAttr, g.BasePaths, content); err != nil {
			return err
		}
	}
	return r.entries()
}

// times notes, until the commit, the times of directories that the run disturbs though they did not change in the source: a file
// in them is replaced. Finish sets them again; views that are opened before it have them from here.
func (r *recorder) times() error {
	for _, d := range r.disturbed {
		node, err := r.s.dirNode(d.path, r.dirs)
		if err != nil {
			return err
		}
		if err := r.s.exec(`INSERT INTO times(node, mtime_s, mtime_n) VALUES (?, ?, ?)`, node, d.mtime.Sec, d.mtime.Nsec); err != nil {
			return err
		}
	}
	return nil
}

// disturbed is a directory of the base and its time.
type disturbed struct {
	path  string
	mtime unix.Timespec
}

// readTimes reads the times of the directories that hold what was changed, on several workers. What is as it was is looked at where Finish wants to
// know all of it: in the new snapshot, where it has the same path if no directory moved.
func (r *recorder) readTimes(ctx context.Context, workers int) error {
	seen := map[string]bool{}
	changed := map[string]bool{}
	for _, in := range r.plan.Inodes {
		if in.Attr.IsDir() {
			for _, path := range in.BasePaths {
				changed[path] = true
			}
			continue
		}
		for _, path := range in.BasePaths {
			if dir, _ := split(path); !seen[dir] {
				seen[dir] = true
				r.disturbed = append(r.disturbed, disturbed{path: dir})
			}
		}
	}
	stay := !r.plan.Full && len(r.disturbed) <= smallPlan && !slices.ContainsFunc(r.plan.Unlinked, func(n diff.Name) bool { return n.Type == unix.S_IFDIR })
	looked := make([]unix.Stat_t, len(r.disturbed)) // zero: not in the new snapshot
	err := inChunks(ctx, workers, len(r.disturbed), func(i int) error {
		d := &r.disturbed[i]
		if stay && !changed[d.path] {
			if st, err := r.next.Lstat(d.path); err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
				looked[i], d.mtime = st, st.Mtim
				return nil
			}
		}
		st, err := r.base.Lstat(d.path)
		if err != nil {
			return fmt.Errorf("reading what %q was: %w", d.path, err)
		}
		d.mtime = st.Mtim
		return nil
	})
	for i, st := range looked {
		if st.Mode != 0 {
			r.plan.dirs[r.disturbed[i].path] = st
		}
	}
	return err
}

func (r *recorder) entries() error {
	for _, n := range r.plan.Unlinked {
		dir, err := r.mustNode(n.Parent, n.Path)
		if err != nil {
			return err
		}
		node, err := r.mustNode(n.Key, n.Path)
		if err != nil {
			return err
		}
		if err := r.s.exec(`INSERT INTO entries(dir, name, run, node) VALUES (?, ?, ?, ?)`, dir, []byte(n.Base()), r.run, node); err != nil {
			return err
		}
	}
	for _, n := range r.plan.Linked {
		if err := r.move(n); err != nil {
			return err
		}
		if r.newDirs[n.Parent] {
			continue // nobody can look into a directory that was not there
		}
		dir, err := r.mustNode(n.Parent, n.Path)
		if err != nil {
			return err
		}
		if err := r.s.exec(`INSERT OR IGNORE INTO entries(dir, name, run, node) VALUES (?, ?, ?, NULL)`, dir, []byte(n.Base()), r.run); err != nil {
			return err
		}
	}
	return nil
}

// move notes where a name that comes will be, for views of earlier restore points that are opened before the commit: what it
// means was there before, under another name. All that was there has been looked up by now.
func (r *recorder) move(n diff.Name) error {
	id := r.nodes[n.Key]
	if id == 0 {
		return nil
	}
	return r.s.exec(`INSERT OR IGNORE INTO moves(node, path) VALUES (?, ?)`, id, []byte(n.Path))
}

// mustNode is the node of an inode that the catalog has to know.
func (r *recorder) mustNode(k diff.Key, path string) (int64, error) {
	id, err := r.node(k)
	if err == nil && id == 0 {
		err = fmt.Errorf("%q (inode %d, generation %d) has no node", path, k.Ino, k.Gen)
	}
	return id, err
}

// node looks a live node up; 0 when there is none.
func (r *recorder) node(k diff.Key) (int64, error) {
	if id := r.nodes[k]; id != 0 {
		return id, nil
	}
	id, err := r.s.nodeOf(k)
	if id != 0 {
		r.nodes[k] = id
	}
	return id, err
}

func (s *Store) nodeOf(k diff.Key) (id int64, err error) {
	err = s.query(`SELECT id FROM nodes WHERE ino = ? AND gen = ? AND alive`, func(row *sqlite.Stmt) error { id = row.ColumnInt64(0); return nil }, int64(k.Ino), int64(k.Gen))
	return id, err
}

// version records what an inode was. A file that never changed before gets its node now, with the names it has.
func (r *recorder) version(k diff.Key, a diff.Attr, paths []string, content int) error {
	id, err := r.node(k)
	if err != nil {
		return err
	}
	if id == 0 {
		if id, err = r.newNode(k, a, paths); err != nil {
			return err
		}
	}
	xattrs := r.xattrs[paths[0]]
	return r.s.exec(`INSERT INTO versions(node, run, mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, xattrs, content) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
		id, r.run, a.Mode, a.UID, a.GID, int64(a.Rdev), a.Size, a.MtimeSec, a.MtimeNsec, a.Nlink, xattrs, content)
}

// readXattrs reads the attributes of all that gets a version, on several workers.
func (r *recorder) readXattrs(ctx context.Context, workers int) error {
	r.xattrs = map[string][]byte{}
	type one struct {
		key    diff.Key
		path   string
		xattrs []byte
	}
	var all []one
	for _, in := range r.plan.Inodes {
		if in.What&diff.New == 0 && !in.Key.IsPlaceholder() && (!in.NoXattrs || r.plan.fromMirror[in.Key]) {
			all = append(all, one{key: in.Key, path: in.BasePaths[0]})
		}
	}
	for _, g := range r.plan.Gone {
		if !g.Key.IsPlaceholder() && (!g.NoXattrs || r.plan.fromMirror[g.Key]) {
			all = append(all, one{key: g.Key, path: g.BasePaths[0]})
		}
	}
	err := inChunks(ctx, workers, len(all), func(i int) (err error) {
		from := r.base
		if r.plan.fromMirror[all[i].key] {
			from = r.s.tree
		}
		xs, err := from.Xattrs(all[i].path)
		if IsBadFile(readError(all[i].path, "read the attributes of", err)) { // nobody could ever read them: it was what the mirror has
			if xs, err = r.s.tree.Xattrs(all[i].path); missing(err) {
				err = nil
			}
		}
		if err != nil {
			return fmt.Errorf("reading what %q was: %w", all[i].path, err)
		}
		all[i].xattrs = encodeXattrs(slices.DeleteFunc(xs, func(x beneath.Xattr) bool { return !countsXattr(x.Name) }))
		return nil
	})
	for _, o := range all {
		if o.xattrs != nil {
			r.xattrs[o.path] = o.xattrs
		}
	}
	return err
}

func (r *recorder) newNode(k diff.Key, a diff.Attr, paths []string) (int64, error) {
	if a.IsDir() {
		return 0, fmt.Errorf("directory %q (inode %d, generation %d) has no node", paths[0], k.Ino, k.Gen)
	}
	born, err := r.born(paths[0])
	if err != nil {
		return 0, err
	}
	if err := r.s.exec(`INSERT INTO nodes(ino, gen, type, alive, born) VALUES (?, ?, ?, 1, ?)`, int64(k.Ino), int64(k.Gen), a.Type(), born); err != nil {
		return 0, err
	}
	id := r.s.conn.LastInsertRowID()
	r.nodes[k] = id
	return id, r.s.setNames(id, paths, r.dirs)
}

// born is the run that made a file which has had no node so far, and so has kept its name since; 0: the first run, or not
// known. It is the last run in which the name, or the whole directory, began to mean what it means.
func (r *recorder) born(path string) (run int64, err error) {
	parent, name := split(path)
	dir, err := r.s.dirNode(parent, r.dirs)
	if err != nil {
		return 0, err
	}
	err = r.s.query(`SELECT max(ifnull((SELECT max(run) FROM entries WHERE dir = ?1 AND name = ?2), 0), (SELECT born FROM nodes WHERE id = ?1))`,
		func(row *sqlite.Stmt) error { run = row.ColumnInt64(0); return nil }, dir, []byte(name))
	return run, err
}

// setNames says where a file's names are. dirs keeps nodes of directories by path.
func (s *Store) setNames(id int64, paths []string, dirs map[string]int64) error {
	for _, p := range paths {
		parent, name := split(p)
		dir, err := s.dirNode(parent, dirs)
		if err != nil {
			return err
		}
		if err := s.exec(`INSERT OR REPLACE INTO names(dir, name, node) VALUES (?, ?, ?)`, dir, []byte(name), id); err != nil {
			return err
		}
	}
	return nil
}

// split parts a path into directory and name.
func split(path string) (dir, name string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

// dirNode finds a live directory's node by its path.
func (s *Store) dirNode(path string, dirs map[string]int64) (int64, error) {
	if id, ok := dirs[path]; ok {
		return id, nil
	}
	up, name := split(path)
	parent, err := s.dirNode(up, dirs)
	if err != nil {
		return 0, err
	}
	id := int64(0)
	err = s.query(`SELECT id FROM nodes WHERE parent = ? AND name = ? AND alive AND type = 16384`,
		func(row *sqlite.Stmt) error { id = row.ColumnInt64(0); return nil }, parent, []byte(name))
	if err == nil && id == 0 {
		err = fmt.Errorf("directory %q has no node", path)
	}
	dirs[path] = id
	return id, err
}

// commit brings nodes and names up to what the mirror now is.
func (s *Store) commit(run int64, p *plan, sigs signatures, problems []Problem, warnings []string) error {
	for _, g := range p.Gone {
		id, err := s.nodeOf(g.Key)
		if err != nil {
			return err
		}
		if err := s.exec(`UPDATE nodes SET alive = 0, parent = NULL, name = NULL WHERE id = ?`, id); err != nil {
			return err
		}
		if err := s.exec(`DELETE FROM names WHERE node = ?`, id); err != nil {
			return err
		}
	}
	if err := errors.Join(s.commitLongest(p), s.commitDirs(run, p)); err != nil {
		return err
	}
	if err := s.commitFiles(p); err != nil {
		return err
	}
	if err := s.commitLinks(p, sigs); err != nil {
		return err
	}
	// Attach has put its own problems on the list already; here come those of Finish too.
	if err := s.addPending(problems); err != nil {
		return err
	}
	pending, err := s.Pending()
	if err != nil {
		return err
	}
	if err := s.countFileNames(p, pending); err != nil {
		return err
	}
	for _, table := range []string{"plans", "moves", "times", "patches"} { // of the one unfinished run there is
		if err := s.exec(`DELETE FROM ` + table); err != nil {
			return err
		}
	}
	return s.endRun(run, p.counts(), len(pending), warnings)
}

// commitDirs gives new directories their nodes and moved ones their place. Two may have swapped names: all leave first.
func (s *Store) commitDirs(run int64, p *plan) error {
	for _, n := range p.Linked {
		if n.Type == unix.S_IFDIR {
			if err := s.exec(`UPDATE nodes SET parent = NULL, name = NULL WHERE ino = ? AND gen = ? AND alive`, int64(n.Key.Ino), int64(n.Key.Gen)); err != nil {
				return err
			}
		}
	}
	for _, n := range p.Linked {
		if n.Type != unix.S_IFDIR {
			continue
		}
		parent, err := s.nodeOf(n.Parent)
		if err != nil {
			return err
		}
		id, err := s.nodeOf(n.Key)
		if err != nil {
			return err
		}
		if id == 0 {
			err = s.exec(`INSERT INTO nodes(ino, gen, parent, name, type, alive, born) VALUES (?, ?, ?, ?, ?, 1, ?)`,
				int64(n.Key.Ino), int64(n.Key.Gen), parent, []byte(n.Base()), unix.S_IFDIR, run)
		} else {
			err = s.exec(`UPDATE nodes SET parent = ?, name = ? WHERE id = ?`, parent, []byte(n.Base()), id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commitFiles says where the names are of files that gained or lost some.
func (s *Store) commitFiles(p *plan) error {
	var changed []*diff.Inode
	for i := range p.Inodes {
		if in := &p.Inodes[i]; in.What&(diff.New|diff.Links) == diff.Links && !in.Attr.IsDir() {
			changed = append(changed, in)
		}
	}
	ids := make([]int64, len(changed))
	for i, in := range changed {
		var err error
		if ids[i], err = s.nodeOf(in.Key); err != nil {
			return err
		}
		if err := s.exec(`DELETE FROM names WHERE node = ?`, ids[i]); err != nil {
			return err
		}
	}
	dirs := map[string]int64{"": rootNode}
	for i, in := range changed {
		if err := s.setNames(ids[i], in.Paths, dirs); err != nil {
			return err
		}
	}
	return nil
}
