// Package apply owns the store: the mirror, its history and the catalog. It brings a change set into the mirror so that
// every earlier restore point stays readable, and it finishes what was cut off. It knows nothing of any source filesystem.
package apply

import (
	"errors"
	"fmt"
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

// Store is one job's store, open and locked.
type Store struct {
	path                       string
	top, tree, stage, history_ *beneath.Root
	conn                       *sqlite.Conn
	lock                       *os.File
}

// Init makes a store in a directory that is empty or not there, readable by its owner alone.
func Init(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	for _, n := range names {
		if n.Name() != "lost+found" {
			return fmt.Errorf("making a store in %s: %w (it holds %q): choose another place, or remove what is there", path, ErrNotEmpty, n.Name())
		}
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("making the store: %w", err)
	}
	for _, d := range []string{"tree", "history", "stage"} {
		if err := os.Mkdir(filepath.Join(path, d), 0o700); err != nil {
			return fmt.Errorf("making the store: %w", err)
		}
	}
	for name, text := range map[string]string{"README": storeReadme, "lock": ""} {
		if err := os.WriteFile(filepath.Join(path, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("making the store: %w", err)
		}
	}
	// The catalog comes last: what has none is no store.
	return createCatalog(filepath.Join(path, "catalog.db"))
}

// Open opens a store and locks it.
func Open(path string) (s *Store, err error) {
	if _, err := os.Stat(filepath.Join(path, "catalog.db")); err != nil {
		return nil, fmt.Errorf("%s %w (no catalog.db): is the backup disk mounted? A new store is made by snapdiff init", path, ErrNotStore)
	}
	s = &Store{path: path}
	opened := s // an error return clears s
	defer func() {
		if err != nil {
			opened.Close()
		}
	}()
	if s.lock, err = os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("locking the store: %w", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: %w: wait until it has ended", path, ErrLocked)
	}
	if s.conn, err = openCatalog(filepath.Join(path, "catalog.db")); err != nil {
		return nil, err
	}
	for _, r := range []struct {
		to  **beneath.Root
		dir string
	}{{&s.top, ""}, {&s.tree, "tree"}, {&s.stage, "stage"}, {&s.history_, "history"}} {
		if *r.to, err = beneath.Open(filepath.Join(path, r.dir)); err != nil {
			return nil, fmt.Errorf("opening the store: %w", err)
		}
	}
	return s, nil
}

// Close gives back the lock and everything else.
func (s *Store) Close() error {
	var err error
	for _, r := range []*beneath.Root{s.top, s.tree, s.stage, s.history_} {
		if r != nil {
			r.Close()
		}
	}
	if s.conn != nil {
		err = s.conn.Close()
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
