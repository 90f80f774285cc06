package diff

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrNotNative says that a native comparison cannot be trusted here; a full comparison is needed.
var ErrNotNative = errors.New("needs a full comparison")

// Content compares the contents of one regular file in both snapshots, by extent maps first and by bytes where they
// differ without the modification time having moved. changed is false when the file reads the same in both.
type Content func(num uint64, base, next Info, basePath, nextPath string) (ranges []Range, changed bool, err error)

// Options of a comparison.
type Options struct {
	// Exclude are paths, relative to the root, that neither snapshot shows to the mirror: they and all below are left out.
	Exclude []string
	// Again are inodes that an earlier run could not copy: reported as changed in every way if they still exist.
	Again []Key
}

// Compare works out the change set between two snapshots from the numbers of the inodes that may have changed.
// candidates must hold every inode of next that is new or differs from base, directories included; more do no harm. An
// inode that is in base only need not be named: a name that went from a changed directory leads to it.
func Compare(ctx context.Context, base, next Tree, content Content, candidates []uint64, opts Options) (*ChangeSet, error) {
	c := &comparer{
		ctx: ctx, base: newSide(base, opts.Exclude), next: newSide(next, opts.Exclude), content: content,
		again: map[Key]bool{}, gone: map[Key]bool{}, touched: map[uint64]bool{}, subs: map[Key]string{}, set: NewChangeSet(),
	}
	nums := slices.Clone(candidates)
	for _, k := range opts.Again {
		c.again[k] = true
		nums = append(nums, k.Ino)
	}
	slices.Sort(nums)
	nums = slices.Compact(nums)
	c.candidates = nums
	var pairs []pair
	for _, num := range nums {
		p, err := c.pair(num)
		if err != nil {
			return nil, err
		}
		if p.alive {
			pairs = append(pairs, p)
		}
	}
	for _, p := range pairs {
		if err := c.names(p); err != nil {
			return nil, err
		}
	}
	survivors, err := c.survivors()
	if err != nil {
		return nil, err
	}
	c.movedPlaceholders()
	for _, p := range append(pairs, survivors...) {
		if err := c.inode(p); err != nil {
			return nil, err
		}
	}
	return c.set, nil
}

// pair is one candidate in both snapshots.
type pair struct {
	num        uint64
	base, next Info
	inBase     bool // the same inode (number and generation) is in the base
	alive      bool // next has an inode of this number
}

type comparer struct {
	ctx        context.Context
	base, next *side
	content    Content
	again      map[Key]bool
	gone       map[Key]bool
	touched    map[uint64]bool // directories that lost or gained a name
	subs       map[Key]string  // paths of the nested subvolumes that came
	alive      []uint64        // inodes that lost a name and still have another
	candidates []uint64        // ascending
	set        *ChangeSet
}

// survivors are the inodes that lost a name and live on though they are no candidates: a directory that holds one of
// their names went, unchanged, behind an exclusion.
func (c *comparer) survivors() ([]pair, error) {
	slices.Sort(c.alive)
	var pairs []pair
	for _, num := range slices.Compact(c.alive) {
		if _, ok := slices.BinarySearch(c.candidates, num); ok {
			continue
		}
		p, err := c.pair(num)
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

// movedPlaceholders takes back that a nested subvolume is new and gone, where it only moved.
func (c *comparer) movedPlaceholders() {
	var moved []Gone
	c.set.Gone.Ascend(func(g Gone) bool {
		if g.Key.IsPlaceholder() {
			moved = append(moved, g)
		}
		return true
	})
	for _, g := range moved {
		if path, ok := c.subs[g.Key]; ok {
			c.set.Gone.Delete(g)
			c.set.Inodes.Delete(Inode{Paths: []string{path}})
		}
	}
}

func (c *comparer) pair(num uint64) (pair, error) {
	p := pair{num: num}
	if err := c.ctx.Err(); err != nil {
		return p, err
	}
	var err error
	if p.next, p.alive, err = c.next.info(num); err != nil || !p.alive {
		return p, err
	}
	if p.base, p.inBase, err = c.base.info(num); err != nil {
		return p, err
	}
	p.inBase = p.inBase && p.base.Gen == p.next.Gen && p.base.Type() == p.next.Type()
	return p, nil
}

// names adds what went from and came into a candidate directory.
func (c *comparer) names(p pair) error {
	if !p.next.IsDir() {
		return nil
	}
	came := map[string]Entry{}
	if err := c.next.tree.Entries(p.num, func(e Entry) error { came[e.Name] = e; return nil }); err != nil {
		return err
	}
	if p.inBase {
		var went []Entry
		err := c.base.tree.Entries(p.num, func(e Entry) error {
			n, ok := came[e.Name]
			if ok {
				same, err := c.sameChild(e, n)
				if err != nil {
					return err
				}
				if same {
					delete(came, e.Name)
					return nil
				}
			}
			went = append(went, e)
			return nil
		})
		if err != nil {
			return err
		}
		for _, e := range went {
			if err := c.went(p.num, e); err != nil {
				return err
			}
		}
	}
	for _, e := range came {
		if err := c.came(p.num, e); err != nil {
			return err
		}
	}
	return nil
}

// sameChild tells whether one name means the same inode in both. Equal numbers are not enough: the inode may have been
// deleted and its number given away within the same directory.
func (c *comparer) sameChild(b, n Entry) (bool, error) {
	if b.Ino != n.Ino || b.Sub != n.Sub || b.Type != n.Type {
		return false, nil
	}
	// An inode made after the base is a candidate: any other number means what it meant.
	if _, candidate := slices.BinarySearch(c.candidates, b.Ino); b.Sub || !candidate {
		return true, nil
	}
	bk, err := c.base.key(b)
	if err != nil {
		return false, err
	}
	nk, err := c.next.key(n)
	return bk == nk, err
}

func (c *comparer) came(dir uint64, e Entry) error {
	n, visible, err := c.next.name(dir, e)
	if err != nil || !visible {
		return err
	}
	c.set.Linked.ReplaceOrInsert(n)
	c.touched[dir] = true
	if e.Sub {
		c.set.Skipped = append(c.set.Skipped, n.Path)
		c.subs[n.Key] = n.Path
		c.set.Inodes.ReplaceOrInsert(Inode{Key: n.Key, What: New, Paths: []string{n.Path}, Attr: PlaceholderAttr})
		return nil
	}
	if n.Type != unix.S_IFDIR {
		return nil
	}
	// A directory that was behind an exclusion brings content that no candidate names.
	b, ok, err := c.base.info(e.Ino)
	if err != nil || !ok || b.Gen != n.Key.Gen {
		return err
	}
	if paths, err := c.base.paths(e.Ino); err != nil || len(paths) == 0 {
		return errors.Join(err, fmt.Errorf("directory %q came out of an excluded place: %w", n.Path, ErrNotNative))
	}
	return nil
}

func (c *comparer) went(dir uint64, e Entry) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	n, visible, err := c.base.name(dir, e)
	if err != nil || !visible {
		return err
	}
	c.set.Unlinked.ReplaceOrInsert(n)
	c.touched[dir] = true
	if e.Sub {
		c.set.Gone.ReplaceOrInsert(Gone{Key: n.Key, BasePaths: []string{n.Path}, BaseAttr: PlaceholderAttr})
		return nil
	}
	lives, err := c.lives(n.Key)
	if lives {
		c.alive = append(c.alive, e.Ino)
	}
	if err != nil || lives || c.gone[n.Key] {
		return err
	}
	return c.goneInode(e.Ino, n.Key)
}

// lives tells whether next still shows an inode of the base under any name.
func (c *comparer) lives(k Key) (bool, error) {
	i, ok, err := c.next.info(k.Ino)
	if err != nil || !ok || i.Gen != k.Gen {
		return false, err
	}
	paths, err := c.next.paths(k.Ino)
	return len(paths) > 0, err
}

func (c *comparer) goneInode(num uint64, k Key) error {
	c.gone[k] = true
	paths, err := c.base.paths(num)
	if err != nil {
		return err
	}
	info, _, err := c.base.info(num)
	if err != nil {
		return err
	}
	attr := info.Attr
	if !attr.IsDir() {
		attr.Nlink = uint32(len(paths))
	}
	c.set.Gone.ReplaceOrInsert(Gone{Key: k, BasePaths: paths, BaseAttr: attr})
	if !attr.IsDir() {
		return nil
	}
	var entries []Entry
	if err := c.base.tree.Entries(num, func(e Entry) error { entries = append(entries, e); return nil }); err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.went(num, e); err != nil {
			return err
		}
	}
	return nil
}

// inode decides whether a candidate is a change, and of what.
func (c *comparer) inode(p pair) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	paths, err := c.next.paths(p.num)
	if err != nil || len(paths) == 0 {
		return err // deleted while open, or excluded: names that went have been followed
	}
	in := Inode{Key: Key{p.num, p.next.Gen}, Paths: paths, Attr: p.next.Attr}
	if p.inBase {
		if in.BasePaths, err = c.base.paths(p.num); err != nil {
			return err
		}
	}
	setNlink(&in.Attr, paths)
	if len(in.BasePaths) == 0 {
		in.What = New
		c.set.Inodes.ReplaceOrInsert(in)
		return nil
	}
	in.BaseAttr = p.base.Attr
	setNlink(&in.BaseAttr, in.BasePaths)
	if err := c.differences(p, &in); err != nil {
		return err
	}
	if in.What != 0 {
		c.set.Inodes.ReplaceOrInsert(in)
	}
	return nil
}

// setNlink counts the names that the mirror will have.
func setNlink(a *Attr, paths []string) {
	a.Nlink = uint32(len(paths))
}

func (c *comparer) differences(p pair, in *Inode) error {
	b, n := in.BaseAttr, in.Attr
	if b.Mode != n.Mode || b.UID != n.UID || b.GID != n.GID || b.MtimeSec != n.MtimeSec || b.MtimeNsec != n.MtimeNsec {
		in.What |= Meta
	}
	if n.IsDir() && c.touched[p.num] {
		in.What |= Meta // a second change within one tick leaves the time as it was
	}
	bx, err := c.base.tree.Xattrs(p.num)
	if err != nil {
		return err
	}
	nx, err := c.next.tree.Xattrs(p.num)
	if err != nil {
		return err
	}
	if bx != nx {
		in.What |= Xattrs
	}
	if !n.IsDir() && c.moved(in) {
		in.What |= Links
	}
	if n.IsRegular() {
		ranges, changed, err := c.content(p.num, p.base, p.next, in.BasePaths[0], in.Paths[0])
		if err != nil {
			return fmt.Errorf("comparing the contents of %q: %w", in.Paths[0], err)
		}
		if changed {
			in.What |= Data
			in.Ranges = ranges
		}
	}
	if c.again[in.Key] {
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
		if n, ok := c.set.Unlinked.Get(Name{Path: path}); ok && n.Key == in.Key {
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
