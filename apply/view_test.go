package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/apply/applytest"
	"snapdiff/snapshot/beneath"
)

// pastStore is a store whose two runs were made by hand: the mirror is r2, and old is a copy of r1. Between them were: a file
// changed, a file deleted with its directory, a directory renamed, a file changed below it, a name used for another type, a
// hard link lost, a mode changed, and things made.
func pastStore(t *testing.T) (store, old string, conn *sqlite.Conn) {
	t.Helper()
	applytest.NeedRoot(t)
	store, old = filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "old")
	check(t, os.MkdirAll(store, 0o700))
	shell(t, store, `
		mkdir -p tree/same tree/gone tree/was/sub history/r1 history/r2; cd tree
		echo same > same/f; ln same/f same/g; truncate -s 1M same/hole; echo x >> same/hole; ln -s target same/link; mkfifo same/fifo
		setfattr -n user.a -v b same/f; setfacl -m u:99:r same/hole
		echo one > changed; echo gone > gone/f; setfattr -n user.dir -v yes gone; chown 3:4 gone; ln -s nowhere gone/l
		echo deep > was/sub/f; echo untouched > was/sub/u; echo file > type; echo l > same/l1; ln same/l1 same/l2; echo m > mode; chmod 4750 mode
		find . -exec touch -h -d '2020-02-02 02:02:02.123456789' {} +`)
	shell(t, store, "cp -a tree "+old)
	shell(t, store, `
		h=$PWD/history/r2; cd tree
		mv changed $h/10; echo two > changed; mv gone/f $h/11; mv gone/l $h/15; rmdir gone; mv was now; mv now/sub/f $h/12; echo deeper > now/sub/f
		mv type $h/13; mkdir type; echo new > type/new; rm same/l2; chmod 600 mode; echo fresh > same/fresh; touch same .`)
	conn, err := sqlite.OpenConn(filepath.Join(store, "catalog.db"))
	check(t, err)
	t.Cleanup(func() { conn.Close() })
	check(t, sqlitex.ExecuteScript(conn, `PRAGMA application_id = 0x736e6470; PRAGMA user_version = 1;`+upgrades[0].script+`
		INSERT INTO runs(id, state, how, reason, date, started, mark) VALUES (1, 'done', 'first', '', 1000, 0, '{}'), (2, 'done', 'native', '', 2000, 0, '{}');
		INSERT INTO nodes VALUES (1,1,0,0,'',16384,1), (2,2,0,1,CAST('same' AS BLOB),16384,1), (3,3,0,1,CAST('gone' AS BLOB),16384,0),
			(4,4,0,1,CAST('now' AS BLOB),16384,1), (5,5,0,4,CAST('sub' AS BLOB),16384,1), (6,6,0,1,CAST('type' AS BLOB),16384,1),
			(10,10,0,0,NULL,32768,1), (11,11,0,0,NULL,32768,0), (12,12,0,0,NULL,32768,1), (13,13,0,0,NULL,32768,0), (14,14,0,0,NULL,32768,1),
			(15,15,0,0,NULL,40960,0), (16,16,0,0,NULL,32768,1);
		INSERT INTO names VALUES (1,CAST('changed' AS BLOB),10), (5,CAST('f' AS BLOB),12), (2,CAST('l1' AS BLOB),14), (1,CAST('mode' AS BLOB),16);
		INSERT INTO entries VALUES (1,CAST('gone' AS BLOB),2,3), (3,CAST('f' AS BLOB),2,11), (3,CAST('l' AS BLOB),2,15), (1,CAST('was' AS BLOB),2,4),
			(1,CAST('now' AS BLOB),2,NULL), (1,CAST('type' AS BLOB),2,13), (2,CAST('l2' AS BLOB),2,14), (2,CAST('fresh' AS BLOB),2,NULL);`, nil))
	for path, v := range map[string][2]int64{"": {1, 0}, "same": {2, 0}, "gone": {3, 0}, "was": {4, 0}, "was/sub": {5, 0}, "changed": {10, 1}, "gone/f": {11, 1},
		"was/sub/f": {12, 1}, "type": {13, 1}, "same/l1": {14, 0}, "gone/l": {15, 1}, "mode": {16, 0}} {
		insertVersion(t, conn, old, path, v[0], v[1])
	}
	return store, old, conn
}

// insertVersion writes what r2 replaced, read from the copy kept aside.
func insertVersion(t *testing.T, conn *sqlite.Conn, old, path string, node, content int64) {
	t.Helper()
	root, err := beneath.Open(old)
	check(t, err)
	defer root.Close()
	st, err := root.Lstat(path)
	check(t, err)
	xattrs, err := root.Xattrs(path)
	check(t, err)
	a := attrOf(&st)
	check(t, sqlitex.Execute(conn, `INSERT INTO versions VALUES (?, 2, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, &sqlitex.ExecOptions{Args: []any{
		node, int64(a.Mode), int64(a.UID), int64(a.GID), int64(a.Rdev), a.Size, a.MtimeSec, int64(a.MtimeNsec), int64(a.Nlink), encodeXattrs(xattrs), content}}))
}

func openView(t *testing.T, store string, run int64) *View {
	t.Helper()
	v, err := OpenView(store, "", run)
	check(t, err)
	t.Cleanup(func() { v.Close() })
	return v
}

// Each restore point, restored whole, is what the tree was.
func TestRestoreEachPoint(t *testing.T) {
	store, old, _ := pastStore(t)
	for run, want := range map[int64]string{1: old, 2: filepath.Join(store, "tree")} {
		got, err := openView(t, store, run).Restore(context.Background(), "", filepath.Join(t.TempDir(), "restored"))
		check(t, err)
		rsyncJudge(t, want, got)
		st, err := os.Stat(filepath.Join(got, "same/hole"))
		check(t, err)
		if blocks := st.Sys().(*syscall.Stat_t).Blocks; blocks > 64 {
			t.Errorf("r%d: the hole was filled: %d blocks", run, blocks)
		}
	}
}

func TestRestoreFileIntoDirectoryNeverOverwrites(t *testing.T) {
	store, old, _ := pastStore(t)
	v, dir := openView(t, store, 1), t.TempDir()
	got, err := v.Restore(context.Background(), "was/sub/f", dir)
	check(t, err)
	if want := filepath.Join(dir, "f"); got != want {
		t.Errorf("restored to %s, want %s", got, want)
	}
	shell(t, dir, "cmp f "+old+"/was/sub/f; echo mine > f")
	if _, err := v.Restore(context.Background(), "was/sub/f", dir); !errors.Is(err, ErrExists) {
		t.Errorf("second restore: %v, want ErrExists", err)
	}
	shell(t, dir, `test "$(cat f)" = mine`)
	if _, err := v.Restore(context.Background(), "now/sub/f", dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a name that was not there yet: %v", err)
	}
}

// The number of a file is that of all its names, and the same in views of all dates.
func TestViewInodeNumbers(t *testing.T) {
	store, _, _ := pastStore(t)
	ino := func(run int64, path string) uint64 {
		v := openView(t, store, run)
		f, err := v.Lookup(path)
		check(t, err)
		a, err := v.Lstat(f)
		check(t, err)
		return a.Ino
	}
	if a, b := ino(1, "same/l1"), ino(1, "same/l2"); a != b {
		t.Errorf("two names of one file have numbers %d and %d", a, b)
	}
	if a, b := ino(1, "was"), ino(2, "now"); a != b {
		t.Errorf("a renamed directory has numbers %d and %d", a, b)
	}
	if a, b := ino(1, "changed"), ino(2, "changed"); a == b {
		t.Errorf("other contents have the same number %d", a)
	}
}

// What was looked up before a run is good during it (TestViewsInTheMiddleOfRuns has more of that) and afterwards.
func TestViewWhileARunGoesOn(t *testing.T) {
	store, old, conn := pastStore(t)
	v := openView(t, store, 2)
	f, err := v.Lookup("same/g")
	check(t, err)
	check(t, upgradeCatalog(conn, 1))
	check(t, sqlitex.ExecuteScript(conn, `INSERT INTO runs(id, state, how, reason, date, started, mark) VALUES (3, 'recorded', 'native', '', 3000, 0, '{}');`, nil))
	if a, err := v.Lstat(f); err != nil || a.Nlink != 2 {
		t.Errorf("during a run: %+v %v, want two links", a, err)
	}
	if _, err := OpenView(store, "", 3); !errors.Is(err, ErrNoRestorePoint) {
		t.Errorf("open an unfinished run: %v, want ErrNoRestorePoint", err)
	}
	shell(t, store, "mkdir history/r3; mv tree/same/g history/r3/20; rm tree/same/f")
	insertVersion(t, conn, old, "same/g", 20, 1)
	check(t, sqlitex.ExecuteScript(conn, `UPDATE versions SET run = 3 WHERE node = 20; INSERT INTO nodes VALUES (20,20,0,0,NULL,32768,0,0);
		INSERT INTO entries VALUES (2,CAST('f' AS BLOB),3,20), (2,CAST('g' AS BLOB),3,20); UPDATE runs SET state = 'done';`, nil))
	a, err := v.Lstat(f)
	if err != nil || a.Nlink != 2 {
		t.Errorf("after it: %+v %v, want two links", a, err)
	}
	points, err := RestorePoints(store, "")
	if err != nil || len(points) != 3 || points[2].Run != 3 {
		t.Errorf("restore points %v %v", points, err)
	}
	check(t, sqlitex.ExecuteScript(conn, `PRAGMA user_version = 99; CREATE TABLE future(a INTEGER);`, nil))
	if _, err := OpenView(store, "", 2); !errors.Is(err, ErrFormat) {
		t.Errorf("a catalog of a newer format: %v, want ErrFormat", err)
	}
	check(t, sqlitex.ExecuteScript(conn, fmt.Sprintf(`PRAGMA user_version = %d; DROP TABLE future;`, catalogFormat), nil))
	if _, err := OpenView(store, "", 4); !errors.Is(err, ErrNoRestorePoint) {
		t.Errorf("r4: %v", err)
	}
}

func TestXattrEncoding(t *testing.T) {
	list := []beneath.Xattr{{Name: "user.a", Value: []byte{}}, {Name: "user.b", Value: []byte("\x00\xff")}}
	got, err := decodeXattrs(encodeXattrs(list))
	if err != nil || len(got) != 2 || got[1].Name != "user.b" || string(got[1].Value) != "\x00\xff" {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"\x02", "\x01\x05ab", "\x01\x01a", "\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		if _, err := decodeXattrs([]byte(bad)); !errors.Is(err, errXattrs) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
