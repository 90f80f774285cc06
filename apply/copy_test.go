package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// copyCatalog makes a catalog that is nobody else's.
func copyCatalog(t *testing.T) *sqlite.Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "catalog.db")
	check(t, createCatalog(path))
	conn, err := openCatalog(path)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// copySource is a tree with one of everything, directories in directories, and links between them.
func copySource(t *testing.T) string {
	t.Helper()
	top := applytest.Mount(t, applytest.Btrfs)
	sub := applytest.Subvolume(t, filepath.Join(top, "source"))
	check(t, os.Mkdir(filepath.Join(sub, "every"), 0o700))
	everyInode(t, filepath.Join(sub, "every"))
	shell(t, sub, `
		mkdir -p .snapdiff/x deep/.snapdiff a/b/c a/d e; touch .snapdiff/x/file deep/.snapdiff/file
		for d in a a/b a/b/c a/d e; do for i in 1 2 3 4; do echo $d $i > $d/f$i; done; done
		ln a/b/c/f1 a/linked; ln a/b/c/f1 e/linked; ln e/f1 a/b/other; ln -P every/symlink e/symlink; ln every/fifo a/d/fifo
		mkdir many; for i in $(seq 2500); do echo $i > many/$i; done
		setfacl -d -m u:99:rwx a; chmod 2755 a; chmod 000 a/d; setfattr -n user.top -v 1 .; chown 3:4 .
		find a e deep -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +`)
	applytest.Subvolume(t, filepath.Join(sub, "e/nested"))
	shell(t, top, "btrfs subvolume snapshot -r source snapshot >/dev/null")
	return filepath.Join(top, "snapshot")
}

// inoKeys stands for a source's own way of telling an inode's key.
func inoKeys(_ string, ino uint64) (diff.Key, error) {
	const emptySubvolume = 2 // BTRFS_EMPTY_SUBVOL_DIR_OBJECTID
	if ino == emptySubvolume {
		return diff.PlaceholderKey(999), nil
	}
	return diff.Key{Ino: ino, Gen: 7}, nil
}

func newFirstCopy(t *testing.T, conn *sqlite.Conn, source, mirror string) *firstCopy {
	t.Helper()
	next, to := openRoot(t, source), openRoot(t, mirror)
	return &firstCopy{next: next, mirror: to, keys: inoKeys, marks: catalogMarks{conn: conn, guard: new(faultGuard)}, noSums: true, exclude: diff.MustExclude("/.snapdiff")}
}

// judgeCopy compares the mirror with the snapshot, and the nodes with the directories.
func judgeCopy(t *testing.T, conn *sqlite.Conn, source, mirror string) {
	t.Helper()
	applytest.Judge(t, source, mirror)
	judgeNodes(t, conn, mirror)
	judgeFull(t, source, mirror)
}

// judgeFull asks the full comparison.
func judgeFull(t *testing.T, source, mirror string) {
	t.Helper()
	c, _, err := diff.Full(context.Background(), openRoot(t, mirror), openRoot(t, source), inoKeys, diff.FullOptions{Exclude: diff.MustExclude("/.snapdiff")})
	check(t, err)
	if !c.Empty() {
		c.Inodes.Ascend(func(in diff.Inode) bool { t.Errorf("compared in full: %+v", in); return true })
		t.Errorf("compared in full: %d names came, %d went", c.Linked.Len(), c.Unlinked.Len())
	}
}

// judgeNodes finds for each directory of the mirror one node, under its parent's.
func judgeNodes(t *testing.T, conn *sqlite.Conn, mirror string) {
	t.Helper()
	want := map[string]bool{}
	check(t, filepath.WalkDir(mirror, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			want[strings.TrimPrefix(strings.TrimPrefix(path, mirror), "/")] = true
		}
		return err
	}))
	type node struct {
		parent int64
		name   string
	}
	nodes := map[int64]node{}
	check(t, sqlitex.Execute(conn, `SELECT id, parent, name FROM nodes WHERE alive AND type = 16384`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error {
			nodes[row.ColumnInt64(0)] = node{row.ColumnInt64(1), columnBytes(row, 2)}
			return nil
		}}))
	var path func(id int64) string
	path = func(id int64) string {
		if id == rootNode {
			return ""
		}
		n, ok := nodes[id]
		if !ok {
			return "?"
		}
		return join(path(n.parent), n.name)
	}
	for id := range nodes {
		if !want[path(id)] {
			t.Errorf("node %d is %q, which is no directory of the mirror", id, path(id))
		}
	}
	if len(nodes) != len(want) {
		t.Errorf("%d nodes for %d directories", len(nodes), len(want))
	}
}

func TestFirstCopy(t *testing.T) {
	applytest.NeedRoot(t)
	source := copySource(t)
	for _, kind := range applytest.MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			mirror, conn := applytest.Mount(t, kind), copyCatalog(t)
			f := newFirstCopy(t, conn, source, mirror)
			check(t, f.run(context.Background()))
			judgeCopy(t, conn, source, mirror)
			before := [3]int64{f.counts.Files.Load(), f.counts.Dirs.Load(), f.counts.Bytes.Load()}
			// Nothing is left to do, and that is seen.
			again := newFirstCopy(t, conn, source, mirror)
			again.step = func(name string) error { return fmt.Errorf("did %q", name) }
			check(t, again.run(context.Background()))
			if now := [3]int64{again.counts.Files.Load(), again.counts.Dirs.Load(), again.counts.Bytes.Load()}; now != before {
				t.Errorf("counts %v, resumed %v", before, now)
			}
		})
	}
}

var errKill = errors.New("killed")

// killAt stops a copy at its n-th step. Small batches make many marks.
func killAt(f *firstCopy, n int64, killed *atomic.Bool) {
	var steps atomic.Int64
	f.workers, f.batchFiles, f.batchBytes, f.batchTime = 1, 1, 1<<40, 1<<40
	f.step = func(string) error {
		if steps.Add(1) == n {
			killed.Store(true)
			return errKill
		}
		return nil
	}
}

// smallSource has all that resuming must care for, and little else.
func smallSource(t *testing.T) string {
	t.Helper()
	top := applytest.Mount(t, applytest.Btrfs)
	sub := applytest.Subvolume(t, filepath.Join(top, "source"))
	shell(t, sub, `
		mkdir -p a/b c; echo 1 > a/f; echo 2 > a/b/g; ln a/f c/f; ln a/b/g c/g; ln c/g g; ln -s x c/s; mkdir -p e
		find . -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +`)
	applytest.Subvolume(t, filepath.Join(sub, "e/nested"))
	shell(t, top, "btrfs subvolume snapshot -r source snapshot >/dev/null")
	return filepath.Join(top, "snapshot")
}

// Cut off at any step, and then at any step again, the copy ends right.
func TestFirstCopyCutOffAtEachStep(t *testing.T) {
	applytest.NeedRoot(t)
	source, mirror := smallSource(t), applytest.Mount(t, applytest.Ext4)
	for n := int64(1); ; n++ {
		tree := filepath.Join(mirror, fmt.Sprint(n))
		check(t, os.Mkdir(tree, 0o700))
		conn := copyCatalog(t)
		var killed atomic.Bool
		for attempt := int64(0); attempt < 2; attempt++ {
			f := newFirstCopy(t, conn, source, tree)
			killAt(f, n+attempt*3, &killed)
			if err := f.run(context.Background()); err != nil && !errors.Is(err, errKill) {
				t.Fatalf("step %d: %v", n, err)
			}
		}
		check(t, newFirstCopy(t, conn, source, tree).run(context.Background()))
		judgeCopy(t, conn, source, tree)
		if t.Failed() {
			t.Fatalf("after a cut at step %d", n)
		}
		if !killed.Load() {
			return
		}
	}
}

// Cancelled, a copy marks what is complete and goes on later.
func TestFirstCopyCancelled(t *testing.T) {
	applytest.NeedRoot(t)
	source, mirror, conn := copySource(t), applytest.Mount(t, applytest.XFS), copyCatalog(t)
	ctx, cancel := context.WithCancel(context.Background())
	f := newFirstCopy(t, conn, source, mirror)
	var steps atomic.Int64
	f.step = func(string) error {
		if steps.Add(1) == 600 {
			cancel()
		}
		return nil
	}
	if err := f.run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled: %v", err)
	}
	check(t, newFirstCopy(t, conn, source, mirror).run(context.Background()))
	judgeCopy(t, conn, source, mirror)
}

// A file that the mirror cannot hold is named; the rest is there. So it stays when the copy is gone through again.
func TestFirstCopyWithBadFiles(t *testing.T) {
	applytest.NeedRoot(t)
	top, mirror, conn := applytest.Mount(t, applytest.Btrfs), applytest.Mount(t, applytest.Ext4), copyCatalog(t)
	shell(t, top, `mkdir d; touch good d/bad; ln d/bad other; setfattr -n user.big -v "$(printf 'v%.0s' $(seq 9000))" d/bad`)
	for range 2 {
		f := newFirstCopy(t, conn, top, mirror)
		check(t, f.run(context.Background()))
		bad, err := f.marks.pending()
		check(t, err)
		if len(bad) != 2 || !bad["d/bad"] || !bad["other"] {
			t.Errorf("pending: %v", bad)
		}
		if f.counts.Files.Load() != 1 {
			t.Errorf("%d files were counted", f.counts.Files.Load())
		}
		wrong, err := applytest.Differences(top, mirror)
		check(t, err)
		if len(wrong) != 2 {
			t.Errorf("differences: %q", wrong)
		}
	}
}

// A full disk ends the copy; with more room it goes on.
func TestFirstCopyDiskFull(t *testing.T) {
	applytest.NeedRoot(t)
	top, mirror, conn := applytest.Mount(t, applytest.Btrfs), applytest.MountSized(t, applytest.Ext4, 24<<20), copyCatalog(t)
	check(t, os.WriteFile(filepath.Join(mirror, "ballast"), noise(1, 10<<20), 0o600))
	tree := filepath.Join(mirror, "tree")
	check(t, os.Mkdir(tree, 0o700))
	for d := range 4 {
		check(t, os.Mkdir(filepath.Join(top, fmt.Sprint(d)), 0o700))
		check(t, os.WriteFile(filepath.Join(top, fmt.Sprint(d), "f"), noise(uint64(d), 3<<20), 0o600))
	}
	if err := newFirstCopy(t, conn, top, tree).run(context.Background()); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("full: %v", err)
	}
	check(t, os.Remove(filepath.Join(mirror, "ballast")))
	check(t, newFirstCopy(t, conn, top, tree).run(context.Background()))
	applytest.Judge(t, top, tree)
}

// newCopyStore makes and opens a store. It may be closed before the test ends.
func newCopyStore(t *testing.T, dir string) *Store {
	t.Helper()
	check(t, Init(dir))
	s, err := Open(dir)
	check(t, err)
	return s
}

// copyOf is a first copy as the store makes it.
func copyOf(t *testing.T, source string) Copy {
	t.Helper()
	return Copy{
		Exclude: diff.MustExclude("/.snapdiff"),
		Next:    openRoot(t, source), Keys: inoKeys,
		Mark: snapshot.Mark{Kind: "btrfs", Source: "source", ID: "snapshot", Taken: time.Unix(1_700_000_000, 0).UTC()},
	}
}

func TestStoreFirstCopy(t *testing.T) {
	applytest.NeedRoot(t)
	source, dir := copySource(t), filepath.Join(applytest.Mount(t, applytest.XFS), "store")
	s := newCopyStore(t, dir)
	defer s.Close()
	result, err := s.FirstCopy(context.Background(), copyOf(t, source), Options{})
	check(t, err)
	judgeCopy(t, s.conn, source, filepath.Join(s.path, "tree"))
	last, cut, err := s.Last()
	check(t, err)
	if last == nil || last.ID != result.Run || last.How != "first" || last.Mark.ID != "snapshot" || last.Counts != result.Counts {
		t.Errorf("run %+v, result %+v", last, result)
	}
	if cut != nil {
		t.Errorf("unfinished: %+v", cut)
	}
	_, err = s.FirstCopy(context.Background(), copyOf(t, source), Options{})
	if !errors.Is(err, ErrNotFirst) {
		t.Errorf("got %v", err)
	}
}

// What a stranger put into the mirror is not cleared away.
func TestStoreFirstCopyWantsAnEmptyMirror(t *testing.T) {
	applytest.NeedRoot(t)
	source, dir := smallSource(t), filepath.Join(t.TempDir(), "store")
	s := newCopyStore(t, dir)
	defer s.Close()
	check(t, os.WriteFile(filepath.Join(filepath.Join(s.path, "tree"), "precious"), nil, 0o600))
	_, err := s.FirstCopy(context.Background(), copyOf(t, source), Options{})
	if !errors.Is(err, ErrNotFirst) {
		t.Errorf("got %v", err)
	}
}

// Cut off at any step, commit included, the copy goes on; with another snapshot it starts over.
func TestStoreFirstCopyCutOff(t *testing.T) {
	applytest.NeedRoot(t)
	source, mirror := smallSource(t), applytest.Mount(t, applytest.Ext4)
	other := filepath.Join(filepath.Dir(source), "other")
	shell(t, filepath.Dir(source), "rm -r source/a/b; echo new > source/new; btrfs subvolume snapshot -r source other >/dev/null")
	for n, killed := int64(1), true; killed; n++ {
		dir := filepath.Join(mirror, fmt.Sprint(n))
		s := newCopyStore(t, dir)
		killed = false
		steps := int64(0)
		step := func(string) error {
			if steps++; steps == n {
				killed = true
				return errKill
			}
			return nil
		}
		if _, err := s.FirstCopy(context.Background(), copyOf(t, source), Options{Workers: 1, Step: step}); killed && !errors.Is(err, errKill) {
			t.Fatalf("step %d: %v", n, err)
		}
		check(t, s.Close())
		s, err := Open(dir)
		check(t, err)
		if killed {
			again := copyOf(t, source)
			if n%2 == 0 {
				again = copyOf(t, other)
				again.Mark.ID = "other"
			}
			_, err = s.FirstCopy(context.Background(), again, Options{})
			check(t, err)
			judgeCopy(t, s.conn, again.Next.Path(), filepath.Join(s.path, "tree"))
		}
		check(t, s.Close())
	}
}
