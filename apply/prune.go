package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// Dropping restore points. A row of run r tells what was there before r, back to the row before it in its chain (or to the
// birth of its directory or node): it serves the restore points from that run up to the last one before r. When none of them
// is kept the row goes. A chain stays right without it, because the next row then serves what it served: nobody.
//
// Only rows of the runs after the first of the dropped ones, up to the next kept one, can have become useless. So the work
// follows from what these runs changed, not from the size of the store.
//
// The steps, each of which can be done again after a cut:
//
//  1. The restore points leave the table runs for the table pruning, some in each transaction. From then on nobody opens them.
//  2. Run by run, the oldest first: contents that an older row leans on get a second name with that row; when that is on the
//     disk, the useless rows go and the objects that nobody needs are noted in trash, in one transaction. Saved ranges become
//     rows of the older one in it, and objects that have others are noted in trim.
//  3. What is in trash and trim is removed, then its notes; directories of history that are empty too; then pruning is emptied.

// ErrNewest says that the newest restore point cannot be dropped.
var ErrNewest = errors.New("the newest restore point is never dropped")

// Pruned is what a prune did.
type Pruned struct {
	Dropped []int64         // runs, also of an earlier prune that was cut off
	InUse   []int64         // were to be dropped, but somebody looks at them: mounted, say
	Freed   int64           // bytes
	By      map[int64]int64 // of these, those that each dropped one was the last to need
}

// Prune drops the restore points of the given runs, and finishes an earlier prune that was cut off. One that is in use stays,
// and can be dropped next time. No file content is copied.
func (s *Store) Prune(ctx context.Context, runs []int64, opts Options) (Pruned, error) {
	p := &pruner{s: s, ctx: ctx, opts: opts}
	err := p.prune(runs)
	if err != nil {
		err = fmt.Errorf("dropping restore points: %w", err)
	}
	return p.done, err
}

type pruner struct {
	s    *Store
	ctx  context.Context
	opts Options
	done Pruned
	kept []int64 // restore points that stay, ascending
	dry  bool    // within a transaction that is taken back; no file is touched
}

// PruneDry tells what Prune would do. It changes nothing.
func (s *Store) PruneDry(ctx context.Context, runs []int64) (Pruned, error) {
	p := &pruner{s: s, ctx: ctx, dry: true}
	var failed error
	err := s.transaction("look what dropping restore points frees", func() error { failed = p.prune(runs); return errDry })
	if errors.Is(err, errDry) {
		err = failed
	}
	for _, bytes := range p.done.By {
		p.done.Freed += bytes
	}
	return p.done, err
}

// errDry takes the transaction of a dry run back.
var errDry = errors.New("dry run")

// trashBytes counts what is in trash for the dropped restore points, each object for the last one that it served.
func (s *Store) trashBytes(dropped []int64) (map[int64]int64, error) {
	freed := make(map[int64]int64)
	return freed, s.query(`SELECT run, sum(bytes) FROM (SELECT run, bytes FROM trash UNION ALL SELECT run, bytes FROM trim) GROUP BY run`, func(row *sqlite.Stmt) error {
		i, _ := slices.BinarySearch(dropped, row.ColumnInt64(0))
		freed[dropped[max(i-1, 0)]] += row.ColumnInt64(1)
		return nil
	})
}

// transaction runs f whole or not at all.
func (p *pruner) transaction(doing string, f func() error) error {
	if p.dry {
		return f()
	}
	return p.s.transaction(doing, f)
}

// at is called before each step.
func (p *pruner) at(name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if p.opts.Step != nil {
		return p.opts.Step("prune: " + name)
	}
	return nil
}

func (p *pruner) prune(runs []int64) error {
	if !p.dry {
		if err := p.s.CompleteManifests(p.ctx); err != nil {
			return err
		}
	}
	if err := p.s.measure(p.ctx); err != nil {
		return err
	}
	if err := p.begin(runs); err != nil {
		return err
	}
	if err := p.noteRewritten(); err != nil {
		return err
	}
	dropped, err := p.s.numbers(`SELECT run FROM pruning ORDER BY run`)
	if err != nil {
		return err
	}
	if p.kept, err = p.s.numbers(`SELECT id FROM runs WHERE state = 'done' ORDER BY id`); err != nil {
		return err
	}
	for _, g := range gaps(dropped, p.kept) {
		if err := p.thin(g); err != nil {
			return err
		}
	}
	p.done.Dropped = dropped
	if p.done.By, err = p.s.trashBytes(dropped); err != nil || p.dry {
		return err
	}
	for _, g := range gaps(dropped, p.kept) { // before anything goes that they speak of
		if err := p.at("manifests"); err != nil {
			return err
		}
		if err := p.s.keepManifests(p.ctx, g); err != nil {
			return err
		}
	}
	if err := p.s.rewriteStale(p.ctx); err != nil {
		return err
	}
	if err := p.removeUnneeded(); err != nil {
		return err
	}
	for _, g := range gaps(dropped, p.kept) {
		if err := p.removeEmpty(g); err != nil {
			return err
		}
	}
	for _, run := range dropped {
		if err := p.forget(run); err != nil {
			return err
		}
	}
	if len(dropped) == 0 {
		return nil
	}
	return p.noteEnded()
}

// noteEnded has a catalog known for an old one, too, that was copied in the middle: to end the prune by it once more would go by what is not there any more.
func (p *pruner) noteEnded() error {
	if err := p.at("ended"); err != nil {
		return err
	}
	if err := p.s.transaction("note that history is rewritten", p.s.raiseRewritten); err != nil {
		return err
	}
	return p.s.noteRewritten()
}

// removeUnneeded removes what no row needs any more.
func (p *pruner) removeUnneeded() error {
	if err := p.emptyTrash(); err != nil {
		return err
	}
	return p.emptyTrim()
}

// noteRewritten has a catalog that was copied before known for an old one.
func (p *pruner) noteRewritten() error {
	if p.dry {
		return nil
	}
	if err := p.at("note"); err != nil {
		return err
	}
	return p.s.noteRewritten()
}

// begin takes the restore points that nobody uses out of the catalog.
func (p *pruner) begin(runs []int64) error {
	last, _, err := p.s.Last()
	if err != nil {
		return err
	}
	if last != nil && slices.Contains(runs, last.ID) {
		return fmt.Errorf("r%d: %w", last.ID, ErrNewest)
	}
	all, err := lockAll(p.s.top, unix.LOCK_EX)
	if errors.Is(err, errInUse) {
		p.done.InUse = runs
		return nil
	}
	if err != nil {
		return err
	}
	defer giveBack(all)
	for some := range slices.Chunk(runs, leasesAtOnce) {
		if err := p.beginSome(some); err != nil {
			return err
		}
	}
	return nil
}

// leasesAtOnce is how many leases a prune takes at once. Each is an inode, of which there may be no more than spareInodes.
const leasesAtOnce = spareInodes / 2

// beginSome is begin for a few of them.
func (p *pruner) beginSome(runs []int64) (err error) {
	var drop []int64
	for _, run := range runs {
		lease, err := takeLease(p.s.top, run, unix.LOCK_EX)
		if errors.Is(err, errInUse) {
			p.done.InUse = append(p.done.InUse, run)
			continue
		}
		if err != nil {
			return err
		}
		defer giveBack(lease)
		drop = append(drop, run)
	}
	if len(drop) == 0 {
		return nil
	}
	if err := p.at("begin"); err != nil {
		return err
	}
	err = p.transaction("drop restore points", func() error {
		for _, run := range drop {
			if err := p.s.dropPoint(run); err != nil {
				return err
			}
		}
		return p.s.raiseRewritten()
	})
	for _, run := range drop {
		if err == nil {
			err = p.s.removeLease(run)
		}
	}
	return err
}

// dropPoint moves a run from runs to pruning. The next one takes over what it kept in history.
func (s *Store) dropPoint(run int64) error {
	point, space := false, int64(0)
	err := s.query(`SELECT space FROM runs WHERE id = ? AND state = 'done'`, func(row *sqlite.Stmt) error {
		point, space = true, row.ColumnInt64(0)
		return nil
	}, run)
	if err == nil && !point {
		err = fmt.Errorf("r%d: %w", run, ErrNoRestorePoint)
	}
	if err != nil {
		return err
	}
	if err := s.charge(run+1, space); err != nil {
		return err
	}
	if err := s.exec(`DELETE FROM runs WHERE id = ?`, run); err != nil {
		return err
	}
	return s.exec(`INSERT INTO pruning(run) VALUES (?)`, run)
}

// measure fills in the space of runs that do not know it yet.
func (s *Store) measure(ctx context.Context) error {
	runs, err := s.numbers(`SELECT id FROM runs WHERE space = 0 AND state = 'done' AND EXISTS (SELECT 1 FROM versions WHERE run = runs.id AND content <> 0)`)
	for _, run := range runs {
		var space int64
		if space, err = s.spaceOf(ctx, run, nil); err != nil {
			return err
		}
		if err := s.setSpace(run, space); err != nil {
			return err
		}
	}
	return err
}

// spaceOf measures what the history of a run takes up, in bytes. Of the objects of some nodes it is known.
func (s *Store) spaceOf(ctx context.Context, run int64, spaces map[int64]int64) (int64, error) {
	nodes, err := s.numbers(`SELECT node FROM versions WHERE run = ? AND content = 1`, run)
	if err != nil {
		return 0, err
	}
	var objects atomic.Int64
	err = inChunks(ctx, defaultWorkers(), len(nodes), func(i int) error {
		bytes, known := spaces[nodes[i]]
		if !known {
			var err error
			if bytes, err = s.bytesOf(staleVersion{run: run, node: nodes[i]}); err != nil {
				return err
			}
		}
		objects.Add(bytes)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring the history of r%d: %w", run, err)
	}
	space := objects.Load()
	if nodes, err = s.numbers(`SELECT DISTINCT node FROM saved WHERE object = ?1 AND run = ?1`, run); err != nil {
		return 0, err
	}
	for _, node := range nodes {
		st, err := s.top.Lstat(savedPath(run, node))
		if err != nil {
			return 0, fmt.Errorf("measuring the history of r%d: %w", run, err)
		}
		space += st.Blocks * 512
	}
	return space, nil
}

func (s *Store) setSpace(run, space int64) error {
	return catalogError("note the space", s.exec(`UPDATE runs SET space = ? WHERE id = ?`, space, run))
}

// numbers reads a column of numbers.
func (s *Store) numbers(sql string, args ...any) (list []int64, err error) {
	err = s.query(sql, func(row *sqlite.Stmt) error { list = append(list, row.ColumnInt64(0)); return nil }, args...)
	return list, catalogError("read", err)
}

// gap is a stretch of dropped restore points between two kept ones.
type gap struct {
	before int64 // the kept one before it; 0: none
	first  int64 // the first dropped one
	after  int64 // the kept one after it
}

// gaps groups dropped runs, all of which have a kept one after them.
func gaps(dropped, kept []int64) (list []gap) {
	for _, run := range dropped {
		i, _ := slices.BinarySearch(kept, run)
		g := gap{first: run, after: kept[i]}
		if i > 0 {
			g.before = kept[i-1]
		}
		if n := len(list); n > 0 && list[n-1].after == g.after {
			continue
		}
		list = append(list, g)
	}
	return list
}

// from is the run after which the rows that may go begin. Without an earlier restore point that is all of them.
func (g gap) from() int64 {
	if g.before == 0 {
		return 0
	}
	return g.first
}

// beforeFirst is the run after which the manifests and directories begin that may change: those of the first dropped one too.
func (g gap) beforeFirst() int64 {
	if g.before == 0 {
		return 0
	}
	return g.first - 1
}
