package diff

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// MirrorGen is the generation in the keys of mirror inodes that are the same as none of the snapshot. No filesystem
// hands it out.
const MirrorGen = ^uint64(0)

// FullOptions are what a full comparison is told.
type FullOptions struct {
	// Exclude are what the snapshot does not show. What the mirror has of it is too much there.
	Exclude *Exclude
	// Share, if not nil, tells the directories whose files are compared. Of all others only the directory itself and the
	// names in it are: files that both sides have count as equal there.
	Share func(dir string) bool
	// Only, if not nil, tells what is compared at all: of the files, the paths that are to be compared, of the directories, those
	// that lead to such. It leaves out what it is not asked for on both sides.
	Only func(path string, dir bool) bool
	// Sum, if not nil, is told the checksum of the contents of a file that were equal on both sides, with the number of its inode
	// in the mirror. Many goroutines call it.
	Sum func(ino, sum uint64)
	// Workers is how many directories are compared at once; 0 is a number that suits the machine.
	Workers int
	// Pace limits how fast contents are read, both sides counted; nil does not.
	Pace *gentle.Pace
	// Progress, if not nil, hears now and then, and at the end, how many names were compared and how many bytes were read on
	// each side. It is called by many goroutines.
	Progress func(names, bytes int64)
}

// KeyOf tells the key of the inode at a path of the snapshot whose inode number is known. For the placeholder of a nested
// subvolume it is a PlaceholderKey.
type KeyOf func(path string, ino uint64) (Key, error)

// Full compares every name and inode of the snapshot next with the mirror, contents byte by byte, and believes no size, time
// or inode number. The mirror must be at rest.
//
// The mirror knows no keys, so identity is worked out from names: a mirror inode and one of the snapshot are the same if they
// have the same type (and target, and device number) and the same names. The key is then the snapshot's; any other mirror inode has
// its own inode number and MirrorGen. Hence nothing moves in a full comparison: it goes and comes. rekey tells the
// key that the change set gives to what is at a path of the mirror; it works until the Roots are closed or the mirror changes.
//
// A file that cannot be read on either side is reported as changed: applying the change set then meets the error, or mends the
// mirror. A directory that cannot be read ends the comparison, since nobody knows what would be deleted.
//
// Memory grows with the differences, with the inodes of several names and with the largest directory, not with the tree.
func Full(ctx context.Context, mirror, next *beneath.Root, keyOf KeyOf, opts FullOptions) (changes *ChangeSet, rekey func(path string) (Key, error), err error) {
	f := &full{
		base: mirror, next: next, keyOf: keyOf, opts: opts,
		changes: NewChangeSet(),
		touched: make(map[string]bool),
		links:   newLinkSets(),
	}
	f.wake = sync.NewCond(&f.queueMu)
	f.frames = []*fullFrame{{top: true, sides: bothSides, names: []string{""}}}
	if err := f.walk(ctx); err != nil {
		return nil, nil, err
	}
	if err := f.finishLinks(ctx); err != nil {
		return nil, nil, err
	}
	if err := f.finishTouched(); err != nil {
		return nil, nil, err
	}
	slices.Sort(f.changes.Skipped)
	if opts.Progress != nil {
		opts.Progress(f.names.Load(), f.bytes.Load())
	}
	return f.changes, f.rekey, nil
}

// full is a full comparison at work.
type full struct {
	base, next *beneath.Root
	keyOf      KeyOf
	opts       FullOptions
	readers    [2]gentle.Reader // of base and next

	mu      sync.Mutex // for what is below
	changes *ChangeSet
	touched map[string]bool // directories of both sides that names came to or went from
	links   linkSets

	names, bytes atomic.Int64

	queueMu sync.Mutex
	wake    *sync.Cond
	frames  []*fullFrame
	busy    int
	closed  bool
}

// sides tells where a name is.
type sides uint8

const (
	inBase sides = 1 << iota
	inNext
	bothSides = inBase | inNext
)

// fullDir is a directory being compared.
type fullDir struct {
	path   string
	sides  sides
	parent [2]Key // keys of the parent: base, next
	key    [2]Key // keys of the directory itself
	hollow bool   // a nested subvolume's placeholder: nothing below it counts
}

// compareDir compares a directory's own attributes and the names in it.
func (f *full) compareDir(ctx context.Context, d *fullDir) error {
	if err := f.compareOwn(d); err != nil {
		return err
	}
	var lists [2][]fullEntry
	for i, side := range []sides{inBase, inNext} {
		if d.sides&side == 0 || side == inNext && d.hollow {
			continue
		}
		var err error
		if lists[i], err = f.list(f.root(side), d.path); err != nil {
			return err
		}
	}
	kids := map[sides]*fullFrame{}
	for _, s := range []sides{inBase, inNext, bothSides} {
		kids[s] = &fullFrame{path: d.path, sides: s, parent: d.key}
	}
	shared := f.opts.Share == nil || f.opts.Share(d.path)
	var files []fullFile
	for len(lists[0]) > 0 || len(lists[1]) > 0 {
		dirs, file := f.sortPair(merge(&lists))
		if dirs.at != 0 {
			kids[dirs.at].names = append(kids[dirs.at].names, dirs.name)
		}
		if file.at != 0 && (shared || file.at != bothSides) {
			files = append(files, file)
		}
		if len(files) == filesAtOnce && len(lists[0])+len(lists[1]) > 0 {
			f.push(&fullFrame{dir: d, files: files})
			files = nil
		}
	}
	if err := f.compareFiles(ctx, d, files); err != nil {
		return err
	}
	f.push(kids[inBase], kids[inNext], kids[bothSides])
	return nil
}

// compareFiles compares names in a directory that are no directories.
func (f *full) compareFiles(ctx context.Context, d *fullDir, files []fullFile) error {
	for _, file := range files {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		f.count(1, 0)
		if err := f.compareFile(d, join(d.path, file.name), file.at); err != nil {
			return err
		}
	}
	return nil
}

func (f *full) root(side sides) *beneath.Root {
	if side == inBase {
		return f.base
	}
	return f.next
}

// fullEntry is one name in a directory.
type fullEntry struct {
	name  string
	isDir bool
}

// list reads a directory, sorted by name.
func (f *full) list(root *beneath.Root, dir string) ([]fullEntry, error) {
	var list []fullEntry
	err := root.ReadDir(dir, func(name string, dtype uint8, ino uint64) error {
		if root == f.next && f.opts.Exclude.Match(join(dir, name)) {
			return nil
		}
		if root == f.next && TooDeep(join(dir, name)) {
			return f.tooDeep(join(dir, name), ino)
		}
		if dtype == unix.DT_UNKNOWN {
			st, err := root.Lstat(join(dir, name))
			if err != nil {
				return err
			}
			dtype = uint8(st.Mode & unix.S_IFMT >> 12) // as IFTODT in dirent.h
		}
		if f.opts.Only != nil && !f.opts.Only(join(dir, name), dtype == unix.DT_DIR) {
			return nil
		}
		list = append(list, fullEntry{name, dtype == unix.DT_DIR})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("compare in full: %w", err)
	}
	slices.SortFunc(list, func(a, b fullEntry) int { return cmp.Compare(a.name, b.name) })
	return list, nil
}

func (f *full) tooDeep(path string, ino uint64) error {
	key, err := f.keyOf(path, ino)
	if err != nil {
		return fmt.Errorf("identify %q: %w", path, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes.TooDeep = append(f.changes.TooDeep, Name{Path: path, Key: key})
	return nil
}

// merge takes the smallest name from both lists; nil where a list has it not.
func merge(lists *[2][]fullEntry) (base, next *fullEntry) {
	b, n := lists[0], lists[1]
	if len(b) > 0 && (len(n) == 0 || b[0].name <= n[0].name) {
		base, lists[0] = &b[0], b[1:]
	}
	if len(n) > 0 && (len(b) == 0 || n[0].name <= b[0].name) {
		next, lists[1] = &n[0], n[1:]
	}
	return base, next
}

// fullFile is a name and the sides on which it means something.
type fullFile struct {
	name string
	at   sides
}

// sortPair tells on which sides a name is a directory and on which something else.
func (f *full) sortPair(base, next *fullEntry) (dirs, files fullFile) {
	for i, e := range []*fullEntry{base, next} {
		switch {
		case e == nil:
		case e.isDir:
			dirs.name, dirs.at = e.name, dirs.at|1<<i
		default:
			files.name, files.at = e.name, files.at|1<<i
		}
	}
	if files.at == 0 {
		f.count(1, 0)
	}
	return dirs, files
}

func (f *full) count(names, bytes int64) {
	n, b := f.names.Add(names), f.bytes.Add(bytes)
	if f.opts.Progress != nil && (bytes > 0 || n%256 == 0) {
		f.opts.Progress(n, b)
	}
}

// compareOwn compares a directory itself, and finds its keys.
func (f *full) compareOwn(d *fullDir) error {
	var attr [2]Attr
	if d.sides&inBase != 0 {
		st, err := f.base.Lstat(d.path)
		if err != nil {
			return fmt.Errorf("compare in full: %w", err)
		}
		attr[0], d.key[0] = attrOf(&st, 1), Key{st.Ino, MirrorGen}
	}
	if d.sides&inNext != 0 {
		st, err := f.next.Lstat(d.path)
		if err != nil {
			return fmt.Errorf("compare in full: %w", err)
		}
		if d.key[1], err = f.keyOf(d.path, st.Ino); err != nil {
			return fmt.Errorf("compare in full: identify %q: %w", d.path, err)
		}
		attr[1] = attrOf(&st, 1)
		if d.hollow = d.key[1].IsPlaceholder(); d.hollow {
			attr[1] = PlaceholderAttr
		}
	}
	if d.sides == bothSides {
		d.key[0] = d.key[1]
	}
	return f.noteOwn(d, attr)
}

// noteOwn reports what became of a directory itself.
func (f *full) noteOwn(d *fullDir, attr [2]Attr) error {
	what := New
	if d.sides == bothSides {
		what = metaDiffers(attr[0], attr[1]) | f.xattrsDiffer(d.path, d.hollow)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if d.hollow {
		f.changes.Skipped = append(f.changes.Skipped, d.path)
	}
	paths := []string{d.path}
	switch {
	case d.sides == inBase:
		f.went(d.parent[0], d.key[0], attr[0], paths)
	case d.sides == inNext:
		f.came(d.parent[1], d.key[1], attr[1], paths)
	case what != 0:
		f.changes.Inodes.ReplaceOrInsert(Inode{Key: d.key[1], What: what, Paths: paths, BasePaths: paths, Attr: attr[1], BaseAttr: attr[0]})
	}
	return nil
}

// went reports an inode of the mirror that is in the snapshot no more. All its names are in one directory, or are given
// their parents later (see linkSets). f.mu is held.
func (f *full) went(parent, key Key, attr Attr, paths []string) {
	for _, path := range paths {
		f.changes.Unlinked.ReplaceOrInsert(Name{Path: path, Parent: parent, Key: key, Type: attr.Type()})
		f.touched[dirOf(path)] = true
	}
	f.changes.Gone.ReplaceOrInsert(Gone{Key: key, BasePaths: paths, BaseAttr: attr})
}

// came reports a new inode. f.mu is held.
func (f *full) came(parent, key Key, attr Attr, paths []string) {
	for _, path := range paths {
		f.changes.Linked.ReplaceOrInsert(Name{Path: path, Parent: parent, Key: key, Type: attr.Type()})
		f.touched[dirOf(path)] = true
	}
	f.changes.Inodes.ReplaceOrInsert(Inode{Key: key, What: New, Paths: paths, Attr: attr})
}

// finishTouched reports the directories whose times are disturbed by the names that come and go in them.
func (f *full) finishTouched() error {
	for path := range f.touched {
		if in, ok := f.changes.Inodes.Get(Inode{Paths: []string{path}}); ok {
			if in.What&New == 0 && in.Attr.IsDir() {
				in.What |= Meta
				f.changes.Inodes.ReplaceOrInsert(in)
			}
			continue
		}
		base, err := f.base.Lstat(path)
		if err != nil {
			return fmt.Errorf("compare in full: %w", err)
		}
		next, err := f.next.Lstat(path)
		if gone(err) || f.opts.Exclude.Match(path) || err == nil && next.Mode&unix.S_IFMT != unix.S_IFDIR {
			continue // the directory went with its names
		}
		if err != nil {
			return fmt.Errorf("compare in full: %w", err)
		}
		key, err := f.keyOf(path, next.Ino)
		if err != nil {
			return fmt.Errorf("compare in full: identify %q: %w", path, err)
		}
		attr := attrOf(&next, 1)
		if key.IsPlaceholder() {
			attr = PlaceholderAttr
		}
		paths := []string{path}
		f.changes.Inodes.ReplaceOrInsert(Inode{Key: key, What: Meta, Paths: paths, BasePaths: paths, Attr: attr, BaseAttr: attrOf(&base, 1)})
	}
	return nil
}

// gone tells that a path does not lead anywhere on this side.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

func dirOf(path string) string { return path[:max(strings.LastIndexByte(path, '/'), 0)] }
