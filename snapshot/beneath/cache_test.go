package beneath

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptors counts the descriptors of this process that are open on directories below top.
func descriptors(t *testing.T, top string) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	n := 0
	for _, e := range list {
		target, _ := os.Readlink("/proc/self/fd/" + e.Name())
		if len(target) > len(top) && target[:len(top)] == top {
			n++
		}
	}
	return n
}

// marked makes directories, each with a file "mark" that holds the name it was made under.
func marked(t *testing.T, r *Root, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		must(t, r.Mkdir(dir, 0o700))
		write(t, r, dir+"/mark", dir)
	}
}

func wantMark(t *testing.T, r *Root, dir, want string) {
	t.Helper()
	if got := read(t, r, dir+"/mark"); got != want {
		t.Errorf("%s holds the mark of %s, want %s", dir, got, want)
	}
}

func TestRenamedDirectoryIsNotFoundByItsOldPath(t *testing.T) {
	r, _ := openTemp(t)
	marked(t, r, "a", "a/b", "a/b/c", "x", "ab")
	must(t, Rename(r, "a", r, "gone", 0)) // an ancestor of what is cached
	for _, path := range []string{"a/mark", "a/b/mark", "a/b/c/mark"} {
		_, err := r.Lstat(path)
		wantErr(t, path, err, fs.ErrNotExist)
	}
	wantMark(t, r, "gone/b/c", "a/b/c")
	wantMark(t, r, "ab", "ab")
	marked(t, r, "a", "a/b", "a/b/c")
	must(t, Rename(r, "a/b", r, "gone/b", unix.RENAME_EXCHANGE))
	must(t, r.Unlink("a/b/mark"))
	write(t, r, "a/b/mark", "exchanged")
	wantMark(t, r, "a/b", "exchanged")
	wantMark(t, r, "gone/b", "a/b")
	wantMark(t, r, "gone/b/c", "a/b/c")
}

func TestRenameOverAnEmptyDirectory(t *testing.T) {
	r, _ := openTemp(t)
	marked(t, r, "a", "b")
	must(t, r.Unlink("b/mark")) // cached now
	must(t, Rename(r, "a", r, "b", 0))
	wantMark(t, r, "b", "a")
}

func TestRemovedAndMadeAgain(t *testing.T) {
	r, _ := openTemp(t)
	marked(t, r, "a", "a/b")
	must(t, r.Unlink("a/b/mark"))
	must(t, r.Rmdir("a/b"))
	_, err := r.Lstat("a/b/mark")
	wantErr(t, "in a removed directory", err, fs.ErrNotExist)
	must(t, r.Mkdir("a/b", 0o700))
	write(t, r, "a/b/mark", "second")
	wantMark(t, r, "a/b", "second")
}

func TestRenameBetweenRoots(t *testing.T) {
	r, _ := openTemp(t)
	must(t, r.Mkdir("tree", 0o700))
	must(t, r.Mkdir("stage", 0o700))
	tree, err := r.OpenRoot("tree")
	must(t, err)
	defer tree.Close()
	stage, err := r.OpenRoot("stage")
	must(t, err)
	defer stage.Close()
	marked(t, tree, "a", "a/b")
	must(t, Rename(tree, "a", stage, "o-1", 0))
	marked(t, tree, "a", "a/b")
	must(t, tree.Unlink("a/b/mark"))
	write(t, tree, "a/b/mark", "new")
	wantMark(t, stage, "o-1/b", "a/b")
	must(t, Rename(tree, "a/b", stage, "o-1/b", unix.RENAME_EXCHANGE))
	wantMark(t, stage, "o-1/b", "new")
	wantMark(t, tree, "a/b", "a/b")
}

// A directory that is being opened while it is renamed may be used for the operation that asked for it, but not be
// cached under its old path.
func TestRenameWhileOpening(t *testing.T) {
	r, _ := openTemp(t)
	marked(t, r, "a", "a/b")
	r.Forget("")
	h, cached, err := r.lookup("a/b")
	must(t, err)
	if cached {
		t.Fatal("cached after Forget")
	}
	h.fd, err = r.openDir("a/b")
	must(t, err)
	must(t, Rename(r, "a", r, "c", 0))
	h, err = r.insert(h, nil)
	must(t, err)
	h.Release()
	_, err = r.Lstat("a/b/mark")
	wantErr(t, "old path", err, fs.ErrNotExist)
	wantMark(t, r, "c/b", "a/b")
}

func TestCacheIsBounded(t *testing.T) {
	r, dir := openTemp(t)
	r.limit = 10
	for i := range 100 {
		marked(t, r, fmt.Sprintf("d%d", i))
	}
	for i := range 100 {
		wantMark(t, r, fmt.Sprintf("d%d", i), fmt.Sprintf("d%d", i))
	}
	if n := descriptors(t, dir+"/"); n != 10 {
		t.Errorf("%d descriptors are open, want 10", n)
	}
	if r.order.Len() != 10 || len(r.dirs) != 10 {
		t.Errorf("%d counts, %d directories", r.order.Len(), len(r.dirs))
	}
	must(t, r.Close())
	if n := descriptors(t, dir); n != 0 {
		t.Errorf("%d descriptors are open after Close", n)
	}
}

// Descriptors that lie side by side are closed by one call; those between them that are somebody else's, or held, stay open.
func TestCloseLeavesWhatIsNotItsOwn(t *testing.T) {
	r, dir := openTemp(t)
	var others []*os.File
	for i := range 20 {
		marked(t, r, fmt.Sprintf("d%d", i))
		if i%7 == 3 {
			f, err := os.Open("/")
			must(t, err)
			defer f.Close()
			others = append(others, f)
		}
	}
	h, _, err := r.OpenParent("d9/mark")
	must(t, err)
	must(t, r.Close())
	if n := descriptors(t, dir); n != 1 {
		t.Errorf("%d descriptors are open after Close, want the one that is held", n)
	}
	must(t, unix.Mkdirat(h.FD(), "x", 0o700))
	h.Release()
	for _, f := range others {
		if _, err := f.Stat(); err != nil {
			t.Errorf("another's descriptor was closed: %v", err)
		}
	}
	if n := descriptors(t, dir); n != 0 {
		t.Errorf("%d descriptors are open in the end", n)
	}
}

func TestMostRecentlyUsedStays(t *testing.T) {
	r, _ := openTemp(t)
	r.limit = 2
	marked(t, r, "a", "b")
	wantMark(t, r, "a", "a")
	marked(t, r, "c") // drops b
	if r.dirs["a"] == nil || r.dirs["b"] != nil || r.dirs["c"] == nil {
		t.Errorf("cached: %v", r.dirs)
	}
}

// Workers look up, make and rename directories that only they use, in a cache that is too small for all.
func TestConcurrentUse(t *testing.T) {
	r, dir := openTemp(t)
	r.limit = 5
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			if err := churn(r, w); err != nil {
				t.Error(err)
			}
		})
	}
	workers.Wait()
	must(t, r.Close())
	if n := descriptors(t, dir); n != 0 {
		t.Errorf("%d descriptors are open after Close", n)
	}
}

func churn(r *Root, w int) error {
	top := fmt.Sprintf("w%d", w)
	if err := r.Mkdir(top, 0o700); err != nil {
		return err
	}
	for i := range 60 {
		a, b := fmt.Sprintf("%s/a%d", top, i%7), fmt.Sprintf("%s/b%d", top, i)
		if err := r.Mkdir(a, 0o700); err != nil {
			return err
		}
		if err := r.Symlink(fmt.Sprint(i), a+"/number"); err != nil {
			return err
		}
		if err := Rename(r, a, r, b, 0); err != nil {
			return err
		}
		if got, err := r.Readlink(b + "/number"); err != nil || got != fmt.Sprint(i) {
			return fmt.Errorf("%s/number is %q: %v", b, got, err)
		}
		if _, err := r.Lstat(a + "/number"); err == nil {
			return fmt.Errorf("%s is still there after its rename", a)
		}
	}
	return nil
}

func TestConcurrentLookupsOfOneDirectory(t *testing.T) {
	r, dir := openTemp(t)
	marked(t, r, "a", "a/b")
	for range 50 {
		r.Forget("")
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				if _, err := r.Lstat("a/b/mark"); err != nil {
					t.Error(err)
				}
			})
		}
		workers.Wait()
	}
	if n := descriptors(t, filepath.Join(dir, "a")); n != 1 {
		t.Errorf("%d descriptors for one directory", n)
	}
}

func BenchmarkLstat(b *testing.B) {
	r, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	path := "a"
	for range 6 {
		if err := r.Mkdir(path, 0o700); err != nil {
			b.Fatal(err)
		}
		path += "/a"
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, _ = r.Lstat(path)
		}
	})
}
