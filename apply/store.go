// Package apply owns the store: the mirror, its history and the catalog. It brings a change set into the mirror so that
// every earlier restore point stays readable, and it finishes what was cut off. It knows nothing of any source filesystem.
package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/snapshot/beneath"
)

// Errors that Open and Init give; wrapped with the path.
var (
	ErrNotStore = errors.New("is not a snapdiff store")
	ErrLocked   = errors.New("another snapdiff is working on this store")
	ErrNotEmpty = errors.New("directory is not empty")
)

const storeReadme = `This directory is a snapdiff store. It belongs to one job.

tree/       the newest full copy of the source, as plain files: copy out of it with any tool
history/    what each run replaced or deleted, by number; catalog.db says which name and date each belongs to
catalog.db  which name meant which file at which date
stage/      work in progress

Do not change anything in here by hand.
`

// Store is one job's store, open: locked for writing (Open), or for reading alone (OpenReadOnly).
type Store struct {
	path                       string
	top, tree, stage, history_ *beneath.Root
	conn                       *sqlite.Conn
	guard                      faultGuard // of conn
	lock                       *os.File
	wrote                      int64 // the run whose manifest was written last, and so is whole
}

// pieces are what a store consists of besides its catalog; true for directories.
var pieces = map[string]bool{"tree": true, "history": true, "stage": true, "README": false, "lock": false}

// Init makes a store, readable by its owner alone, in a directory that is empty or not there. What an Init that was cut off
// has left is completed.
func Init(path string, opts ...Option) error {
	o := optionsOf(opts)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	if err := checkEmpty(path, o.adopt); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	for name, isDir := range pieces {
		var err error
		switch name := filepath.Join(path, name); {
		case isDir:
			if err = os.Mkdir(name, 0o700); errors.Is(err, os.ErrExist) {
				err = nil
			}
		case filepath.Base(name) == "README":
			err = os.WriteFile(name, []byte(storeReadme), 0o600)
		default:
			err = os.WriteFile(name, nil, 0o600)
		}
		if err != nil {
			return fmt.Errorf("making the store: %w", err)
		}
	}
	// The catalog comes last: what has none is no store.
	if o.catalog != "" {
		return createCatalogAt(path, o.catalog)
	}
	return createCatalog(filepath.Join(path, catalogFile))
}

// leftOfStore are things in a store that has lost its catalog and its history, and that are none of the copy to be adopted.
var leftOfStore = map[string]bool{spareFile: true, spareInodesDir: true, leaseDir: true}

// checkEmpty refuses a directory that holds anything but pieces of a store, and directories among these that are not empty;
// tree may hold the copy that is to be adopted.
func checkEmpty(path string, adopt bool) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		isDir, ours := pieces[name]
		switch {
		case name == "lost+found" || name == catalogFile+".new" || adopt && (name == "tree" && e.IsDir() || leftOfStore[name]):
			continue
		case !ours || isDir != e.IsDir():
			return fmt.Errorf("making a store in %s: %w (it holds %q): choose another place, or remove what is there", path, ErrNotEmpty, name)
		case !isDir:
			continue
		}
		inside, err := os.ReadDir(filepath.Join(path, name))
		if err != nil {
			return fmt.Errorf("making the store: %w", err)
		}
		if len(inside) > 0 {
			return fmt.Errorf("making a store in %s: %w (%s holds %q): choose another place, or remove what is there", path, ErrNotEmpty, name, inside[0].Name())
		}
	}
	return nil
}

// Open opens a store and locks it.
func Open(path string, opts ...Option) (s *Store, err error) {
	given := optionsOf(opts).catalog
	place, err := findCatalog(path, given)
	if err != nil {
		return nil, err
	}
	s = &Store{path: path}
	opened := s // an error return clears s
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	if s.lock, err = lockStore(path); err != nil {
		return nil, err
	}
	seen := seeStore(path)
	readCatalogAhead(place.path)
	if err := s.guard.do(func() (err error) { s.conn, err = openCatalog(place.path); return err }); err != nil {
		return nil, err
	}
	if err := s.guard.do(func() error { return place.check(s.conn, seen) }); err != nil {
		return nil, fmt.Errorf("catalog %s: %w", place.path, err)
	}
	if given != "" && place.id != "" {
		if err := place.remember(path); err != nil {
			return nil, fmt.Errorf("noting where the catalog is: %w", err)
		}
	}
	if err := s.openRoots(); err != nil {
		return nil, err
	}
	return s, nil
}

// openRoots opens the directories of the store.
func (s *Store) openRoots() (err error) {
	for _, r := range []struct {
		to  **beneath.Root
		dir string
	}{{&s.top, ""}, {&s.tree, "tree"}, {&s.stage, "stage"}, {&s.history_, "history"}} {
		if *r.to, err = beneath.Open(filepath.Join(s.path, r.dir)); errors.Is(err, fs.ErrNotExist) && r.dir != "" {
			return &MissingDir{s.path, r.dir}
		} else if err != nil {
			return fmt.Errorf("opening the store: %w", err)
		}
	}
	return nil
}

// Settle brings what lies in the catalog's WAL into the catalog, as far as nobody reads there, as Close would. What it cannot do stays in
// the WAL, where it is just as safe.
func (s *Store) Settle() { _ = s.exec("PRAGMA wal_checkpoint(PASSIVE)") }

// Close gives back the lock and everything else.
func (s *Store) Close() error {
	var err error
	for _, r := range []*beneath.Root{s.top, s.tree, s.stage, s.history_} {
		if r != nil {
			r.Close()
		}
	}
	if s.conn != nil {
		err = s.guard.close(s.conn)
	}
	if s.lock != nil {
		// A child that was forked just now may hold the descriptor too: closing it alone would not unlock.
		unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		s.lock.Close()
	}
	return err
}

// Path is where the store lies.
func (s *Store) Path() string { return s.path }

// Mirror is the open mirror.
func (s *Store) Mirror() *beneath.Root { return s.tree }
