package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// isFull tells whether the disk of a catalog has no room, or no inodes, for shared memory. (To write to memory that is mapped there would end
// the program: SIGBUS.) Nobody can write to the catalog then.
func isFull(catalog string) bool {
	var st unix.Statfs_t
	return unix.Statfs(filepath.Dir(catalog), &st) == nil && (int64(st.Bavail)*st.Bsize < 64<<10 || st.Files > 0 && st.Ffree < 2)
}

// OpenReadOnly opens a store for reading what the catalog knows. It takes no lock and writes nothing: it can be used while a
// run is on and on read-only media. What it reads is right at the moment of each call; the methods that change a store
// fail. Close it as any other.
func OpenReadOnly(path string, opts ...Option) (s *Store, err error) {
	conn, err := openCatalogReadOnly(path, optionsOf(opts).catalog, isFull)
	if err != nil {
		return nil, err
	}
	s = &Store{path: path, conn: conn}
	if err := s.openRoots(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// OpenStill is OpenReadOnly for who needs the store not to change meanwhile: it is locked, which needs no writing.
func OpenStill(path string, opts ...Option) (*Store, error) {
	s, err := OpenReadOnly(path, opts...)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(filepath.Join(path, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil // whoever writes makes it; doctor says that it is missing
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("locking the store: %w", err), s.Close())
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, errors.Join(locked(path), s.Close())
	}
	s.lock = lock
	return s, nil
}

// openCatalogReadOnly opens a catalog for reading beside a run that writes. catalog is its path when it does not lie in the
// store, else "". alone, where set, tells that nobody can write to the catalog for as long as the connection is needed.
func openCatalogReadOnly(path, catalog string, alone func(catalog string) bool) (conn *sqlite.Conn, err error) {
	var guard faultGuard
	err = guard.do(func() (err error) { conn, err = connectReadOnly(path, catalog, alone); return err })
	return conn, err
}

func connectReadOnly(path, catalog string, alone func(catalog string) bool) (*sqlite.Conn, error) {
	place, err := findCatalog(path, catalog)
	if err != nil {
		return nil, err
	}
	conn, _, err := place.openReadOnly(path, alone)
	return conn, err
}

// openReadOnly is openCatalogReadOnly for the catalog that was found of a store. frozen: SQLite takes the file for one that does not change.
func (place catalogPlace) openReadOnly(store string, alone func(catalog string) bool) (conn *sqlite.Conn, frozen bool, err error) {
	query, err := readOnlyMode(place.path, alone)
	if err != nil {
		return nil, false, fmt.Errorf("open catalog %s: %w", place.path, err)
	}
	if query == frozenMode {
		conn, err = place.connect(store, query)
		return conn, true, err
	}
	steadySharedMemory(place.path)
	conn, err = place.connect(store, query)
	if alone == nil || !noSharedMemory(err) { // some filesystems are full with a little room left
		return conn, false, err
	}
	if query, modeErr := readOnlyMode(place.path, func(string) bool { return true }); modeErr != nil || query != frozenMode {
		return nil, false, err
	}
	conn, err = place.connect(store, frozenMode)
	return conn, true, err
}

// noSharedMemory tells an error of SQLite that shared memory could not be made.
func noSharedMemory(err error) bool {
	code := sqlite.ErrCode(err).ToPrimary()
	return err != nil && (code == sqlite.ResultCantOpen || code == sqlite.ResultIOErr || code == sqlite.ResultFull)
}

// connect opens the catalog in a mode, and makes sure that it is one of this store. A run that is given up takes back what it had begun, in the
// store first: who looked there before that and at the catalog after it looks again.
func (place catalogPlace) connect(store, query string) (*sqlite.Conn, error) {
	conn, err := place.connectOnce(store, query)
	if wrong := (*DamagedCatalog)(nil); errors.As(err, &wrong) {
		conn, err = place.connectOnce(store, query)
	}
	return conn, err
}

func (place catalogPlace) connectOnce(store, query string) (conn *sqlite.Conn, err error) {
	seen := seeStore(store) // before the catalog, which may be ahead of it
	uri := url.URL{Scheme: "file", Path: place.path, RawQuery: query}
	conn, err = sqlite.OpenConn(uri.String(), sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return nil, catalogError("open "+place.path, err)
	}
	conn.SetBusyTimeout(10 * time.Second)
	if _, err := showAsNewest(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("catalog %s %w", place.path, damaged(err))
	}
	if err := place.check(conn, seen); err != nil {
		conn.Close()
		return nil, fmt.Errorf("catalog %s: %w", place.path, err)
	}
	return conn, nil
}

const frozenMode = "immutable=1"

// readOnlyMode is how SQLite is to open a catalog that is only read. Beside a WAL it wants to make shared memory; where that
// cannot be, the file alone is read, which is right only when there is no WAL.
func readOnlyMode(catalog string, alone func(catalog string) bool) (string, error) {
	err := unix.Access(filepath.Dir(catalog), unix.W_OK)
	if err == nil && (alone == nil || !alone(catalog)) {
		return "mode=ro", nil
	}
	if err != nil && !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.EACCES) {
		return "", err
	}
	wal, err := os.Stat(catalog + "-wal")
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && wal.Size() == 0:
		return frozenMode, nil
	case err != nil:
		return "", err
	}
	if _, err := os.Stat(catalog + "-shm"); err != nil {
		return "", fmt.Errorf("a run was cut off and left %s-wal: mount the disk writable once and look again", filepath.Base(catalog))
	}
	return "mode=ro", nil
}
