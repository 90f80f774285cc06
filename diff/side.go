package diff

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// side is one snapshot with what was already looked up in it.
type side struct {
	tree    Tree
	exclude []string
	dirs    map[uint64]string // paths of directories, excluded ones too
	infos   map[uint64]known
}

type known struct {
	info Info
	ok   bool
}

func newSide(t Tree, exclude []string) *side {
	return &side{tree: t, exclude: exclude, dirs: map[uint64]string{t.Root(): ""}, infos: map[uint64]known{}}
}

// info is Tree.Inode, asked once for each number.
func (s *side) info(num uint64) (Info, bool, error) {
	if k, ok := s.infos[num]; ok {
		return k.info, k.ok, nil
	}
	i, ok, err := s.tree.Inode(num)
	if err != nil {
		return i, false, err
	}
	s.infos[num] = known{i, ok}
	return i, ok, nil
}

func (s *side) key(e Entry) (Key, error) {
	if e.Sub {
		return PlaceholderKey(e.Ino), nil
	}
	i, ok, err := s.info(e.Ino)
	if err == nil && !ok {
		err = fmt.Errorf("name %q means inode %d, which is not there: %w", e.Name, e.Ino, ErrNotNative)
	}
	return Key{e.Ino, i.Gen}, err
}

// dir gives a directory's path, from its names up to the root.
func (s *side) dir(num uint64) (string, error) {
	if p, ok := s.dirs[num]; ok {
		return p, nil
	}
	refs, err := s.tree.Names(num)
	if err != nil {
		return "", err
	}
	if len(refs) != 1 {
		return "", fmt.Errorf("directory %d has %d names: %w", num, len(refs), ErrNotNative)
	}
	parent, err := s.dir(refs[0].Parent)
	if err != nil {
		return "", err
	}
	p := join(parent, refs[0].Name)
	s.dirs[num] = p
	return p, nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func (s *side) excluded(path string) bool {
	for _, x := range s.exclude {
		if strings.HasPrefix(path, x) && (len(path) == len(x) || path[len(x)] == '/') {
			return true
		}
	}
	return false
}

// name makes a Name of a directory's entry; not visible when it is excluded.
func (s *side) name(dir uint64, e Entry) (n Name, visible bool, err error) {
	p, err := s.dir(dir)
	if err != nil {
		return n, false, err
	}
	n.Path = join(p, e.Name)
	if s.excluded(n.Path) {
		return n, false, nil
	}
	d, ok, err := s.info(dir)
	if err == nil && !ok {
		err = fmt.Errorf("directory %q, inode %d, is not there: %w", p, dir, ErrNotNative)
	}
	if err != nil {
		return n, false, err
	}
	n.Parent = Key{dir, d.Gen}
	if n.Key, err = s.key(e); err != nil {
		return n, false, err
	}
	n.Type = e.Type
	if e.Sub {
		n.Type = unix.S_IFDIR
	}
	return n, true, nil
}

// paths are all visible names of an inode, sorted; the root's is "". None for one that was deleted while open.
func (s *side) paths(num uint64) ([]string, error) {
	if num == s.tree.Root() {
		return []string{""}, nil
	}
	refs, err := s.tree.Names(num)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range refs {
		d, err := s.dir(r.Parent)
		if err != nil {
			return nil, err
		}
		if p := join(d, r.Name); !s.excluded(p) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out, nil
}
