package btrfsfeed

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// mirrorOf makes a plain copy of a snapshot: what a mirror is. Placeholders of nested subvolumes get the attributes that mirrors have.
func mirrorOf(t *testing.T, snapshot, mirror string) {
	t.Helper()
	for _, args := range [][]string{{"cp", "-a", "--reflink=always", snapshot + "/.", mirror}, {"rm", "-rf", mirror + "/.snapdiff"}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	must(t, filepath.WalkDir(snapshot, func(path string, d os.DirEntry, err error) error {
		must(t, err)
		if path == snapshot+"/.snapdiff" {
			return fs.SkipDir
		}
		var st unix.Stat_t
		must(t, unix.Lstat(path, &st))
		if d.IsDir() && st.Ino == emptySubvolume {
			path = mirror + strings.TrimPrefix(path, snapshot)
			must(t, os.Chmod(path, os.FileMode(diff.PlaceholderAttr.Mode&0o777)))
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, path, make([]unix.Timespec, 2), 0))
		}
		return nil
	}))
	var st unix.Stat_t
	must(t, unix.Stat(snapshot, &st))
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, mirror, []unix.Timespec{st.Mtim, st.Mtim}, 0))
}

// TestRandomFull makes random changes, nested subvolumes among them, and compares a copy of an earlier snapshot in full: as after the
// loss of the base. The model judges, and what the native comparison found must be there as well.
func TestRandomFull(t *testing.T) {
	s := newSource(t)
	r := rand.New(rand.NewPCG(a.Seed(t), 2))
	base := s.snapshot()
	for round := range 8 {
		mirror := filepath.Join(filepath.Dir(s.path), fmt.Sprint("mirror", round))
		must(t, os.Mkdir(mirror, 0o755))
		mirrorOf(t, base, mirror)
		for range 120 {
			change := randomChange(r)
			switch r.IntN(40) {
			case 0:
				change = a.NestedSubvolume(randomPath(r))
			case 1:
				change = a.DeleteSubvolume(randomPath(r))
			}
			_ = change.Apply(s.path) // many do not fit
		}
		next := s.snapshot()
		native := s.judge(base, next, diff.Options{})
		if full := judgeFull(t, mirror, next); full.Empty() && !native.Empty() {
			t.Errorf("round %d: the full comparison found nothing", round)
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
		base = next
	}
}

func judgeFull(t *testing.T, mirror, next string) *diff.ChangeSet {
	t.Helper()
	m, err := beneath.Open(mirror)
	must(t, err)
	defer m.Close()
	n, err := beneath.Open(next)
	must(t, err)
	defer n.Close()
	set, rekey, err := diff.Full(t.Context(), m, n, Keys(n), diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	must(t, err)
	from := walkBy(t, mirror, func(_, rel string, _ *unix.Stat_t) diff.Key {
		key, err := rekey(rel)
		must(t, err)
		return key
	})
	to := walk(t, next)
	equal(t, apply(t, from, to, set), to)
	return set
}
