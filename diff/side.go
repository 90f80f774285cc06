package diff

import (
	"fmt"
	"slices"
	"sync"
)

// side is one snapshot with the paths that were already worked out in it. It is for many goroutines; each brings a Tree of
// its own.
type side struct {
	root    uint64
	exclude *Exclude
	mu      sync.RWMutex
	dirs    map[uint64]string // paths of directories that hold something of interest, excluded ones too
}

func newSide(exclude *Exclude, root uint64) *side {
	return &side{root: root, exclude: exclude, dirs: map[uint64]string{root: ""}}
}

// dir gives a directory's path, from its names up to the root.
func (s *side) dir(t Tree, num uint64) (string, error) {
	s.mu.RLock()
	path, ok := s.dirs[num]
	s.mu.RUnlock()
	if ok {
		return path, nil
	}
	refs, err := t.Names(num)
	if err != nil {
		return "", err
	}
	if len(refs) != 1 {
		return "", fmt.Errorf("directory %d has %d names: %w", num, len(refs), ErrNotNative)
	}
	name := refs[0].Name
	parent, err := s.dir(t, refs[0].Parent)
	if err != nil {
		return "", err
	}
	if path = parent; !TooDeep(parent) { // below that, all is left out, and the first name that was stands for it
		path = join(parent, name)
	}
	s.mu.Lock()
	s.dirs[num] = path
	s.mu.Unlock()
	return path, nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// child gives the path of a name in a directory; not visible when it is excluded or too deep.
func (s *side) child(t Tree, dir uint64, name string) (path string, visible bool, err error) {
	if path, err = s.dir(t, dir); err != nil {
		return "", false, err
	}
	path = join(path, name)
	return path, !TooDeep(path) && !s.exclude.Match(path), nil
}

// paths are all visible names of an inode, sorted; the root's is "". None for one that was deleted while open.
func (s *side) paths(t Tree, num uint64) ([]string, error) {
	if num == s.root {
		return []string{""}, nil
	}
	refs, err := t.Names(num)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(refs))
	for _, r := range refs {
		path, visible, err := s.child(t, r.Parent, r.Name)
		if err != nil {
			return nil, err
		}
		if visible {
			out = append(out, path)
		}
	}
	slices.Sort(out)
	return out, nil
}
