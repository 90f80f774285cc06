package apply

import (
	"slices"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// pendingKeys are the inodes that the mirror may lack, or have in an older version than the base. What a first copy could
// not read it noted without the generation (0).
type pendingKeys map[diff.Key]bool

func (p pendingKeys) has(k diff.Key) bool { return p[k] || p[diff.Key{Ino: k.Ino}] }

// reconsider makes the plan fit what the mirror has of the inodes that earlier runs could not copy: names that it lacks do
// not go, they come; an inode that it lacks altogether is new.
func (s *Store) reconsider(p *plan) error {
	list, err := s.Pending()
	if err != nil || len(list) == 0 {
		return err
	}
	keys := make(pendingKeys)
	for _, b := range list {
		keys[b.Key] = true
	}
	r := &reconsidering{s: s, plan: p, lacking: map[string]bool{}, dirs: map[string]int64{"": rootNode}}
	r.moved, p.fromMirror = movedDirs(p), map[diff.Key]bool{}
	for i := range p.Inodes {
		if in := &p.Inodes[i]; keys.has(in.Key) && in.What&diff.New == 0 && !in.Attr.IsDir() {
			if err := r.inode(in); err != nil {
				return err
			}
		}
	}
	var gone []diff.Gone
	for _, g := range p.Gone {
		if keys.has(g.Key) && !g.BaseAttr.IsDir() {
			if g.BasePaths, err = r.present(g.Key, g.BasePaths, &g.BaseAttr); err != nil {
				return err
			}
		}
		if len(g.BasePaths) > 0 {
			gone = append(gone, g)
		} else {
			p.Settled = append(p.Settled, g.Key.Ino)
		}
	}
	p.Gone = gone
	p.Unlinked = slices.DeleteFunc(p.Unlinked, func(n diff.Name) bool { return r.lacking[n.Path] })
	slices.SortFunc(p.Linked, compareNames)
	return nil
}

func compareNames(a, b diff.Name) int {
	switch {
	case a.Path < b.Path:
		return -1
	case a.Path > b.Path:
		return 1
	}
	return 0
}

type reconsidering struct {
	s       *Store
	plan    *plan
	moved   map[string]string
	lacking map[string]bool // names of the base that the mirror lacks
	dirs    map[string]int64
}

func (r *reconsidering) inode(in *diff.Inode) error {
	base := in.BasePaths
	have, err := r.present(in.Key, base, &in.BaseAttr)
	if err != nil {
		return err
	}
	for _, path := range base {
		if r.lacking[path] && !r.goes(path) {
			if err := r.comes(in, path); err != nil {
				return err
			}
		}
	}
	in.BasePaths, in.Ranges = have, nil
	in.What |= diff.Data | diff.Meta | diff.Xattrs | diff.Links
	if len(have) == 0 {
		in.What = diff.New
	}
	return nil
}

// comes makes a name that stays in the source one that comes in the mirror.
func (r *reconsidering) comes(in *diff.Inode, base string) error {
	dir, name := split(base)
	id, err := r.s.dirNode(dir, r.dirs)
	if err != nil {
		return err
	}
	parent, err := r.s.keyOfNode(id)
	if err != nil {
		return err
	}
	r.plan.Linked = append(r.plan.Linked, diff.Name{Path: join(pathNow(dir, r.moved), name), Parent: parent, Key: in.Key, Type: in.Attr.Type()})
	return nil
}

// goes tells whether the source lost a name of the base.
func (r *reconsidering) goes(path string) bool {
	_, found := slices.BinarySearchFunc(r.plan.Unlinked, diff.Name{Path: path}, compareNames)
	return found
}

// present gives those of the names that the mirror has, and how the inode is there.
func (r *reconsidering) present(k diff.Key, paths []string, attr *diff.Attr) (have []string, err error) {
	typ := attr.Type()
	for _, path := range paths {
		st, err := r.s.tree.Lstat(path)
		switch {
		case err == nil && st.Mode&unix.S_IFMT == typ:
			have = append(have, path)
			*attr = attrOf(&st)
		case err == nil || missing(err):
			r.lacking[path] = true
		default:
			return nil, err
		}
	}
	attr.Nlink = uint32(len(have))
	r.plan.fromMirror[k] = true
	return have, nil
}

// movedDirs are the directories that move, path now by base path.
func movedDirs(p *plan) map[string]string {
	at := map[diff.Key]string{}
	for _, n := range p.Linked {
		if n.Type == unix.S_IFDIR {
			at[n.Key] = n.Path
		}
	}
	moved := map[string]string{}
	for _, n := range p.Unlinked {
		if to, ok := at[n.Key]; ok && n.Type == unix.S_IFDIR {
			moved[n.Path] = to
		}
	}
	return moved
}

// handled are the inodes that a plan deals with, by number: what it does not speak of stays pending.
func (p *plan) handled() map[uint64]bool {
	seen := make(map[uint64]bool, len(p.Inodes)+len(p.Gone))
	for _, in := range p.Inodes {
		seen[in.Key.Ino] = true
	}
	for _, g := range p.Gone {
		seen[g.Key.Ino] = true
	}
	for _, ino := range p.Settled {
		seen[ino] = true
	}
	return seen
}

// replacePending takes off the list what this run dealt with, and puts on it what it could not do. The caller has a
// transaction.
func (s *Store) replacePending(p *plan, problems []Problem) error {
	if p.Full {
		if err := s.exec(`DELETE FROM pending`); err != nil {
			return err
		}
	} else {
		old, err := s.Pending()
		if err != nil {
			return err
		}
		handled := p.handled()
		for _, b := range old {
			if handled[b.Key.Ino] {
				if err := s.exec(`DELETE FROM pending WHERE path = ?`, []byte(b.Path)); err != nil {
					return err
				}
			}
		}
	}
	for _, n := range p.TooDeep {
		problems = append(problems, Problem{Path: n.Path, Key: n.Key, Err: &BadFile{Path: n.Path, Op: "copy", Err: diff.ErrTooDeep}})
	}
	return s.addPending(problems)
}

func (s *Store) addPending(problems []Problem) error {
	for _, b := range problems {
		err := s.exec(`INSERT OR REPLACE INTO pending(path, ino, gen, reason) VALUES (?, ?, ?, ?)`,
			[]byte(b.Path), int64(b.Key.Ino), int64(b.Key.Gen), reasonOf(b.Err, b.Path))
		if err != nil {
			return err
		}
	}
	return nil
}
