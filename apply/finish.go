package apply

import (
	"errors"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// finish sets the metadata of what was kept, then that of all directories in which anything was done.
func (x *execution) finish() error {
	var files []*diff.Inode
	for i := range x.plan.Inodes {
		in := &x.plan.Inodes[i]
		if !in.Attr.IsDir() && in.What&(diff.New|diff.Data) == 0 && in.What&(diff.Meta|diff.Xattrs) != 0 {
			files = append(files, in)
		}
	}
	if err := x.each(len(files), func(i int) error { return x.setFileMeta(files[i]) }); err != nil {
		return err
	}
	changed, others := x.disturbedDirs()
	if err := x.each(len(changed), func(i int) error { return x.setMeta(diff.Key{}, changed[i]) }); err != nil {
		return err
	}
	return x.each(len(others), func(i int) error { return x.setTime(others[i]) })
}

// setTime gives a directory its time back that is otherwise as it was. If it is not, all of it is set. (A time that the mirror's filesystem
// cannot hold has been met before, and made the directory one of those that are tried again.)
func (x *execution) setTime(path string) error {
	if x.stands[path] || x.resumed {
		return x.setMeta(diff.Key{}, path)
	}
	if err := x.at("metadata"); err != nil {
		return err
	}
	want, ok := x.plan.dirs[path]
	if !ok {
		var err error
		if want, err = x.next.Lstat(path); err != nil {
			return x.setMeta(diff.Key{}, path)
		}
	}
	have, err := x.s.tree.Lstat(path)
	if err == nil && have.Mode == want.Mode && have.Uid == want.Uid && have.Gid == want.Gid {
		if have.Mtim == want.Mtim {
			return nil
		}
		if err = x.s.tree.Utimes(path, want.Mtim.Sec, want.Mtim.Nsec); err == nil {
			return nil
		}
	}
	return x.setMeta(diff.Key{}, path)
}

// setFileMeta sets metadata in place, unless the inode also lives in history: then it is replaced.
func (x *execution) setFileMeta(in *diff.Inode) error {
	alone, err := x.onlyInMirror(in)
	if missing(err) {
		return x.alter("%q, which no run removed, is missing", in.Paths[0])
	}
	if err != nil {
		return err
	}
	if alone {
		return x.setMeta(in.Key, in.Paths[0])
	}
	if err := x.at("build"); err != nil {
		return err
	}
	tmp := newName(in.Key)
	_, err = x.build.build(place{x.next, in.Paths[0]}, place{x.s.stage, tmp}, in.Attr.Type(), nil, nil)
	if err == nil {
		err = x.place(in, tmp, true)
	}
	if IsBadFile(err) {
		x.problem(in.Key, in.Paths[0], err)
		return nil
	}
	return err
}

// onlyInMirror tells that the names of an inode are one inode and that it has no other names.
func (x *execution) onlyInMirror(in *diff.Inode) (bool, error) {
	var first unix.Stat_t
	for i, path := range in.Paths {
		st, err := x.s.tree.Lstat(path)
		if err != nil {
			return false, err
		}
		if i == 0 {
			first = st
		}
		if st.Ino != first.Ino || uint64(st.Nlink) > uint64(len(in.Paths)) {
			return false, nil
		}
	}
	return true, nil
}

func (x *execution) setMeta(k diff.Key, path string) error {
	if err := x.at("metadata"); err != nil {
		return err
	}
	if x.stands[path] {
		return x.setPlaceholder(path)
	}
	err := x.build.applyMeta(place{x.next, path}, place{x.s.tree, path})
	if missing(err) && k == (diff.Key{}) {
		if err := x.mend(path + "/"); err != nil {
			return err
		}
		err = x.build.applyMeta(place{x.next, path}, place{x.s.tree, path})
	}
	if !IsBadFile(err) {
		return err
	}
	if k == (diff.Key{}) {
		var keyErr error
		if k, keyErr = x.dirKey(path); keyErr != nil {
			return keyErr
		}
	}
	x.problem(k, path, err)
	return nil
}

// dirKey is what a directory of the new snapshot is known by. Its own number would not do where several filesystems are one tree, nor that which a top
// directory shows.
func (x *execution) dirKey(path string) (diff.Key, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.dirKeys == nil {
		x.dirKeys, x.dirsCame = map[string]diff.Key{}, map[string]string{}
		for i := range x.plan.Inodes {
			if in := &x.plan.Inodes[i]; in.Attr.IsDir() {
				x.dirKeys[in.Paths[0]] = in.Key
			}
		}
		for from, to := range movedDirs(x.plan) {
			x.dirsCame[to] = from
		}
	}
	if k, ok := x.dirKeys[path]; ok {
		return k, nil
	}
	before := path
	if !x.committed { // the catalog has the names of the base
		before = pathNow(path, x.dirsCame)
	}
	id, err := x.s.dirNode(before, map[string]int64{"": rootNode})
	if err != nil {
		return diff.Key{}, err
	}
	return x.s.keyOfNode(id)
}

// setPlaceholder gives the stand-in of a nested subvolume fixed attributes: those in the snapshot are invented.
func (x *execution) setPlaceholder(path string) error {
	a := diff.PlaceholderAttr
	return errors.Join(x.s.tree.Chown(path, a.UID, a.GID), x.s.tree.Chmod(path, a.Mode&0o7777), x.s.tree.Utimes(path, a.MtimeSec, int64(a.MtimeNsec)))
}

// disturbedDirs are the directories whose times have moved, under the paths that they have now: those that changed in the
// source, those that hold what was changed, and those that names came to or went from. One that kept its times in the source
// (they were put back) is on no list of changes: it is one of the others.
func (x *execution) disturbedDirs() (changed, others []string) {
	seen := map[string]bool{}
	now := map[diff.Key]string{}
	for _, in := range x.plan.Inodes {
		if in.Attr.IsDir() {
			now[in.Key] = in.Paths[0]
			seen[in.Paths[0]] = true
			changed = append(changed, in.Paths[0])
		}
	}
	add := func(path string) {
		if !seen[path] {
			seen[path] = true
			others = append(others, path)
		}
	}
	for _, in := range x.plan.Inodes {
		if in.Attr.IsDir() {
			continue
		}
		for _, p := range in.Paths {
			dir, _ := split(p)
			add(dir)
		}
	}
	for _, n := range x.plan.Linked {
		dir, _ := split(n.Path)
		add(dir)
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
			add(p)
			continue
		}
		dir, _ := split(n.Path)
		add(pathNow(dir, moved))
	}
	return changed, others
}

// pathNow follows a directory of the base through the moves of the directories above it.
func pathNow(path string, moved map[string]string) string {
	if path == "" {
		return ""
	}
	if to, ok := moved[path]; ok {
		return to
	}
	dir, name := split(path)
	return join(pathNow(dir, moved), name)
}
