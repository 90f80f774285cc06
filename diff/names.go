package diff

import "fmt"

// names adds what went from and came into a candidate directory.
func (w *worker) names(num uint64) error {
	next, ok, err := w.Next.Inode(num)
	if err != nil || !ok {
		return err
	}
	now, err := w.next.paths(w.Next, num)
	if err != nil || len(now) == 0 {
		return err // what the base showed in it is followed from the name that went
	}
	key := Key{num, next.Gen}
	was, _, err := w.basePaths(key)
	if err != nil {
		return err
	}
	var went, came []Entry
	if len(was) == 0 {
		came, err = entries(w.Next, num)
	} else {
		went, came, err = w.inBoth(num)
	}
	if err != nil {
		return err
	}
	if went, came, err = w.unlike(went, came); err != nil {
		return err
	}
	for _, e := range went {
		if err := w.went(key, e); err != nil {
			return err
		}
	}
	for _, e := range came {
		if err := w.came(key, e); err != nil {
			return err
		}
	}
	return nil
}

// inBoth gives the names that went from and came into a directory that is in both.
func (w *worker) inBoth(dir uint64) (went, came []Entry, err error) {
	whole := true
	if w.Reader.Names != nil {
		went, came, whole, err = w.Reader.Names(dir)
	} else if went, err = entries(w.Base, dir); err == nil {
		came, err = entries(w.Next, dir)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set.Dirs.Changed++
	if whole {
		w.set.Dirs.Whole++
	}
	return went, came, err
}

func entries(t Tree, dir uint64) (all []Entry, err error) {
	err = t.Entries(dir, func(e Entry) error { all = append(all, e); return nil })
	return all, err
}

// unlike leaves out the names that are on both lists and mean the same.
func (w *worker) unlike(went, came []Entry) ([]Entry, []Entry, error) {
	if len(went) == 0 || len(came) == 0 {
		return went, came, nil
	}
	at := make(map[string]int, len(came))
	for i, e := range came {
		at[e.Name] = i
	}
	var left []Entry
	for _, e := range went {
		i, ok := at[e.Name]
		if ok {
			var err error
			if ok, err = w.sameChild(e, came[i]); err != nil {
				return nil, nil, err
			}
		}
		if ok {
			delete(at, e.Name)
			continue
		}
		left = append(left, e)
	}
	rest := make([]Entry, 0, len(at))
	for _, i := range at {
		rest = append(rest, came[i])
	}
	return left, rest, nil
}

// sameChild tells whether one name means the same inode in both. Equal numbers are not enough: the inode may have been
// deleted and its number given away within the same directory.
func (w *worker) sameChild(b, n Entry) (bool, error) {
	if b.Ino != n.Ino || b.Sub != n.Sub || b.Type != n.Type {
		return false, nil
	}
	// An inode made after the base is a candidate: any other number means what it meant.
	if _, ok := w.candidate(b.Ino); b.Sub || !ok {
		return true, nil
	}
	i, ok, err := w.Base.Inode(b.Ino)
	if err != nil || !ok { // a tree that goes by names knows none of what is excluded
		return false, err
	}
	nk, err := w.nextKey(n)
	return Key{b.Ino, i.Gen} == nk, err
}

func (w *worker) baseKey(e Entry) (Key, error) { return keyIn(w.Base, e) }

func (w *worker) nextKey(e Entry) (Key, error) {
	if k, ok := w.candidate(e.Ino); ok && !e.Sub {
		return Key{e.Ino, k.Gen}, nil
	}
	return keyIn(w.Next, e)
}

func keyIn(t Tree, e Entry) (Key, error) {
	if e.Sub {
		return PlaceholderKey(e.Ino), nil
	}
	i, ok, err := t.Inode(e.Ino)
	if err == nil && !ok {
		err = fmt.Errorf("name %q means inode %d, which is not there: %w", e.Name, e.Ino, ErrNotNative)
	}
	return Key{e.Ino, i.Gen}, err
}

func (w *worker) came(dir Key, e Entry) error {
	path, visible, err := w.next.child(w.Next, dir.Ino, e.Name)
	if err != nil {
		return err
	}
	if !visible {
		return w.cameTooDeep(path, e)
	}
	key, err := w.nextKey(e)
	if err != nil {
		return err
	}
	w.cameName(Name{Path: path, Parent: dir, Key: key, Type: e.kind()}, e.Sub)
	if e.Sub {
		return nil
	}
	return w.uncover(key, e, path)
}

func (c *comparer) cameName(n Name, sub bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set.Linked.ReplaceOrInsert(n)
	c.touched[n.Parent.Ino] = true
	if sub {
		c.set.Skipped = append(c.set.Skipped, n.Path)
		c.subs[n.Key] = n.Path
		c.set.Inodes.ReplaceOrInsert(Inode{Key: n.Key, What: New, Paths: []string{n.Path}, Attr: PlaceholderAttr})
	}
}

// went adds a name that went from a directory of the base, and what goes with it.
func (w *worker) went(dir Key, e Entry) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	path, visible, err := w.base.child(w.Base, dir.Ino, e.Name)
	if err != nil {
		return err
	}
	if !visible {
		return w.wentTooDeep(path, e)
	}
	if e.Sub {
		w.wentName(Name{Path: path, Parent: dir, Key: PlaceholderKey(e.Ino), Type: e.kind()}, true)
		return nil
	}
	f, first, err := w.fateOf(e.Ino)
	if err != nil {
		return err
	}
	w.wentName(Name{Path: path, Parent: dir, Key: f.key, Type: e.kind()}, false)
	switch _, changed := w.candidate(e.Ino); {
	case !first:
	case !f.lives:
		return w.gone(f.key)
	case !changed:
		w.mu.Lock()
		w.others = append(w.others, e.Ino)
		w.mu.Unlock()
	}
	return nil
}

func (c *comparer) wentName(n Name, sub bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set.Unlinked.ReplaceOrInsert(n)
	c.touched[n.Parent.Ino] = true
	if sub {
		c.set.Gone.ReplaceOrInsert(Gone{Key: n.Key, BasePaths: []string{n.Path}, BaseAttr: PlaceholderAttr})
	}
}

// fate is what became of an inode of the base.
type fate struct {
	key   Key
	lives bool // next still shows it under some name
}

// fateOf finds out what became of an inode that lost a name. That takes a look at all names it has: of one with several it is kept, and first
// is false when another of them asks.
func (w *worker) fateOf(num uint64) (f fate, first bool, err error) {
	w.mu.Lock()
	f, known := w.fates[num]
	w.mu.Unlock()
	if known {
		return f, false, nil
	}
	info, ok, err := w.Base.Inode(num)
	if err == nil && !ok {
		err = fmt.Errorf("a name means inode %d, which is not there: %w", num, ErrNotNative)
	}
	if err != nil {
		return f, false, err
	}
	f.key = Key{num, info.Gen}
	if f.lives, err = w.lives(f.key); err != nil || info.Nlink <= 1 {
		return f, true, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, known = w.fates[num] // another worker may have been quicker
	w.fates[num] = f
	return f, !known, nil
}

// lives tells whether next still shows an inode of the base under any name.
func (w *worker) lives(k Key) (bool, error) {
	i, ok, err := w.Next.Inode(k.Ino)
	if err != nil || !ok || i.Gen != k.Gen {
		return false, err
	}
	paths, err := w.next.paths(w.Next, k.Ino)
	return len(paths) > 0, err
}

// gone adds an inode that went altogether, and all below it.
func (w *worker) gone(k Key) error {
	info, _, err := w.Base.Inode(k.Ino)
	if err != nil {
		return err
	}
	xattrs, err := w.Base.Xattrs(k.Ino)
	if err != nil {
		return err
	}
	paths, err := w.base.paths(w.Base, k.Ino)
	if err != nil {
		return err
	}
	g := Gone{Key: k, BasePaths: paths, BaseAttr: info.Attr, NoXattrs: xattrs == ""}
	if !info.IsDir() {
		g.BaseAttr.Nlink = uint32(len(paths))
	}
	w.mu.Lock()
	w.set.Gone.ReplaceOrInsert(g)
	w.mu.Unlock()
	if !info.IsDir() {
		return nil
	}
	all, err := entries(w.Base, k.Ino)
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := w.went(k, e); err != nil {
			return err
		}
	}
	return nil
}
