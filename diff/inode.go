package diff

import (
	"cmp"
	"fmt"
	"slices"
)

// inode decides whether a candidate is a change, and of what.
func (w *worker) inode(num uint64) error {
	next, ok, err := w.Next.Inode(num)
	if err != nil || !ok {
		return err
	}
	in := Inode{Key: Key{num, next.Gen}, Attr: next.Attr}
	if w.again[in.Key] {
		if err := w.stillTooDeep(&in); err != nil {
			return err
		}
	}
	if in.Paths, err = w.next.paths(w.Next, num); err != nil {
		return err
	}
	if len(in.Paths) == 0 { // deleted while open, excluded or too deep: names that went have been followed
		return w.nameless(num, next)
	}
	in.Attr.Nlink = uint32(len(in.Paths)) // the names that the mirror will have
	base, ok, err := w.Base.Inode(num)
	if err != nil {
		return err
	}
	if ok && base.Gen == next.Gen && base.Type() == next.Type() {
		if in.BasePaths, err = w.base.paths(w.Base, num); err != nil {
			return err
		}
	}
	if len(in.BasePaths) == 0 {
		in.What = New
		if err := w.share(&in); err != nil {
			return err
		}
	} else {
		in.BaseAttr = base.Attr
		in.BaseAttr.Nlink = uint32(len(in.BasePaths))
		if slices.Equal(in.Paths, in.BasePaths) {
			in.BasePaths = in.Paths // one copy in memory
		}
		if err := w.differences(base, next, &in); err != nil {
			return err
		}
	}
	if in.What != 0 {
		w.found = append(w.found, in)
	}
	return nil
}

// nameless makes sure that an inode of which the mirror gets no name has none: an index that lacks one would leave out the change.
func (w *worker) nameless(num uint64, next Info) error {
	if next.Nlink == 0 || !w.NamesAll() {
		return nil
	}
	if refs, err := w.Next.Names(num); err != nil || len(refs) > 0 {
		return err
	}
	return Nameless(num, uint64(next.Nlink))
}

// Nameless is the error for a changed inode of the new snapshot which has links there, where Options.NamesAll and no name of it is known.
func Nameless(num, links uint64) error {
	return fmt.Errorf("inode %d changed and has %d links, and no name of it is known: %w", num, links, ErrNotNative)
}

// flush hands over the inodes found. In order: neighbours in the set are near in memory then.
func (w *worker) flush() {
	slices.SortFunc(w.found, func(a, b Inode) int { return cmp.Compare(a.Paths[0], b.Paths[0]) })
	w.mu.Lock()
	for _, in := range w.found {
		w.set.Inodes.ReplaceOrInsert(in)
	}
	w.mu.Unlock()
	clear(w.found)
	w.found = w.found[:0]
}

// share takes the paths of a new inode from the names that came: one copy in memory. One that did not come meant another inode in the base, and
// the directory does not show that it went: the generation of an inode was set (chattr -v).
func (c *comparer) share(in *Inode) error {
	for i, path := range in.Paths {
		n, ok := c.set.Linked.Get(Name{Path: path}) // all names are known: nobody writes to it any more
		if !ok || n.Key != in.Key {
			return fmt.Errorf("%q is another inode than in the base, though its directory did not change: %w", path, ErrNotNative)
		}
		in.Paths[i] = n.Path
	}
	return nil
}

func (w *worker) differences(base, next Info, in *Inode) error {
	b, n := in.BaseAttr, in.Attr
	if b.Mode != n.Mode || b.UID != n.UID || b.GID != n.GID || b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec {
		in.What |= Meta
	}
	if n.IsDir() && w.touched[in.Key.Ino] { // nobody writes to it any more
		in.What |= Meta // a second change within one tick leaves the time as it was
	}
	bx, err := w.Base.Xattrs(in.Key.Ino)
	if err != nil {
		return err
	}
	nx, err := w.Next.Xattrs(in.Key.Ino)
	if err != nil {
		return err
	}
	in.NoXattrs = bx == ""
	if bx != nx {
		in.What |= Xattrs
	}
	if !n.IsDir() && w.moved(in) {
		in.What |= Links
	}
	if n.IsRegular() {
		ranges, changed, err := w.Content(in.Key.Ino, base, next, in.BasePaths[0], in.Paths[0])
		if err != nil {
			return fmt.Errorf("comparing the contents of %q: %w", in.Paths[0], err)
		}
		if changed {
			in.What |= Data
			in.Ranges = ranges
		}
	}
	if k, ok := w.candidate(in.Key.Ino); ok && k.Attrs && in.What&(Data|Meta) == 0 { // with those they are set in any case
		in.What |= Xattrs
		in.NoXattrs = false
	}
	if w.again[in.Key] {
		in.What |= Meta | Xattrs
		if !n.IsDir() {
			in.What |= Data
		}
		in.Ranges = nil
	}
	return nil
}

// moved tells whether any name of the inode went or came. Comparing paths would not do: names may have gone and come while
// directories changed places so that the paths are the old ones, and paths differ where only a directory above moved.
func (c *comparer) moved(in *Inode) bool {
	if len(in.Paths) != len(in.BasePaths) { // one may have come out of an exclusion
		return true
	}
	for _, path := range in.BasePaths {
		if n, ok := c.set.Unlinked.Get(Name{Path: path}); ok && n.Key == in.Key { // all names are known: nobody writes to it any more
			return true
		}
	}
	for _, path := range in.Paths {
		if n, ok := c.set.Linked.Get(Name{Path: path}); ok && n.Key == in.Key {
			return true
		}
	}
	return false
}
