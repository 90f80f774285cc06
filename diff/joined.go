package diff

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// A job of several filesystems is compared as one tree. The number of an inode there is its own and, above the bits that inode numbers
// have, the number of its filesystem: the source is 0, each child has one that it keeps from run to run (snapshot.Child). ZFS has no larger
// object numbers (DN_MAX_OBJECT); btrfs counts up from 256 and would take millennia.
const inoBits = 48

// ChildIno is the number that an inode of a child has among those of all filesystems of a job.
func ChildIno(child, ino uint64) (uint64, error) {
	if ino>>inoBits != 0 {
		return 0, fmt.Errorf("inode %d has a number that is too large for a job of several filesystems", ino)
	}
	return child<<inoBits | ino, nil
}

// OfChild makes a key of a child's own one of the whole job.
func (k Key) OfChild(child uint64) (Key, error) {
	bit := uint64(0)
	if k.IsPlaceholder() {
		bit = placeholder
	}
	ino, err := ChildIno(child, k.Ino&^bit)
	return Key{ino | bit, k.Gen}, err
}

// SplitIno is the reverse of ChildIno.
func SplitIno(num uint64) (child, ino uint64) { return num >> inoBits, num & (1<<inoBits - 1) }

// Part is one filesystem in a snapshot of several.
type Part struct {
	Number uint64
	// Top is the number of its top directory, without that of the child.
	Top uint64
	// At is where it is, in joined numbers; of no meaning for the source itself.
	At Ref
}

// Parts is how the filesystems in a snapshot of several lie in each other.
type Parts struct {
	parts map[uint64]Part // by number
	at    map[Ref]uint64
	in    map[uint64][]Ref // the places by their directories
}

// NewParts takes in the source and its children.
func NewParts(list []Part) *Parts {
	p := &Parts{map[uint64]Part{}, map[Ref]uint64{}, map[uint64][]Ref{}}
	for _, part := range list {
		p.parts[part.Number] = part
		if part.Number != 0 {
			p.at[part.At] = part.Number
			p.in[part.At.Parent] = append(p.in[part.At.Parent], part.At)
		}
	}
	return p
}

// Place is where a filesystem is in a snapshot of several.
type Place struct {
	Number uint64
	Dir    string // a path in the whole; "" for the source
	Top    uint64 // number of its top directory, without that of the child
	// Find, if not nil, gives the numbers of directories in it that whole does not show, by paths below its top.
	Find func(path string) (uint64, error)
}

// PartsOf works out how the filesystems lie in each other that whole shows as one tree.
func PartsOf(whole *beneath.Root, places []Place) (*Parts, error) {
	list := make([]Part, len(places))
	for i, p := range places {
		list[i] = Part{Number: p.Number, Top: p.Top}
		if p.Number == 0 {
			continue
		}
		dir := dirOf(p.Dir)
		around := placeOf(dir, places)
		ino, err := around.number(whole, dir)
		if err != nil {
			return nil, fmt.Errorf("the directory around %q: %w", p.Dir, err)
		}
		parent, err := ChildIno(around.Number, ino)
		if err != nil {
			return nil, err
		}
		list[i].At = Ref{parent, strings.TrimPrefix(p.Dir[len(dir):], "/")}
	}
	return NewParts(list), nil
}

// number gives that of a directory of the filesystem, by its path in the whole.
func (p Place) number(whole *beneath.Root, dir string) (uint64, error) {
	switch {
	case dir == p.Dir:
		return p.Top, nil
	case p.Find != nil:
		return p.Find(dir[len(p.Dir)+1:])
	}
	st, err := whole.Lstat(dir)
	return st.Ino, err
}

// placeOf gives the filesystem that a directory of the whole is in.
func placeOf(dir string, places []Place) (found Place) {
	longest := -1
	for _, p := range places {
		if len(p.Dir) > longest && (p.Dir == "" || dir == p.Dir || strings.HasPrefix(dir, p.Dir+"/")) {
			found, longest = p, len(p.Dir)
		}
	}
	return found
}

// child is the name of a child in the directory that holds it.
func (p *Parts) child(at Ref) Entry {
	n := p.at[at]
	return Entry{Name: at.Name, Ino: n<<inoBits | p.parts[n].Top, Type: unix.S_IFDIR}
}

// joinEntry makes a name that a child's tree gave one of the whole. A child stands in the place of the directory that the filesystem around it
// has there.
func (p *Parts) joinEntry(child, dir uint64, e Entry) (Entry, error) {
	if at := (Ref{dir, e.Name}); p.at[at] != 0 {
		return p.child(at), nil
	}
	var err error
	e.Ino, err = ChildIno(child, e.Ino) // of a placeholder too: a snapshot that is nested has those of the subvolume that it was taken of
	return e, err
}

// Forest is what one goroutine reads the filesystems of two snapshots with. What it gave for one child need not stay valid when it is asked
// for another one.
type Forest interface {
	// BaseTree and NextTree give the tree of a child that the snapshot has.
	BaseTree(child uint64) Tree
	NextTree(child uint64) Tree
	// Compare gives what compares files and directories of a child that is in both, as in Reader; names may be nil. It is called after BaseTree
	// and NextTree of that child.
	Compare(child uint64) (content Content, names func(dir uint64) (went, came []Entry, whole bool, err error))
}

// CompareJoined is CompareWith for snapshots of several filesystems. The candidates have joined numbers; of a child that is new all inodes are
// to be among them, or none.
func CompareJoined(ctx context.Context, base, next *Parts, forests []Forest, candidates []Candidate, opts Options) (*ChangeSet, error) {
	other := otherPlaces(base, next)
	readers := make([]Reader, len(forests))
	for i, f := range forests {
		j := &joinedReader{
			forest: f, other: other, base: &joined{Parts: base, open: f.BaseTree}, next: &joined{Parts: next, open: f.NextTree},
		}
		readers[i] = Reader{Base: j.base, Next: j.next, Content: j.content, Names: j.names}
	}
	for dir := range other {
		info, ok, err := readers[0].Next.Inode(dir)
		if err != nil {
			return nil, err
		}
		if ok && info.IsDir() {
			candidates = append(candidates[:len(candidates):len(candidates)], Candidate{Num: dir, Gen: info.Gen, Type: unix.S_IFDIR})
		}
	}
	return CompareWith(ctx, readers, candidates, opts)
}

// otherPlaces are the directories in which a child is in one snapshot and not, or not that one, in the other: what their filesystem itself has
// in them need not have changed.
func otherPlaces(base, next *Parts) map[uint64]bool {
	dirs := map[uint64]bool{}
	for _, two := range [][2]*Parts{{base, next}, {next, base}} {
		for ref, n := range two[0].at {
			if m, ok := two[1].at[ref]; !ok || m != n {
				dirs[ref.Parent] = true
			}
		}
	}
	return dirs
}

// OtherPlaces are the directories, in a child's own numbers, in which its filesystem need not show that what is mounted in them changed.
func OtherPlaces(base, next *Parts, child uint64) (dirs []uint64) {
	for dir := range otherPlaces(base, next) {
		if in, ino := SplitIno(dir); in == child {
			dirs = append(dirs, ino)
		}
	}
	return dirs
}

// Hidden are the names, in a child's own numbers, that other children have the places of.
func (p *Parts) Hidden(child uint64) map[Ref]bool {
	hidden := map[Ref]bool{}
	for ref := range p.at {
		if in, ino := SplitIno(ref.Parent); in == child {
			hidden[Ref{ino, ref.Name}] = true
		}
	}
	return hidden
}

// joined is several trees as one.
type joined struct {
	*Parts
	open   func(child uint64) Tree
	tree   Tree // of the child last asked for, number
	number uint64
	expect map[uint64][]Candidate // by child, in its own numbers
}

// of gives the tree that an inode is in, and its number there; nil when the snapshot has no such child.
func (j *joined) of(num uint64) (Tree, uint64) {
	child, ino := SplitIno(num)
	if _, ok := j.parts[child]; !ok {
		return nil, 0
	}
	if j.tree == nil || j.number != child {
		j.tree, j.number = j.open(child), child
		if e, ok := j.tree.(Expecter); ok {
			e.Expect(j.expect[child])
		}
	}
	return j.tree, ino
}

// Root implements Tree.
func (j *joined) Root() uint64 { return j.parts[0].Top }

// Inode implements Tree.
func (j *joined) Inode(num uint64) (Info, bool, error) {
	t, ino := j.of(num)
	if t == nil {
		return Info{}, false, nil
	}
	return t.Inode(ino)
}

// Entries implements Tree. It has the children also where the filesystem around them shows nothing in their place.
func (j *joined) Entries(dir uint64, yield func(Entry) error) error {
	t, ino := j.of(dir)
	if t == nil {
		return nil
	}
	child, _ := SplitIno(dir)
	var all []Entry // yield may ask for other children
	for _, at := range j.in[dir] {
		all = append(all, j.child(at))
	}
	err := t.Entries(ino, func(e Entry) error {
		if j.at[Ref{dir, e.Name}] != 0 {
			return nil
		}
		e, err := j.joinEntry(child, dir, e)
		all = append(all, e)
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range all {
		if err := yield(e); err != nil {
			return err
		}
	}
	return nil
}

// Names implements Tree.
func (j *joined) Names(num uint64) ([]Ref, error) {
	t, ino := j.of(num)
	if t == nil {
		return nil, nil
	}
	child, _ := SplitIno(num)
	if part := j.parts[child]; ino == part.Top {
		if child == 0 {
			return nil, nil
		}
		return []Ref{part.At}, nil
	}
	refs, err := t.Names(ino)
	if err != nil {
		return nil, err
	}
	out := make([]Ref, 0, len(refs))
	for _, r := range refs {
		if r.Parent, err = ChildIno(child, r.Parent); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// Xattrs implements Tree.
func (j *joined) Xattrs(num uint64) (string, error) {
	t, ino := j.of(num)
	if t == nil {
		return "", nil
	}
	return t.Xattrs(ino)
}

// Expect implements Expecter.
func (j *joined) Expect(list []Candidate) {
	j.expect, j.tree = map[uint64][]Candidate{}, nil
	for len(list) > 0 {
		child, _ := SplitIno(list[0].Num)
		n, _ := slices.BinarySearchFunc(list, (child+1)<<inoBits, func(k Candidate, num uint64) int { return cmp.Compare(k.Num, num) })
		own := make([]Candidate, n)
		for i, k := range list[:n] {
			_, k.Num = SplitIno(k.Num)
			own[i] = k
		}
		j.expect[child], list = own, list[n:]
	}
}

// joinedReader is a Reader over several filesystems.
type joinedReader struct {
	forest     Forest
	base, next *joined
	other      map[uint64]bool // see otherPlaces
}

// both goes to the child that an inode of both snapshots is in.
func (r *joinedReader) both(num uint64) (child, ino uint64) {
	r.base.of(num)
	r.next.of(num)
	return SplitIno(num)
}

func (r *joinedReader) content(num uint64, base, next Info, basePath, nextPath string) ([]Range, bool, error) {
	child, ino := r.both(num)
	content, _ := r.forest.Compare(child)
	return content(ino, base, next, basePath, nextPath)
}

func (r *joinedReader) names(dir uint64) (went, came []Entry, whole bool, err error) {
	child, ino := r.both(dir)
	_, names := r.forest.Compare(child)
	if names == nil || r.other[dir] {
		if went, err = entries(r.base, dir); err == nil {
			came, err = entries(r.next, dir)
		}
		return went, came, true, err
	}
	if went, came, whole, err = names(ino); err != nil {
		return nil, nil, false, err
	}
	for i, e := range went {
		if went[i], err = r.base.joinEntry(child, dir, e); err != nil {
			return nil, nil, false, err
		}
	}
	for i, e := range came {
		if came[i], err = r.next.joinEntry(child, dir, e); err != nil {
			return nil, nil, false, err
		}
	}
	return went, came, whole, nil
}
