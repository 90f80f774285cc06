package apply

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Option is how a store is made or opened.
type Option func(*options)

type options struct {
	catalog string
	adopt   bool
	tell    func(Progress)
}

// CatalogAt keeps the catalog in the file path, outside of the store: on a local disk when the store is on a network
// filesystem, which cannot lock or share memory as SQLite needs it. "" means in the store. The store remembers the
// place; to open it, CatalogAt is only needed when the catalog was moved.
func CatalogAt(path string) Option { return func(o *options) { o.catalog = path } }

// Adopt lets Init make a store around a tree/ that holds files already. Its first run has to be a full comparison.
func Adopt() Option { return func(o *options) { o.adopt = true } }

// Telling has Rebuild tell how far it is.
func Telling(news func(Progress)) Option { return func(o *options) { o.tell = news } }

func optionsOf(opts []Option) options {
	var o options
	for _, set := range opts {
		set(&o)
	}
	return o
}

const (
	catalogFile = "catalog.db"   // the catalog in the store
	catalogNote = "catalog.path" // where it is instead: two lines, the path and the id that its meta has too
	metaStoreID = "store"
)

// catalogPlace is where a store's catalog is.
type catalogPlace struct {
	path string
	id   string // of the store that it belongs to; "" where it lies in the store
}

// findCatalog finds the catalog of a store, which has to be there. catalog is where the caller knows it to be, "" if he does not.
func findCatalog(store, catalog string) (catalogPlace, error) {
	place, err := placeOfCatalog(store, catalog)
	if err != nil {
		return place, err
	}
	_, err = os.Stat(place.path)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
	case lostCatalog(store):
		where := ""
		if place.id != "" {
			where = " (is the disk that it lies on mounted?)"
		}
		err = &DamagedCatalog{fmt.Errorf("it is lost%s: %w", where, err)}
	case place.id == "" && hasCopy(store):
		return place, fmt.Errorf("%s %w (no catalog.db and no history, but a tree): snapdiff init --adopt makes a store around that", store, ErrNotStore)
	case place.id == "":
		return place, fmt.Errorf("%s %w (no catalog.db): is the backup disk mounted? A new store is made by snapdiff init", store, ErrNotStore)
	}
	if err != nil {
		return place, fmt.Errorf("the store %s has its catalog at %s: %w", store, place.path, err)
	}
	return place, nil
}

// placeOfCatalog tells where the catalog of a store is, or was.
func placeOfCatalog(store, catalog string) (catalogPlace, error) {
	inside := filepath.Join(store, catalogFile)
	note, err := os.ReadFile(filepath.Join(store, catalogNote))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if catalog != "" && catalog != inside {
			if _, err := os.Stat(inside); err == nil {
				return catalogPlace{}, fmt.Errorf("%s has its catalog inside, not at %s: take catalog out of the configuration", store, catalog)
			}
			return catalogPlace{}, fmt.Errorf("%s %w (no %s): is the backup disk mounted? A new store is made by snapdiff init", store, ErrNotStore, catalogNote)
		}
		return catalogPlace{path: inside}, nil
	case err != nil:
		return catalogPlace{}, fmt.Errorf("open the store: %w", err)
	}
	path, id, ok := strings.Cut(strings.TrimSuffix(string(note), "\n"), "\n")
	if !ok || id == "" || !filepath.IsAbs(path) {
		return catalogPlace{}, fmt.Errorf("%s/%s does not say where the catalog is", store, catalogNote)
	}
	if catalog != "" {
		path = catalog
	}
	return catalogPlace{path, id}, nil
}

// lostCatalog tells a store that was in use and has no catalog from what is no store.
func lostCatalog(store string) bool {
	for _, dir := range []string{mirrorDir, "stage"} {
		if st, err := os.Stat(filepath.Join(store, dir)); err != nil || !st.IsDir() {
			return false
		}
	}
	return newestHistory(store) > 0
}

// hasCopy tells whether there is anything in the mirror.
func hasCopy(store string) bool {
	names, _ := os.ReadDir(filepath.Join(store, mirrorDir))
	return len(names) > 0
}

// newestHistory is the highest number of a run that has something in the store's history; 0: none.
func newestHistory(store string) int64 { return highestIn(store, "r") }

// highestIn is the highest number behind a prefix that a name in the store's history has; 0: none.
func highestIn(store, prefix string) (highest int64) {
	dir, err := os.Open(filepath.Join(store, "history"))
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, name := range names {
		if n, err := strconv.ParseInt(strings.TrimPrefix(name, prefix), 10, 64); err == nil && strings.HasPrefix(name, prefix) {
			highest = max(highest, n)
		}
	}
	return highest
}

// check refuses the catalog of another store, and one that is older than its store: seen is what was seen of that before it was
// opened.
func (p catalogPlace) check(conn *sqlite.Conn, seen storeSeen) error {
	if p.id != "" {
		id := ""
		err := sqlitex.Execute(conn, `SELECT value FROM meta WHERE key = ?`, &sqlitex.ExecOptions{
			Args: []any{metaStoreID}, ResultFunc: func(row *sqlite.Stmt) error { id = row.ColumnText(0); return nil },
		})
		if err == nil && id != p.id {
			err = errors.New("it belongs to another store: correct catalog in the configuration")
		}
		if err != nil {
			return damaged(err)
		}
	}
	if seen.run == 0 {
		return nil
	}
	last, state := int64(0), ""
	err := sqlitex.Execute(conn, `SELECT id, state FROM runs ORDER BY id DESC LIMIT 1`, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		last, state = row.ColumnInt64(0), row.ColumnText(1)
		return nil
	}})
	rewritten, untold := int64(0), int64(0)
	if err == nil {
		rewritten, err = numberOf(conn, metaRewritten)
	}
	if err == nil {
		untold, err = numberOf(conn, metaUntold)
	}
	switch {
	case err != nil:
	case seen.rewritten > rewritten:
		err = &DamagedCatalog{errors.New("restore points were dropped, or something was erased or undone, after it was written: it is an old copy")}
	case seen.run > max(last, untold):
		err = &DamagedCatalog{fmt.Errorf("it knows of no run after r%d, but the store has the history of r%d: it is an old copy, or its WAL was removed", last, seen.run)}
	case seen.run == last && seen.beyond(state):
		err = &DamagedCatalog{fmt.Errorf("it says that r%d is %s, but the store has what comes after that: it is a copy from the middle of that run", last, state)}
	}
	return damaged(err)
}

// remember notes in the store where its catalog is.
func (p catalogPlace) remember(store string) error {
	name := filepath.Join(store, catalogNote)
	if err := os.WriteFile(name+".new", []byte(p.path+"\n"+p.id+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

// createCatalogAt makes a catalog outside of its store, and the note that makes the store one.
func createCatalogAt(store, path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("making the catalog %s: %w: choose another name, or remove it if nothing needs it", path, fs.ErrExist)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("making the catalog: %w", err)
	}
	if err := createCatalog(path); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil { // SQLite gives its helper files the same mode
		return fmt.Errorf("making the catalog: %w", err)
	}
	place := catalogPlace{path, rand.Text()}
	conn, err := openCatalog(path)
	if err != nil {
		return err
	}
	err = sqlitex.Execute(conn, `INSERT INTO meta(key, value) VALUES (?, ?)`, &sqlitex.ExecOptions{Args: []any{metaStoreID, place.id}})
	if err := errors.Join(err, conn.Close()); err != nil {
		return catalogError("name its store", err)
	}
	return place.remember(store)
}
