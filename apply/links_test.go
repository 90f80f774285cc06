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

// eachInode hands over all names of a snapshot but those of nested subvolumes, with the numbers of their directories.
func eachInode(t testing.TB, snap string, yield func(dir uint64, name string, st unix.Stat_t)) (top uint64) {
	t.Helper()
	root, err := beneath.Open(snap)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var walk func(dir string, num uint64) error
	walk = func(dir string, num uint64) error {
		return root.ReadDir(dir, func(name string, dtype uint8, _ uint64) error {
			path := strings.TrimPrefix(dir+"/"+name, "/")
			st, err := root.Lstat(path)
			if err != nil || path == ".snapdiff" || st.Ino == emptySubvolume {
				return err
			}
			yield(num, name, st)
			if dtype == unix.DT_DIR {
				return walk(path, st.Ino)
			}
			return nil
		})
	}
	st, err := root.Lstat("")
	if err == nil {
		err = walk("", st.Ino)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// judgeLinks compares the link index with a walk of the snapshot that the mirror equals.
func judgeLinks(t testing.TB, store *apply.Store, snap string) {
	t.Helper()
	want := map[uint64][]string{}
	top := eachInode(t, snap, func(dir uint64, name string, st unix.Stat_t) {
		want[st.Ino] = append(want[st.Ino], fmt.Sprintf("%d/%q", dir, name))
	})
	links := store.Links()
	defer links.Close()
	for _, num := range append(slices.Collect(maps.Keys(want)), top, 999_999_999) {
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

// judgeSignatures judges those of the index after a first copy, or a run that followed one: what is new has the one that its stat gives, and what is not
// there has none. (Of the rest some may be older: a change that is none for the mirror.)
func (k *keeper) judgeSignatures(next snapshot.Mark) {
	k.Helper()
	store, err := apply.Open(k.store)
	k.must(err)
	defer store.Close()
	links := store.Links()
	defer links.Close()
	if signed, err := store.Meta("links"); err != nil || signed != "1" {
		return // a full comparison has made the index anew, without
	}
	former := map[uint64]bool{}
	if k.base.ID != "" {
		eachInode(k, k.base.Path, func(_ uint64, _ string, st unix.Stat_t) { former[st.Ino] = true })
	}
	want, last := map[uint64]unix.Stat_t{}, uint64(0)
	top := eachInode(k, next.Path, func(_ uint64, _ string, st unix.Stat_t) { want[st.Ino], last = st, max(last, st.Ino) })
	nums := make([]uint64, last+1000)
	for i := range nums {
		nums[i] = uint64(i)
	}
	sigs, err := links.Signatures(nums)
	k.must(err)
	for num, sig := range sigs {
		st, there := want[uint64(num)]
		gen, err := links.Generation(uint64(num))
		k.must(err)
		switch {
		case !there && sig != 0 && uint64(num) != top:
			k.Errorf("inode %d, which is not there, has the signature %x", num, sig)
		case there && !former[st.Ino] && sig != diff.Signature(&st, gen):
			k.Errorf("inode %d has the signature %x, want %x", num, sig, diff.Signature(&st, gen))
		}
	}
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
