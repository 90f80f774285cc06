package apply

import (
	"fmt"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// What a run replaces or deletes goes to history out of the mirror, because no bytes are copied that way. If somebody altered it there, it
// is not what was: then history gets a copy out of the base, as long as that can be read, so that earlier restore points stay right. That
// it was altered shows in type, size and time, and no other way without reading all of it.

// isFormer tells that an inode of the mirror is what it was before the run, as far as a stat shows it.
func isFormer(st *unix.Stat_t, was diff.Attr) bool {
	is := attrOf(st)
	if is.Type() != was.Type() {
		return false
	}
	return is.Type() == unix.S_IFDIR || is.Size == was.Size && is.Rdev == was.Rdev && is.MtimeSec == was.MtimeSec && is.MtimeNsec == was.MtimeNsec
}

// former gives the place of a changed inode's contents as they were: old, where the mirror has them, or a copy of the base. nil: nowhere.
// is tells what is at old. right: they are what they were, for all that a stat shows.
func (x *execution) former(in *diff.Inode, old *place, is unix.Stat_t) (_ *place, right bool, err error) {
	switch {
	case in.What&diff.New != 0 || x.lost[in.Key] || x.replacesPatched(in.Key):
		return old, false, nil
	case old == nil:
		if err := x.alter("%q, which no run removed, is missing", in.Paths[0]); err != nil {
			return nil, false, err
		}
	case old.root == x.s.history_:
		return old, true, nil
	default:
		if isFormer(&is, in.BaseAttr) {
			return old, true, nil
		}
		if err := x.alter("%q is not the file that was there", in.BasePaths[0]); err != nil {
			return nil, false, err
		}
	}
	kept, err := x.fromBase(in.Key, in.BasePaths[0], in.BaseAttr)
	switch {
	case err != nil:
	case !kept && old == nil:
		err = x.lose(in)
	case !kept:
		x.warn("earlier restore points have %q as it was altered: there is no base any more", in.BasePaths[0])
	case old == nil:
		return &place{x.s.history_, x.grave(in.Key)}, true, nil
	default:
		return &place{x.s.history_, x.grave(in.Key)}, true, x.foreign(old.root, old.path)
	}
	return old, false, err
}

// fromBase puts into history what an inode was in the base. false: that cannot be had. It is on the disk when it has its name, because
// what has one there is taken for proven.
func (x *execution) fromBase(k diff.Key, path string, was diff.Attr) (bool, error) {
	if x.base == nil || x.plan.Full || x.plan.fromMirror[k] {
		return false, nil
	}
	// What earlier runs could not copy was something else in the mirror.
	if st, err := x.base.Lstat(path); err != nil || !isFormer(&st, was) {
		return false, nil
	}
	if err := x.at("keep from base"); err != nil {
		return false, err
	}
	err := x.keepCopy(k, place{x.base, path}, was)
	if IsBadFile(err) {
		return false, nil
	}
	return err == nil, err
}

// keepCopy puts a copy of an inode into history, where it is on the disk when it has its name.
func (x *execution) keepCopy(k diff.Key, from place, was diff.Attr) error {
	tmp := newName(k) + "-base"                                                    // what it becomes may be there already
	_, err := x.build.build(from, place{x.s.stage, tmp}, 0, &from, []diff.Range{}) // a clone, where that can be
	if err == nil {
		err = syncFile(x.s.stage, tmp, was)
	}
	if err == nil {
		err = x.forgetSum(tmp)
	}
	if err != nil {
		return fmt.Errorf("keeping what %q was: %w", from.path, err)
	}
	return beneath.Rename(x.s.stage, tmp, x.s.history_, x.grave(k), 0)
}

// forgetSum takes out the checksum of an inode that had this one's number before: the run may be given up before it notes another.
func (x *execution) forgetSum(staged string) error {
	st, err := x.s.stage.Lstat(staged)
	if err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.s.setSums([]fileSum{{ino: st.Ino}})
}

// syncFile writes a regular file to its disk. All else is metadata, which keeps its order.
func syncFile(root *beneath.Root, path string, a diff.Attr) error {
	if !a.IsRegular() {
		return nil
	}
	fd, err := root.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// recoverGone puts into history those deleted files that the mirror had not, as the base has them, and gives the nodes that are lost.
func (x *execution) recoverGone(lost []int64) (left []int64, err error) {
	if len(lost) == 0 {
		return nil, nil
	}
	gone := map[int64]*diff.Gone{}
	for _, g := range x.gone {
		gone[x.nodes[g.Key]] = g
	}
	for _, node := range lost {
		kept := false
		if g := gone[node]; g != nil {
			if kept, err = x.fromBase(g.Key, g.BasePaths[0], g.BaseAttr); err != nil {
				return nil, err
			}
		}
		if !kept {
			left = append(left, node)
		}
	}
	return left, nil
}
