package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/snapshot"
)

const (
	catalogID     = 0x736e6470 // "sndp", SQLite's application_id
	catalogFormat = 1          // SQLite's user_version
)

// schema is described in docs/store-format.md.
const schema = `
CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE runs(id INTEGER PRIMARY KEY AUTOINCREMENT, state TEXT NOT NULL, how TEXT NOT NULL, reason TEXT NOT NULL, date INTEGER NOT NULL,
  started INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0, mark TEXT NOT NULL, counts TEXT NOT NULL DEFAULT '{}',
  incomplete INTEGER NOT NULL DEFAULT 0, warnings TEXT NOT NULL DEFAULT '[]');
CREATE TABLE nodes(id INTEGER PRIMARY KEY AUTOINCREMENT, ino INTEGER, gen INTEGER, parent INTEGER, name BLOB, type INTEGER NOT NULL, alive INTEGER NOT NULL);
CREATE UNIQUE INDEX node_key ON nodes(ino, gen) WHERE alive;
CREATE UNIQUE INDEX node_dir ON nodes(parent, name) WHERE alive AND type = 16384;
CREATE TABLE names(dir INTEGER, name BLOB, node INTEGER NOT NULL, PRIMARY KEY(dir, name)) WITHOUT ROWID;
CREATE INDEX names_node ON names(node);
CREATE TABLE entries(dir INTEGER, name BLOB, run INTEGER, node INTEGER, PRIMARY KEY(dir, name, run)) WITHOUT ROWID;
CREATE TABLE versions(node INTEGER, run INTEGER, mode INTEGER, uid INTEGER, gid INTEGER, rdev INTEGER, size INTEGER, mtime_s INTEGER, mtime_n INTEGER,
  nlink INTEGER, xattrs BLOB, content INTEGER NOT NULL, PRIMARY KEY(node, run)) WITHOUT ROWID;
CREATE INDEX versions_run ON versions(run);
CREATE TABLE plans(run INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE copied(path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pending(path BLOB PRIMARY KEY, ino INTEGER, gen INTEGER, reason TEXT) WITHOUT ROWID;
`

// ErrFormat says that a catalog was written by another version.
var ErrFormat = errors.New("store has a format that this snapdiff does not know")

// createCatalog makes the catalog under another name first, so that a cut leaves no half one.
func createCatalog(path string) error {
	tmp := path + ".new"
	os.Remove(tmp)
	conn, err := sqlite.OpenConn(tmp, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return catalogError("create it", err)
	}
	script := fmt.Sprintf("PRAGMA application_id=%d; PRAGMA user_version=%d; %s", catalogID, catalogFormat, schema)
	err = errors.Join(sqlitex.ExecuteScript(conn, script, nil), conn.Close())
	if err != nil {
		return catalogError("create it", err)
	}
	return os.Rename(tmp, path)
}

func openCatalog(path string) (*sqlite.Conn, error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, catalogError("open "+path, err)
	}
	conn.SetBusyTimeout(10 * time.Second)
	id, version := int64(0), int64(0)
	for pragma, to := range map[string]*int64{"application_id": &id, "user_version": &version} {
		err = errors.Join(err, sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, &sqlitex.ExecOptions{
			ResultFunc: func(row *sqlite.Stmt) error { *to = row.ColumnInt64(0); return nil },
		}))
	}
	switch {
	case err != nil:
		err = catalogError("open "+path, err)
	case id != catalogID || version != catalogFormat:
		err = fmt.Errorf("%s: %w: it is format %d, this one reads %d", path, ErrFormat, version, catalogFormat)
	default:
		err = catalogError("open "+path, sqlitex.ExecuteTransient(conn, "PRAGMA journal_mode=WAL", nil))
		err = errors.Join(err, catalogError("open "+path, sqlitex.ExecuteTransient(conn, "PRAGMA synchronous=FULL", nil)))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// exec runs one statement of the catalog.
func (s *Store) exec(query string, args ...any) error {
	return sqlitex.Execute(s.conn, query, &sqlitex.ExecOptions{Args: args})
}

// query runs one statement and hands over its rows.
func (s *Store) query(query string, row func(*sqlite.Stmt) error, args ...any) error {
	return sqlitex.Execute(s.conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row})
}

// transaction runs f whole or not at all.
func (s *Store) transaction(doing string, f func() error) (err error) {
	end, err := sqlitex.ImmediateTransaction(s.conn)
	if err != nil {
		return catalogError(doing, err)
	}
	defer func() { end(&err); err = catalogError(doing, err) }()
	return f()
}

// Meta reads a setting that the store keeps; "" when it was never set.
func (s *Store) Meta(key string) (value string, err error) {
	err = s.query(`SELECT value FROM meta WHERE key = ?`, func(row *sqlite.Stmt) error { value = row.ColumnText(0); return nil }, key)
	return value, catalogError("read "+key, err)
}

// SetMeta keeps a setting.
func (s *Store) SetMeta(key, value string) error {
	return catalogError("write "+key, s.exec(`INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)`, key, value))
}

// States of a run, in order. A copying run is a first copy.
const (
	Copying  = "copying"
	Recorded = "recorded"
	Detached = "detached"
	Attached = "attached"
	Finished = "finished"
	Done     = "done"
)

// Counts are what a run did.
type Counts struct {
	Added    int64 `json:"added"`    // names that came
	Removed  int64 `json:"removed"`  // names that went
	Modified int64 `json:"modified"` // inodes with other data
	Meta     int64 `json:"meta"`     // inodes with other metadata only
	Files    int64 `json:"files"`    // names of files copied by a first copy
	Dirs     int64 `json:"dirs"`     // directories made by a first copy
	Bytes    int64 `json:"bytes"`    // of the files that were copied
}

// RunInfo is one row of runs.
type RunInfo struct {
	ID             int64
	State          string
	How            string // first, native, full
	Reason         string // why it was no native one
	Date           time.Time
	Started, Ended time.Time
	Mark           snapshot.Mark
	Counts         Counts
	Incomplete     int64 // files that could not be copied
	Warnings       []string
}

// Runs gives all runs, oldest first.
func (s *Store) Runs() (runs []RunInfo, err error) {
	err = s.query(`SELECT id, state, how, reason, date, started, finished, mark, counts, incomplete, warnings FROM runs ORDER BY id`, func(row *sqlite.Stmt) error {
		r := RunInfo{
			ID: row.ColumnInt64(0), State: row.ColumnText(1), How: row.ColumnText(2), Reason: row.ColumnText(3), Date: time.Unix(0, row.ColumnInt64(4)),
			Started: time.Unix(0, row.ColumnInt64(5)), Ended: time.Unix(0, row.ColumnInt64(6)), Incomplete: row.ColumnInt64(9),
		}
		err := errors.Join(json.Unmarshal([]byte(row.ColumnText(7)), &r.Mark), json.Unmarshal([]byte(row.ColumnText(8)), &r.Counts), json.Unmarshal([]byte(row.ColumnText(10)), &r.Warnings))
		runs = append(runs, r)
		return err
	})
	return runs, catalogError("read the runs", err)
}

// Last is the newest finished run, nil when there is none; Unfinished the one that was cut off.
func (s *Store) Last() (last, unfinished *RunInfo, err error) {
	runs, err := s.Runs()
	for i := range runs {
		if runs[i].State == Done {
			last = &runs[i]
		} else {
			unfinished = &runs[i]
		}
	}
	return last, unfinished, err
}

func (s *Store) newRun(state, how, reason string, mark snapshot.Mark) (int64, error) {
	m, err := json.Marshal(mark)
	if err != nil {
		return 0, err
	}
	err = s.exec(`INSERT INTO runs(state, how, reason, date, started, mark) VALUES (?, ?, ?, ?, ?, ?)`,
		state, how, reason, mark.Taken.UnixNano(), time.Now().UnixNano(), string(m))
	return s.conn.LastInsertRowID(), catalogError("begin a run", err)
}

func (s *Store) setState(run int64, state string) error {
	return catalogError("mark the run "+state, s.exec(`UPDATE runs SET state = ? WHERE id = ?`, state, run))
}

// endRun closes a run within the caller's transaction.
func (s *Store) endRun(run int64, c Counts, incomplete int, warnings []string) error {
	counts, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if warnings == nil {
		warnings = []string{}
	}
	said, err := json.Marshal(warnings)
	if err != nil {
		return err
	}
	return s.exec(`UPDATE runs SET state = ?, finished = ?, counts = ?, incomplete = ?, warnings = ? WHERE id = ?`,
		Done, time.Now().UnixNano(), string(counts), incomplete, string(said), run)
}
