package apply

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/snapshot"
)

// newStore makes a store in a directory and closes it with the test.
func newStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Init(dir, InitOptions{})
	check(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func TestInitAndOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "with ? and # and %41")
	s := newStore(t, dir)
	st, err := os.Stat(dir)
	check(t, err)
	if st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", st.Mode())
	}
	_, err = Open(dir, OpenOptions{})
	wantError(t, err, ErrLocked)
	ro, err := Open(dir, OpenOptions{ReadOnly: true})
	check(t, err)
	runs, err := ro.Runs()
	check(t, err)
	if len(runs) != 0 {
		t.Errorf("runs of a new store: %v", runs)
	}
	check(t, ro.Close())
	check(t, s.Close())
	s, err = Open(dir, OpenOptions{})
	check(t, err)
	check(t, s.Close())
	_, err = Init(dir, InitOptions{})
	wantError(t, err, ErrExists)
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir, OpenOptions{})
	wantError(t, err, ErrNotStore)
	check(t, os.WriteFile(filepath.Join(dir, lockFile), []byte("something else"), 0o600))
	_, err = Open(dir, OpenOptions{})
	wantError(t, err, ErrNotStore)

	store := filepath.Join(dir, "store")
	check(t, newStore(t, store).Close())
	conn, err := sqlite.OpenConn(filepath.Join(store, catalogFile), sqlite.OpenReadWrite)
	check(t, err)
	check(t, sqlitex.ExecuteTransient(conn, "PRAGMA user_version = 99", nil))
	check(t, conn.Close())
	_, err = Open(store, OpenOptions{})
	wantError(t, err, ErrNewer)
}

func TestInitRefusesWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	check(t, os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600))
	_, err := Init(dir, InitOptions{})
	wantError(t, err, ErrExists)
	check(t, os.Remove(filepath.Join(dir, "precious")))
	check(t, os.MkdirAll(filepath.Join(dir, treeDir, "old copy"), 0o700))
	_, err = Init(dir, InitOptions{})
	wantError(t, err, ErrExists)
	s, err := Init(dir, InitOptions{Adopt: true})
	check(t, err)
	defer s.Close()
	if why, err := s.NeedsFull(); err != nil || why == "" {
		t.Errorf("an adopted mirror needs no comparison: %v", err)
	}
}

func TestInitGoesOnAfterACut(t *testing.T) {
	dir := t.TempDir()
	check(t, newStore(t, dir).Close())
	check(t, os.Rename(filepath.Join(dir, catalogFile), filepath.Join(dir, catalogFile+".init")))
	_, err := Open(dir, OpenOptions{})
	wantError(t, err, ErrNotStore)
	check(t, newStore(t, dir).Close())
}

func TestCatalogElsewhere(t *testing.T) {
	dir := t.TempDir()
	one, two, cat := filepath.Join(dir, "one"), filepath.Join(dir, "two"), filepath.Join(dir, "cat.db")
	s, err := Init(one, InitOptions{Catalog: cat, Source: "uuid"})
	check(t, err)
	if source, err := s.Source(); err != nil || source != "uuid" {
		t.Errorf("source %q %v", source, err)
	}
	check(t, s.Close())
	check(t, newStore(t, two).Close())
	_, err = Open(one, OpenOptions{})
	wantError(t, err, ErrNotStore)
	if _, err = Open(two, OpenOptions{Catalog: cat}); err == nil {
		t.Error("took the catalog of another store")
	}
}

func TestRunRecords(t *testing.T) {
	s := newStore(t, t.TempDir())
	want := RunRecord{State: Recorded, How: HowNative, Reason: "none", Mark: snapshot.Mark{ID: "a", Trans: 1<<64 - 1},
		Counts: Counts{New: 3, Bytes: 4}, Warnings: []string{"one"}}
	check(t, s.cat.write("test", func(conn *sqlite.Conn) error {
		first := want
		first.State, first.Mark.ID = Done, "base"
		if err := insertRun(conn, &first); err != nil {
			return err
		}
		return insertRun(conn, &want)
	}))
	cut, err := s.Unfinished()
	check(t, err)
	if cut == nil || cut.ID != 2 || cut.Mark != want.Mark || cut.Counts != want.Counts || cut.Warnings[0] != "one" || cut.BaseMark.ID != "base" {
		t.Errorf("got %+v", cut)
	}
	last, err := s.LastRun()
	check(t, err)
	if last == nil || last.ID != 1 {
		t.Errorf("last run %+v", last)
	}
}
