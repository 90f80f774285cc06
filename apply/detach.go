package apply

import (
	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// detach takes all names that went out of the mirror: files first, then directories, the deepest first, so that every path is
// still good when it is used.
func (x *execution) detach() error {
	var alone, others []*diff.Name
	for i := len(x.plan.Unlinked) - 1; i >= 0; i-- {
		n := &x.plan.Unlinked[i]
		if n.Type != unix.S_IFDIR && x.unlinked[n.Key] == 1 {
			alone = append(alone, n)
		} else {
			others = append(others, n) // directories, and inodes of which several names go: one after the other
		}
	}
	if err := x.each(len(alone), func(i int) error { return x.detachName(alone[i]) }); err != nil {
		return err
	}
	for _, n := range others {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if err := x.detachName(n); err != nil {
			return err
		}
	}
	return nil
}

// detachedTo is where an inode waits that lost a name.
func (x *execution) detachedTo(k diff.Key) place {
	if x.gone[k] != nil {
		return place{x.s.history_, x.grave(k)}
	}
	return place{x.s.stage, oldName(k)}
}

func (x *execution) detachName(n *diff.Name) error {
	if err := x.at("detach"); err != nil {
		return err
	}
	to := x.detachedTo(n.Key)
	if x.resumed || x.unlinked[n.Key] > 1 {
		there, err := exists(to.root, to.path)
		if err != nil {
			return err
		}
		if there && n.Type == unix.S_IFDIR {
			return nil
		}
		if there {
			return ignoreMissing(x.s.tree.Unlink(n.Path))
		}
	}
	st, err := x.s.tree.Lstat(n.Path)
	switch {
	case missing(err) && x.resumed && x.apart && x.gone[n.Key] == nil:
		return nil // an earlier attempt may have attached what it was a name of; if not, Attach misses it
	case missing(err):
		return x.alter("%q, which no run removed, is missing", n.Path)
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != n.Type:
		return x.foreign(x.s.tree, n.Path)
	}
	if g := x.gone[n.Key]; g != nil && !isFormer(&st, g.BaseAttr) {
		if err := x.alter("%q is not the file that was there", n.Path); err != nil {
			return err
		}
		if x.base != nil && !x.plan.Full { // see recoverGone
			return x.foreign(x.s.tree, n.Path)
		}
	}
	return beneath.Rename(x.s.tree, n.Path, to.root, to.path, 0)
}
