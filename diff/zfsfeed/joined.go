package zfsfeed

import (
	"context"
	"fmt"
	"io"
	"slices"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Whole is a snapshot of a dataset and those of the datasets below it, taken together.
type Whole struct {
	Root *beneath.Root // shows all of them as one tree
	All  []Part
}

// Part is the snapshot of one dataset.
type Part struct {
	Number uint64 // see diff.ChildIno; 0 is the source
	Dir    string // where it is in the tree
	Root   *beneath.Root
	// Lost, in the base: the snapshot is gone, and so is the dataset in next. Root is the dataset's place in the mirror.
	Lost bool
}

// Changes are what ZFS tells of one dataset that both snapshots have. Base and Next of the Snapshots need not be set.
type Changes struct {
	Snapshots
	Sent io.ReadCloser
}

// DiffAll is Diff for snapshots of several datasets. changes is asked for each that both have; what it sends is closed.
func DiffAll(ctx context.Context, base, next Whole, changes func(number uint64) (Changes, error), links diff.LinkIndex, opts diff.Options) (*diff.ChangeSet, error) {
	d := &joinedDiff{base: base, next: next, changes: changes, index: signedIndex(links), opts: opts, feeds: map[uint64]*feed{}}
	if err := d.layout(links); err != nil {
		return nil, err
	}
	var list []diff.Candidate
	for number := range d.numbers() {
		found, err := d.read(ctx, number)
		if err != nil {
			return nil, err
		}
		list = append(list, found...)
	}
	forests := make([]diff.Forest, d.feeds[0].workers())
	for i := range forests {
		forests[i] = &forest{d.feeds, diff.Buffers{Pace: opts.Pace}}
	}
	set, err := diff.CompareJoined(ctx, d.from, d.to, forests, list, opts)
	if err != nil {
		return nil, fmt.Errorf("comparing snapshots of several datasets: %w", err)
	}
	return set, nil
}

// layout works out how the datasets lie in each other.
func (d *joinedDiff) layout(links diff.LinkIndex) (err error) {
	d.remains = map[uint64]*diff.Remains{}
	for _, p := range d.base.All {
		if p.Lost {
			whole, ok := links.(diff.RangeIndex)
			if !ok {
				return fmt.Errorf("the link index cannot be read through: %w", diff.ErrNotNative)
			}
			if d.remains[p.Number], err = diff.NewRemains(p.Root, p.Number, whole); err != nil {
				return err
			}
		}
	}
	if d.from, err = d.base.parts(d.remains); err == nil {
		d.to, err = d.next.parts(nil)
	}
	return err
}

func (w Whole) parts(remains map[uint64]*diff.Remains) (*diff.Parts, error) {
	places := make([]diff.Place, len(w.All))
	for i, p := range w.All {
		if r := remains[p.Number]; r != nil {
			places[i] = diff.Place{Number: p.Number, Dir: p.Dir, Top: r.Root(), Find: r.Find}
			continue
		}
		top, err := topNumber(p.Root)
		if err != nil {
			return nil, err
		}
		places[i] = diff.Place{Number: p.Number, Dir: p.Dir, Top: top}
	}
	return diff.PartsOf(w.Root, places)
}

// root gives the snapshot of one dataset, nil when there is none.
func (w Whole) root(number uint64) *beneath.Root {
	if i := slices.IndexFunc(w.All, func(p Part) bool { return p.Number == number }); i >= 0 {
		return w.All[i].Root
	}
	return nil
}

// joinedDiff is DiffAll at work.
type joinedDiff struct {
	base, next Whole
	from, to   *diff.Parts
	changes    func(number uint64) (Changes, error)
	index      diff.SignatureIndex
	opts       diff.Options
	feeds      map[uint64]*feed
	remains    map[uint64]*diff.Remains // of the lost ones
}

// numbers are those of all datasets of both snapshots.
func (d *joinedDiff) numbers() map[uint64]bool {
	all := map[uint64]bool{}
	for _, p := range slices.Concat(d.base.All, d.next.All) {
		all[p.Number] = true
	}
	return all
}

// notExcluded excludes nothing that there is, and has names that are not known taken for excluded ones, as they are here: those below a
// directory on which a child is mounted. What the job excludes goes by paths of the whole, and is left out when all datasets are compared.
var notExcluded = diff.MustExclude("\x00")

// read finds the trees and the candidates of one dataset.
func (d *joinedDiff) read(ctx context.Context, number uint64) ([]diff.Candidate, error) {
	opts := d.opts
	opts.Exclude, opts.Again = notExcluded, nil
	base, next := d.base.root(number), d.next.root(number)
	f := &feed{objects: &objects{data: map[uint64]*extents{}}, index: childIndex{d.index, number}, opts: opts, baseRoot: base, nextRoot: next,
		hidden: [2]map[diff.Ref]bool{d.from.Hidden(number), d.to.Hidden(number)}}
	d.feeds[number] = f
	if left := d.remains[number]; left != nil {
		f.base, f.next = left, nothing{left.Root()}
		return nil, nil
	}
	var err error
	switch {
	case base != nil && next != nil:
		f.more = diff.OtherPlaces(d.from, d.to, number)
		err = d.stream(f, number)
	case next != nil: // all of it is read from its top on
		var top uint64
		top, err = topNumber(next)
		f.more = []uint64{top}
	}
	if err == nil {
		err = f.trees(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("finding names: %w", err)
	}
	f.baseRoot, f.nextRoot = d.base.Root, d.next.Root // contents are compared by paths in the whole
	if base == nil || next == nil {
		return nil, nil
	}
	list, err := f.candidates(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at objects: %w", err)
	}
	for i := range list {
		if list[i].Num, err = diff.ChildIno(number, list[i].Num); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// stream reads what ZFS sent of one dataset.
func (d *joinedDiff) stream(f *feed, number uint64) error {
	c, err := d.changes(number)
	if err != nil {
		return err
	}
	defer c.Sent.Close()
	return f.read(c.Snapshots, c.Sent)
}

// forest is a diff.Forest. The trees may be used by several goroutines.
type forest struct {
	feeds map[uint64]*feed
	buf   diff.Buffers
}

// BaseTree implements diff.Forest.
func (f *forest) BaseTree(number uint64) diff.Tree { return f.feeds[number].base }

// NextTree implements diff.Forest.
func (f *forest) NextTree(number uint64) diff.Tree { return f.feeds[number].next }

// Compare implements diff.Forest.
func (f *forest) Compare(number uint64) (diff.Content, func(uint64) (went, came []diff.Entry, whole bool, err error)) {
	return (&contents{feed: f.feeds[number], buf: &f.buf}).compare, nil
}

// childIndex is what the link index has of one dataset, in its own numbers.
type childIndex struct {
	all   diff.SignatureIndex
	child uint64
}

// Names implements diff.LinkIndex. The name of the top directory is in another dataset.
func (x childIndex) Names(ino uint64) (own []diff.Ref, err error) {
	num, err := diff.ChildIno(x.child, ino)
	if err != nil {
		return nil, err
	}
	refs, err := x.all.Names(num)
	for _, r := range refs {
		if child, parent := diff.SplitIno(r.Parent); child == x.child {
			own = append(own, diff.Ref{Parent: parent, Name: r.Name})
		}
	}
	return own, err
}

// Signatures implements diff.SignatureIndex.
func (x childIndex) Signatures(inos []uint64) ([]uint64, error) {
	nums, err := x.joined(inos)
	if err != nil {
		return nil, err
	}
	return x.all.Signatures(nums)
}

// Expect implements diff.SignatureIndex.
func (x childIndex) Expect(inos []uint64) error {
	nums, err := x.joined(inos)
	if err != nil {
		return err
	}
	return x.all.Expect(nums)
}

// joined makes numbers of the dataset's own those of the whole job.
func (x childIndex) joined(inos []uint64) (nums []uint64, err error) {
	nums = make([]uint64, len(inos))
	for i, ino := range inos {
		if nums[i], err = diff.ChildIno(x.child, ino); err != nil {
			return nil, err
		}
	}
	return nums, nil
}

// Generation implements diff.SignatureIndex.
func (x childIndex) Generation(ino uint64) (uint64, error) {
	num, err := diff.ChildIno(x.child, ino)
	if err != nil {
		return 0, err
	}
	return x.all.Generation(num)
}

// hiding is a tree without the names that other datasets have the places of.
type hiding struct {
	*diff.Mounted
	names map[diff.Ref]bool
}

// Entries implements diff.Tree. Of a directory below a hidden name it is diff.ErrElsewhere, though the snapshot itself has it.
func (t hiding) Entries(dir uint64, yield func(diff.Entry) error) error {
	for at := dir; at != t.Root(); {
		refs, err := t.Names(at)
		if err != nil {
			return err
		}
		if len(refs) != 1 { // who reads it finds out
			break
		}
		if t.names[refs[0]] {
			return fmt.Errorf("directory %d: %w", dir, diff.ErrElsewhere)
		}
		at = refs[0].Parent
	}
	return t.Mounted.Entries(dir, func(e diff.Entry) error {
		if t.names[diff.Ref{Parent: dir, Name: e.Name}] {
			return nil
		}
		return yield(e)
	})
}

// nothing is the tree of a dataset that a snapshot has not.
type nothing struct{ top uint64 }

// Root implements diff.Tree.
func (t nothing) Root() uint64 { return t.top }

// Inode implements diff.Tree.
func (nothing) Inode(uint64) (diff.Info, bool, error) { return diff.Info{}, false, nil }

// Entries implements diff.Tree.
func (nothing) Entries(uint64, func(diff.Entry) error) error { return nil }

// Names implements diff.Tree.
func (nothing) Names(uint64) ([]diff.Ref, error) { return nil, nil }

// Xattrs implements diff.Tree.
func (nothing) Xattrs(uint64) (string, error) { return "", nil }
