package apply

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

const (
	// metaManifests is the format in which all manifests are known to be written.
	metaManifests = "manifests"
	// metaStale are the runs, separated by spaces, whose manifests are behind their rows.
	metaStale = "stale_manifests"
)

// CompleteManifests writes the manifests that are not what they should be: all of them once after an upgrade, after an erase that was
// cut off, and where one is damaged; else those that a prune left behind, and that of a newest run with nothing to do which a kill or a power cut
// has taken.
func (s *Store) CompleteManifests(ctx context.Context) error {
	known, err := s.Meta(metaManifests)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(known); err == nil && n > manifestFormat {
		return fmt.Errorf("the history of the store %w (its manifests have format %d, this one knows %d)", ErrFormat, n, manifestFormat)
	}
	if known == strconv.Itoa(manifestFormat) {
		whole, err := s.completeNewest()
		if err != nil {
			return err
		}
		if whole {
			return s.rewriteStale(ctx)
		}
	}
	return s.writeAllManifests(ctx)
}

// completeNewest writes the newest manifest if there is none, of a run without rows. false: it cannot be read, and what it has told besides its
// run nobody knows.
func (s *Store) completeNewest() (whole bool, err error) {
	newest, err := s.numbers(`SELECT `+manifestBefore, int64(math.MaxInt64))
	if err != nil || newest[0] == 0 || newest[0] == s.wrote {
		return true, err
	}
	_, err = s.readManifest(newest[0], manifestVisitor{})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, errManifest) || errors.Is(err, errOldManifest):
		return false, nil
	case !missing(err):
		return false, err
	}
	rows, err := s.numbers(`SELECT EXISTS (SELECT 1 FROM entries WHERE run = ?1) OR EXISTS (SELECT 1 FROM versions WHERE run = ?1)`, newest[0])
	if err != nil || rows[0] != 0 {
		return false, err
	}
	return true, s.writeManifest(newest[0], nil)
}

// writeAllManifests writes all of them from the catalog, the oldest first: then each is right about all that it tells, and none has to tell
// more than what its rows speak of.
func (s *Store) writeAllManifests(ctx context.Context) error {
	runs, err := s.numbers(`SELECT id FROM (` + runsWithManifests + `) ORDER BY id`)
	if err != nil {
		return err
	}
	if err := s.writeManifests(ctx, runs); err != nil {
		return err
	}
	return errors.Join(s.SetMeta(metaManifests, strconv.Itoa(manifestFormat)), s.SetMeta(metaStale, ""))
}

// writeManifests writes those of several runs and syncs them.
func (s *Store) writeManifests(ctx context.Context, runs []int64) error {
	for _, run := range runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.writeManifest(run, nil); err != nil {
			return err
		}
	}
	return s.history_.SyncFS()
}

// staleManifest notes, within the caller's transaction, that a run's manifest will be behind its rows.
func (s *Store) staleManifest(run int64) error {
	stale, err := s.Meta(metaStale)
	word := strconv.FormatInt(run, 10)
	if err != nil || slices.Contains(strings.Fields(stale), word) {
		return err
	}
	return s.SetMeta(metaStale, strings.TrimSpace(stale+" "+word))
}

// rewriteStale writes the manifests that staleManifest noted. They tell nothing besides what their rows speak of: a row is handed to the one
// before it in its chain because no restore point in between is kept, and only those of restore points that are kept do.
func (s *Store) rewriteStale(ctx context.Context) error {
	stale, err := s.Meta(metaStale)
	if err != nil || stale == "" {
		return err
	}
	runs, err := s.numbers(`SELECT id FROM (` + runsWithManifests + `)`)
	if err != nil {
		return err
	}
	runs = slices.DeleteFunc(runs, func(run int64) bool { return !slices.Contains(strings.Fields(stale), strconv.FormatInt(run, 10)) })
	if err := s.writeManifests(ctx, runs); err != nil {
		return err
	}
	return s.SetMeta(metaStale, "")
}

// readManifest reads the manifest of a run and makes sure that it is that.
func (s *Store) readManifest(run int64, v manifestVisitor) (*manifestHead, error) {
	fd, err := s.history_.Open(fmt.Sprintf("r%d/%s", run, manifestName), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), manifestName)
	defer file.Close()
	h, err := readManifest(file, v)
	if h != nil && h.Run != run {
		return nil, fmt.Errorf("%w: it is that of r%d", errManifest, h.Run)
	}
	return h, err
}

// manifestRuns gives the numbers of the directories in history, ascending, and which of them have a manifest.
func (s *Store) manifestRuns() (runs []int64, has map[int64]bool, err error) {
	has = map[int64]bool{}
	err = s.history_.ReadDir("", func(name string, _ uint8, _ uint64) error {
		run, err := strconv.ParseInt(strings.TrimPrefix(name, "r"), 10, 64)
		if err != nil || name != fmt.Sprintf("r%d", run) {
			return nil
		}
		runs = append(runs, run)
		there, err := exists(s.history_, name+"/"+manifestName)
		has[run] = there
		return err
	})
	slices.Sort(runs)
	return runs, has, err
}

// keepManifests brings manifests up to date after rows from the first dropped run to the one after the gap were removed or changed.
// Manifests of runs that have nothing any more are left for removeEmpty, but nothing leads to them: the one after says which comes
// before it.
//
// A manifest that is written anew says where things are now, but only of what its rows still speak of. What it knew besides, and
// an older manifest knows differently, the run after takes over.
func (s *Store) keepManifests(ctx context.Context, g gap) error {
	runs, err := s.numbers(`SELECT id FROM (`+runsWithManifests+`) WHERE id > ?1 AND id <= ?2 ORDER BY id`, g.beforeFirst(), g.after)
	if err != nil {
		return err
	}
	carry, whole, err := s.toCarry(g)
	if err != nil {
		return err
	}
	if !whole {
		return s.writeAllManifests(ctx)
	}
	for _, run := range runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		nodes := carry
		if run != g.after {
			nodes = nil
		}
		if err := s.writeManifest(run, nodes); err != nil {
			return err
		}
	}
	return s.history_.SyncFS()
}

// toCarry gives the nodes of which the manifests of a gap say where they are and that may be needed besides: directories, since
// others may lie below them, and files that an earlier run speaks of. Before the first restore point nothing is. whole: none of these
// manifests is damaged.
func (s *Store) toCarry(g gap) (carry []int64, whole bool, err error) {
	if g.before == 0 {
		return nil, true, nil
	}
	have, has, err := s.manifestRuns()
	if err != nil {
		return nil, false, err
	}
	seen := map[int64]bool{}
	for _, run := range have {
		if run <= g.beforeFirst() || run > g.after || !has[run] {
			continue
		}
		_, err := s.readManifest(run, manifestVisitor{place: func(p nodePlace, _ []manifestPlace) error {
			if seen[p.id] {
				return nil
			}
			seen[p.id] = true
			needed := p.kind == unix.S_IFDIR
			if !needed {
				err := s.query(`SELECT 1 WHERE EXISTS (SELECT 1 FROM versions WHERE node = ?1 AND run <= ?2) OR EXISTS (SELECT 1 FROM entries WHERE node = ?1 AND run <= ?2)`,
					func(*sqlite.Stmt) error { needed = true; return nil }, p.id, g.beforeFirst())
				if err != nil {
					return err
				}
			}
			if needed {
				carry = append(carry, p.id)
			}
			return nil
		}})
		if errors.Is(err, errManifest) || errors.Is(err, errOldManifest) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return carry, true, nil
}
