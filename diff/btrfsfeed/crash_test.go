package btrfsfeed

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
)

// crash makes the filesystem what it would be if the power had failed now: the device is copied as it is, and the copy mounted
// instead.
func crash(t *testing.T, mount string) {
	t.Helper()
	image := filepath.Join(filepath.Dir(mount), "image")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	run("cp", "--sparse=always", image, image+".copy")
	must(t, unix.Unmount(mount, 0))
	must(t, os.Rename(image+".copy", image))
	run("mount", "-o", "loop", image, mount)
}

// TestAfterACrash: what was fsynced comes back from the log, which changes names and sizes of directories in other ways than the
// calls that the programs made.
func TestAfterACrash(t *testing.T) {
	s := newSource(t)
	r := rand.New(rand.NewPCG(a.Seed(t), 3))
	a.Apply(t, s.path, large()...)
	for round := range 4 {
		base := s.snapshot()
		for i := range 40 {
			change := randomChange(r)
			if i%4 == 0 {
				old := fmt.Sprintf("d/name%03d", r.IntN(400))
				change = []a.Change{a.Remove(old), a.Rename(old, "d/"+randomName(r)), a.Create("d/"+randomName(r), 9, i), a.Link(old, "d/"+randomName(r))}[r.IntN(4)]
			}
			_ = change.Apply(s.path) // many do not fit
			for _, path := range []string{randomPath(r), "d", "d/" + randomName(r), fmt.Sprintf("d/name%03d", r.IntN(400))} {
				if r.IntN(2) == 0 {
					fsync(t, filepath.Join(s.path, path))
				}
			}
		}
		crash(t, filepath.Dir(s.path))
		s.judge(base, s.snapshot(), diff.Options{})
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

// fsync makes a file or directory durable, if it is there.
func fsync(t *testing.T, path string) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() && !info.Mode().IsRegular() {
		return
	}
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	must(t, f.Sync())
}

// randomName is as long as the names in the large directory, and few, so that they meet.
func randomName(r *rand.Rand) string { return fmt.Sprintf("eman%03d", r.IntN(10)) }
