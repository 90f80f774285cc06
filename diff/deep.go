package diff

import (
	"fmt"
	"slices"
)

// LongestPath is how long a path may be in the mirror, in bytes. It is twice what a system call takes, so nobody has such a path by
// accident. A chain of directories costs the square of its depth wherever paths are kept: 100,000 levels would be 10 GB of them.
const LongestPath = 8 << 10

// ErrTooDeep says why a name is not in the mirror.
var ErrTooDeep = fmt.Errorf("it lies too deep: paths of more than %d bytes are not copied", LongestPath)

// TooDeep tells whether a name stays out of the mirror, with all below it, because of the length of its path.
func TooDeep(path string) bool { return len(path) > LongestPath }

// endsHere tells the first name of a way down that is too deep: its directory is not.
func endsHere(path, name string) bool {
	return TooDeep(path) && !TooDeep(path[:max(len(path)-len(name)-1, 0)])
}

// cameTooDeep reports a name that came and is left out because of its depth.
func (w *worker) cameTooDeep(path string, e Entry) error {
	if !endsHere(path, e.Name) || w.next.exclude.Match(path) {
		return nil
	}
	key, err := w.nextKey(e)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set.TooDeep = append(w.set.TooDeep, Name{Path: path, Key: key, Type: e.kind()})
	return nil
}

// wentTooDeep reports that a name which was left out is not there any more.
func (w *worker) wentTooDeep(path string, e Entry) error {
	if !endsHere(path, e.Name) {
		return nil
	}
	key, err := w.baseKey(e)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set.Settled = append(w.set.Settled, key)
	return nil
}

// stillTooDeep reports the names of an inode that an earlier run left out, if they still are to be. One that is not too deep any more, since
// a directory above it moved, brings content that no candidate names.
func (w *worker) stillTooDeep(in *Inode) error {
	refs, err := w.Next.Names(in.Key.Ino)
	if err != nil {
		return err
	}
	before, err := w.Base.Names(in.Key.Ino)
	if err != nil {
		return err
	}
	for _, r := range refs {
		path, visible, err := w.next.child(w.Next, r.Parent, r.Name)
		if err != nil {
			return err
		}
		if endsHere(path, r.Name) && !w.next.exclude.Match(path) {
			w.mu.Lock()
			w.set.TooDeep = append(w.set.TooDeep, Name{Path: path, Key: in.Key, Type: in.Attr.Type()})
			w.mu.Unlock()
		}
		if !visible || !slices.Contains(before, r) {
			continue
		}
		if path, _, err = w.base.child(w.Base, r.Parent, r.Name); err != nil {
			return err
		} else if TooDeep(path) {
			return fmt.Errorf("a directory was moved up that was nested too deep: %w", ErrNotNative)
		}
	}
	return nil
}
