package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// Parent is a Source that can take its children with it: nested subvolumes, child datasets.
type Parent interface {
	// Former tells what the mirror equals before Take is called: a child keeps the number that it has there.
	Former(mark snapshot.Mark)
}

// part is the open snapshot of the source (number 0) or of one of its children.
type part struct {
	number uint64
	dir    string // its place in the whole
	mark   snapshot.Mark
	root   *beneath.Root
	lost   bool // the snapshot is gone: root is what the mirror has
	// release is to be called after the Root was closed; may be nil.
	release func() error
}

// opener opens the snapshot of one filesystem and gives a part with the present path in its mark.
type opener func(snapshot.Child) (part, error)

// Forgetter is a Parent that can do without the snapshots of children that are not there any more, where it is shown what the mirror has of
// them.
type Forgetter interface {
	// OpenWithout is Open of a base of which snapshots are gone, to be compared with next. snapshot.ErrGone says that it cannot do without one.
	OpenWithout(ctx context.Context, base, next snapshot.Mark, mirror *beneath.Root) (*Snapshot, error)
}

// openWhole opens a snapshot and those of the source's children that belong to it, as one tree.
func openWhole(mark snapshot.Mark, open opener) (*Snapshot, error) {
	snap, err := openParts(mark, open)
	if err != nil {
		return nil, err
	}
	children := map[string]*beneath.Root{}
	for _, p := range snap.parts[1:] {
		children[p.dir] = p.root
	}
	if len(children) > 0 {
		snap.Root.Graft(children)
	}
	return snap, nil
}

// openParts opens a snapshot and those of the source's children, each by itself: Root shows the source alone.
func openParts(mark snapshot.Mark, open opener) (*Snapshot, error) {
	snap := &Snapshot{Mark: mark}
	var releases []func() error
	snap.release = func() error {
		var errs []error
		for _, release := range releases {
			errs = append(errs, release())
		}
		return errors.Join(errs...)
	}
	all := append([]snapshot.Child{{Mark: mark}}, mark.Children...)
	for i, c := range all {
		p, err := open(c)
		if err != nil && i == 0 {
			return nil, err
		}
		if err != nil {
			return nil, errors.Join(err, snap.Close())
		}
		if p.release != nil {
			releases = append(releases, p.release)
		}
		snap.parts = append(snap.parts, p)
		if i == 0 {
			snap.Root, snap.Mark = p.root, p.mark
		}
	}
	return snap, nil
}

// at finds the part of a snapshot that shows a path, and the path in that one.
func (s *Snapshot) at(path string) (p part, rest string) { return partAt(s.parts, path) }

// partAt finds which of the source, the first, and its children shows a path.
func partAt(parts []part, path string) (p part, rest string) {
	p, rest = parts[0], path
	for _, c := range parts[1:] {
		if len(c.dir) > len(p.dir) && (path == c.dir || strings.HasPrefix(path, c.dir+"/")) {
			p, rest = c, strings.TrimPrefix(path[len(c.dir):], "/")
		}
	}
	return p, rest
}

// keysOfParts makes the keys of a snapshot with children of those that each has by itself. top gives the number of a child's top directory.
func keysOfParts(s *Snapshot, keys func(*beneath.Root) func(string, uint64) (diff.Key, error), top func(*beneath.Root) (uint64, error)) func(string, uint64) (diff.Key, error) {
	if len(s.parts) == 1 {
		return keys(s.Root)
	}
	own := make(map[uint64]func(string, uint64) (diff.Key, error), len(s.parts))
	for _, p := range s.parts {
		own[p.number] = keys(p.root)
	}
	return func(path string, ino uint64) (key diff.Key, err error) {
		p, rest := s.at(path)
		_, ino = diff.SplitIno(ino)
		if p.number != 0 && rest == "" { // the number may be that of what the child hides
			if ino, err = top(p.root); err != nil {
				return key, err
			}
		}
		if key, err = own[p.number](rest, ino); err != nil {
			key, _ = diff.Key{Ino: ino}.OfChild(p.number) // the number is known all the same
			return key, err
		}
		return key.OfChild(p.number)
	}
}

// sameChildren says why snapshots of which one may have been taken with children cannot be compared natively, "" if they can. comparable is
// asked about each two snapshots of one filesystem.
func sameChildren(base, next snapshot.Mark, comparable func(base, next snapshot.Mark) string) string {
	if base.Recursive != next.Recursive {
		return WhyRecursive(next.Recursive)
	}
	was := make(map[uint64]snapshot.Mark, len(base.Children))
	for _, c := range base.Children {
		was[c.Number] = c.Mark
	}
	for _, c := range next.Children {
		if before, ok := was[c.Number]; ok {
			if reason := comparable(before, c.Mark); reason != "" {
				return fmt.Sprintf("%q: %s", c.Dir, reason)
			}
		}
	}
	return ""
}

// WhyRecursive says why a run compares in full after the setting has changed.
func WhyRecursive(on bool) string {
	if on {
		return "recursive was switched on"
	}
	return "recursive was switched off"
}

// errForeignRecursive refuses a snapshot that somebody else made of the source alone.
func errForeignRecursive(name string) error {
	return hint.With(fmt.Errorf("the job is recursive, and %s is a snapshot of the source without its children", name),
		"leave out --snapshot, or import into a job without recursive = true")
}
