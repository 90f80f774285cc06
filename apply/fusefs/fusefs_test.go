package fusefs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// many is how many files one directory has. In the test machine, where each costs seven times as much, fewer.
var many = func() int {
	if applytest.InTestMachine() {
		return 500
	}
	return 3000
}()

// handMade is a store with one run, made by hand.
func handMade(t *testing.T) (store string, conn *sqlite.Conn) {
	t.Helper()
	applytest.NeedRoot(t)
	store = t.TempDir()
	return store, handMadeAt(t, store)
}

func handMadeAt(t *testing.T, store string) (conn *sqlite.Conn) {
	t.Helper()
	check(t, apply.Init(store))
	shell(t, store, `
		mkdir -p tree/d/e; cd tree; echo same > f; ln f g; ln f d/f; truncate -s 1M hole; echo x >> hole; ln -s "$(printf '%0300d' 0)" link; mkfifo fifo
		mknod dev c 1 3; setfattr -n user.a -v b f; setfacl -m u:99:r f; setfacl -d -m u:99:rwx d; echo secret > s; chmod 4000 s; touch "$(printf 'a\nb\377')"
		for i in $(seq `+fmt.Sprint(many)+`); do echo $i > d/e/$i; done; head -c 3000000 /dev/urandom > big; chown 3:4 d/e
		find . -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +`)
	conn, err := sqlite.OpenConn(filepath.Join(store, "catalog.db"), sqlite.OpenReadWrite)
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, sqlitex.ExecuteScript(conn, `
		INSERT INTO runs(id, state, how, reason, date, started, mark) VALUES (1, 'done', 'first', '', 1000, 1000, '{}');
		INSERT INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (1,1,0,0,'',16384,1), (2,2,0,1,CAST('d' AS BLOB),16384,1), (3,3,0,2,CAST('e' AS BLOB),16384,1);`, nil))
	return conn
}

// mounted is such a store and a mount of it.
func mounted(t *testing.T) (tree, dir string, conn *sqlite.Conn) {
	t.Helper()
	store, conn := handMade(t)
	return filepath.Join(store, "tree"), mountedAt(t, store), conn
}

// mountedAt mounts r1 of a store.
func mountedAt(t *testing.T, store string) (dir string) {
	t.Helper()
	view, err := apply.OpenView(store, "", 1)
	check(t, err)
	dir = t.TempDir()
	server, err := Mount(view, dir, Options{AllowOther: true})
	check(t, err)
	t.Cleanup(func() {
		if err := server.Unmount(); err != nil {
			t.Error(err)
		}
		server.Wait()
		view.Close()
	})
	return dir
}

func TestMountShowsTheTree(t *testing.T) {
	tree, dir, _ := mounted(t)
	out, err := exec.Command("rsync", "-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes", tree+"/", dir+"/").CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "" {
		t.Fatalf("rsync: %v\n%s", err, out)
	}
	for _, name := range []string{"f", "d/f"} {
		var a, b unix.Stat_t
		check(t, unix.Lstat(filepath.Join(dir, "g"), &a))
		check(t, unix.Lstat(filepath.Join(dir, name), &b))
		if a.Ino != b.Ino || b.Nlink != 3 {
			t.Errorf("%s: inode %d with %d links, another name has %d", name, b.Ino, b.Nlink, a.Ino)
		}
	}
	f, err := os.Open(filepath.Join(dir, "hole"))
	check(t, err)
	defer f.Close()
	if off, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != nil || off != 1<<20 {
		t.Errorf("the first data is at %d, %v; want %d", off, err, 1<<20)
	}
}

func TestMountIsReadOnlyAndChecksPermissions(t *testing.T) {
	_, dir, _ := mounted(t)
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("write: %v, want EROFS", err)
	}
	var st unix.Statfs_t
	check(t, unix.Statfs(dir, &st))
	if want := int64(unix.ST_NOSUID | unix.ST_NODEV | unix.ST_RDONLY); st.Flags&want != want {
		t.Errorf("mount flags %x, want %x among them", st.Flags, want)
	}
	out, err := exec.Command("setpriv", "--reuid=99", "--regid=99", "--clear-groups", "cat", filepath.Join(dir, "s")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Permission denied") {
		t.Errorf("another user read a file of mode 4000: %v %s", err, out)
	}
}

func TestMountDuringARun(t *testing.T) {
	_, dir, conn := mounted(t)
	check(t, sqlitex.ExecuteScript(conn, `INSERT INTO runs(id, state, how, reason, date, started, mark) VALUES (2, 'recorded', 'native', '', 2000, 2000, '{}');`, nil))
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "same\n" {
		t.Errorf("during it: %q %v", b, err)
	}
	check(t, sqlitex.ExecuteScript(conn, `UPDATE runs SET state = 'done';`, nil))
	if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "same\n" {
		t.Errorf("after it: %q %v", b, err)
	}
}

// However much is looked at, the kernel and this process know of so many inodes at most; what is open or looked at again is
// there all the same.
func TestMountForgets(t *testing.T) {
	most, batch := maxInodes, forgetBatch
	maxInodes, forgetBatch = many/6, many/60
	t.Cleanup(func() { maxInodes, forgetBatch = most, batch })
	store, _ := handMade(t)
	view, err := apply.OpenView(store, "", 1)
	check(t, err)
	defer view.Close()
	top := &node{point: &point{run: 1, view: view}, file: view.Root(), forget: newForgetter(), opened: newHandles()}
	dir := t.TempDir()
	server, err := mount(top, dir, "r1", gofs.StableAttr{Ino: 1, Mode: unix.S_IFDIR}, Options{})
	check(t, err)
	defer server.Wait()
	defer server.Unmount()
	open, err := os.Open(filepath.Join(dir, "d/e/17"))
	check(t, err)
	defer open.Close()
	for range 2 {
		for i := range many {
			_, err := os.Lstat(filepath.Join(dir, "d/e", fmt.Sprint(i+1)))
			check(t, err)
		}
		_, err := exec.Command("ls", "-lR", dir).Output()
		check(t, err)
	}
	deadline := time.Now().Add(time.Minute)
	for known(top.EmbeddedInode()) > maxInodes+10*forgetBatch {
		if time.Now().After(deadline) {
			t.Fatalf("%d inodes are known, %d at most were wanted", known(top.EmbeddedInode()), maxInodes)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if text, err := io.ReadAll(open); err != nil || string(text) != "17\n" {
		t.Errorf("a file that was open all the time: %q %v", text, err)
	}
	out, err := exec.Command("diff", "-r", "--no-dereference", "--exclude=fifo", "--exclude=dev", filepath.Join(store, "tree"), dir).CombinedOutput()
	if err != nil {
		t.Errorf("diff: %v\n%s", err, out)
	}
}

// known counts the inodes below one.
func known(n *gofs.Inode) (count int) {
	for _, child := range n.Children() {
		count += 1 + known(child)
	}
	return count
}

// A large file of a mirror that is patched in place is read through this process until a run replaces it, and then by the kernel
// itself. Whoever has it open from before does not keep others from opening it.
func TestOpenWhileARunReplacesIt(t *testing.T) {
	applytest.NeedRoot(t)
	store := filepath.Join(applytest.Mount(t, applytest.Ext4), "store")
	check(t, os.Mkdir(store, 0o700))
	conn := handMadeAt(t, store)
	shell(t, store, "head -c 9000000 /dev/urandom > tree/large")
	want, err := os.ReadFile(filepath.Join(store, "tree/large"))
	check(t, err)
	view, err := apply.OpenView(store, "", 1)
	check(t, err)
	defer view.Close()
	dir := t.TempDir()
	server, err := Mount(view, dir, Options{})
	check(t, err)
	defer server.Wait()
	defer server.Unmount()
	var open []*os.File
	look := func(when string) {
		if f, err := os.Open(filepath.Join(dir, "large")); err != nil {
			t.Errorf("%s: %v", when, err)
		} else {
			open = append(open, f)
		}
		for i, f := range open {
			if got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, open %d: %d bytes, %v", when, i, len(got), err)
			}
		}
	}
	look("before")
	shell(t, store, "mkdir history/r2; mv tree/large history/r2/20; echo other > tree/large")
	check(t, sqlitex.ExecuteScript(conn, `INSERT INTO runs(id, state, how, reason, date, started, mark) VALUES (2, 'done', 'native', '', 2000, 2000, '{}'); INSERT INTO nodes VALUES (20,20,0,0,NULL,32768,1,0);
		INSERT INTO names VALUES (1,CAST('large' AS BLOB),20); INSERT INTO versions VALUES (20,2,33188,0,0,0,9000000,1,1,1,NULL,1);`, nil))
	look("after")
	look("again")
	for _, f := range open {
		check(t, f.Close())
	}
	open = nil
	look("when all were closed")
	for _, f := range open {
		check(t, f.Close())
	}
}

// The mirror is mended while a restore point is mounted: a file gets the inode number that another had when it was looked at. Each is what
// it was.
func TestInodeNumbersComeBack(t *testing.T) {
	applytest.NeedRoot(t)
	store := filepath.Join(applytest.Mount(t, applytest.Ext4), "store")
	check(t, os.Mkdir(store, 0o700))
	handMadeAt(t, store)
	dir := mountedAt(t, store)
	number := func(name string) uint64 {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(store, "tree/d/e", name), &st))
		return st.Ino
	}
	_, err := os.Lstat(filepath.Join(dir, "d/e/1"))
	check(t, err)
	freed := number("1")
	const renew = "cd tree/d/e; cp -p $0 .new; mv .new $0" // as a repair does it
	shell(t, store, strings.ReplaceAll(renew, "$0", "1"))
	for i := 0; number("2") != freed; i++ {
		if i == many {
			t.Fatalf("inode %d did not come back", freed)
		}
		shell(t, store, strings.ReplaceAll(renew, "$0", "2"))
	}
	for _, name := range []string{"1", "2"} {
		if text, err := os.ReadFile(filepath.Join(dir, "d/e", name)); err != nil || string(text) != name+"\n" {
			t.Errorf("file %s: %q %v", name, text, err)
		}
	}
}
