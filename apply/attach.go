package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

func (x *execution) attach() error {
	if err := x.attachDirs(); err != nil {
		return err
	}
	x.buildAhead.end()
	var files []*diff.Inode
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		if !in.Attr.IsDir() && in.What&(diff.New|diff.Data|diff.Links) != 0 {
			files = append(files, in)
		}
	}
	size := func(i int) int64 {
		if files[i].What&(diff.New|diff.Data) == 0 {
			return 0
		}
		return files[i].Attr.Size
	}
	if err := x.eachSized(len(files), size, func(i int) error { return x.attachInode(files[i]) }); err != nil {
		return err
	}
	return x.bury()
}

// attachDirs makes and moves directories, one level of the tree after the other.
func (x *execution) attachDirs() error {
	var levels [][]*diff.Name
	for i := range x.plan.Linked {
		n := &x.plan.Linked[i]
		if n.Type != unix.S_IFDIR {
			continue
		}
		depth := strings.Count(n.Path, "/")
		for len(levels) <= depth {
			levels = append(levels, nil)
		}
		levels[depth] = append(levels[depth], n)
	}
	for _, dirs := range levels {
		if err := x.each(len(dirs), func(i int) error { return x.attachDir(dirs[i]) }); err != nil {
			return err
		}
	}
	return nil
}

func (x *execution) attachDir(n *diff.Name) error {
	if err := x.at("attach directory"); err != nil {
		return err
	}
	moves := x.unlinked[n.Key] > 0
	if moves {
		err := x.fill(n.Path, func() error {
			return beneath.Rename(x.s.stage, oldName(n.Key), x.s.tree, n.Path, unix.RENAME_NOREPLACE)
		})
		if !missing(err) {
			return err
		}
	}
	if x.resumed {
		st, err := x.s.tree.Lstat(n.Path)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return nil // an earlier attempt moved it here, or made it
		}
		if err != nil && !missing(err) {
			return err
		}
	}
	if moves {
		if err := x.alter("directory %q, which no run removed, is missing with all that it held", n.Path); err != nil {
			return err
		}
	}
	return x.fill(n.Path, func() error { return x.s.tree.Mkdir(n.Path, 0o700) })
}

// fill does what gives a free name of the mirror to something. What is in the way, of the name or on the way to it, nobody
// but somebody else can have put there.
func (x *execution) fill(path string, do func() error) error {
	err := x.onWay(path, do)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := x.clear(path); err != nil {
		return err
	}
	return do()
}

// attachInode brings one file with all its names to its place.
func (x *execution) attachInode(in *diff.Inode) error {
	if in.What&(diff.New|diff.Data) != 0 && !x.isPatched(in.Key) {
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
	old, is, err := x.oldPlace(in)
	if err != nil {
		return err
	}
	old, right, err := x.former(in, old, is)
	if err != nil {
		return err
	}
	var clone *place
	if right && in.Ranges != nil {
		clone = old
	}
	tmp := newName(in.Key)
	if !x.ready[in.Key] {
		if err := x.make(in, x.next, x.s.stage, clone); err != nil {
			return err
		}
	}
	if err := x.keep(in, old); err != nil {
		return err
	}
	if right && old.root == x.s.tree && is.Nlink == 1 && is.Size < minClone {
		x.keeps(x.nodes[in.Key], is.Blocks*512)
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
			err = writeError(p, "put in its place", x.put(from, p, x.linked[p] && !replace))
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
	if free {
		return x.fill(path, func() error { return beneath.Rename(x.s.stage, from, x.s.tree, path, unix.RENAME_NOREPLACE) })
	}
	if x.exchange {
		if done, err := x.swap(from, path); done || err != nil {
			return err
		}
	}
	rename := func() error { return beneath.Rename(x.s.stage, from, x.s.tree, path, 0) }
	err := x.onWay(path, rename)
	if errors.Is(err, syscall.EISDIR) {
		if err := x.clear(path); err != nil {
			return err
		}
		err = rename()
	}
	return err
}

// swap puts what is in stage at a name that is taken and removes what was there. false: the name is free.
func (x *execution) swap(from, path string) (bool, error) {
	err := beneath.Rename(x.s.stage, from, x.s.tree, path, unix.RENAME_EXCHANGE)
	if missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = x.s.stage.Unlink(from)
	if errors.Is(err, syscall.EISDIR) {
		err = x.foreign(x.s.stage, from)
	}
	return true, err
}

// oldPlace is where the inode's former content is: in stage, in history after a cut, or at a name that stayed. nil: nowhere. is tells
// what is there.
func (x *execution) oldPlace(in *diff.Inode) (_ *place, is unix.Stat_t, err error) {
	if in.What&diff.New != 0 || x.lost[in.Key] {
		return nil, is, nil
	}
	var candidates []place
	if x.unlinked[in.Key] > 0 {
		candidates = append(candidates, place{x.s.stage, oldName(in.Key)})
	}
	if x.resumed && in.What&diff.Data != 0 {
		candidates = append(candidates, place{x.s.history_, x.grave(in.Key)})
	}
	for _, c := range candidates {
		is, err = c.root.Lstat(c.path)
		if !missing(err) {
			return &c, is, err
		}
	}
	for _, path := range in.Paths {
		if x.linked[path] {
			continue
		}
		is, err = x.s.tree.Lstat(path)
		if err == nil && is.Mode&unix.S_IFMT == in.BaseAttr.Type() {
			return &place{x.s.tree, path}, is, nil
		}
		if err != nil && !missing(err) {
			return nil, is, err
		}
	}
	return nil, is, nil
}

// lose notes that earlier restore points lack the contents of an inode, because the mirror does. Durably: after a cut the name
// may have the new contents.
func (x *execution) lose(in *diff.Inode) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.say("earlier restore points lack the contents of %q", in.BasePaths[0])
	return x.s.noContent(x.nodes[in.Key], x.run)
}

// keep gives the former content a name in history.
func (x *execution) keep(in *diff.Inode, old *place) error {
	if old == nil || old.root == x.s.history_ {
		return nil
	}
	if x.replacesPatched(in.Key) {
		if old.root == x.s.stage {
			return x.s.stage.Unlink(old.path)
		}
		return nil
	}
	if err := x.at("keep"); err != nil {
		return err
	}
	if old.root == x.s.stage {
		return beneath.Rename(x.s.stage, old.path, x.s.history_, x.grave(in.Key), 0)
	}
	err := beneath.Link(old.root, old.path, x.s.history_, x.grave(in.Key))
	if errors.Is(err, syscall.EMLINK) { // it has as many names as can be, all of which must stay until the new content has them
		err = x.keepCopy(in.Key, *old, in.BaseAttr)
	}
	return err
}

// keeps notes what an object in history will take, once it has lost its name in the mirror.
func (x *execution) keeps(node, bytes int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.kept) < smallPlan {
		x.kept[node] = bytes
	}
}

// relink puts an inode that stays as it is at the names that it gained.
func (x *execution) relink(in *diff.Inode) error {
	old, _, err := x.oldPlace(in)
	if err != nil {
		return err
	}
	if old == nil { // all that was in stage has been put, or was never there
		old, err = x.placed(in)
		if err != nil || old == nil {
			return err
		}
	}
	if old.root == x.s.stage && len(in.Paths) == 1 && x.linked[in.Paths[0]] {
		if err := x.at("link"); err != nil {
			return err
		}
		return x.put(old.path, in.Paths[0], true)
	}
	was, err := old.root.Lstat(old.path)
	if err != nil {
		return err
	}
	for _, p := range in.Paths {
		if !x.linked[p] {
			continue
		}
		if err := x.addLink(in, old, was.Ino, p); err != nil {
			return err
		}
	}
	if old.root != x.s.stage {
		return nil
	}
	if err := x.at("unstage"); err != nil {
		return err
	}
	return x.s.stage.Unlink(old.path)
}

// addLink gives an inode, whose number is ino, one more name in the mirror.
func (x *execution) addLink(in *diff.Inode, old *place, ino uint64, path string) error {
	st, err := x.s.tree.Lstat(path)
	if err == nil && st.Ino == ino {
		return nil // an earlier attempt has done it
	}
	if err := x.at("link"); err != nil {
		return err
	}
	err = x.fill(path, func() error { return x.linkFrom(old, path) })
	err = writeError(path, "link", err)
	if IsBadFile(err) {
		x.problem(in.Key, path, err)
		return nil
	}
	return err
}

// linkFrom gives an inode a name of the mirror that is free. If it has as many names as its filesystem allows, it gives up the one in stage, which
// nothing but this needs, and old is the new one.
func (x *execution) linkFrom(old *place, path string) error {
	err := beneath.Link(old.root, old.path, x.s.tree, path)
	if !errors.Is(err, syscall.EMLINK) || old.root != x.s.stage {
		return err
	}
	if err = beneath.Rename(old.root, old.path, x.s.tree, path, unix.RENAME_NOREPLACE); err == nil {
		*old = place{x.s.tree, path}
	}
	return err
}

// placed is a name that an earlier attempt gave to an inode which it then took out of stage.
func (x *execution) placed(in *diff.Inode) (*place, error) {
	for _, p := range in.Paths {
		if !x.resumed {
			break
		}
		st, err := x.s.tree.Lstat(p)
		if err == nil && st.Mode&unix.S_IFMT == in.Attr.Type() {
			return &place{x.s.tree, p}, nil
		}
		if err != nil && !missing(err) {
			return nil, err
		}
	}
	return nil, x.alter("%q, which no run removed, is missing", in.Paths[0])
}

// bury removes directories that went; they are empty by now.
func (x *execution) bury() error {
	gone := x.plan.Gone
	return x.each(len(gone), func(i int) error {
		name := oldName(gone[i].Key)
		if !gone[i].BaseAttr.IsDir() {
			if !x.resumed {
				return nil
			}
			// Format 1 let files wait in stage too.
			return ignoreMissing(beneath.Rename(x.s.stage, name, x.s.history_, x.grave(gone[i].Key), 0))
		}
		if err := x.at("bury"); err != nil {
			return err
		}
		err := ignoreMissing(x.s.stage.Rmdir(name))
		if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
			err = x.foreign(x.s.stage, name)
		}
		return err
	})
}

// lostHistory gives the nodes whose old contents did not get into history: they could not be replaced (the old version stays in
// the mirror), or were not in the mirror.
func (x *execution) lostHistory() (nodes []int64, err error) {
	there := map[string]bool{}
	err = x.s.history_.ReadDir(x.history(), func(name string, _ uint8, _ uint64) error { there[name] = true; return nil })
	if err != nil {
		return nil, fmt.Errorf("looking at what is kept: %w", err)
	}
	for _, in := range x.plan.Inodes {
		if in.What&(diff.New|diff.Data) == diff.Data && !in.Attr.IsDir() && x.patches[in.Key] == nil && !there[nodeName(x.nodes[in.Key])] {
			nodes = append(nodes, x.nodes[in.Key])
		}
	}
	for _, g := range x.plan.Gone {
		if !g.BaseAttr.IsDir() && !there[nodeName(x.nodes[g.Key])] {
			nodes = append(nodes, x.nodes[g.Key])
		}
	}
	return nodes, nil
}

func nodeName(node int64) string { return strconv.FormatInt(node, 10) }
