package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// execution brings one plan into the mirror. What a cut leaves behind:
//
//  0. Save keeps the old bytes of what is to be patched in place, Patch writes the new ones (see save). All names are those of the base.
//  1. Detach takes every name that went out of the mirror: a file that is gone altogether to history, all else to stage, as
//     o-INO-GEN. Of several names of one inode the first is renamed and the others are unlinked. No name is filled yet, so
//     what is there already is done.
//  2. Attach makes and moves directories, the shallowest first, then all other inodes, each on its own: new contents are
//     built in stage as n-INO-GEN, the old inode gets a name in history, and the new one takes the old name.
//     After a cut a name proves nothing about content: all contents are built again.
//  3. Finish sets metadata of what was kept, and of directories last, because all before it moved their times.
//
// What the mirror should have and has not, or has and should not, somebody else did. It never stops a run: what is in the way
// is kept in history, what is missing is left out, and the store remembers that the next comparison must be a full one.
type execution struct {
	ctx  context.Context
	s    *Store
	run  int64
	plan *plan
	base *beneath.Root // nil where it is gone
	next *beneath.Root
	*buildAhead
	written  []builtFile // to be read back
	opts     Options
	nodes    map[diff.Key]int64      // of what the run changes or removes
	linked   map[string]bool         // paths that Attach fills
	unlinked map[diff.Key]int        // how many names Detach takes of an inode
	gone     map[diff.Key]*diff.Gone // files that went altogether
	patches  map[diff.Key]*patched
	lost     map[diff.Key]bool // changed files of which the mirror had nothing to keep
	resumed  bool              // an earlier attempt may have begun what this one does
	stands   map[string]bool   // paths of nested subvolumes' placeholders
	apart    bool              // see plan.apart
	exchange bool              // see put
	unmarked bool              // Attach has ended and is not marked, see smallPlan
	marked   string            // the state in the catalog
	doing    string            // what Progress says
	syncing  <-chan error      // see beginSync

	committed bool // the catalog has the names of the new snapshot, not of the base

	mending sync.Mutex
	mu      sync.Mutex // guards what follows, and the catalog while workers are on
	// kept is how many bytes objects in history take that have no other name, by their nodes, as far as it is known; in a small plan.
	kept map[int64]int64
	// dirKeys are the changed directories by their paths, dirsCame the former paths of those that moved; nil until dirKey wants them.
	dirKeys  map[string]diff.Key
	dirsCame map[string]string
	report
	altered bool // the store knows
}

// report is what a run has to tell.
type report struct {
	problems []Problem
	warnings []string
	unsaid   int // warnings beyond maxWarnings
}

// maxWarnings bounds what a run says. They are kept in the catalog.
const maxWarnings = 100

func newExecution(ctx context.Context, s *Store, run int64, p *plan, next *beneath.Root, opts Options) (*execution, error) {
	x := &execution{ctx: ctx, s: s, run: run, plan: p, next: next, buildAhead: newBuildAhead(opts), opts: opts, linked: map[string]bool{},
		unlinked: map[diff.Key]int{}, gone: map[diff.Key]*diff.Gone{}, stands: map[string]bool{}, lost: map[diff.Key]bool{}, nodes: map[diff.Key]int64{}, kept: map[int64]int64{}}
	x.apart = p.apart()
	for _, n := range p.Unlinked {
		x.unlinked[n.Key]++
	}
	for i := range p.Gone {
		if g := &p.Gone[i]; !g.BaseAttr.IsDir() {
			x.gone[g.Key] = g
		}
	}
	for _, n := range p.Linked {
		x.linked[n.Path] = true
		if n.Key.IsPlaceholder() {
			x.stands[n.Path] = true
		}
	}
	if err := errors.Join(x.readNodes(), x.readPatches()); err != nil {
		return nil, err
	}
	if err := s.history_.Mkdir(x.history(), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("making the history of run r%d: %w", run, err)
	}
	var err error
	// ext4 starts to write a file's data when it is renamed over another. (Data is safe without: what was attached counts only
	// after the sync that ends the phase.)
	x.exchange, err = isExt4(s.tree)
	return x, err
}

// readNodes finds the nodes of what the run changes, and what is known to be lost (see lose).
func (x *execution) readNodes() error {
	later := map[diff.Key]bool{}
	err := x.s.query(`SELECT n.id, n.ino, n.gen, v.content FROM versions v JOIN nodes n ON n.id = v.node WHERE v.run = ? AND n.alive`, func(row *sqlite.Stmt) error {
		k := diff.Key{Ino: uint64(row.ColumnInt64(1)), Gen: uint64(row.ColumnInt64(2))}
		x.nodes[k] = row.ColumnInt64(0)
		if row.ColumnInt64(3) == contentLater {
			later[k] = true
		}
		return nil
	}, x.run)
	for _, in := range x.plan.Inodes {
		if in.What&diff.Data != 0 && later[in.Key] && !in.Attr.IsDir() {
			x.lost[in.Key] = true
		}
	}
	return catalogError("read the run's nodes", err)
}

// isExt4 tells what kind of filesystem the mirror is on.
func isExt4(mirror *beneath.Root) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(mirror.FD(), &st); err != nil {
		return false, fmt.Errorf("looking at the mirror's filesystem: %w", err)
	}
	return st.Type == unix.EXT4_SUPER_MAGIC, nil
}

// at is called before every single change.
func (x *execution) at(name string) error { return x.opts.at(name) }

func (o *Options) at(name string) error {
	if o.Step != nil {
		return o.Step(name)
	}
	return nil
}

// each calls do for 0 to n-1 on several workers, neighbours mostly on the same. Within a test's steps it goes in order.
func (x *execution) each(n int, do func(i int) error) error {
	return x.eachSized(n, nil, do)
}

// eachSized is each of things with contents; sizes, which may be nil, are for Progress.
func (x *execution) eachSized(n int, size func(i int) int64, do func(i int) error) error {
	workers := x.opts.workers()
	if x.opts.Step != nil {
		workers = 1
	}
	if x.opts.Progress == nil {
		return inChunks(x.ctx, workers, n, do)
	}
	if size == nil {
		size = func(int) int64 { return 0 }
	}
	m := meter{tell: x.opts.Progress, doing: x.doing}
	m.ofNames.Store(int64(n))
	for i := range n {
		m.ofBytes += size(i)
	}
	return inChunks(x.ctx, workers, n, func(i int) error { defer m.add(1, size(i)); return do(i) })
}

// chunk is how many neighbours one worker takes: they mostly share a directory.
const chunk = 32

// inChunks calls do for 0 to n-1 on several workers and gives the first error.
func inChunks(ctx context.Context, workers, n int, do func(i int) error) error {
	g, stop := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for from := 0; from < n && stop.Err() == nil; from += chunk {
		g.Go(func() error {
			for i := from; i < min(from+chunk, n); i++ {
				if stop.Err() != nil {
					return nil
				}
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return errors.Join(g.Wait(), ctx.Err())
}

func (x *execution) history() string { return fmt.Sprintf("r%d", x.run) }

func (x *execution) grave(k diff.Key) string { return fmt.Sprintf("r%d/%d", x.run, x.nodes[k]) }

func oldName(k diff.Key) string { return fmt.Sprintf("o-%d-%d", k.Ino, k.Gen) }

// newName is where an inode's new contents are built, perhaps ahead (see buildAhead): anything else of it needs another name.
func newName(k diff.Key) string { return fmt.Sprintf("n-%d-%d", k.Ino, k.Gen) }

func (x *execution) warn(format string, args ...any) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.say(format, args...)
}

// say is warn with x.mu held.
func (x *execution) say(format string, args ...any) {
	if len(x.warnings) < maxWarnings {
		x.warnings = append(x.warnings, fmt.Sprintf(format, args...))
	} else {
		x.unsaid++
	}
}

// allWarnings are the warnings, the last one telling how many there are beyond them.
func (r *report) allWarnings() []string {
	if r.unsaid == 0 {
		return r.warnings
	}
	return append(r.warnings, fmt.Sprintf("and %d more of the kind", r.unsaid))
}

func (x *execution) problem(k diff.Key, path string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.problems = append(x.problems, Problem{Path: path, Key: k, Err: err})
}

// exists tells whether something is at a path.
func exists(r *beneath.Root, path string) (bool, error) {
	_, err := r.Lstat(path)
	if missing(err) {
		return false, nil
	}
	return err == nil, err
}

// missing also covers a way that is not there, or leads through something else than directories.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)
}

// ignoreMissing is for what an earlier attempt may have done already.
func ignoreMissing(err error) error {
	if missing(err) {
		return nil
	}
	return err
}
