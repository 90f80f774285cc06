package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// TestNestedDirectories: somebody nests directories 8,000 deep, with SNAPDIFF_SOAK 100,000. What is below the longest path that the mirror may have is left out and
// named in every run, and all else is exact, whatever becomes of the directories; nothing takes long or much memory.
func TestNestedDirectories(t *testing.T) {
	b := newBench(t, drivers[0], Ext4)
	source := b.origin.dir
	Apply(t, source, Mkdir("a"), Create("a/file", 5000, 1))
	levels := 8_000
	if Soak() {
		levels = 100_000
	}
	nest(t, source, "deep", levels)
	b.leavesOut("first", "deep/d/d/")

	middle := "deep" + strings.Repeat("/d", 1000)
	Apply(t, source, Append("a/file", 10, 2), Create(middle+"/file", 10, 3))
	b.leavesOut("native", "deep/d/d/")
	b.sameFile(middle + "/file")

	Apply(t, source, Mkdir("a/longer"), Rename("deep", "a/longer/name")) // what is below is a little too deep now
	b.leavesOut("full", "a/longer/name/d/d/")

	left := "a/longer/name"
	if Soak() {
		left = "up"
		Apply(t, source, Rename("a/longer/name/d/d/d", left)) // and some of it is not any more
		b.leavesOut("full", left+"/d/d/")
		Apply(t, source, Append("a/file", 10, 4))
		b.leavesOut("native", left+"/d/d/")
		b.restores(2, middle)
	}
	flatten(t, source, left)
	Apply(t, source, Remove(left))
	b.native() // which judges all
}

// TestLVMNestedDirectories: so it is where names are in the link index.
func TestLVMNestedDirectories(t *testing.T) {
	b := newBench(t, lvmDriver(Thin, Ext4), Ext4)
	source := b.origin.dir
	Apply(t, source, Mkdir("a"), Create("a/file", 5000, 1), Deep("deep", 40))
	b.leavesOut("first", "deep/")
	Apply(t, source, Append("a/file", 10, 2), Create(DeepName("deep", 10)+"/file", 10, 3))
	b.leavesOut("native", "deep/")
	b.sameFile(DeepName("deep", 10) + "/file")
	Apply(t, source, Create(DeepName("deep", 39)+"/file", 10, 3)) // nobody knows where that is
	b.leavesOut("native", "deep/")
	Apply(t, source, RemoveAll("deep"), Append("a/file", 10, 3))
	b.run() // which judges all
}

// leavesOut makes a run in the way given. It is incomplete: only a name far below dir is left out.
func (b *bench) leavesOut(how, dir string) {
	b.Helper()
	reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	var incomplete *job.Incomplete
	if !errors.As(err, &incomplete) || len(reports) != 1 {
		b.Fatalf("the run says %v", err)
	}
	r := reports[0]
	if r.How != how {
		b.Errorf("the run compared %s (%s), want %s", r.How, r.Reason, how)
	}
	if len(r.Incomplete) != 1 || !strings.HasPrefix(r.Incomplete[0].Path.Path, dir) || len(r.Incomplete[0].Path.Path) > diff.LongestPath+256 {
		b.Fatalf("%d names are left out: %.300s", len(r.Incomplete), r.Incomplete)
	}
	if text := r.Incomplete[0].Error; len(text) > 1000 || !strings.Contains(text, "too deep") {
		b.Errorf("it is said that %.2000s", text)
	}
	tree, err := beneath.Open(filepath.Join(b.job.Store, "tree"))
	b.must(err)
	defer tree.Close()
	parent, _, err := tree.OpenParent(r.Incomplete[0].Path.Path)
	b.must(err)
	parent.Release()
	b.sameFile("a/file")
}

// sameFile compares one file in source and mirror.
func (b *bench) sameFile(path string) {
	b.Helper()
	want, err := os.ReadFile(filepath.Join(b.origin.dir, path))
	b.must(err)
	got, err := os.ReadFile(filepath.Join(b.job.Store, "tree", path))
	b.must(err)
	if string(want) != string(got) {
		b.Errorf("%.100s differs in the mirror", path)
	}
}

// restores restores a directory of a restore point, however deep.
func (b *bench) restores(run int64, dir string) {
	b.Helper()
	view, err := apply.OpenView(b.job.Store, "", run)
	b.must(err)
	defer view.Close()
	to := filepath.Join(b.TempDir(), "restored")
	done, err := view.RestoreWith(b.Context(), dir, to, apply.RestoreOptions{})
	b.must(err)
	if want := int64(diff.LongestPath-len(dir)) / 2; done.Names < want {
		b.Errorf("%d names were restored, want %d at least", done.Names, want)
	}
	flatten(b, filepath.Dir(to), "restored")
}

// nest makes so many directories below each other, the top one with a name of its own and all others with the name d, and a file in the last.
func nest(t testing.TB, dir, top string, levels int) {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	for name := top; levels > 0 && err == nil; name, levels = "d", levels-1 {
		err = unix.Mkdirat(fd, name, 0o755)
		above := fd
		if err == nil {
			fd, err = unix.Openat(above, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		}
		unix.Close(above)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	file, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(file)
}

// flatten empties a directory of directories named d, however deep, without ever going far down.
func flatten(t testing.TB, dir, top string) {
	t.Helper()
	at := filepath.Join(dir, top)
	for {
		if err := os.Remove(filepath.Join(at, "file")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		err := os.Rename(filepath.Join(at, "d"), at+".below")
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		if err := errors.Join(err, os.Remove(at), os.Rename(at+".below", at)); err != nil {
			t.Fatal(err)
		}
	}
}
