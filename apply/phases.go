package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// execution brings one plan into the mirror. What a cut leaves behind:
//
//  1. Detach renames every name that went into stage, as o-INO-GEN; of several names of one inode the first is renamed and
//     the others are unlinked. No name is filled yet, so what is in stage, or neither there nor at its old name, is done.
//  2. Attach makes and moves directories, the shallowest first, then all other inodes, each on its own: new contents are
//     built in stage as n-INO-GEN, the old inode gets a name in history, and the new one is renamed over the old name.
//     After a cut a name proves nothing about content: all contents are built again.
//  3. Finish sets metadata of what was kept, and of directories last, because all before it moved their times.
type execution struct {
	ctx     context.Context
	s       *Store
	run     int64
	plan    *plan
	next    *beneath.Root
	build   *builder
	opts    Options
	nodes   map[diff.Key]int64 // of what the run changes or removes
	linked  map[string]bool    // paths that Attach fills
	resumed bool               // an earlier attempt may have begun what this one does
	stands  map[string]bool    // paths of nested subvolumes' placeholders
	moved   map[diff.Key]bool  // directories that lost their name in the base

	mu       sync.Mutex
	problems []Problem
	warnings []string
}

func newExecution(ctx context.Context, s *Store, run int64, p *plan, next *beneath.Root, opts Options) (*execution, error) {
	x := &execution{ctx: ctx, s: s, run: run, plan: p, next: next, build: newBuilder(), opts: opts, nodes: map[diff.Key]int64{}, linked: map[string]bool{}, stands: map[string]bool{}, moved: map[diff.Key]bool{}}
	for _, n := range p.Unlinked {
		if n.Type == unix.S_IFDIR && !n.Key.IsPlaceholder() {
			x.moved[n.Key] = true
		}
	}
	for _, n := range p.Linked {
		x.linked[n.Path] = true
		if n.Key.IsPlaceholder() {
			x.stands[n.Path] = true
		}
	}
	err := s.query(`SELECT n.id, n.ino, n.gen FROM versions v JOIN nodes n ON n.id = v.node WHERE v.run = ? AND n.alive`, func(row *sqlite.Stmt) error {
		x.nodes[diff.Key{Ino: uint64(row.ColumnInt64(1)), Gen: uint64(row.ColumnInt64(2))}] = row.ColumnInt64(0)
		return nil
	}, run)
	if err != nil {
		return nil, catalogError("read the run's nodes", err)
	}
	if err := s.history_.Mkdir(x.history(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the history of run r%d: %w", run, err)
	}
	return x, nil
}

func (x *execution) at(name string) error {
	if x.opts.Step != nil {
		return x.opts.Step(name)
	}
	return nil
}

func (x *execution) history() string { return fmt.Sprintf("r%d", x.run) }

func (x *execution) grave(k diff.Key) string { return fmt.Sprintf("r%d/%d", x.run, x.nodes[k]) }

func oldName(k diff.Key) string { return fmt.Sprintf("o-%d-%d", k.Ino, k.Gen) }
func newName(k diff.Key) string { return fmt.Sprintf("n-%d-%d", k.Ino, k.Gen) }

func (x *execution) warn(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.warnings = append(x.warnings, fmt.Sprintf(format, args...))
}

func (x *execution) problem(k diff.Key, path string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.problems = append(x.problems, Problem{Path: path, Key: k, Err: err})
}

func exists(r *beneath.Root, path string) (bool, error) {
	_, err := r.Lstat(path)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

// missing also covers a directory on the way that is not there.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// ignoreMissing is for what an earlier attempt may have done already.
func ignoreMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}

// detach takes all names that went out of the mirror, the deepest first.
func (x *execution) detach() error {
	for _, n := range slices.Backward(x.plan.Unlinked) {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		inStage, err := exists(x.s.stage, oldName(n.Key))
		if err != nil {
			return err
		}
		if err := x.at("detach"); err != nil {
			return err
		}
		if inStage && n.Type != unix.S_IFDIR {
			if err := ignoreMissing(x.s.tree.Unlink(n.Path)); err != nil {
				return err
			}
			continue
		}
		if err := ignoreMissing(beneath.Rename(x.s.tree, n.Path, x.s.stage, oldName(n.Key), 0)); err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) attach() error {
	for _, n := range x.plan.Linked {
		if n.Type != unix.S_IFDIR {
			continue
		}
		if err := x.attachDir(n); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(x.ctx)
	workers := x.opts.Workers
	if workers <= 0 {
		workers = defaultWorkers()
	}
	if x.opts.Step != nil {
		workers = 1 // the steps of a test come one after the other
	}
	g.SetLimit(workers)
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		if in.Attr.IsDir() || in.What&(diff.New|diff.Data|diff.Links) == 0 {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return x.attachInode(in) })
	}
	if err := errors.Join(g.Wait(), x.ctx.Err()); err != nil {
		return err
	}
	if err := x.bury(); err != nil {
		return err
	}
	return x.notePending()
}

// notePending keeps what could not be copied, for the case that this attempt is cut off before its commit.
func (x *execution) notePending() error {
	lost, err := x.notInHistory()
	if err != nil {
		return err
	}
	return x.s.transaction("note what could not be copied", func() error {
		if err := x.s.replacePending(x.plan, x.problems); err != nil {
			return err
		}
		for _, id := range lost {
			if err := x.s.exec(`UPDATE versions SET content = ? WHERE node = ? AND run = ?`, contentLater, id, x.run); err != nil {
				return err
			}
		}
		return nil
	})
}

// notInHistory are the nodes whose old contents did not get into history: could not be replaced (the old version stays in
// the mirror), or was not in the mirror.
func (x *execution) notInHistory() (nodes []int64, err error) {
	look := func(k diff.Key, path string) error {
		ok, err := exists(x.s.history_, x.grave(k))
		if err != nil || ok {
			return err
		}
		nodes = append(nodes, x.nodes[k])
		in, err := exists(x.s.tree, path)
		if err == nil && !in {
			x.warn("%q was not in the mirror, though no run removed it: earlier restore points lack its contents", path)
		}
		return err
	}
	for _, in := range x.plan.Inodes {
		if in.What&diff.Data != 0 && in.What&diff.New == 0 && !in.Attr.IsDir() {
			if err := look(in.Key, in.Paths[0]); err != nil {
				return nil, err
			}
		}
	}
	for _, g := range x.plan.Gone {
		if !g.BaseAttr.IsDir() {
			if err := look(g.Key, oldName(g.Key)); err != nil {
				return nil, err
			}
		}
	}
	return nodes, nil
}

func (x *execution) attachDir(n diff.Name) error {
	if err := x.at("attach directory"); err != nil {
		return err
	}
	moved, err := exists(x.s.stage, oldName(n.Key))
	if err != nil {
		return err
	}
	if err := x.clear(n.Path, !moved && x.resumed); err != nil {
		return err
	}
	if moved {
		return beneath.Rename(x.s.stage, oldName(n.Key), x.s.tree, n.Path, unix.RENAME_NOREPLACE)
	}
	err = x.s.tree.Mkdir(n.Path, 0o700)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil && x.moved[n.Key] {
		x.warn("directory %q was not in the mirror, though no run removed it: what it held is missing there", n.Path)
	}
	return err
}

// clear moves away what somebody else put at a name that has to be free. A directory may be there from an earlier attempt.
func (x *execution) clear(path string, dirAllowed bool) error {
	st, err := x.s.tree.Lstat(path)
	if missing(err) || err == nil && dirAllowed && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return nil
	}
	if err != nil {
		return err
	}
	return x.foreign(x.s.tree, path)
}

// foreign keeps what is not ours in history.
func (x *execution) foreign(from *beneath.Root, path string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := 1; ; i++ {
		to := fmt.Sprintf("r%d/foreign-%d", x.run, i)
		err := beneath.Rename(from, path, x.s.history_, to, unix.RENAME_NOREPLACE)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			x.warnings = append(x.warnings, fmt.Sprintf("the mirror held %q, which no run put there: it is now history/%s", path, to))
		}
		return err
	}
}

// attachInode brings one file with all its names to its place.
func (x *execution) attachInode(in *diff.Inode) error {
	if in.What&(diff.New|diff.Data) != 0 {
		err := x.rebuild(in)
		if !IsBadFile(err) {
			return err
		}
		x.problem(in.Key, in.Paths[0], err)
		if in.What&diff.New != 0 {
			return nil
		}
	}
	return x.relink(in)
}

// rebuild makes the inode anew and puts it at all its names.
func (x *execution) rebuild(in *diff.Inode) error {
	if err := x.at("build"); err != nil {
		return err
	}
	old, inStage, err := x.oldPlace(in)
	if err != nil {
		return err
	}
	var clone *place
	if old != nil && in.Ranges != nil {
		clone = old
	}
	tmp := newName(in.Key)
	if _, err := x.build.build(place{x.next, in.Paths[0]}, place{x.s.stage, tmp}, clone, in.Ranges); err != nil {
		return err
	}
	if err := x.keep(in, old, inStage); err != nil {
		return err
	}
	return x.place(in, tmp, x.resumed)
}

// place puts what was built in stage at all the inode's names. A name that cannot be given (more of them than the
// filesystem allows, say) is noted and left as it is. replace: names that come may be filled by an earlier attempt.
func (x *execution) place(in *diff.Inode, tmp string, replace bool) error {
	for i, p := range in.Paths {
		if err := x.at("attach"); err != nil {
			return err
		}
		from := tmp
		var err error
		if i < len(in.Paths)-1 {
			from = tmp + "-link"
			if err := ignoreMissing(x.s.stage.Unlink(from)); err != nil {
				return err
			}
			err = writeError(p, "link", beneath.Link(x.s.stage, tmp, x.s.stage, from))
		}
		if err == nil {
			err = x.put(from, p, x.linked[p] && !replace)
		}
		if err == nil {
			continue
		}
		if !IsBadFile(err) {
			return err
		}
		x.problem(in.Key, p, err)
		if err := ignoreMissing(x.s.stage.Unlink(from)); err != nil {
			return err
		}
	}
	return nil
}

// put renames what is in stage to a name of the mirror. free: it should be free; what somebody else put there is kept.
func (x *execution) put(from, path string, free bool) error {
	var flags uint
	if free {
		flags = unix.RENAME_NOREPLACE
	}
	err := beneath.Rename(x.s.stage, from, x.s.tree, path, flags)
	if errors.Is(err, syscall.EISDIR) || errors.Is(err, fs.ErrExist) {
		if err := x.clear(path, false); err != nil {
			return err
		}
		err = beneath.Rename(x.s.stage, from, x.s.tree, path, 0)
	}
	return writeError(path, "put in its place", err)
}

// oldPlace is where the inode's former content is: in stage, in history after a cut, or at a name that stayed.
func (x *execution) oldPlace(in *diff.Inode) (p *place, inStage bool, err error) {
	if in.What&diff.New != 0 {
		return nil, false, nil
	}
	for _, c := range []place{{x.s.stage, oldName(in.Key)}, {x.s.history_, x.grave(in.Key)}} {
		ok, err := exists(c.root, c.path)
		if ok || err != nil {
			return &c, c.root == x.s.stage, err
		}
	}
	for _, path := range in.Paths {
		if x.linked[path] {
			continue
		}
		st, err := x.s.tree.Lstat(path)
		if err == nil && st.Mode&unix.S_IFMT == in.BaseAttr.Type() {
			return &place{x.s.tree, path}, false, nil
		}
		if err != nil && !missing(err) {
			return nil, false, err
		}
	}
	return nil, false, nil
}

// keep gives the former content a name in history.
func (x *execution) keep(in *diff.Inode, old *place, inStage bool) error {
	if old == nil || old.root == x.s.history_ {
		return nil
	}
	if err := x.at("keep"); err != nil {
		return err
	}
	if inStage {
		return beneath.Rename(x.s.stage, old.path, x.s.history_, x.grave(in.Key), 0)
	}
	return beneath.Link(old.root, old.path, x.s.history_, x.grave(in.Key))
}

// relink puts an inode that stays as it is at the names that it gained.
func (x *execution) relink(in *diff.Inode) error {
	old, inStage, err := x.oldPlace(in)
	if err != nil {
		return err
	}
	if old == nil { // after a cut: all that was in stage has been put
		old, err = x.placed(in)
		if err != nil || old == nil {
			return err
		}
	}
	was, err := old.root.Lstat(old.path)
	if err != nil {
		return err
	}
	for _, p := range in.Paths {
		if !x.linked[p] {
			continue
		}
		st, err := x.s.tree.Lstat(p)
		if err == nil && st.Ino == was.Ino {
			continue
		}
		if err := x.at("link"); err != nil {
			return err
		}
		if err := x.clear(p, false); err != nil {
			return err
		}
		if err := beneath.Link(old.root, old.path, x.s.tree, p); err != nil {
			return err
		}
	}
	if !inStage {
		return nil
	}
	if err := x.at("unstage"); err != nil {
		return err
	}
	return x.s.stage.Unlink(old.path)
}

// placed is a name that an earlier attempt gave to an inode which it then took out of stage.
func (x *execution) placed(in *diff.Inode) (*place, error) {
	for _, p := range in.Paths {
		ok, err := exists(x.s.tree, p)
		if ok || err != nil {
			return &place{x.s.tree, p}, err
		}
	}
	x.warn("%q is not in the mirror, though no run removed it: it is copied again by the next run", in.Paths[0])
	x.problem(in.Key, in.Paths[0], errors.New("missing from the mirror"))
	return nil, nil
}

// bury moves what was deleted into history; directories are empty by now.
func (x *execution) bury() error {
	for _, g := range x.plan.Gone {
		if err := x.at("bury"); err != nil {
			return err
		}
		name := oldName(g.Key)
		if !g.BaseAttr.IsDir() {
			if err := ignoreMissing(beneath.Rename(x.s.stage, name, x.s.history_, x.grave(g.Key), 0)); err != nil {
				return err
			}
			continue
		}
		err := ignoreMissing(x.s.stage.Rmdir(name))
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
			err = x.foreign(x.s.stage, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish sets the metadata of what was kept, then that of all directories in which anything was done.
func (x *execution) finish() error {
	dirs := map[string]bool{}
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		if in.Attr.IsDir() {
			dirs[in.Paths[0]] = true
			continue
		}
		for _, p := range in.Paths {
			dir, _ := split(p)
			dirs[dir] = true
		}
		if in.What&(diff.New|diff.Data) != 0 || in.What&(diff.Meta|diff.Xattrs) == 0 {
			continue
		}
		if err := x.setFileMeta(in); err != nil {
			return err
		}
	}
	for _, n := range x.plan.Linked {
		dir, _ := split(n.Path)
		dirs[dir] = true
	}
	if err := x.unlinkedParents(dirs); err != nil {
		return err
	}
	for path := range dirs {
		if err := x.setMeta(diff.Key{}, path); err != nil {
			return err
		}
	}
	return nil
}

// setFileMeta sets metadata in place, unless the inode also lives in history: then it is replaced.
func (x *execution) setFileMeta(in *diff.Inode) error {
	st, err := x.s.tree.Lstat(in.Paths[0])
	if missing(err) {
		x.problem(in.Key, in.Paths[0], errors.New("missing from the mirror"))
		return nil
	}
	if err != nil {
		return err
	}
	if uint64(st.Nlink) <= uint64(len(in.Paths)) {
		return x.setMeta(in.Key, in.Paths[0])
	}
	if err := x.at("build"); err != nil {
		return err
	}
	tmp := newName(in.Key)
	_, err = x.build.build(place{x.next, in.Paths[0]}, place{x.s.stage, tmp}, nil, nil)
	if err == nil {
		err = x.place(in, tmp, true)
	}
	if IsBadFile(err) {
		x.problem(in.Key, in.Paths[0], err)
		return nil
	}
	return err
}

func (x *execution) setMeta(k diff.Key, path string) error {
	if err := x.ctx.Err(); err != nil {
		return err
	}
	if err := x.at("metadata"); err != nil {
		return err
	}
	if x.stands[path] {
		return x.setPlaceholder(path)
	}
	err := x.build.applyMeta(place{x.next, path}, place{x.s.tree, path})
	if IsBadFile(err) {
		if k == (diff.Key{}) { // a directory: its number will do, see Store.Pending
			if st, err := x.next.Lstat(path); err == nil {
				k.Ino = st.Ino
			}
		}
		x.problem(k, path, err)
		return nil
	}
	return err
}

// setPlaceholder gives the stand-in of a nested subvolume fixed attributes: those in the snapshot are invented.
func (x *execution) setPlaceholder(path string) error {
	a := diff.PlaceholderAttr
	return errors.Join(x.s.tree.Chown(path, a.UID, a.GID), x.s.tree.Chmod(path, a.Mode&0o7777), x.s.tree.Utimes(path, a.MtimeSec, int64(a.MtimeNsec)))
}

// unlinkedParents adds the directories that lost names, under the paths that they have now. One that kept its times (they
// were put back) is on no list of changes.
func (x *execution) unlinkedParents(dirs map[string]bool) error {
	now := map[diff.Key]string{}
	for _, in := range x.plan.Inodes {
		if in.Attr.IsDir() {
			now[in.Key] = in.Paths[0]
		}
	}
	gone := map[diff.Key]bool{}
	for _, g := range x.plan.Gone {
		gone[g.Key] = true
	}
	moved := movedDirs(x.plan)
	for _, n := range x.plan.Unlinked {
		if gone[n.Parent] {
			continue
		}
		if p, ok := now[n.Parent]; ok {
			dirs[p] = true
			continue
		}
		dir, _ := split(n.Path)
		dirs[pathNow(dir, moved)] = true
	}
	return nil
}

// pathNow follows a directory of the base through the moves of the directories above it.
func pathNow(path string, moved map[string]string) string {
	if to, ok := moved[path]; ok || path == "" {
		if path == "" {
			return ""
		}
		return to
	}
	dir, name := split(path)
	return join(pathNow(dir, moved), name)
}
