package apply

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// A prune, an erase and whoever gives up a run change what lies in history for runs that are done. A catalog that was copied before that and is put
// back later would speak of objects that are not there any more, or not whole, and its next run would lead from its manifest to ones that are gone. So
// catalog and history both have a number, which each of these raises: first, in the transaction with which it begins, that of the catalog, then, before
// it removes anything, that of history, which is in the name of an empty file: to rename it takes no room. A catalog with a lower number than history is an
// old copy. (One with a higher number was cut off in between.) A prune raises both again when it has ended.

// metaRewritten is the number in the catalog; none is 0.
const metaRewritten = "rewritten"

// rewrittenPrefix begins the name of the file in history.
const rewrittenPrefix = "rewritten-"

// raiseRewritten raises the number in the catalog, within the caller's transaction.
func (s *Store) raiseRewritten() error {
	return catalogError("note that history is rewritten",
		s.exec(`INSERT INTO meta(key, value) VALUES (?, '1') ON CONFLICT(key) DO UPDATE SET value = CAST(value AS INTEGER) + 1`, metaRewritten))
}

// noteRewritten raises the number in history to that in the catalog.
func (s *Store) noteRewritten() error {
	var n int64
	err := s.guard.do(func() (err error) { n, err = numberOf(s.conn, metaRewritten); return err })
	if err != nil {
		return err
	}
	return s.raiseInHistory(n)
}

// raiseInHistory raises the number in history to n.
func (s *Store) raiseInHistory(n int64) (err error) {
	have := highestIn(s.path, rewrittenPrefix)
	if have >= n {
		return nil
	}
	if name := fmt.Sprint(rewrittenPrefix, n); have > 0 {
		err = os.Rename(filepath.Join(s.path, "history", fmt.Sprint(rewrittenPrefix, have)), filepath.Join(s.path, "history", name))
	} else {
		var fd int
		if fd, err = s.history_.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600); err == nil {
			err = unix.Close(fd)
		}
	}
	if err != nil {
		err = fmt.Errorf("noting that history is rewritten: %w", err)
	}
	return err
}

// metaUntold is up to which run there was history of which no manifest had told when the catalog was rebuilt: it is not behind that.
const metaUntold = "untold"

// numberOf reads a setting of a catalog that is a number; none is 0.
func numberOf(conn *sqlite.Conn, key string) (n int64, err error) {
	err = sqlitex.Execute(conn, `SELECT value FROM meta WHERE key = ?`, &sqlitex.ExecOptions{
		Args: []any{key}, ResultFunc: func(row *sqlite.Stmt) error { n = row.ColumnInt64(0); return nil },
	})
	return n, catalogError("read whether it is an old copy", err)
}
