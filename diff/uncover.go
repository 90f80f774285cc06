package diff

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// uncover makes sure that all is compared which a name that came brings with it. What came out of an excluded place need not have
// changed, so the feeder does not name it: it is new to the mirror, and a directory brings all that it holds.
func (w *worker) uncover(key Key, e Entry, path string) error {
	_, changed := w.candidate(e.Ino)
	if e.kind() != unix.S_IFDIR {
		if !changed {
			w.uncovers(e.Ino, changed)
		}
		return nil
	}
	was, inBase, err := w.basePaths(key)
	if err != nil {
		return err
	}
	switch {
	case len(was) > 0:
		if w.base.exclude.dependsOn(was[0]) || w.next.exclude.dependsOn(path) {
			return fmt.Errorf("directory %q moved to %q, and what is excluded below it depends on that: %w", was[0], path, ErrNotNative)
		}
		return nil
	case inBase && w.base.exclude.None():
		return fmt.Errorf("directory %q has no name in the base: %w", path, ErrNotNative)
	case changed && !inBase:
		return nil // a new directory: all its names come by itself
	case !w.uncovers(e.Ino, changed):
		return nil
	}
	all, err := entries(w.Next, e.Ino)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := w.came(key, e); err != nil {
			return err
		}
	}
	return nil
}

// basePaths are the paths that the base shows of an inode of next; none if it has no such inode, or it is excluded there.
func (w *worker) basePaths(k Key) (paths []string, inBase bool, err error) {
	i, ok, err := w.Base.Inode(k.Ino)
	if err != nil || !ok || i.Gen != k.Gen {
		return nil, false, err
	}
	paths, err = w.base.paths(w.Base, k.Ino)
	return paths, true, err
}

// uncovers takes in an inode that came uncovered; false when it has been already.
func (c *comparer) uncovers(num uint64, changed bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uncovered[num] {
		return false
	}
	c.uncovered[num] = true
	if !changed {
		c.others = append(c.others, num)
	}
	return true
}
