package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// Errors of Erase.
var (
	ErrStillThere = errors.New("it is still there in the newest restore point: delete it in the source and run snapdiff run first, the mirror follows the source")
	ErrNowhere    = errors.New("no restore point has it")
)

// Erased is what Erase did, or would do.
type Erased struct {
	Points []int64 // the restore points that had the path
	Files  int64   // files and directories of which something goes
	Bytes  int64   // contents that go
	// Elsewhere are other paths at which files and directories of those stay, of a directory its own alone; the first of them, where More says that there are
	// others.
	Elsewhere []ErasedElsewhere
	More      bool
}

// ErasedElsewhere is a path that still leads to something of which another path was erased.
type ErasedElsewhere struct {
	Path   string
	Points []int64
}

// Erase removes a path, relative to the root, and all below it from every restore point, with contents and attributes. What also
// has a name elsewhere stays there. dry: it only says what would go.
//
// The rows change in one transaction; what history then does not need goes to trash and is removed after it. What a cut
// leaves in trash the next erase, prune or run removes.
func (s *Store) Erase(ctx context.Context, path string, dry bool, opts Options) (Erased, error) {
	e := &eraser{pruner: pruner{s: s, ctx: ctx, opts: opts, dry: dry}, reach: map[[2]int64]bool{}, tops: map[int64]int64{}}
	err := e.erase(path)
	for _, l := range e.leases {
		err = errors.Join(err, giveBack(l))
	}
	if err != nil {
		if path == "" {
			path = "."
		}
		err = fmt.Errorf("erase %q: %w", path, err)
	}
	return e.erased, err
}

type eraser struct {
	pruner
	leases []*os.File
	erased Erased
	points []int64
	reach  map[[2]int64]bool // whether a directory is to be seen at a restore point
	tops   map[int64]int64   // what the path means, by restore point
}

func (e *eraser) erase(path string) error {
	if path == "" {
		return errors.New("that is everything: remove the store instead")
	}
	_, unfinished, err := e.s.Last()
	if err != nil {
		return err
	}
	if unfinished != nil {
		return fmt.Errorf("r%d was cut off: finish it with snapdiff run first", unfinished.ID)
	}
	if e.points, err = e.s.numbers(`SELECT id FROM runs WHERE state = 'done' ORDER BY id`); err != nil {
		return err
	}
	err = e.s.transaction("erase", func() error {
		if err := e.rows(path); err != nil {
			return err
		}
		if e.dry {
			return errDry
		}
		if err := errors.Join(e.s.SetMeta(metaManifests, ""), e.s.raiseRewritten()); err != nil {
			return err
		}
		return e.at("erase")
	})
	switch {
	case errors.Is(err, errDry):
		return nil
	case errors.Is(err, ErrStillThere):
		return ErrStillThere
	case errors.Is(err, ErrNowhere):
		if err = ErrNowhere; e.dry {
			return err
		} // perhaps by an attempt that was cut off: the rest is done again
	case err != nil:
		return err
	}
	if err := e.noteRewritten(); err != nil {
		return err
	}
	if err := e.removeUnneeded(); err != nil {
		return err
	}
	if err := e.at("manifests"); err != nil {
		return err
	}
	if err := e.s.CompleteManifests(e.ctx); err != nil {
		return err
	}
	return errors.Join(err, e.rewriteCatalog())
}

// rewriteCatalog leaves no free pages with what was deleted at any time: plans of earlier runs had the names too.
func (e *eraser) rewriteCatalog() error {
	if err := e.at("rewrite the catalog"); err != nil {
		return err
	}
	for _, sql := range []string{`VACUUM`, `PRAGMA wal_checkpoint(TRUNCATE)`} {
		if err := e.s.exec(sql); err != nil {
			return catalogError("rewrite it without what was erased", err)
		}
	}
	return nil
}

// place is where a path is at some restore points.
type erasedPlace struct {
	dir  int64
	name string
}

// rows changes the catalog, within a transaction.
func (e *eraser) rows(path string) error {
	places, nodes, err := e.find(path)
	if err != nil {
		return err
	}
	for place, points := range places {
		if err := e.hide(place, points); err != nil {
			return err
		}
	}
	all, err := e.below(nodes)
	if err != nil {
		return err
	}
	var batch []staleVersion
	for _, node := range all {
		stale, err := e.stale(node)
		if err != nil {
			return err
		}
		if batch = append(batch, stale...); len(stale) > 0 {
			e.erased.Files++
		}
	}
	versions := len(batch)
	if batch, err = e.handOver(batch); err != nil {
		return err
	}
	if len(batch) < versions {
		return unix.EMLINK
	}
	if err := e.dropVersions(batch); err != nil {
		return err
	}
	if err := e.elsewhere(all); err != nil {
		return err
	}
	for _, node := range all {
		if seen, err := e.seen(node); err != nil || seen {
			if err != nil {
				return err
			}
			continue
		}
		if err := e.s.exec(`DELETE FROM entries WHERE dir = ?`, node); err != nil {
			return err
		}
	}
	return e.s.query(`SELECT ifnull(sum(bytes), 0) FROM (SELECT bytes FROM trash UNION ALL SELECT bytes FROM trim)`, func(row *sqlite.Stmt) error { e.erased.Bytes = row.ColumnInt64(0); return nil })
}

// find looks where the path is at each restore point, and what it means there. Nobody may look at those.
func (e *eraser) find(path string) (places map[erasedPlace]map[int64]bool, nodes []int64, err error) {
	places = map[erasedPlace]map[int64]bool{}
	up, name := split(path)
	for i, point := range e.points {
		dir, err := e.lookup(up, point)
		if err != nil {
			return nil, nil, err
		}
		node := int64(0)
		if dir > 0 {
			if node, err = e.meaning(dir, name, point); err != nil {
				return nil, nil, err
			}
		}
		if node == 0 {
			continue
		}
		if i == len(e.points)-1 {
			return nil, nil, ErrStillThere
		}
		place := erasedPlace{dir, name}
		if places[place] == nil {
			places[place] = map[int64]bool{}
		}
		places[place][point] = true
		nodes = append(nodes, node)
		e.tops[point] = node
		e.erased.Points = append(e.erased.Points, point)
		if err := e.lock(point); err != nil {
			return nil, nil, err
		}
	}
	if len(nodes) == 0 {
		return nil, nil, ErrNowhere
	}
	return places, nodes, nil
}

// lock makes sure that nobody looks at a restore point.
func (e *eraser) lock(point int64) error {
	var all, lease *os.File
	var err error
	if len(e.leases) == 0 {
		if all, err = lockAll(e.s.top, unix.LOCK_EX); err == nil {
			e.leases = append(e.leases, all)
		}
	}
	if err == nil {
		lease, err = takeLease(e.s.top, point, unix.LOCK_EX)
	}
	if errors.Is(err, errInUse) {
		return fmt.Errorf("somebody looks at r%d: unmount it first", point)
	}
	if err == nil {
		e.leases = append(e.leases, lease)
	}
	return err
}

// inMirror is what meaning gives for a file without a node.
const inMirror = -1

// meaning is the node that a name means at a restore point; 0: none.
func (e *eraser) meaning(dir int64, name string, point int64) (node int64, err error) {
	old := false
	err = e.s.query(`SELECT node FROM entries WHERE dir = ? AND name = ? AND run > ? ORDER BY run LIMIT 1`,
		func(row *sqlite.Stmt) error { old, node = true, row.ColumnInt64(0); return nil }, dir, []byte(name), point)
	if old || err != nil {
		return node, err
	}
	err = e.s.query(`SELECT node FROM names WHERE dir = ?1 AND name = ?2
		UNION ALL SELECT id FROM nodes WHERE parent = ?1 AND name = ?2 AND alive AND type = 16384`,
		func(row *sqlite.Stmt) error { node = row.ColumnInt64(0); return nil }, dir, []byte(name))
	if node != 0 || err != nil {
		return node, err
	}
	path, err := e.livePath(dir)
	if err != nil || path == "" && dir != rootNode {
		return 0, err
	}
	there, err := exists(e.s.tree, join(path, name))
	if there {
		node = inMirror
	}
	return node, err
}

// livePath is where a directory is in the mirror; "" for the root and where it is gone.
func (e *eraser) livePath(node int64) (string, error) {
	path, err := (&dirPaths{s: e.s}).of(node)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return path, err
}

// lookup finds the node of a directory by its path at a restore point; 0: there is none.
func (e *eraser) lookup(path string, point int64) (int64, error) {
	if path == "" {
		return rootNode, nil
	}
	up, name := split(path)
	dir, err := e.lookup(up, point)
	if err != nil || dir <= 0 {
		return 0, err
	}
	node, err := e.meaning(dir, name, point)
	return max(node, 0), err
}
