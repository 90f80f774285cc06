package apply

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/snapshot/beneath"
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
	var places []erasedPlace
	err := e.s.query(`SELECT dir, name FROM entries WHERE node = ?1 UNION SELECT dir, name FROM names WHERE node = ?1
		UNION SELECT parent, name FROM nodes WHERE id = ?1 AND alive AND parent <> 0`, func(row *sqlite.Stmt) error {
		places = append(places, erasedPlace{row.ColumnInt64(0), columnBytes(row, 1)})
		return nil
	}, node)
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

// eraseManifests takes the path and all below it out of the manifests.
func (e *eraser) eraseManifests(path string) error {
	var runs []string
	err := e.s.history_.ReadDir("", func(name string, _ uint8, _ uint64) error { runs = append(runs, name); return nil })
	for _, run := range runs {
		if err != nil {
			return err
		}
		err = e.eraseManifest(run+"/"+manifestName, appendEscaped(nil, path))
	}
	return err
}

func (e *eraser) eraseManifest(name string, path []byte) error {
	fd, err := e.s.history_.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW, 0)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	in := os.NewFile(uintptr(fd), name)
	defer in.Close()
	if err := e.at("manifest"); err != nil {
		return err
	}
	fd, err = e.s.history_.Open(name+".new", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	err = filterManifest(in, out, path)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	return beneath.Rename(e.s.history_, name+".new", e.s.history_, name, 0)
}

// filterManifest leaves out paths, and lines whose only paths they are.
func filterManifest(in io.Reader, out io.Writer, path []byte) error {
	r, w := bufio.NewReaderSize(in, 256<<10), bufio.NewWriterSize(out, 256<<10)
	under := append(slices.Clone(path), '/')
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			return w.Flush()
		}
		if err != nil {
			return err
		}
		fields := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
		first := map[string]int{"-": 3, "+": 3, "=": 11}[fields[0]] // where the paths begin
		if first == 0 || len(fields) <= first {
			w.Write(line)
			continue
		}
		left := slices.DeleteFunc(slices.Clone(fields[first:]), func(p string) bool {
			return p == string(path) || bytes.HasPrefix([]byte(p), under)
		})
		if len(left) > 0 {
			fmt.Fprintln(w, strings.Join(append(fields[:first:first], left...), " "))
		}
	}
}
