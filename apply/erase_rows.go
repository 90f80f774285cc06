package apply

import (
	"fmt"
	"maps"
	"slices"

	"zombiezen.com/go/sqlite"
)

// hide writes the rows of a name anew, so that it means nothing at the given restore points and what it meant at the others.
func (e *eraser) hide(place erasedPlace, points map[int64]bool) error {
	meanings := make([]int64, len(e.points))
	for i, point := range e.points {
		if points[point] {
			continue
		}
		var err error
		if meanings[i], err = e.meaning(place.dir, place.name, point); err != nil {
			return err
		}
	}
	if err := e.s.exec(`DELETE FROM entries WHERE dir = ? AND name = ?`, place.dir, []byte(place.name)); err != nil {
		return err
	}
	for i := 1; i < len(meanings); i++ {
		if meanings[i] == meanings[i-1] {
			continue
		}
		var node any
		switch was := meanings[i-1]; {
		case was == inMirror:
			return fmt.Errorf("%q is at several dates in a directory that was moved away and back: erase it where it is now first", place.name)
		case was != 0:
			node = was
		}
		if err := e.s.exec(`INSERT INTO entries(dir, name, run, node) VALUES (?, ?, ?, ?)`, place.dir, []byte(place.name), e.points[i], node); err != nil {
			return err
		}
	}
	return nil
}

// below adds to nodes all that were ever in them, and leaves out files that have none.
func (e *eraser) below(nodes []int64) (all []int64, err error) {
	known := map[int64]bool{inMirror: true}
	for len(nodes) > 0 {
		node := nodes[0]
		if nodes = nodes[1:]; known[node] {
			continue
		}
		known[node] = true
		all = append(all, node)
		children, err := e.s.numbers(`SELECT node FROM entries WHERE dir = ?1 AND node IS NOT NULL
			UNION SELECT node FROM names WHERE dir = ?1 UNION SELECT id FROM nodes WHERE parent = ?1 AND alive`, node)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, children...)
	}
	return all, nil
}

// stale are the versions of a node that nobody can see any more.
func (e *eraser) stale(node int64) (batch []staleVersion, err error) {
	born := int64(0)
	err = e.s.query(`SELECT born FROM nodes WHERE id = ?`, func(row *sqlite.Stmt) error { born = row.ColumnInt64(0); return nil }, node)
	if err != nil {
		return nil, err
	}
	var rows []staleVersion
	err = e.s.query(`SELECT run, content FROM versions WHERE node = ? ORDER BY run`, func(row *sqlite.Stmt) error {
		rows = append(rows, staleVersion{node: node, run: row.ColumnInt64(0), content: row.ColumnInt64(1)})
		return nil
	}, node)
	older, olderContent := int64(0), int64(0)
	for _, row := range rows {
		row.older, row.olderContent = older, olderContent
		seen, err := e.seenBetween(node, max(older, born), row.run)
		switch {
		case err != nil:
			return nil, err
		case seen:
			older, olderContent = row.run, row.content
			continue
		case row.leaned() && olderContent == contentLater:
			olderContent = row.content
		}
		batch = append(batch, row)
	}
	return batch, err
}

// seenBetween tells whether a node is to be seen at any restore point from the run from on and before the run until.
func (e *eraser) seenBetween(node, from, until int64) (bool, error) {
	for _, point := range e.points {
		if point < from || point >= until {
			continue
		}
		if seen, err := e.seenAt(node, point); seen || err != nil {
			return seen, err
		}
	}
	return false, nil
}

// seen tells whether a node is to be seen at any restore point.
func (e *eraser) seen(node int64) (bool, error) {
	return e.seenBetween(node, 0, e.points[len(e.points)-1]+1)
}

// seenAt tells whether a node has a name at a restore point that leads to it from the root.
func (e *eraser) seenAt(node, point int64) (bool, error) {
	if node == rootNode {
		return true, nil
	}
	key := [2]int64{node, point}
	if seen, known := e.reach[key]; known {
		return seen, nil
	}
	places, err := e.placesOf(node)
	if err != nil {
		return false, err
	}
	seen := false
	for _, p := range places {
		means, err := e.meaning(p.dir, p.name, point)
		if err == nil && means == node {
			seen, err = e.seenAt(p.dir, point)
		}
		if err != nil {
			return false, err
		}
		if seen {
			break
		}
	}
	e.reach[key] = seen
	return seen, nil
}

// placesOf are all names that a node has or had.
func (e *eraser) placesOf(node int64) (places []erasedPlace, err error) {
	err = e.s.query(`SELECT dir, name FROM entries WHERE node = ?1 UNION SELECT dir, name FROM names WHERE node = ?1
		UNION SELECT parent, name FROM nodes WHERE id = ?1 AND alive AND parent <> 0`, func(row *sqlite.Stmt) error {
		places = append(places, erasedPlace{row.ColumnInt64(0), columnBytes(row, 1)})
		return nil
	}, node)
	return places, err
}

// maxElsewhere is how many files and directories are named that stay elsewhere.
const maxElsewhere = 100

// elsewhere notes the names that nodes still have after theirs were hidden.
func (e *eraser) elsewhere(nodes []int64) error {
	stays := map[int64]bool{}
	for _, node := range nodes {
		seen, err := e.seen(node)
		if err == nil && seen {
			seen, err = e.wasErased(node)
		}
		if err != nil {
			return err
		}
		stays[node] = seen
	}
	found := map[string][]int64{}
	named := 0
	for _, node := range nodes {
		if !stays[node] {
			continue
		}
		if named == maxElsewhere {
			e.erased.More = true
			break
		}
		before := len(found)
		if err := e.namesOf(node, stays, found); err != nil {
			return err
		}
		if len(found) > before {
			named++
		}
	}
	for _, path := range slices.Sorted(maps.Keys(found)) {
		e.erased.Elsewhere = append(e.erased.Elsewhere, ErasedElsewhere{path, found[path]})
	}
	return nil
}

// wasErased tells whether a node had a name at the erased path or below it, at any restore point. What else was in a directory that has another
// place at another time has nothing to do with it.
func (e *eraser) wasErased(node int64) (bool, error) {
	for _, point := range e.erased.Points {
		if was, err := e.wasErasedAt(node, point); was || err != nil {
			return was, err
		}
	}
	return false, nil
}

func (e *eraser) wasErasedAt(node, point int64) (bool, error) {
	if e.tops[point] == node {
		return true, nil
	}
	places, err := e.placesOf(node)
	if err != nil {
		return false, err
	}
	for _, p := range places {
		means, err := e.meaning(p.dir, p.name, point)
		if err == nil && means == node && p.dir != rootNode {
			if was, err := e.wasErasedAt(p.dir, point); was || err != nil {
				return was, err
			}
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// namesOf adds to found the paths of a node at all restore points, but for those in directories that stay too.
func (e *eraser) namesOf(node int64, stays map[int64]bool, found map[string][]int64) error {
	places, err := e.placesOf(node)
	if err != nil {
		return err
	}
	for _, p := range places {
		if stays[p.dir] {
			continue
		}
		for _, point := range e.points {
			means, err := e.meaning(p.dir, p.name, point)
			if err != nil {
				return err
			}
			if means != node {
				continue
			}
			dir, there, err := e.pathAt(p.dir, point)
			if err != nil {
				return err
			}
			if there {
				path := join(dir, p.name)
				found[path] = append(found[path], point)
			}
		}
	}
	return nil
}

// pathAt is where a directory is at a restore point.
func (e *eraser) pathAt(dir, point int64) (path string, there bool, err error) {
	if dir == rootNode {
		return "", true, nil
	}
	places, err := e.placesOf(dir)
	if err != nil {
		return "", false, err
	}
	for _, p := range places {
		means, err := e.meaning(p.dir, p.name, point)
		if err != nil {
			return "", false, err
		}
		if means != dir {
			continue
		}
		if up, there, err := e.pathAt(p.dir, point); err != nil || there {
			return join(up, p.name), there, err
		}
	}
	return "", false, nil
}
