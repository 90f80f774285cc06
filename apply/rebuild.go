package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// Rebuilt is what Rebuild made, or would make.
type Rebuilt struct {
	// Points are the restore points that the new catalog knows, LostPoints those that it cannot show any more, with the reason.
	Points     []int64
	LostPoints []int64
	Why        string
	// Newest is the run that the mirror equals as far as manifests tell; 0: not known.
	Newest int64
	// Cut is a run that was cut off and has been given up; 0: none.
	Cut int64
	// Aside is where the old catalog is now; "" if there was none.
	Aside string
}

// Rebuild makes the catalog of a store anew from the manifests and the mirror, history included. The old one is moved aside. The next
// run has to compare in full: what the source calls its inodes is not known any more, nor what could not be copied.
//
// What a missing or damaged manifest said is lost; restore points before its run cannot be shown, since nobody knows how they
// differ from later ones.
func Rebuild(ctx context.Context, path string, opts ...Option) (*Rebuilt, error) {
	o := optionsOf(opts)
	r, err := openForRebuild(path, o.catalog)
	if err != nil {
		return nil, fmt.Errorf("rebuilding the catalog: %w", err)
	}
	r.tell = o.tell
	done, err := r.rebuild(ctx)
	if done != nil {
		slices.Sort(done.Points)
	}
	if err = errors.Join(err, r.s.Close()); err != nil {
		return nil, fmt.Errorf("rebuilding the catalog: %w", err)
	}
	return done, nil
}

type rebuilder struct {
	s      *Store
	place  catalogPlace
	done   Rebuilt
	lastID int64 // of any node that there may have been
	// rewritten is the number of the new catalog (see metaRewritten).
	rewritten int64
	tell      func(Progress)
}

// openForRebuild locks a store whose catalog is not to be opened.
func openForRebuild(path, catalog string) (*rebuilder, error) {
	place, err := placeOfCatalog(path, catalog)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path}
	if s.lock, err = lockStore(path); err != nil {
		return nil, err
	}
	if err := s.openRoots(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &rebuilder{s: s, place: place}, nil
}

func (r *rebuilder) rebuild(ctx context.Context) (*Rebuilt, error) {
	tmp := r.place.path + ".rebuilt"
	if err := removeCatalog(tmp); err != nil {
		return nil, err
	}
	if err := createCatalog(tmp); err != nil {
		return nil, err
	}
	conn, err := openCatalog(tmp)
	if err != nil {
		return nil, err
	}
	r.s.conn = conn
	if err := r.fill(ctx); err != nil {
		return nil, errors.Join(err, removeCatalog(tmp))
	}
	err = r.s.exec(`PRAGMA wal_checkpoint(TRUNCATE)`)
	r.s.conn = nil
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp, 0o600); err != nil {
		return nil, err
	}
	if r.done.Aside, err = moveAside(r.place.path); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, r.place.path); err != nil {
		return nil, err
	}
	if r.done.Cut != 0 {
		err = errors.Join(r.s.raiseInHistory(r.rewritten), ignoreMissing(r.s.history_.Unlink(fmt.Sprintf("r%d/%s", r.done.Cut, detachedMark))), r.s.forgetBegun(r.done.Cut))
	}
	return &r.done, err
}

// removeCatalog removes a catalog with what SQLite keeps beside it.
func removeCatalog(path string) error {
	var all error
	for _, suffix := range []string{"", "-wal", "-shm", "-journal", ".new"} {
		if err := os.Remove(path + suffix); !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// moveAside gives a catalog and what is beside it another name. "": there is none.
func moveAside(path string) (string, error) {
	aside := path + ".damaged-" + time.Now().UTC().Format("20060102-150405")
	found := false
	for _, suffix := range []string{"-wal", "-shm", "-journal", ""} {
		err := os.Rename(path+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		found = found || err == nil
	}
	if !found {
		return "", nil
	}
	return aside, nil
}

// fill fills the new catalog in one transaction.
func (r *rebuilder) fill(ctx context.Context) error {
	if err := r.beginPlaces(); err != nil {
		return err
	}
	return r.s.transaction("fill it", func() error {
		heads, err := r.heads(ctx)
		if err != nil {
			return err
		}
		news := counter{r.tell, "rebuilding the catalog"}
		for i, h := range heads {
			if err := ctx.Err(); err != nil {
				return err
			}
			news.at(i, len(heads))
			if err := r.load(h); err != nil {
				return err
			}
		}
		if err := r.settings(heads); err != nil {
			return err
		}
		if err := r.sequences(heads); err != nil { // before rekey makes nodes
			return err
		}
		if r.done.Cut != 0 {
			c, err := r.readCut(r.done.Cut)
			if err == nil {
				err = r.giveUp(c)
			}
			if err != nil {
				return fmt.Errorf("giving up r%d, which was cut off: %w", r.done.Cut, err)
			}
			if err := r.raiseSequence("nodes", r.lastID); err != nil {
				return err
			}
		}
		if err := r.nodes(); err != nil || r.done.Cut == 0 {
			return err
		}
		return r.s.writeManifest(r.done.Cut, nil)
	})
}

// heads reads and proves all manifests and gives those that hang together, newest state of places last.
func (r *rebuilder) heads(ctx context.Context) ([]*manifestHead, error) {
	chain, gone, err := r.s.manifestChain(ctx, counter{r.tell, "reading manifests"})
	if err != nil {
		return nil, err
	}
	r.done.LostPoints, r.done.Why = gone.points, gone.why
	byPlaces(chain)
	return chain, nil
}

// brokenChain is where manifests stop to hang together.
type brokenChain struct {
	points []int64 // restore points that cannot be shown
	why    string
	run    int64 // whose manifest is missing or damaged
}

// manifestChain reads all manifests and gives the heads of those that hang together, oldest first: from the newest back to where one is
// missing or damaged. What is before says nothing, because nobody knows what happened in between.
func (s *Store) manifestChain(ctx context.Context, news counter) (chain []*manifestHead, broken brokenChain, err error) {
	runs, has, err := s.manifestRuns()
	if err != nil {
		return nil, broken, err
	}
	heads := map[int64]*manifestHead{}
	bad := map[int64]error{}
	for i, run := range runs {
		if err := ctx.Err(); err != nil {
			return nil, broken, err
		}
		news.at(i, len(runs))
		if !has[run] {
			continue
		}
		if heads[run], err = s.readManifest(run, manifestVisitor{}); err != nil {
			bad[run], heads[run] = err, nil
		}
	}
	next := int64(0) // the run that the one after says comes before it
	ended := false
	for _, run := range slices.Backward(runs) {
		h := heads[run]
		switch {
		case broken.why != "" || ended:
		case len(chain) == 0 && h == nil && bad[run] == nil:
			continue // a run that was cut off: nothing of it is known
		case len(chain) > 0 && run > next:
			continue // one that a prune has not removed yet
		case len(chain) > 0 && run < next:
			broken.why, broken.run = fmt.Sprintf("the manifest of r%d is missing", next), next
		case h == nil:
			broken.why, broken.run = fmt.Sprintf("history/r%d: %v", run, bad[run]), run
			if bad[run] == nil {
				broken.why = fmt.Sprintf("the manifest of r%d is missing", run)
			}
		default:
			chain, next = append(chain, h), h.Prev
			ended = next == 0
			continue
		}
		if h != nil && h.State == Done && broken.why != "" {
			broken.points = append(broken.points, run)
		}
	}
	if !ended && broken.why == "" && next != 0 {
		broken.why, broken.run = fmt.Sprintf("the manifest of r%d is missing", next), next
	}
	slices.Reverse(chain)
	slices.Reverse(broken.points)
	return chain, broken, nil
}

// load puts what one manifest says into the catalog.
func (r *rebuilder) load(h *manifestHead) error {
	s := r.s
	if h.State != stateDropped && h.State != Done && h.State != Abandoned { // it was cut off
		r.done.Cut, h.State = h.Run, Abandoned
	}
	if h.State != stateDropped {
		err := s.exec(`INSERT INTO runs(id, state, how, reason, date, started, finished, mark, base, counts, incomplete, warnings) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
			h.Run, h.State, h.How, h.Reason, h.Date, h.Started, h.Finished, string(h.Mark), string(h.Base), string(h.Counts), h.Incomplete, string(h.Warnings))
		if err != nil {
			return err
		}
		if h.State == Done {
			r.done.Points = append(r.done.Points, h.Run)
			r.done.Newest = max(r.done.Newest, h.Run)
		}
	}
	objects, err := s.objectInodes(h.Run)
	if err != nil {
		return err
	}
	var sums []fileSum
	_, err = s.readManifest(h.Run, manifestVisitor{
		place: func(p nodePlace, places []manifestPlace) error { return r.at(h.Places, p, places) },
		entry: func(dir int64, name string, node int64) error {
			var means any
			if node != 0 {
				means = node
			}
			r.lastID = max(r.lastID, node, dir)
			return s.exec(`INSERT OR REPLACE INTO entries(dir, name, run, node) VALUES (?, ?, ?, ?)`, dir, []byte(name), h.Run, means)
		},
		version: func(v manifestVersion) error {
			r.lastID = max(r.lastID, v.node)
			a := v.attr
			return s.exec(`INSERT OR REPLACE INTO versions(node, run, mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, xattrs, content) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)`,
				v.node, h.Run, a.Mode, a.UID, a.GID, int64(a.Rdev), a.Size, a.MtimeSec, a.MtimeNsec, a.Nlink, v.xattrs, v.content)
		},
		saved: func(node int64, r savedRange) error {
			return s.exec(`INSERT OR REPLACE INTO saved(node, run, off, len, object) VALUES (?, ?, ?, ?, ?)`, node, h.Run, r.Off, r.Len, r.object)
		},
		sum: func(node int64, sum uint64) error {
			if ino, ok := objects[node]; ok {
				sums = append(sums, fileSum{ino, sum, true})
			}
			return nil
		},
	})
	for node := range objects {
		r.lastID = max(r.lastID, node)
	}
	if err != nil {
		return err
	}
	return s.setSums(sums)
}

// objectInodes gives the inode numbers of a run's objects in history, by node.
func (s *Store) objectInodes(run int64) (map[int64]uint64, error) {
	objects := map[int64]uint64{}
	err := s.history_.ReadDir(fmt.Sprintf("r%d", run), func(name string, _ uint8, ino uint64) error {
		if node, err := strconv.ParseInt(name, 10, 64); err == nil {
			objects[node] = ino
		}
		return nil
	})
	if missing(err) {
		err = nil
	}
	return objects, err
}

// nodes makes of what manifests say about places the live nodes and names, as far as the mirror has them.
func (r *rebuilder) nodes() error {
	s := r.s
	if err := r.dropStaleNames(); err != nil {
		return err
	}
	for _, sql := range []string{
		`UPDATE at SET alive = 0 WHERE NOT EXISTS (SELECT 1 FROM at_names WHERE node = at.id)`,
		`INSERT INTO nodes(id, ino, gen, type, alive, born) SELECT id, -1, id, type, alive, born FROM at WHERE id <> 1 AND
			(alive OR EXISTS (SELECT 1 FROM versions WHERE node = at.id))`,
		`INSERT INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (1, -1, 1, 0, x'', 16384, 1)`,
		// What rows speak of and no manifest has told of is gone; its type is that of its object, if any.
		`INSERT OR IGNORE INTO nodes(id, ino, gen, type, alive) SELECT DISTINCT node, -1, node, mode & 61440, 0 FROM versions`,
		`INSERT OR IGNORE INTO names(dir, name, node) SELECT n.dir, n.name, n.node FROM at_names n JOIN at ON at.id = n.node WHERE at.type <> 16384 ORDER BY n.run DESC`,
		`UPDATE OR IGNORE nodes SET parent = n.dir, name = n.name FROM at_names n WHERE n.node = nodes.id AND nodes.type = 16384`,
		`UPDATE nodes SET alive = 0 WHERE alive AND parent IS NULL AND type = 16384`,
	} {
		if err := s.exec(sql); err != nil {
			return err
		}
	}
	// Keys that no source has, each another one.
	n := uint64(0)
	unknown := func(string) (diff.Key, error) { n++; return diff.Key{Ino: n, Gen: diff.MirrorGen}, nil }
	return s.rekey(unknown, false, false)
}

// lockStore locks a store for a process that writes.
func lockStore(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, locked(path)
	}
	return lock, nil
}
