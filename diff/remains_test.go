package diff

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// remembered is a link index of a child: what each name in it means.
type remembered []struct {
	k    Key
	dir  bool
	name Ref
}

func (r remembered) Names(uint64) ([]Ref, error) { return nil, errors.New("not asked for") }

func (r remembered) Each(first, last uint64, yield func(k Key, dir bool, name Ref) error) error {
	for _, n := range r {
		if n.k.Ino < first || n.k.Ino > last {
			continue
		}
		if err := yield(n.k, n.dir, n.name); err != nil {
			return err
		}
	}
	return nil
}

// The child is number 3, and lies in the source's top directory (2): its top (34) holds d (40) with f and g, one inode (50), and the symlink l (60).
const child = 3

func inChild(ino uint64) uint64 { return child<<inoBits | ino }

func ofChild() remembered {
	return remembered{
		{Key{inChild(34), 1}, true, Ref{2, "child"}},
		{Key{inChild(40), 7}, true, Ref{inChild(34), "d"}},
		{Key{inChild(50), 8}, false, Ref{inChild(40), "f"}},
		{Key{inChild(50), 8}, false, Ref{inChild(40), "g"}},
		{Key{inChild(60), 9}, false, Ref{inChild(34), "l"}},
		{Key{(child+1)<<inoBits | 1, 5}, true, Ref{inChild(34), "another child"}},
	}
}

// placeOfChild is where the mirror has it.
func placeOfChild(t *testing.T) string {
	dir := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(dir, "d"), 0o750), os.WriteFile(filepath.Join(dir, "d/f"), []byte("contents"), 0o640),
		os.Link(filepath.Join(dir, "d/f"), filepath.Join(dir, "d/g")), os.Symlink("target", filepath.Join(dir, "l")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func remains(t *testing.T, dir string, links remembered) (*Remains, error) {
	root, err := beneath.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return NewRemains(root, child, links)
}

// TestRemains: of a child whose snapshot is gone the index has the names, the mirror all else.
func TestRemains(t *testing.T) {
	r, err := remains(t, placeOfChild(t), ofChild())
	if err != nil {
		t.Fatal(err)
	}
	if r.Root() != 34 {
		t.Errorf("the top is %d", r.Root())
	}
	for num, want := range map[uint64]struct {
		mode  uint32
		size  int64
		nlink uint32
		gen   uint64
		names []Ref
	}{
		40: {unix.S_IFDIR | 0o750, 0, 1, 7, []Ref{{34, "d"}}},
		50: {unix.S_IFREG | 0o640, 8, 2, 8, []Ref{{40, "f"}, {40, "g"}}},
		60: {unix.S_IFLNK | 0o777, 6, 1, 9, []Ref{{34, "l"}}},
	} {
		i, ok, err := r.Inode(num)
		if err != nil || !ok || i.Mode != want.mode || i.IsRegular() && i.Size != want.size || i.Nlink != want.nlink || i.Gen != want.gen {
			t.Errorf("inode %d is %+v, %v, %v, want %+v", num, i, ok, err, want)
		}
		if names, err := r.Names(num); err != nil || !slices.Equal(names, want.names) {
			t.Errorf("inode %d has the names %v, %v, want %v", num, names, err, want.names)
		}
	}
	for dir, want := range map[uint64]map[string]uint64{34: {"d": 40, "l": 60}, 40: {"f": 50, "g": 50}, 99: {}} {
		have := map[string]uint64{}
		if err := r.Entries(dir, func(e Entry) error { have[e.Name] = e.Ino; return nil }); err != nil || !maps.Equal(have, want) {
			t.Errorf("directory %d holds %v, %v, want %v", dir, have, err, want)
		}
	}
	stop := errors.New("stop")
	if err := r.Entries(34, func(Entry) error { return stop }); err != stop {
		t.Errorf("entries that are not wanted any more: %v", err)
	}
	for path, want := range map[string]uint64{"": 34, "d": 40, "d/g": 50, "l": 60} {
		if ino, err := r.Find(path); err != nil || ino != want {
			t.Errorf("%q is %d, %v, want %d", path, ino, err, want)
		}
	}
	if _, err := r.Find("d/none"); !errors.Is(err, ErrNotNative) {
		t.Errorf("a name that is not there: %v", err)
	}
	if _, ok, err := r.Inode(99); ok || err != nil {
		t.Errorf("an inode that is not there: %v, %v", ok, err)
	}
}

// TestRemainsThatDoNotFit: where index and mirror do not fit together nothing is believed.
func TestRemainsThatDoNotFit(t *testing.T) {
	for what, c := range map[string]struct {
		num    uint64
		change func(dir string) error
		links  func(l remembered) remembered
	}{
		"a file is gone":     {50, func(dir string) error { return os.Remove(filepath.Join(dir, "d/f")) }, nil},
		"a file lost a name": {50, func(dir string) error { return os.Remove(filepath.Join(dir, "d/g")) }, nil},
		"a directory stands for a file": {60, func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "l")), os.Mkdir(filepath.Join(dir, "l"), 0o700))
		}, nil},
		"a file stands for a directory": {40, func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "d")), os.WriteFile(filepath.Join(dir, "d"), nil, 0o600))
		}, nil},
		"what could not be looked at":      {60, nil, func(l remembered) remembered { l[4].k.Gen = 0; return l }},
		"a directory that has no name":     {50, nil, func(l remembered) remembered { return slices.Delete(l, 1, 2) }},
		"directories that hold each other": {50, nil, func(l remembered) remembered { l[1].name.Parent = inChild(40); return l }},
	} {
		dir, links := placeOfChild(t), ofChild()
		if c.change != nil {
			if err := c.change(dir); err != nil {
				t.Fatal(err)
			}
		}
		if c.links != nil {
			links = c.links(links)
		}
		r, err := remains(t, dir, links)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Inode(c.num); !errors.Is(err, ErrNotNative) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, links := range map[string]remembered{"no top": ofChild()[1:], "two tops": append(ofChild(), ofChild()[0])} {
		if _, err := remains(t, placeOfChild(t), links); !errors.Is(err, ErrNotNative) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
