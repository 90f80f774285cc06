// Package apply owns the store: the mirror, the history of what runs replaced, and the catalog. It applies change sets in
// phases that can be cut off anywhere, makes the first copy, and shows any restore point. It knows no source filesystem.
//
// docs/store-format.md describes what is on the disk, docs/design.md why.
package apply

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// The names in a store.
const (
	treeDir     = "tree"
	historyDir  = "history"
	stageDir    = "stage"
	readmeFile  = "README"
	catalogFile = "catalog.db"
	lockFile    = "lock"
)

// Keys of the table meta.
const (
	metaStore   = "store"   // the store's identity, also in the file lock
	metaSource  = "source"  // identity of the source (snapshot.Mark.Source)
	metaCreated = "created" // RFC 3339
	metaFull    = "full"    // why the next comparison must be a full one
)

const readmeText = `This directory is a snapdiff store: a backup of one source.

  tree/     the mirror: a plain copy of the newest snapshot. Any tool can read it and copy out of it.
  history/  what later runs replaced or deleted, one directory a run. Its files have numbers for names; "manifest" in each
            says in plain text which names they had, when, and with which owner, mode and times.
  stage/    where files are built in the middle of a run.
  catalog.db, lock   snapdiff's own.

To get files out without snapdiff: copy them from tree/, or look up a number in the manifests below history/ and copy
history/rRUN/NUMBER. Do not change anything in here by hand: the next run relies on it.
`

// Store is an opened store.
type Store struct {
	path     string
	readOnly bool
	lock     *os.File // held while open for writing
	cat      *catalog
	catPath  string

	mirror, history, stage *beneath.Root
}

// InitOptions says what Init makes.
type InitOptions struct {
	Catalog string // where the catalog is to be, when not in the store
	Source  string // identity of the source (snapshot.Mark.Source); "" is filled in by the first run
	Adopt   bool   // tree/ holds a copy already: it is kept, and the first run compares in full
}

// OpenOptions says how Open opens a store.
type OpenOptions struct {
	Catalog  string // where the catalog is, when not in the store
	ReadOnly bool   // takes no lock; the store may be on read-only media and a run may be on
}

// Init makes a store in a directory that is empty or does not exist (its parent must), or that an Init which was cut off
// has left. The store is for its owner alone.
func Init(path string, opts InitOptions) (*Store, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	catPath := catalogPath(path, opts.Catalog)
	if err := checkLocal(filepath.Dir(catPath)); err != nil {
		return nil, err
	}
	if err := checkEmpty(path, catPath, opts.Adopt); err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the store: %w", err)
	}
	if err := makeStore(path, catPath, opts); err != nil {
		return nil, fmt.Errorf("make the store %s: %w", path, err)
	}
	return Open(path, OpenOptions{Catalog: opts.Catalog})
}

// makeStore fills the directory. The catalog comes last, by a rename: what has one is a whole store.
func makeStore(path, catPath string, opts InitOptions) error {
	for _, dir := range []string{treeDir, historyDir, stageDir} {
		if err := os.Mkdir(filepath.Join(path, dir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(path, readmeFile), []byte(readmeText), 0o600); err != nil {
		return err
	}
	id := rand.Text()
	if err := os.WriteFile(filepath.Join(path, lockFile), []byte(lockText(id)), 0o600); err != nil {
		return err
	}
	temp := catPath + ".init"
	for _, suffix := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(temp + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := createCatalog(temp); err != nil {
		return err
	}
	if err := firstMeta(temp, id, opts); err != nil {
		return err
	}
	if err := os.Rename(temp, catPath); err != nil {
		return err
	}
	return syncDirs(path, filepath.Dir(catPath))
}

func firstMeta(catPath, id string, opts InitOptions) error {
	cat, err := openCatalog(catPath, false)
	if err != nil {
		return err
	}
	defer cat.close()
	return cat.write("set up", func(conn *sqlite.Conn) error {
		full := ""
		if opts.Adopt {
			full = "the mirror was adopted and has never been compared"
		}
		for _, kv := range [][2]string{{metaStore, id}, {metaSource, opts.Source},
			{metaCreated, time.Now().UTC().Format(time.RFC3339)}, {metaFull, full}} {
			if err := setMeta(conn, kv[0], kv[1]); err != nil {
				return err
			}
		}
		return nil
	})
}

// lockText is what the file lock says: it ties a store to its catalog.
func lockText(id string) string {
	return fmt.Sprintf("snapdiff store\nformat %d\nid %s\n", catalogFormat, id)
}

// parseLock is the inverse of lockText.
func parseLock(text string) (format int, id string, err error) {
	if _, err := fmt.Sscanf(text, "snapdiff store\nformat %d\nid %s\n", &format, &id); err != nil {
		return 0, "", ErrNotStore
	}
	return format, id, nil
}

// checkEmpty refuses to make a store where anything is that an Init has not left.
func checkEmpty(path, catPath string, adopt bool) error {
	if _, err := os.Lstat(catPath); err == nil {
		return fmt.Errorf("%w: %s has a catalog already (%s)", ErrExists, path, catPath)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("make the store: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		switch {
		case name == treeDir && adopt, name == "lost+found", name == readmeFile, name == lockFile,
			strings.HasPrefix(name, catalogFile+".init"):
			continue
		case name == treeDir || name == historyDir || name == stageDir:
			inside, err := os.ReadDir(filepath.Join(path, name))
			if err == nil && len(inside) == 0 {
				continue
			}
			if err == nil && name == treeDir {
				return fmt.Errorf("%w: %s holds files; to take them over as the mirror use --adopt", ErrExists, filepath.Join(path, name))
			}
		}
		return fmt.Errorf("%w: %s holds %q; give the store a directory of its own", ErrExists, path, name)
	}
	return nil
}

func catalogPath(path, catalog string) string {
	if catalog != "" {
		return catalog
	}
	return filepath.Join(path, catalogFile)
}

// networkTypes are the f_type numbers (linux/magic.h, and each filesystem's source) on which a catalog cannot lie.
var networkTypes = map[uint32]string{
	0x6969: "NFS", 0xFF534D42: "CIFS", 0xFE534D42: "SMB", 0x517B: "SMB", 0x65735546: "FUSE", 0x01021997: "9P",
	0x00C36400: "CephFS", 0x5346414F: "AFS", 0x73757245: "Coda", 0x0BD00BD0: "Lustre", 0x01161970: "GFS2", 0x7461636F: "OCFS2",
}

// NetworkFilesystem names the network filesystem (or FUSE) that path lies on, "" for a local one.
func NetworkFilesystem(path string) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "", &fs.PathError{Op: "statfs", Path: path, Err: err}
	}
	return networkTypes[uint32(st.Type)], nil
}

func checkLocal(dir string) error {
	kind, err := NetworkFilesystem(dir)
	if err != nil {
		return fmt.Errorf("look at the place of the catalog: %w", err)
	}
	if kind != "" {
		return fmt.Errorf("%w: %s is on %s; set catalog = LOCAL-PATH for this job", ErrNetwork, dir, kind)
	}
	return nil
}

func syncDirs(dirs ...string) error {
	for _, dir := range dirs {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = unix.Syncfs(int(f.Fd()))
		f.Close()
		if err != nil {
			return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
		}
	}
	return nil
}

// Open opens a store. For writing it takes the store's lock and fails at once with ErrLocked when another process has it.
func Open(path string, opts OpenOptions) (*Store, error) {
	s := &Store{path: path, readOnly: opts.ReadOnly, catPath: catalogPath(path, opts.Catalog)}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open() error {
	id, err := s.openLock()
	if err != nil {
		return err
	}
	if !s.readOnly {
		if err := checkLocal(filepath.Dir(s.catPath)); err != nil {
			return err
		}
	}
	if s.cat, err = openCatalog(s.catPath, s.readOnly); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s has no catalog at %s: if init was cut off run it again, else set catalog = PATH: %w", s.path, s.catPath, ErrNotStore)
		}
		return err
	}
	if err := s.checkIdentity(id); err != nil {
		return err
	}
	for dir, root := range map[string]**beneath.Root{treeDir: &s.mirror, historyDir: &s.history, stageDir: &s.stage} {
		if *root, err = beneath.Open(filepath.Join(s.path, dir)); err != nil {
			return fmt.Errorf("%s is damaged: %w", s.path, err)
		}
	}
	return s.checkOneFilesystem()
}

// openLock reads the file lock and, for writing, locks it.
func (s *Store) openLock() (id string, err error) {
	notStore := func(why string) error {
		return fmt.Errorf("%s %w (%s): is the backup disk mounted? A new store is made by snapdiff init", s.path, ErrNotStore, why)
	}
	name := filepath.Join(s.path, lockFile)
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", notStore("no file " + lockFile)
	} else if err != nil {
		return "", fmt.Errorf("open store: %w", err)
	}
	s.lock = f
	buf := make([]byte, 256)
	n, _ := f.Read(buf)
	format, id, err := parseLock(string(buf[:n]))
	if err != nil {
		return "", notStore("its file " + lockFile + " is not snapdiff's")
	}
	if format > catalogFormat {
		return "", fmt.Errorf("%s: %w (format %d): install a newer snapdiff", s.path, ErrNewer, format)
	}
	if s.readOnly {
		return id, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return "", fmt.Errorf("%s: %w", s.path, ErrLocked)
		}
		return "", fmt.Errorf("lock %s: %w", name, err)
	}
	return id, nil
}

func (s *Store) checkIdentity(id string) error {
	return s.cat.read("look at the identity", func(conn *sqlite.Conn) error {
		have, err := getMeta(conn, metaStore)
		if err == nil && have != id {
			err = fmt.Errorf("%s belongs to another store than %s", s.catPath, s.path)
		}
		return err
	})
}

// checkOneFilesystem: things are renamed between the three directories.
func (s *Store) checkOneFilesystem() error {
	var top unix.Stat_t
	for i, r := range []*beneath.Root{s.mirror, s.history, s.stage} {
		st, err := r.Lstat("")
		if err != nil {
			return err
		}
		if i == 0 {
			top = st
		} else if st.Dev != top.Dev {
			return fmt.Errorf("%s: tree, history and stage must be on one filesystem (is something mounted on one of them?)", s.path)
		}
	}
	return nil
}

// Close frees the lock and closes the store. It may be called more than once.
func (s *Store) Close() error {
	var errs []error
	for _, root := range []**beneath.Root{&s.mirror, &s.history, &s.stage} {
		if *root != nil {
			errs = append(errs, (*root).Close())
			*root = nil
		}
	}
	if s.cat != nil {
		errs = append(errs, s.cat.close())
		s.cat = nil
	}
	if s.lock != nil {
		if !s.readOnly {
			// A child process that was forked in between holds the descriptor, and with it the lock, until it runs exec.
			unix.Flock(int(s.lock.Fd()), unix.LOCK_UN)
		}
		errs = append(errs, s.lock.Close())
		s.lock = nil
	}
	return errors.Join(errs...)
}

// Path is the store's directory.
func (s *Store) Path() string { return s.path }

// TreePath is the mirror's directory.
func (s *Store) TreePath() string { return filepath.Join(s.path, treeDir) }

// CatalogPath is the catalog's file.
func (s *Store) CatalogPath() string { return s.catPath }

// Mirror is the opened mirror; it stays the store's own. Nobody but the store writes through it.
func (s *Store) Mirror() *beneath.Root { return s.mirror }

// Source is the identity of the source that the store belongs to, "" before the first run.
func (s *Store) Source() (source string, err error) {
	err = s.cat.read("look up the source", func(conn *sqlite.Conn) error {
		source, err = getMeta(conn, metaSource)
		return err
	})
	return source, err
}

// SetSource makes the store belong to another source. The next comparison is a full one.
func (s *Store) SetSource(source string) error {
	return s.cat.write("set the source", func(conn *sqlite.Conn) error {
		old, err := getMeta(conn, metaSource)
		if err != nil || old == source {
			return err
		}
		if old != "" {
			if err := setMeta(conn, metaFull, "the store was given another source"); err != nil {
				return err
			}
		}
		return setMeta(conn, metaSource, source)
	})
}

// NeedsFull says why the next comparison must be a full one: "" when it need not. (The mirror was adopted, or is not known
// to equal any snapshot.) The commit of a full comparison clears it.
func (s *Store) NeedsFull() (why string, err error) {
	err = s.cat.read("look up how to compare", func(conn *sqlite.Conn) error {
		why, err = getMeta(conn, metaFull)
		return err
	})
	return why, err
}

// Runs gives all runs, the oldest first: restore points (Done), abandoned ones and the unfinished one.
func (s *Store) Runs() (runs []RunRecord, err error) {
	err = s.cat.read("list the runs", func(conn *sqlite.Conn) error {
		return readRuns(conn, `ORDER BY id`, func(r RunRecord) error { runs = append(runs, r); return nil })
	})
	return runs, err
}

// LastRun gives the newest restore point, which the mirror equals; nil when there is none.
func (s *Store) LastRun() (last *RunRecord, err error) {
	err = s.cat.read("look up the last run", func(conn *sqlite.Conn) error {
		last, err = lastRun(conn)
		return err
	})
	return last, err
}

func lastRun(conn *sqlite.Conn) (last *RunRecord, err error) {
	err = readRuns(conn, `WHERE state = 'done' ORDER BY id DESC LIMIT 1`, func(r RunRecord) error { last = &r; return nil })
	return last, err
}

// Mark gives the snapshot that the mirror equals, and whether there is one.
func (s *Store) Mark() (mark snapshot.Mark, ok bool, err error) {
	last, err := s.LastRun()
	if err != nil || last == nil {
		return mark, false, err
	}
	return last.Mark, true, nil
}

// Unfinished gives the run that was cut off; nil when there is none. A Copying one is gone on with by FirstCopy, any other
// by Resume or Abandon.
func (s *Store) Unfinished() (cut *Interrupted, err error) {
	err = s.cat.read("look for an unfinished run", func(conn *sqlite.Conn) error {
		cut, err = unfinished(conn)
		return err
	})
	return cut, err
}

func unfinished(conn *sqlite.Conn) (*Interrupted, error) {
	var cut *Interrupted
	err := readRuns(conn, `WHERE state NOT IN ('done', 'abandoned') ORDER BY id DESC LIMIT 1`, func(r RunRecord) error {
		cut = &Interrupted{RunRecord: r}
		return nil
	})
	if err != nil || cut == nil || cut.How != HowNative {
		return cut, err
	}
	last, err := lastRun(conn)
	if last != nil {
		cut.BaseMark = last.Mark
	}
	return cut, err
}

// Pending gives what earlier runs could not copy, by path. The keys are to be handed to the comparison as
// diff.Options.Again.
func (s *Store) Pending() (list []Pending, err error) {
	err = s.cat.read("read what could not be copied", func(conn *sqlite.Conn) error {
		list, err = readPending(conn)
		return err
	})
	return list, err
}

func readPending(conn *sqlite.Conn) (list []Pending, err error) {
	err = querySQL(conn, `SELECT path, ino, gen, reason FROM pending ORDER BY path`, func(row *sqlite.Stmt) error {
		list = append(list, Pending{
			Path: columnBytes(row, 0), Key: diff.Key{Ino: uint64(row.ColumnInt64(1)), Gen: uint64(row.ColumnInt64(2))},
			Reason: row.ColumnText(3),
		})
		return nil
	})
	return list, err
}
