package apply

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// Existed is the kind of a log entry about what the oldest restore point has already.
const Existed ChangeKind = '='

// LogEntry is what happened to a file or directory from one restore point to the next.
type LogEntry struct {
	Point RestorePoint // the first that shows it
	Change
	Mtime time.Time // of what is there now; zero where it was removed
}

// Log gives the history of all that ever was at a path, relative to the source, oldest first: when it came, what of it changed, where it
// moved, when it went. What was there is followed through its names before and after. Of a directory its own changes count, not
// what came and went in it. The error wraps ErrNowhere when no restore point has anything there.
func Log(store, catalog, path string) ([]LogEntry, error) {
	points, err := RestorePoints(store, catalog)
	if err != nil {
		return nil, err
	}
	if len(points) == 0 {
		return nil, ErrNoRestorePoint
	}
	v, err := OpenView(store, catalog, points[len(points)-1].Run)
	if err != nil {
		return nil, err
	}
	defer v.Close()
	var l *pathLog
	err = v.settled(func(e epoch) error {
		l = &pathLog{View: v, epoch: e, points: points, path: path}
		return v.steadily(l.read)
	})
	if err != nil {
		return nil, fmt.Errorf("the history of %q: %w", path, err)
	}
	return l.entries, nil
}

// pathLog collects the history of a path. It sets the run of its view to look at one restore point after the other.
type pathLog struct {
	*View
	epoch   epoch
	points  []RestorePoint
	path    string
	entries []LogEntry
}

// occupant is what was at a path during a time.
type occupant struct {
	span
	file  ViewFile
	named span // how long the name meant it in its directory, wherever that was
}

func (l *pathLog) read() error {
	l.run = l.points[len(l.points)-1].Run
	found, err := l.occupants()
	if err != nil {
		return err
	}
	done := map[ViewFile]bool{}
	for _, o := range found {
		if i := l.from(o.from); i == len(l.points) || l.points[i].Run >= o.to {
			continue // it came and went between two restore points
		}
		f := ViewFile{Type: o.file.Type, node: o.file.node}
		if f.node == 0 { // it never changed: its name in its directory says which it is
			f = o.file
		}
		if done[f] {
			continue
		}
		done[f] = true
		if err := l.follow(f, o.named); err != nil {
			return err
		}
	}
	if len(l.entries) == 0 {
		return ErrNowhere
	}
	slices.SortStableFunc(l.entries, func(a, b LogEntry) int {
		if a.Point.Run != b.Point.Run {
			return cmp.Compare(a.Point.Run, b.Point.Run)
		}
		return cmp.Compare(rank(a.Kind), rank(b.Kind))
	})
	l.joinReplaced()
	return nil
}

// rank orders what happened between the same two restore points: what went comes first.
func rank(k ChangeKind) int {
	if k == Removed {
		return 0
	}
	return 1
}

// occupants finds what was at the path, at any time.
func (l *pathLog) occupants() ([]occupant, error) {
	at := []occupant{{span{0, forever}, l.Root(), span{0, forever}}}
	if l.path == "" {
		return at, nil
	}
	for name := range strings.SplitSeq(l.path, "/") {
		var next []occupant
		for _, dir := range at {
			if dir.file.Type != unix.S_IFDIR {
				continue
			}
			meant, err := l.meanings(l.epoch, dir.file.node, name)
			if err != nil {
				return nil, err
			}
			for _, m := range meant {
				if s := m.and(dir.span); (m.node != 0 || m.live) && !s.empty() {
					next = append(next, occupant{s, ViewFile{Name: name, Type: m.kind, dir: dir.file.node, node: m.node, seen: l.epoch.version}, m.span})
				}
			}
		}
		at = next
	}
	return at, nil
}

// from is the index of the first restore point that is not before a run.
func (l *pathLog) from(run int64) int { return firstPoint(l.points, run) }

func (l *pathLog) add(point int, c Change, a diff.Attr) {
	if point == 0 && c.Kind == Added {
		c.Kind = Existed
	}
	e := LogEntry{Point: l.points[point], Change: c}
	if c.Kind != Removed {
		e.Mtime = time.Unix(a.MtimeSec, int64(a.MtimeNsec))
	}
	l.entries = append(l.entries, e)
}

// nodeState is what something was at one restore point.
type nodeState struct {
	paths  []string // sorted; none: it was not there
	attr   diff.Attr
	xattrs string
}

// follow adds the history of a file or directory: it is looked at where it may have changed. named is when its directory had the
// name, if it has no node.
func (l *pathLog) follow(f ViewFile, named span) error {
	where, err := l.whereabouts(f, named)
	if err != nil {
		return err
	}
	look := map[int]bool{0: true}
	for _, w := range where {
		look[l.from(w.from)], look[l.from(w.to)] = true, true
	}
	err = l.query(`SELECT run FROM versions WHERE node = ?`, func(row *sqlite.Stmt) error {
		look[l.from(row.ColumnInt64(0))] = true
		return nil
	}, f.node)
	if err != nil {
		return err
	}
	var was nodeState
	before := int64(0)
	for i := range l.points {
		if !look[i] {
			continue
		}
		l.run = l.points[i].Run
		is, err := l.state(f, where)
		if err != nil {
			return err
		}
		if err := l.event(i, f, before, was, is); err != nil {
			return err
		}
		was, before = is, l.run
	}
	return nil
}

// whereabouts gives all paths that something had.
func (l *pathLog) whereabouts(f ViewFile, named span) ([]whereabouts, error) {
	if f.node != 0 {
		return l.paths(f.node, span{0, forever})
	}
	list, err := l.paths(f.dir, named)
	for i := range list {
		list[i].path = join(list[i].path, f.Name)
	}
	return list, err
}

// state looks at something at the restore point of the view.
func (l *pathLog) state(f ViewFile, where []whereabouts) (s nodeState, err error) {
	for _, w := range where {
		if w.has(l.run) {
			s.paths = append(s.paths, w.path)
		}
	}
	if len(s.paths) == 0 {
		return s, nil
	}
	slices.Sort(s.paths)
	attr, xattrs, err := l.attributes(l.epoch, f)
	s.attr, s.xattrs = attr, string(xattrs)
	return s, err
}

// event adds what happened between two looks.
func (l *pathLog) event(point int, file ViewFile, before int64, was, is nodeState) error {
	c := Change{Type: file.Type, Size: is.attr.Size, OldSize: was.attr.Size}
	switch {
	case len(was.paths) == 0 && len(is.paths) == 0:
		return nil
	case len(was.paths) == 0:
		c.Kind, c.Path = Added, l.one(is.paths)
		l.add(point, c, is.attr)
		return nil
	case len(is.paths) == 0:
		c.Kind, c.Path = Removed, l.one(was.paths)
		l.add(point, c, is.attr)
		return nil
	}
	f := facts{kind: file.Type, was: was.attr, is: is.attr, old: without(was.paths, is.paths), new: without(is.paths, was.paths)}
	for range len(is.paths) - len(f.new) {
		f.kept = append(f.kept, [2]string{})
	}
	err := l.query(`SELECT 1 FROM versions WHERE node = ? AND run > ? AND run <= ? AND content <> 0 LIMIT 1`, func(*sqlite.Stmt) error {
		f.why |= ReasonData
		return nil
	}, file.node, before, l.run)
	if err != nil {
		return err
	}
	if was.xattrs != is.xattrs {
		f.why |= ReasonXattrs
	}
	if file.Type == unix.S_IFDIR {
		f.why |= ReasonNames // its mtime says no more than that
	}
	c.Why = f.reasons() &^ ReasonNames
	switch {
	case len(f.old) > 0 && len(f.new) > 0:
		c.Kind, c.Path, c.OldPath = Renamed, l.one(f.new), l.one(f.old)
	case c.Why != 0:
		c.Kind, c.Path = Modified, l.one(is.paths)
	default:
		return nil
	}
	l.add(point, c, is.attr)
	return nil
}

// one chooses the path to show of several: that which was asked for, if it is among them.
func (l *pathLog) one(paths []string) string {
	if slices.Contains(paths, l.path) {
		return l.path
	}
	return paths[0]
}

// without gives what is in a and not in b.
func without(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

// joinReplaced makes one entry of a file that went and another that took its place.
func (l *pathLog) joinReplaced() {
	var out []LogEntry
	for _, e := range l.entries {
		last := len(out) - 1
		if e.Kind == Added && last >= 0 && out[last].Kind == Removed && out[last].Point.Run == e.Point.Run && out[last].Path == e.Path && out[last].Type == e.Type {
			p := changedPath{gone: &out[last].Change, now: &e.Change}
			e.Change = replacement(p)
			out[last] = e
			continue
		}
		out = append(out, e)
	}
	l.entries = out
}
