package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Abandon gives up a run that was cut off and cannot be finished, because its snapshot is gone. What it has done to the mirror
// is undone, which takes nothing but the store; the rows that it recorded stay, and are right. The next comparison must be
// a full one. A run of which only the commit is missing is committed instead.
//
// It is done in three steps, after each of which a sync and a state make it durable; each can be done again from its beginning:
//
//  1. Take back (from the states detached and attached, and from any where Attach may have begun without a mark): every name that came leaves
//     the mirror, the deepest first. What was
//     made new is removed; what was moved goes back to stage, what was replaced comes back from history to the names that it
//     kept, else to stage. No name that went is filled yet. Then the state is recorded again.
//  2. Put back: every name that went is given again to its inode, in stage or in history, the shallowest first.
//  3. Files that were patched in place get the bytes back that were saved.
func (s *Store) Abandon(ctx context.Context, run RunInfo, opts Options) error {
	switch run.State {
	case Recorded, Saved, Patched, Detached, Attached:
	case Finished:
		_, err := s.Resume(ctx, run, nil, nil, opts)
		return err
	default:
		return fmt.Errorf("r%d is %s and cannot be given up", run.ID, run.State)
	}
	p, err := s.loadPlan(run.ID)
	if err != nil {
		return err
	}
	x, err := newExecution(ctx, s, run.ID, p, nil, opts)
	if err != nil {
		return err
	}
	x.resumed = true
	if err := errors.Join(x.unfinished(), x.sync()); err != nil {
		return fmt.Errorf("giving up r%d: %w", run.ID, err)
	}
	if run.State == Detached || run.State == Attached || x.apart {
		if err := x.takeBack(); err != nil {
			return fmt.Errorf("giving up r%d, taking back: %w", run.ID, err)
		}
		if err := s.forgetBegun(run.ID); err != nil {
			return err
		}
		if err := x.mark(Recorded, nil); err != nil {
			return err
		}
	}
	if err := s.forgetBegun(run.ID); err != nil {
		return err
	}
	if err := ignoreMissing(s.history_.Unlink(x.history() + "/" + detachedMark)); err != nil {
		return err
	}
	if err := x.putBack(); err != nil {
		return fmt.Errorf("giving up r%d, putting back: %w", run.ID, err)
	}
	if err := x.unpatchAll(); err != nil {
		return fmt.Errorf("giving up r%d, putting back old bytes: %w", run.ID, err)
	}
	if err := x.mark(Abandoned, x.noteAbandoned); err != nil {
		return err
	}
	return s.noteRewritten()
}

// takeBack empties all names that came, and gives kept names their former contents.
func (x *execution) takeBack() error {
	byKey := map[diff.Key]*diff.Inode{}
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		byKey[in.Key] = in
		if in.Attr.IsDir() || in.What&diff.New != 0 {
			continue
		}
		if err := x.takeBackContents(in); err != nil {
			return err
		}
	}
	for _, n := range slices.Backward(x.plan.Linked) {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		in := byKey[n.Key]
		fresh := x.unlinked[n.Key] == 0 && (in == nil || in.What&diff.New != 0)
		if err := x.takeBackName(&n, fresh); err != nil {
			return err
		}
	}
	for i := range x.plan.Inodes {
		if in := &x.plan.Inodes[i]; !in.Attr.IsDir() && in.What&diff.New == 0 {
			if err := x.unkeep(in); err != nil {
				return err
			}
		}
	}
	return nil
}

// formerInode is where an inode waits that lost its names, or was replaced: in stage or in history. nil: neither.
func (x *execution) formerInode(k diff.Key) (*place, *unix.Stat_t, error) {
	candidates := []place{{x.s.stage, oldName(k)}}
	if x.nodes[k] != 0 {
		candidates = append(candidates, place{x.s.history_, x.grave(k)})
	}
	for _, c := range candidates {
		st, err := c.root.Lstat(c.path)
		if err == nil {
			return &c, &st, nil
		}
		if !missing(err) {
			return nil, nil, err
		}
	}
	return nil, nil, nil
}

// takeBackContents gives the names that a replaced inode kept back to it. One that was only linked waits in stage again for the names
// that it lost.
func (x *execution) takeBackContents(in *diff.Inode) error {
	old, was, err := x.formerInode(in.Key)
	if err == nil && old == nil && x.unlinked[in.Key] > 0 {
		return x.restage(in)
	}
	if err != nil || old == nil {
		return err
	}
	for _, path := range in.Paths {
		if x.linked[path] {
			continue
		}
		st, err := x.s.tree.Lstat(path)
		if missing(err) || err == nil && st.Ino == was.Ino {
			continue // its directory is not in its place any more, or it was not replaced
		}
		if err != nil {
			return err
		}
		if err := x.at("give back"); err != nil {
			return err
		}
		tmp := newName(in.Key)
		if err := ignoreMissing(x.s.stage.Unlink(tmp)); err != nil {
			return err
		}
		err = beneath.Link(old.root, old.path, x.s.stage, tmp)
		switch {
		case err == nil:
			err = x.put(tmp, path, false)
		case errors.Is(err, syscall.EMLINK) && old.root == x.s.history_ && x.unlinked[in.Key] == 0:
			// It has as many names as can be: this is the last that it lacks, and history needs none.
			err = beneath.Rename(old.root, old.path, x.s.tree, path, 0)
			*old = place{x.s.tree, path}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restage gives an inode a name in stage, by one that it kept. (Without any, or if it can have no more names, it is renamed there from one that
// came.)
func (x *execution) restage(in *diff.Inode) error {
	for _, path := range in.Paths {
		if x.linked[path] {
			continue
		}
		if err := x.at("restage"); err != nil {
			return err
		}
		err := beneath.Link(x.s.tree, path, x.s.stage, oldName(in.Key))
		if errors.Is(err, syscall.EMLINK) {
			return nil
		}
		if !missing(err) {
			return err
		}
	}
	return nil
}

// takeBackName empties one name that came. fresh: what it means was not there before the run.
func (x *execution) takeBackName(n *diff.Name, fresh bool) error {
	st, err := x.s.tree.Lstat(n.Path)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := x.at("take back"); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != n.Type {
		return x.foreign(x.s.tree, n.Path)
	}
	if n.Type == unix.S_IFDIR && fresh {
		err := x.s.tree.Rmdir(n.Path)
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
			err = x.foreign(x.s.tree, n.Path)
		}
		return err
	}
	if x.unlinked[n.Key] > 0 {
		old, _, err := x.formerInode(n.Key)
		if err != nil {
			return err
		}
		switch {
		case old == nil:
			return beneath.Rename(x.s.tree, n.Path, x.s.stage, oldName(n.Key), 0)
		case n.Type == unix.S_IFDIR: // it is in stage: this one is another
			return x.foreign(x.s.tree, n.Path)
		}
	}
	return x.s.tree.Unlink(n.Path)
}

// unkeep takes a replaced inode out of history: its kept names have it again, or else it waits in stage for those that went.
func (x *execution) unkeep(in *diff.Inode) error {
	st, err := x.s.history_.Lstat(x.grave(in.Key))
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := x.at("unkeep"); err != nil {
		return err
	}
	if x.unlinked[in.Key] == 0 {
		if st.Nlink == 1 { // somebody took the kept names away
			return nil
		}
		return x.s.history_.Unlink(x.grave(in.Key))
	}
	return beneath.Rename(x.s.history_, x.grave(in.Key), x.s.stage, oldName(in.Key), 0)
}

// putBack gives the names that went to their inodes again.
func (x *execution) putBack() error {
	for _, n := range x.plan.Unlinked {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if err := x.putBackName(&n); err != nil {
			return err
		}
	}
	for k := range x.unlinked {
		old, st, err := x.formerInode(k)
		if err != nil {
			return err
		}
		if old == nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if err := x.at("release"); err != nil {
			return err
		}
		if st.Nlink == 1 {
			err = x.foreign(old.root, old.path)
		} else {
			err = old.root.Unlink(old.path)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(x.s.emptyStage(), x.putBackTimes())
}

// putBackTimes sets the times of directories that the run disturbed though they did not change: nothing else has kept them.
func (x *execution) putBackTimes() error {
	type dir struct{ node, sec, nsec int64 }
	var dirs []dir
	err := x.s.query(`SELECT node, mtime_s, mtime_n FROM times`, func(row *sqlite.Stmt) error {
		dirs = append(dirs, dir{row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2)})
		return nil
	})
	if err != nil {
		return err
	}
	paths := dirPaths{s: x.s}
	for _, d := range dirs {
		path, err := paths.of(d.node)
		if err == nil {
			err = x.s.tree.Utimes(path, d.sec, d.nsec)
		}
		if err != nil && !missing(err) {
			return err
		}
	}
	return nil
}

func (x *execution) putBackName(n *diff.Name) error {
	old, was, err := x.formerInode(n.Key)
	if err != nil {
		return err
	}
	if err := x.at("put back"); err != nil {
		return err
	}
	st, err := x.s.tree.Lstat(n.Path)
	switch {
	case err == nil && (old == nil || n.Type != unix.S_IFDIR && st.Ino == was.Ino):
		return nil // not taken away yet, or back already
	case err != nil && !missing(err):
		return err
	case old != nil && n.Type == unix.S_IFDIR:
		return x.fill(n.Path, func() error { return beneath.Rename(old.root, old.path, x.s.tree, n.Path, unix.RENAME_NOREPLACE) })
	case old != nil:
		return x.fill(n.Path, func() error { return x.linkFrom(old, n.Path) })
	case n.Type == unix.S_IFDIR: // removed by the run, when it was empty
		return x.fill(n.Path, func() error { return x.s.tree.Mkdir(n.Path, 0o700) })
	}
	return x.alter("%q, which no run removed, is missing", n.Path)
}

// noteAbandoned is in the transaction that gives the run its last state. What history does not have of the run's replaced contents
// is in the mirror.
func (x *execution) noteAbandoned() error {
	kept := map[int64]bool{}
	for _, p := range x.patches {
		kept[p.node] = true
	}
	err := x.s.history_.ReadDir(x.history(), func(name string, _ uint8, _ uint64) error {
		if node, err := strconv.ParseInt(name, 10, 64); err == nil {
			kept[node] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking at what is kept: %w", err)
	}
	for _, node := range x.nodes {
		if !kept[node] {
			if err := x.s.noContent(node, x.run); err != nil {
				return err
			}
		}
	}
	for _, table := range []string{"plans", "moves", "times", "patches"} {
		if err := x.s.exec(`DELETE FROM ` + table); err != nil {
			return err
		}
	}
	if err := errors.Join(x.s.setNeedsFull(fmt.Sprintf("r%d was cut off, and its snapshot is gone", x.run)), x.s.raiseRewritten()); err != nil {
		return err
	}
	if err := x.s.exec(`UPDATE runs SET finished = ?, state = ? WHERE id = ?`, time.Now().UnixNano(), Abandoned, x.run); err != nil {
		return err
	}
	return x.s.writeManifest(x.run, nil)
}
