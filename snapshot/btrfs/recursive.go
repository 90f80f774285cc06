package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"snapdiff/snapshot"
)

// Follow tells which nested subvolumes are to be taken too.
type Follow struct {
	// Path tells whether one may be wanted that is at this place below the source. Not of all of them more is looked at: our own snapshots
	// may be nested too, and are as many again.
	Path func(path string) bool
	// Subvolume tells it of one that Path wants.
	Subvolume func(info SubvolInfo) bool
	// Longest is the longest path that one may have, in bytes: one that lies deeper is not taken.
	Longest int
}

// lanes is how many snapshots are taken at once. The kernel commits a transaction for each, while it keeps the directory locked in which
// the snapshot appears; what is taken in other directories meanwhile goes into one transaction together. So each lane has a
// directory of its own, laneDir and its number, in the place for snapshots.
const (
	lanes   = 16
	laneDir = Prefix + "nested-"
)

// Places are the directories in which snapshots may be that were taken in dir: itself and those of its lanes.
func Places(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	all := []string{dir}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), laneDir) && e.IsDir() {
			all = append(all, filepath.Join(dir, e.Name()))
		}
	}
	return all, nil
}

// IsLane tells whether a directory is that of a lane: snapshots of nested subvolumes are taken there, and nothing else.
func IsLane(path string) bool { return strings.HasPrefix(filepath.Base(path), laneDir) }

// CreateAll takes a snapshot as Create does, and then of the nested subvolumes that follow wants, and of those that are nested in these: one
// depth after the other, many at once. Those of the nested ones are name.ID, by the numbers of their trees, in one of Places. The
// children in the mark have no numbers yet.
func CreateAll(source, dir, name string, follow Follow) (snapshot.Mark, error) {
	src, err := openDir(source)
	if err != nil {
		return snapshot.Mark{}, err
	}
	defer src.Close()
	if err := ioctl(int(src.Fd()), iocSync, nil); err != nil { // as in Create; once is enough, each snapshot is a commit too
		return snapshot.Mark{}, explain("sync filesystem of", source, err)
	}
	t := &taking{source: source, dir: dir, name: name, follow: follow, taken: map[uint64]bool{}}
	mark, err := t.all(src)
	if err != nil {
		for _, path := range t.made {
			err = errors.Join(err, Destroy(filepath.Dir(path), filepath.Base(path)))
		}
		return snapshot.Mark{}, err
	}
	mark.Recursive, mark.Children = true, t.children
	return mark, nil
}

// taking is CreateAll at work.
type taking struct {
	source, dir, name string
	follow            Follow
	taken             map[uint64]bool // by the numbers of their trees

	mu       sync.Mutex // for what is below
	made     []string   // paths of snapshots
	children []snapshot.Child
}

// spot is a nested subvolume at its place.
type spot struct {
	id   uint64
	path string
}

// all takes all snapshots.
func (t *taking) all(src *os.File) (snapshot.Mark, error) {
	mark, next, err := t.take(src, t.source, "", t.dir, t.name)
	if err != nil {
		return mark, err
	}
	for len(next) > 0 {
		if err := t.prepare(min(len(next), lanes)); err != nil {
			return mark, err
		}
		if next, err = t.depth(int(src.Fd()), next); err != nil {
			return mark, err
		}
	}
	return mark, nil
}

// prepare makes the directories of so many lanes.
func (t *taking) prepare(n int) error {
	for lane := range n {
		if err := os.Mkdir(t.lane(lane), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make the place for snapshots: %w", err)
		}
	}
	return nil
}

func (t *taking) lane(n int) string { return filepath.Join(t.dir, laneDir+strconv.Itoa(n)) }

// depth takes all that are nested equally deep and gives what is nested in these. One that was moved meanwhile may be in two snapshots:
// then it is where it was seen first.
func (t *taking) depth(fd int, list []spot) (next []spot, err error) {
	list = slices.DeleteFunc(list, func(s spot) bool {
		seen := t.taken[s.id]
		t.taken[s.id] = true
		return seen
	})
	free := make(chan int, lanes)
	for lane := range lanes {
		free <- lane
	}
	found := make([][]spot, len(list))
	var group errgroup.Group
	group.SetLimit(lanes)
	for i, s := range list {
		group.Go(func() (err error) {
			lane := <-free
			found[i], err = t.nested(fd, s, t.lane(lane))
			free <- lane
			return err
		})
	}
	err = group.Wait()
	return slices.Concat(found...), err
}

// nested takes one that is nested, if it is wanted.
func (t *taking) nested(fd int, s spot, dir string) (inside []spot, err error) {
	src, err := OpenByID(fd, s.id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // deleted in this moment: the snapshot around it shows its empty directory
	}
	if err != nil {
		return nil, err
	}
	defer src.Close()
	shown := filepath.Join(t.source, s.path)
	info, err := infoOf(int(src.Fd()), shown)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // as above
	}
	if err != nil || !t.follow.Subvolume(info) {
		return nil, err
	}
	mark, inside, err := t.take(src, shown, s.path, dir, fmt.Sprintf("%s.%d", t.name, s.id))
	if errors.Is(err, fs.ErrNotExist) {
		if _, gone := infoByID(fd, s.id, shown); errors.Is(gone, fs.ErrNotExist) {
			return nil, nil // as above
		}
	}
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.children = append(t.children, snapshot.Child{Dir: []byte(s.path), Mark: mark})
	return inside, nil
}

// take takes one snapshot and tells what is nested in it. It takes another one when subvolumes came or went there meanwhile. shown is how messages
// call the subvolume, path its place below the source.
func (t *taking) take(src *os.File, shown, path, dir, name string) (mark snapshot.Mark, inside []spot, err error) {
	info, err := infoOf(int(src.Fd()), shown)
	if err != nil {
		return mark, nil, err
	}
	const tries = 5
	for try := 1; ; try++ {
		before, err := NestedIn(int(src.Fd()), info.ID)
		if err != nil {
			return mark, nil, err
		}
		if mark, err = createFrom(src, shown, dir, name); err != nil {
			return mark, nil, err
		}
		t.note(mark.Path)
		after, err := NestedIn(int(src.Fd()), info.ID)
		if err != nil {
			return mark, nil, err
		}
		if slices.Equal(notOurs(before), notOurs(after)) || try == tries {
			inside, err := t.places(mark.Path, path, after)
			return mark, inside, err
		}
		if err := Destroy(dir, name); err != nil {
			return mark, nil, err
		}
		t.forget(mark.Path)
	}
}

// notOurs leaves out what may be a snapshot of ours: those come and go in the source while we take them.
func notOurs(all []Nested) []Nested {
	return slices.DeleteFunc(slices.Clone(all), func(n Nested) bool { return strings.HasPrefix(n.Name, Prefix) })
}

func (t *taking) note(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = append(t.made, path)
}

func (t *taking) forget(path string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = slices.DeleteFunc(t.made, func(p string) bool { return p == path })
}

// places finds out where in a snapshot those are that are nested in it and may be wanted. path is that of the snapshot's subvolume.
func (t *taking) places(snap, path string, nested []Nested) (list []spot, err error) {
	if len(nested) == 0 {
		return nil, nil
	}
	f, err := openDir(snap)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	find := newFinder(int(f.Fd()), t.follow.Longest)
	for _, n := range nested {
		dir, ok, err := find.dir(n.Dir)
		if err != nil {
			return nil, err
		}
		place := joinPaths(path, dir, n.Name)
		if !ok || len(place) > t.follow.Longest || !t.follow.Path(place) {
			continue
		}
		if ok, err = find.has(n); err != nil {
			return nil, err
		} else if ok {
			list = append(list, spot{n.ID, place})
		}
	}
	return list, nil
}

// Inner gives the paths, below it, of the subvolumes that lie in the one at source, and of those that are not in these.
func Inner(source string, follow Follow) (paths []string, err error) {
	f, err := openDir(source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := infoOf(int(f.Fd()), source)
	if err != nil {
		return nil, err
	}
	all, err := NestedIn(int(f.Fd()), info.ID)
	if err != nil {
		return nil, err
	}
	spots, err := (&taking{follow: follow}).places(source, "", notOurs(all))
	if err != nil {
		return nil, err
	}
	for _, s := range spots {
		info, err := infoByID(int(f.Fd()), s.id, s.path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil || follow.Subvolume(info) { // one that cannot be looked at is there all the same
			paths = append(paths, s.path)
		}
	}
	return paths, nil
}

// joinPaths joins what is not empty by slashes.
func joinPaths(elements ...string) string {
	return strings.Join(slices.DeleteFunc(elements, func(s string) bool { return s == "" }), "/")
}
