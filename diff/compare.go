package diff

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapdiff/snapshot/gentle"
)

// ErrNotNative says that a native comparison cannot be trusted here; a full comparison is needed.
var ErrNotNative = errors.New("needs a full comparison")

// Content compares the contents of one regular file in both snapshots, by extent maps first and by bytes where they
// differ without the modification time having moved. changed is false when the file reads the same in both.
type Content func(num uint64, base, next Info, basePath, nextPath string) (ranges []Range, changed bool, err error)

// Reader is what one goroutine reads both snapshots with.
type Reader struct {
	Base, Next Tree
	Content    Content
	// Names, if not nil, gives the names that went from and came into a directory that is in both. A name that is on both
	// lists and means the same inode in both does no harm. whole: it was read whole on both sides, as it is by all where this is nil.
	Names func(dir uint64) (went, came []Entry, whole bool, err error)
}

// Candidate is an inode of the new snapshot that may have changed.
type Candidate struct {
	Num, Gen uint64
	Type     uint32 // S_IFMT part of the mode
	// Attrs: what the base shows of extended attributes may have come to it after the mirror was made of it, unseen. They are set anew.
	Attrs bool
}

// Options of a comparison.
type Options struct {
	// Exclude are what neither snapshot shows to the mirror. It must be the same as in the run that made the mirror.
	Exclude *Exclude
	// Again are inodes that an earlier run could not copy: reported as changed in every way if they still exist.
	Again []Key
	// LeftOut: names were left out of the base, below what is too deep or could not be read, and the link index has them not.
	LeftOut bool
	// Workers is how many goroutines compare where the filesystem can be read by several; 0 is a number that suits the machine.
	Workers int
	// Remounted: the source may have been mounted again since the base, after a crash or a repair, which can leave things as no program leaves
	// them.
	Remounted bool
	// Pace limits how fast contents are read where maps of extents do not tell, both sides counted; nil does not.
	Pace *gentle.Pace
}

// NamesAll tells that whatever the filesystem has a name for is in the mirror: nothing is excluded, and nothing was left out.
func (o *Options) NamesAll() bool { return o.Exclude.None() && !o.LeftOut }

// Compare works out the change set between two snapshots from the numbers of the inodes that may have changed.
// candidates must hold every inode of next that is new or differs from base, directories included; more do no harm. An
// inode that is in base only need not be named: a name that went from a changed directory leads to it.
func Compare(ctx context.Context, r Reader, candidates []uint64, opts Options) (*ChangeSet, error) {
	list := make([]Candidate, 0, len(candidates))
	for _, num := range candidates {
		info, ok, err := r.Next.Inode(num)
		if err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if ok {
			list = append(list, Candidate{Num: num, Gen: info.Gen, Type: info.Type()})
		}
	}
	return CompareWith(ctx, []Reader{r}, list, opts)
}

// CompareWith is Compare with as many goroutines as there are readers, and with candidates of which the feeder knows more than
// the number.
func CompareWith(ctx context.Context, readers []Reader, candidates []Candidate, opts Options) (*ChangeSet, error) {
	c := &comparer{
		Options: opts, readers: readers, base: newSide(opts.Exclude, readers[0].Base.Root()), next: newSide(opts.Exclude, readers[0].Next.Root()),
		again: map[Key]bool{}, touched: map[uint64]bool{}, subs: map[Key]string{}, uncovered: map[uint64]bool{}, fates: map[uint64]fate{}, set: NewChangeSet(),
	}
	if err := c.sorted(candidates, opts.Again); err != nil {
		return nil, err
	}
	var dirs, others []Candidate
	for _, k := range c.candidates {
		if k.Type == unix.S_IFDIR {
			dirs = append(dirs, k)
		}
	}
	if err := c.each(ctx, dirs, (*worker).names); err != nil {
		return nil, err
	}
	c.movedPlaceholders()
	// What did not change and all the same gained or lost a name for the mirror: a directory above it went behind an exclusion
	// or came from there.
	slices.Sort(c.others)
	for _, num := range slices.Compact(c.others) {
		others = append(others, Candidate{Num: num})
	}
	for _, list := range [][]Candidate{others, c.candidates} {
		if err := c.each(ctx, list, (*worker).inode); err != nil {
			return nil, err
		}
	}
	slices.Sort(c.set.Skipped)
	return c.set, nil
}

// comparer is a comparison at work.
type comparer struct {
	Options
	readers    []Reader
	base, next *side
	again      map[Key]bool
	candidates []Candidate // by number

	mu      sync.Mutex      // for what is below
	touched map[uint64]bool // directories that lost or gained a name
	subs    map[Key]string  // paths of the nested subvolumes that came
	others  []uint64        // inodes that are no candidates and are compared all the same
	// uncovered are inodes that only next shows, though they need not have changed.
	uncovered map[uint64]bool
	fates     map[uint64]fate // of inodes of the base that have several names and lost one
	set       *ChangeSet
}

// worker is one goroutine of a comparison.
type worker struct {
	*comparer
	Reader
	ctx   context.Context
	found []Inode // by the piece at work
}

// sorted takes in the candidates, those of earlier runs included.
func (c *comparer) sorted(candidates []Candidate, again []Key) error {
	for _, k := range again {
		c.again[k] = true
		info, ok, err := c.readers[0].Next.Inode(k.Ino)
		if err != nil {
			return err
		}
		if ok {
			candidates = append(candidates, Candidate{Num: k.Ino, Gen: info.Gen, Type: info.Type()})
		}
	}
	byNum := func(a, b Candidate) int { return cmp.Compare(a.Num, b.Num) }
	if !slices.IsSortedFunc(candidates, byNum) {
		candidates = slices.Clone(candidates)
		slices.SortFunc(candidates, byNum)
	}
	all := candidates[:0]
	for _, k := range candidates {
		if n := len(all); n > 0 && all[n-1].Num == k.Num {
			all[n-1].Attrs = all[n-1].Attrs || k.Attrs
		} else {
			all = append(all, k)
		}
	}
	c.candidates = all
	return nil
}

// candidate finds a candidate by its number.
func (c *comparer) candidate(num uint64) (Candidate, bool) {
	i, ok := slices.BinarySearchFunc(c.candidates, num, func(k Candidate, num uint64) int { return cmp.Compare(k.Num, num) })
	if !ok {
		return Candidate{}, false
	}
	return c.candidates[i], true
}

// each calls do for all inodes, which are in order; a piece of neighbours goes to one reader.
func (c *comparer) each(ctx context.Context, list []Candidate, do func(w *worker, num uint64) error) error {
	piece := min(len(list)/(4*len(c.readers))+1, 256)
	var taken atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for _, r := range c.readers {
		w := &worker{comparer: c, Reader: r, ctx: ctx}
		group.Go(func() error {
			for {
				end := int(taken.Add(int64(piece)))
				at := end - piece
				if at >= len(list) {
					return nil
				}
				if err := w.piece(list[at:min(end, len(list))], do); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func (w *worker) piece(list []Candidate, do func(w *worker, num uint64) error) error {
	for _, t := range []Tree{w.Base, w.Next} {
		if t, ok := t.(Expecter); ok {
			t.Expect(list)
		}
	}
	for _, k := range list {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := do(w, k.Num); err != nil {
			return err
		}
	}
	w.flush()
	return nil
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
