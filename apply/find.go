package apply

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// Found is a path that was there from one restore point to another.
type Found struct {
	Path  string // relative to the source
	Type  uint32 // S_IFMT part of the mode, when it was there last
	From  RestorePoint
	To    RestorePoint // the last that has it
	Still bool         // and that is the newest
}

// FindOptions of Find.
type FindOptions struct {
	// Gone leaves out all paths that the newest restore point has.
	Gone bool
}

// Find hands over all paths that any restore point has and that match a pattern (see MatchGlob): one with a slash is matched with
// the whole path, relative to the source, any other with the last name. What is there now comes first, in the order of a
// walk and with the paths that it had where its directory was before, then what is gone, in no order. A path that was there, then not, then again comes twice. Memory does not grow with the
// tree. All of the mirror's directories are read, but with Gone only those below directories that moved.
func Find(ctx context.Context, store, catalog, pattern string, o FindOptions, yield func(Found) error) error {
	points, err := RestorePoints(store, catalog)
	if err != nil {
		return err
	}
	if len(points) == 0 {
		return ErrNoRestorePoint
	}
	v, err := OpenView(store, catalog, points[len(points)-1].Run)
	if err != nil {
		return err
	}
	defer v.Close()
	f := &finder{View: v, ctx: ctx, points: points, o: o, yield: yield, match: func(path string) bool { return MatchGlob(pattern, path) }}
	f.matchName = f.match
	if i := strings.LastIndexByte(pattern, '/'); i >= 0 {
		f.whole = true
		last := pattern[i+1:]
		f.matchName = func(name string) bool { return strings.ContainsAny(last, `*?[\`) || name == last }
	}
	if o.Gone {
		err = f.belowMoved()
	} else {
		err = f.live(rootNode, []whereabouts{{span{0, forever}, ""}})
	}
	if err != nil {
		return err
	}
	return f.past()
}

// firstPoint is the index of the first restore point that is not before a run.
func firstPoint(points []RestorePoint, run int64) int {
	i, _ := slices.BinarySearchFunc(points, run, func(p RestorePoint, run int64) int { return cmp.Compare(p.Run, run) })
	return i
}

type finder struct {
	*View
	ctx       context.Context
	points    []RestorePoint
	o         FindOptions
	whole     bool // the pattern is for whole paths
	match     func(string) bool
	matchName func(string) bool // tells last names that cannot match
	yield     func(Found) error
}

// found hands over a path that something had during a time, if a restore point shows it and it matches.
func (f *finder) found(w whereabouts, kind uint32) error {
	from, to := firstPoint(f.points, w.from), firstPoint(f.points, w.to)
	if from >= to {
		return nil
	}
	what := w.path
	if !f.whole {
		_, what = split(w.path)
	}
	if !f.match(what) {
		return nil
	}
	still := to == len(f.points)
	if f.o.Gone && !still {
		if _, err := f.Lookup(w.path); err == nil {
			still = true // something else is there now
		} else if !nothing(err) {
			return err
		}
	}
	if f.o.Gone && still {
		return nil
	}
	return f.yield(Found{Path: w.path, Type: kind, From: f.points[from], To: f.points[to-1], Still: still})
}

// live goes through a directory of the newest restore point. where is where it has been.
func (f *finder) live(dir int64, where []whereabouts) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	files, err := f.ReadDir(ViewFile{Type: unix.S_IFDIR, node: dir})
	if err != nil {
		return err
	}
	since, err := f.since(dir)
	if err != nil {
		return err
	}
	for _, file := range files {
		for _, w := range where {
			if !f.matchName(file.Name) {
				break
			}
			if err := f.found(whereabouts{w.and(span{since[file.Name].began(file.Type), forever}), join(w.path, file.Name)}, file.Type); err != nil {
				return err
			}
		}
		if file.Type != unix.S_IFDIR {
			continue
		}
		below, err := f.below(file, where)
		if err == nil {
			err = f.live(file.node, below)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// since tells when names in a directory came to mean something of the type that they mean now. Names that it lacks do so as
// long as the directory is there.
func (f *finder) since(dir int64) (map[string]pastName, error) {
	names := map[string]pastName{}
	err := f.query(`SELECT e.name, e.run, e.node, n.type FROM entries e LEFT JOIN nodes n ON n.id = e.node WHERE e.dir = ? AND e.run <= ? ORDER BY e.run`,
		func(row *sqlite.Stmt) error {
			name := columnBytes(row, 0)
			n := names[name]
			n.add(row.ColumnInt64(1), row.ColumnInt64(2) != 0, uint32(row.ColumnInt64(3)))
			names[name] = n
			return nil
		}, dir, f.run)
	return names, err
}

// began is when what a name means now, something of a type, or what it meant before and was of the same type, came.
func (n pastName) began(kind uint32) int64 {
	if last := len(n.when) - 1; last >= 0 && n.when[last].to == n.runs && n.kind[last] == kind {
		return n.when[last].from
	}
	return n.runs
}

// below tells where a directory has been, from where the one that holds it now has.
func (f *finder) below(dir ViewFile, above []whereabouts) (list []whereabouts, err error) {
	stays, err := f.stays(dir.node)
	if err != nil {
		return nil, err
	}
	for _, s := range stays {
		from := above
		if s.dir != dir.dir {
			if from, err = f.paths(s.dir, s.span); err != nil {
				return nil, err
			}
		}
		for _, w := range from {
			if both := w.and(s.span); !both.empty() {
				list = append(list, whereabouts{both, join(w.path, s.name)})
			}
		}
	}
	return list, nil
}

// belowMoved goes through the directories of the newest restore point that were elsewhere before, for their old paths.
func (f *finder) belowMoved() error {
	var nodes []int64
	err := f.query(`SELECT DISTINCT e.node FROM entries e JOIN nodes n ON n.id = e.node WHERE n.alive AND n.type = 16384`, func(row *sqlite.Stmt) error {
		nodes = append(nodes, row.ColumnInt64(0))
		return nil
	})
	if err != nil {
		return err
	}
	type moved struct {
		node  int64
		now   string
		where []whereabouts
	}
	var list []moved
	for _, node := range nodes {
		where, err := f.paths(node, span{0, forever})
		if err != nil {
			return err
		}
		for _, w := range where {
			if w.has(f.run) {
				list = append(list, moved{node, w.path, where})
			}
		}
	}
	slices.SortFunc(list, func(a, b moved) int { return comparePaths(a.now, b.now) })
	last := ""
	for _, m := range list {
		if last != "" && isBelow(m.now, last) {
			continue // it is met on the way
		}
		last = m.now
		if err := f.live(m.node, m.where); err != nil {
			return err
		}
	}
	return nil
}

// pastName is a name in a directory and the times that it meant something of one type, oldest first.
type pastName struct {
	dir  int64
	name string
	runs int64 // run of its last row
	when []span
	kind []uint32 // S_IFMT part of the mode at these times
}

// past goes through all names that ever changed their meaning, some thousand rows at a time.
func (f *finder) past() error {
	const batch = 5000
	var at pastName
	last := int64(0) // run of the row that was read last
	for {
		var done []pastName
		count := 0
		read := func(row *sqlite.Stmt) error {
			count++
			dir, name := row.ColumnInt64(0), columnBytes(row, 1)
			if dir != at.dir || name != at.name {
				if len(at.when) > 0 {
					done = append(done, at)
				}
				at = pastName{dir: dir, name: name}
			}
			last = row.ColumnInt64(2)
			at.add(last, row.ColumnInt64(3) != 0 && f.matchName(name), uint32(row.ColumnInt64(4)))
			return nil
		}
		err := f.query(`SELECT e.dir, e.name, e.run, e.node, n.type FROM entries e LEFT JOIN nodes n ON n.id = e.node
			WHERE (e.dir, e.name, e.run) > (?, ?, ?) AND e.run <= ? ORDER BY e.dir, e.name, e.run LIMIT ?`, read, at.dir, []byte(at.name), last, f.run, batch)
		if err != nil {
			return err
		}
		if count < batch && len(at.when) > 0 {
			done = append(done, at)
		}
		for _, n := range done {
			if err := f.pastName(n); err != nil {
				return err
			}
		}
		if count < batch {
			return f.ctx.Err()
		}
	}
}

// add takes in the next row of a name: what it meant before run.
func (n *pastName) add(run int64, something bool, kind uint32) {
	if something {
		if last := len(n.when) - 1; last >= 0 && n.when[last].to == n.runs && n.kind[last] == kind {
			n.when[last].to = run
		} else {
			n.when, n.kind = append(n.when, span{n.runs, run}), append(n.kind, kind)
		}
	}
	n.runs = run
}

// pastName hands over where a name was. The last time that it was there is not over if it is there now, and of the same type.
func (f *finder) pastName(n pastName) error {
	if err := f.ctx.Err(); err != nil {
		return err
	}
	for i, s := range n.when {
		if s.to == n.runs {
			now, err := f.Child(ViewFile{Type: unix.S_IFDIR, node: n.dir}, n.name)
			if err == nil && now.Type == n.kind[i] {
				continue
			}
			if err != nil && !nothing(err) {
				return err
			}
		}
		where, err := f.paths(n.dir, s)
		if err != nil {
			return err
		}
		for _, w := range where {
			if err := f.found(whereabouts{w.span, join(w.path, n.name)}, n.kind[i]); err != nil {
				return err
			}
		}
	}
	return nil
}
