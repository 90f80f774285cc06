package apply

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// frozen is a catalog that could not be written to through the mount by which it was opened, or on a full disk, and that nobody was writing to:
// SQLite reads it as a file that does not change, without looking for a WAL. On read-only media it does not; but the mount may be a bind
// mount (that of a container, say) of a disk that others write to, and a disk gets room again.
type frozen struct {
	path string
	was  unix.Stat_t
}

// changed tells whether anybody has begun to write to it. Whoever writes makes the WAL longer before what he wrote counts, and when the
// WAL goes it was written into the catalog.
func (f *frozen) changed() (bool, error) {
	if wal, err := os.Stat(f.path + "-wal"); err == nil && wal.Size() > 0 {
		return true, nil
	}
	var now unix.Stat_t
	if err := unix.Stat(f.path, &now); err != nil {
		return false, fmt.Errorf("look at the catalog %s: %w", f.path, err)
	}
	return now.Ino != f.was.Ino || now.Size != f.was.Size || now.Mtim != f.was.Mtim || now.Ctim != f.was.Ctim, nil
}

// openCatalog opens the catalog for the view.
func (v *View) openCatalog() error {
	f := &frozen{path: v.catalog.path}
	if err := unix.Stat(f.path, &f.was); err != nil {
		return fmt.Errorf("look at the catalog %s: %w", f.path, err)
	}
	var conn *sqlite.Conn
	isFrozen := false
	err := v.guard.do(func() (err error) { conn, isFrozen, err = v.catalog.openReadOnly(v.path, isFull); return err })
	if err != nil {
		return err
	}
	if v.conn != nil {
		err = v.guard.do(v.conn.Close)
	}
	if v.conn, v.frozen = conn, nil; isFrozen {
		v.frozen = f
	}
	v.opened++
	return err
}

// thaw opens a frozen catalog anew when somebody has begun to write to it. v.mu is held.
func (v *View) thaw() error {
	if v.frozen == nil {
		return nil
	}
	changed, err := v.frozen.changed()
	if err == nil && changed {
		v.format = 0 // of the connection that is there no more
		err = v.openCatalog()
	}
	return err
}
