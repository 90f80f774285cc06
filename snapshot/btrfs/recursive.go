package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"snapdiff/snapshot"
)

// Follow tells whether a nested subvolume is to be taken too. path is its place below the source.
type Follow func(path string, info SubvolInfo) bool

// CreateAll takes a snapshot as Create does, and then one of each nested subvolume that follow wants, and of those that are nested in these,
// one right after the other: btrfs cannot take several at once. Those of the nested ones are dir/name.ID, by the numbers of their trees. The
// children in the mark have no numbers yet.
//
// longest is the longest path that a nested subvolume may have, in bytes: one that lies deeper is not taken.
func CreateAll(source, dir, name string, longest int, follow Follow) (snapshot.Mark, error) {
	src, err := openDir(source)
	if err != nil {
		return snapshot.Mark{}, err
	}
	defer src.Close()
	if err := ioctl(int(src.Fd()), iocSync, nil); err != nil { // as in Create; once is enough, each snapshot is a commit too
		return snapshot.Mark{}, explain("sync filesystem of", source, err)
	}
	t := &taking{source: source, dir: dir, name: name, longest: longest, follow: follow, taken: map[uint64]bool{}}
	mark, err := t.take(src, source, "", name)
	if err != nil {
		for _, name := range t.made {
			err = errors.Join(err, Destroy(dir, name))
		}
		return snapshot.Mark{}, err
	}
	mark.Recursive, mark.Children = true, t.children
	return mark, nil
}

// taking is CreateAll at work.
type taking struct {
	source, dir, name string
	longest           int
	follow            Follow
	made              []string        // names of snapshots, in dir
	taken             map[uint64]bool // by the numbers of their trees
	children          []snapshot.Child
}

// take takes snapshots of the subvolume open as src and of what is nested in it.
func (t *taking) take(src *os.File, shown, path, name string) (snapshot.Mark, error) {
	mark, nested, err := t.takeOne(src, shown, name)
	if err != nil {
		return mark, err
	}
	snap, err := openDir(mark.Path)
	if err != nil {
		return mark, err
	}
	defer snap.Close()
	for _, n := range nested {
		place, ok, err := n.PlaceIn(int(snap.Fd()), t.longest)
		if err == nil && ok {
			if path != "" {
				place = path + "/" + place
			}
			err = t.takeNested(src, n, place)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // deleted in this moment: the snapshot shows its empty directory
			return mark, err
		}
	}
	return mark, nil
}

// takeOne takes one snapshot and tells which subvolumes were nested there. It takes another one when they came or went meanwhile.
func (t *taking) takeOne(src *os.File, shown, name string) (mark snapshot.Mark, nested []Nested, err error) {
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
		if mark, err = createFrom(src, shown, t.dir, name); err != nil {
			return mark, nil, err
		}
		t.made = append(t.made, name)
		after, err := NestedIn(int(src.Fd()), info.ID)
		if err != nil || slices.Equal(before, after) || try == tries {
			return mark, after, err
		}
		if err := Destroy(t.dir, name); err != nil {
			return mark, nil, err
		}
		t.made = t.made[:len(t.made)-1]
	}
}

// takeNested takes one that is nested at path. One that was moved meanwhile may be in two snapshots: then it is where it was seen first.
func (t *taking) takeNested(src *os.File, n Nested, path string) error {
	if len(path) > t.longest || t.taken[n.ID] {
		return nil
	}
	from, err := OpenByID(int(src.Fd()), n.ID)
	if err != nil {
		return err
	}
	defer from.Close()
	shown := filepath.Join(t.source, path)
	info, err := infoOf(int(from.Fd()), shown)
	if err != nil || !t.follow(path, info) {
		return err
	}
	t.taken[n.ID] = true
	mark, err := t.take(from, shown, path, fmt.Sprintf("%s.%d", t.name, n.ID))
	if err == nil {
		t.children = append(t.children, snapshot.Child{Dir: []byte(path), Mark: mark})
	}
	return err
}
