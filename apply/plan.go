package apply

import (
	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// plan is a change set as the catalog keeps it until its run is done. What is recorded is never computed again.
type plan struct {
	Unlinked []diff.Name  // ascending by base path
	Linked   []diff.Name  // ascending by new path
	Inodes   []diff.Inode // ascending by first new path
	Gone     []diff.Gone
	Full     bool
	Settled  []uint64    // numbers of pending inodes that went from the source before the mirror ever had them
	TooDeep  []diff.Name // names that are left out; Parent and Type are not kept

	fromMirror map[diff.Key]bool // what the recorder reads from the mirror, which differs from the base there
	// dirs are directories in the new snapshot, by path, that the recorder has looked at: ones that did not change.
	dirs map[string]unix.Stat_t
}

func newPlan(c *diff.ChangeSet) *plan {
	p := &plan{Full: c.Full != "", dirs: map[string]unix.Stat_t{}}
	c.Unlinked.Ascend(func(n diff.Name) bool { p.Unlinked = append(p.Unlinked, n); return true })
	c.Linked.Ascend(func(n diff.Name) bool { p.Linked = append(p.Linked, n); return true })
	c.Inodes.Ascend(func(i diff.Inode) bool { p.Inodes = append(p.Inodes, i); return true })
	c.Gone.Ascend(func(g diff.Gone) bool { p.Gone = append(p.Gone, g); return true })
	for _, key := range c.Settled {
		p.Settled = append(p.Settled, key.Ino)
	}
	for _, n := range c.TooDeep {
		p.TooDeep = append(p.TooDeep, n)
		p.Settled = append(p.Settled, n.Key.Ino) // it may be on the list under a path that it has no more
	}
	return p
}

// takePlan is newPlan for a change set that is not needed any more. The inodes, the largest part of it, go over from its end: the tree lets go
// of its memory bit by bit, so that both together take up little more than the tree did.
func takePlan(c *diff.ChangeSet) *plan {
	tree := c.Inodes
	c.Inodes = diff.NewChangeSet().Inodes
	p := newPlan(c)
	p.Inodes = make([]diff.Inode, tree.Len())
	for i := len(p.Inodes) - 1; i >= 0; i-- {
		p.Inodes[i], _ = tree.DeleteMax()
	}
	return p
}

// empty tells that the mirror need not be touched.
func (p *plan) empty() bool { return len(p.Unlinked)+len(p.Linked)+len(p.Inodes) == 0 }

// apart tells that no name both goes and comes, and that all directories stay where they are, so that nothing that Attach does is in the
// way of Detach: both can be done again from their beginning, however far the other got, and need no mark in between. Until the commit a name
// that goes means what it meant, or nothing. (What may be patched needs a mark: to be saved again it must not have been replaced.)
func (p *plan) apart() bool {
	comes := make(map[string]bool, len(p.Linked))
	for _, n := range p.Linked {
		comes[n.Path] = true
	}
	for _, n := range p.Unlinked {
		if n.Type == unix.S_IFDIR || comes[n.Path] {
			return false
		}
	}
	for i := range p.Inodes {
		if largeChange(&p.Inodes[i]) {
			return false
		}
	}
	return true
}

func (p *plan) counts() Counts {
	c := Counts{Added: int64(len(p.Linked)), Removed: int64(len(p.Unlinked))}
	for _, i := range p.Inodes {
		switch {
		case i.What&diff.New != 0:
			c.Bytes += i.Attr.Size
		case i.What&diff.Data != 0:
			c.Modified++
			c.Bytes += i.Attr.Size
		case i.What&(diff.Meta|diff.Xattrs) != 0:
			c.Meta++
		}
	}
	return c
}
