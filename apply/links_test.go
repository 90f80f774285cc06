package apply_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/diff/btrfsfeed"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// emptySubvolume is the number that every placeholder of a nested subvolume shows; its names are no inode's.
const emptySubvolume = 2

// judgeLinks compares the link index with a walk of the snapshot that the mirror equals.
func judgeLinks(t testing.TB, store *apply.Store, snap string) {
	t.Helper()
	root, err := beneath.Open(snap)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	want := map[uint64][]string{}
	var walk func(dir string, num uint64) error
	walk = func(dir string, num uint64) error {
		return root.ReadDir(dir, func(name string, dtype uint8, _ uint64) error {
			path := strings.TrimPrefix(dir+"/"+name, "/")
			st, err := root.Lstat(path)
			if err != nil || path == ".snapdiff" || st.Ino == emptySubvolume {
				return err
			}
			want[st.Ino] = append(want[st.Ino], fmt.Sprintf("%d/%q", num, name))
			if dtype == unix.DT_DIR {
				return walk(path, st.Ino)
			}
			return nil
		})
	}
	top, err := root.Lstat("")
	if err == nil {
		err = walk("", top.Ino)
	}
	if err != nil {
		t.Fatal(err)
	}
	links := store.Links()
	defer links.Close()
	for _, num := range append(slices.Collect(maps.Keys(want)), top.Ino, 999_999_999) {
		refs, err := links.Names(num)
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, r := range refs {
			have = append(have, fmt.Sprintf("%d/%q", r.Parent, r.Name))
		}
		slices.Sort(have)
		slices.Sort(want[num])
		if !slices.Equal(have, want[num]) {
			t.Errorf("link index: inode %d has the names %v, want %v", num, have, want[num])
		}
	}
}

// judgeLinks judges the index of the keeper's store.
func (k *keeper) judgeLinks(next snapshot.Mark) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	judgeLinks(k, store, next.Path)
}

// compareInFull makes a run of the keeper by a full comparison.
func (k *keeper) compareInFull(next snapshot.Mark, links bool) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	to := k.open(next)
	defer to.Close()
	set, rekey, err := diff.Full(context.Background(), store.Mirror(), to, btrfsfeed.Keys(to), diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	k.must(err)
	_, err = store.Apply(context.Background(), apply.Run{
		Changes: set, Rekey: rekey, Base: store.Mirror(), Next: to, Mark: next, How: "full", Reason: "test", Links: links,
	}, apply.Options{})
	k.must(err)
	k.base = next
	Judge(k, next.Path, filepath.Join(k.store, "tree"))
}

// TestLinksAfterFullComparison: a full comparison makes the index anew, also where there was none; one that does not need
// it leaves none behind that nobody would keep.
func TestLinksAfterFullComparison(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 6))
	k := newKeeper(t, XFS)
	k.randomChanges(r, 300)
	k.run(never)
	for _, links := range []bool{true, false, true} {
		k.randomChanges(r, 200)
		k.compareInFull(k.take(), links)
		store, err := apply.Open(k.store)
		k.must(err)
		if links {
			judgeLinks(t, store, k.base.Path)
		} else if _, err := store.Links().Names(257); !errors.Is(err, diff.ErrNotNative) {
			t.Errorf("no index is wanted, and asking it gives %v", err)
		}
		store.Close()
	}
	k.randomChanges(r, 200)
	k.run(never)
}

// randomChanges does some of so many random changes.
func (k *keeper) randomChanges(r *rand.Rand, count int) {
	for range count {
		RandomChange(r).Apply(k.source)
	}
}

// TestLinksOfWhatCannotBeCopied: the index has the names in the source, whatever the mirror holds.
func TestLinksOfWhatCannotBeCopied(t *testing.T) {
	k := newKeeper(t, Ext4)
	big := string(make([]byte, 10000)) // more than an inode of ext4 holds
	Apply(t, k.source, Create("a", 9, 1), Link("a", "b"), SetXattr("a", "user.big", big), Create("c", 9, 1), SetXattr("c", "user.big", big), Create("d", 9, 1))
	run := func(change func(*apply.Store)) {
		next := k.take()
		_, err := k.attempt(next, nil)
		k.must(err)
		k.base = next
		store, err := apply.Open(k.store)
		k.must(err)
		defer store.Close()
		judgeLinks(t, store, next.Path)
		change(store)
	}
	run(func(store *apply.Store) {
		if bad, err := store.Pending(); err != nil || len(bad) == 0 {
			t.Errorf("all was copied: %v", err)
		}
		for _, name := range []string{"a", "b", "c"} { // as if they had never come
			if err := os.Remove(filepath.Join(k.store, "tree", name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	Apply(t, k.source, Remove("b"), Rename("c", "e"), Remove("d"))
	run(func(*apply.Store) {})
}

// A file that never changed and is missing from the mirror is named where there is a link index, by verify without the source and by doctor.
func TestMissingFilesAreNamed(t *testing.T) {
	k := newKeeper(t, Ext4)
	Apply(t, k.source, Mkdir("d"), Create("d/stays", 10, 1), Create("d/lost \xff", 10, 2), Create("lost too", 10, 3), Create("changes", 10, 4))
	k.run(never)
	k.compareInFull(k.take(), true)
	Apply(t, k.source, Append("changes", 5, 5), Create("d/new", 10, 6))
	k.run(never)
	for _, path := range []string{"d/lost \xff", "lost too", "changes", "d/new"} {
		k.must(os.Remove(filepath.Join(k.store, "tree", path)))
	}
	want := []string{`the catalog counts 5 names of files, the mirror has 1`, `"changes" of node`, `"d/lost \xff" is not in the mirror`, `"d/new" is not in the mirror`, `"lost too" is not in the mirror`}
	store, err := apply.Open(k.store)
	k.must(err)
	found, err := store.VerifyMirror(t.Context(), nil, nil)
	k.must(errors.Join(err, store.Close()))
	slices.Sort(found.Altered)
	if len(found.Altered) != len(want) {
		t.Errorf("verify: %q", found.Altered)
	}
	trouble, err := apply.Examine(t.Context(), k.store, apply.DoctorOptions{})
	k.must(err)
	for _, text := range want {
		if !slices.ContainsFunc(found.Altered, func(a string) bool { return strings.Contains(a, text) }) {
			t.Errorf("verify does not say %q but %q", text, found.Altered)
		}
		if len(trouble) != 1 || !strings.Contains(trouble[0].Text, text) {
			t.Errorf("doctor does not say %q but %+v", text, trouble)
		}
	}
}
