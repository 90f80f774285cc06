package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
)

// Affected is a path that an object in history serves, at the restore points at which it does.
type Affected struct {
	Object string // history/rRUN/NODE
	Path   string // relative to the root; where the file was at the newest of the restore points
	Points []int64
}

// object is history/rRUN/NODE.
type object struct{ run, node int64 }

// Affected tells which paths and restore points rest on objects of history, each of all names of its file.
func (s *Store) affected(objects []object, catalog string) (list []Affected, err error) {
	views := map[int64]*moment{}
	defer func() {
		for _, m := range views {
			err = errors.Join(err, m.Close())
		}
	}()
	for _, o := range objects {
		points, err := s.servedBy(o)
		if err != nil {
			return nil, err
		}
		found := map[string][]int64{}
		for _, point := range points {
			m, err := momentAt(views, s.path, catalog, point)
			if err != nil {
				return nil, err
			}
			names, err := m.names(o.node)
			if err != nil {
				return nil, err
			}
			for _, n := range names {
				found[n.path] = append(found[n.path], point)
			}
		}
		for path, points := range found {
			list = append(list, Affected{historyPath(o.run, o.node), path, points})
		}
	}
	slices.SortFunc(list, func(a, b Affected) int { return compareStrings(a.Path, b.Path, a.Object, b.Object) })
	return list, nil
}

func compareStrings(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// momentAt opens a restore point once.
func momentAt(views map[int64]*moment, path, catalog string, point int64) (*moment, error) {
	if m := views[point]; m != nil {
		return m, nil
	}
	v, err := OpenView(path, catalog, point)
	if err != nil {
		return nil, err
	}
	e, err := v.epoch()
	if err != nil {
		return nil, errors.Join(err, v.Close())
	}
	views[point] = newMoment(v, e)
	return views[point], nil
}

// servedBy gives the restore points at which a file has the contents of an object.
func (s *Store) servedBy(o object) ([]int64, error) {
	points, err := s.numbers(`SELECT id FROM runs WHERE state = 'done' AND id < ?1 AND id >= max(
		ifnull((SELECT max(run) FROM versions WHERE node = ?2 AND run < ?1 AND content <> 0), 0), ifnull((SELECT born FROM nodes WHERE id = ?2), 0)) ORDER BY id`, o.run, o.node)
	if err != nil {
		return nil, fmt.Errorf("find who needs %s: %w", historyPath(o.run, o.node), err)
	}
	return points, nil
}

// missingAndExtra compares the objects in the history of one run with the rows that need them. What is extra has names below the run's
// directory, sorted.
func (s *Store) missingAndExtra(run int64) (missing []object, extra []string, err error) {
	there, err := s.objectInodes(run)
	if err != nil {
		return nil, nil, err
	}
	err = s.query(`SELECT node FROM versions WHERE run = ? AND content = 1 ORDER BY node`, func(row *sqlite.Stmt) error {
		node := row.ColumnInt64(0)
		if _, ok := there[node]; !ok {
			missing = append(missing, object{run, node})
		}
		delete(there, node)
		return nil
	}, run)
	if err != nil {
		return nil, nil, err
	}
	for node := range there {
		extra = append(extra, nodeName(node))
	}
	saved, err := s.extraSaved(run)
	extra = append(extra, saved...)
	slices.Sort(extra)
	return missing, extra, err
}

// extraSaved are the objects with saved ranges in the history of one run of which no row needs any.
func (s *Store) extraSaved(run int64) (extra []string, err error) {
	err = s.history_.ReadDir(fmt.Sprintf("r%d", run), func(name string, _ uint8, _ uint64) error {
		text, ok := strings.CutSuffix(name, savedSuffix)
		node, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil {
			return nil
		}
		needed := false
		err = s.query(`SELECT 1 FROM saved WHERE node = ? AND object = ? LIMIT 1`, func(*sqlite.Stmt) error { needed = true; return nil }, node, run)
		if !needed {
			extra = append(extra, name)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return extra, err
}

// missingSaved gives the versions of which saved ranges are missing.
func (s *Store) missingSaved() (lost []object, err error) {
	there := map[[2]int64]bool{}
	err = s.query(`SELECT DISTINCT node, object, run FROM saved ORDER BY node, run`, func(row *sqlite.Stmt) error {
		node, at, run := row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2)
		ok, known := there[[2]int64{at, node}]
		if !known {
			if ok, err = exists(s.history_, savedName(at, node)); err != nil {
				return err
			}
			there[[2]int64{at, node}] = ok
		}
		if !ok {
			lost = append(lost, object{run, node})
		}
		return nil
	})
	return lost, err
}
