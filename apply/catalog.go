package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// The catalog is the store's SQLite database. docs/store-format.md has the meaning of every table.

// applicationID marks the file as ours (the header field that file(1) reads): "sndf".
const applicationID = 0x736e6466

// catalogFormat is the version of the store's format: catalog, plan, history and manifest together.
var catalogFormat = len(migrations)

// migrations bring a catalog from each version to the next; the first one makes it. The types in the partial indexes
// are written out (16384 is S_IFDIR), because SQLite uses such an index only where a query has the very same words.
var migrations = []string{`
CREATE TABLE meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE runs(
	id INTEGER PRIMARY KEY, state TEXT NOT NULL, how TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
	date INTEGER NOT NULL, started INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0,
	mark TEXT NOT NULL, counts TEXT NOT NULL DEFAULT '{}', incomplete INTEGER NOT NULL DEFAULT 0,
	warnings TEXT NOT NULL DEFAULT '[]');
CREATE TABLE nodes(
	id INTEGER PRIMARY KEY, ino INTEGER NOT NULL, gen INTEGER NOT NULL, parent INTEGER NOT NULL, name BLOB,
	type INTEGER NOT NULL, alive INTEGER NOT NULL);
CREATE UNIQUE INDEX nodes_key ON nodes(ino, gen) WHERE alive;
CREATE INDEX nodes_name ON nodes(parent, name) WHERE alive AND type = 16384;
CREATE TABLE names(dir INTEGER NOT NULL, name BLOB NOT NULL, node INTEGER NOT NULL, PRIMARY KEY(dir, name)) WITHOUT ROWID;
CREATE INDEX names_node ON names(node);
CREATE TABLE entries(
	dir INTEGER NOT NULL, name BLOB NOT NULL, run INTEGER NOT NULL, node INTEGER, PRIMARY KEY(dir, name, run)) WITHOUT ROWID;
CREATE INDEX entries_run ON entries(run);
CREATE TABLE versions(
	node INTEGER NOT NULL, run INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL,
	rdev INTEGER NOT NULL, size INTEGER NOT NULL, mtime_s INTEGER NOT NULL, mtime_n INTEGER NOT NULL,
	nlink INTEGER NOT NULL, xattrs BLOB, content INTEGER NOT NULL, PRIMARY KEY(node, run)) WITHOUT ROWID;
CREATE INDEX versions_run ON versions(run);
CREATE TABLE plans(run INTEGER NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY(run, seq));
CREATE TABLE copied(path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE pending(path BLOB PRIMARY KEY, ino INTEGER NOT NULL, gen INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
`}

// catalog is one connection to the catalog. Transactions of one process follow each other; other processes, and other
// connections that only read, are not held up (WAL).
type catalog struct {
	mu   sync.Mutex
	conn *sqlite.Conn
}

// openCatalog opens a catalog that exists, and brings it to the present format unless it is opened for reading only.
func openCatalog(path string, readOnly bool) (*catalog, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	conn, err := connect(path, readOnly)
	if err != nil {
		return nil, fmt.Errorf("open catalog %s: %w", path, err)
	}
	c := &catalog{conn: conn}
	if err := c.prepare(readOnly); err != nil {
		conn.Close()
		return nil, fmt.Errorf("catalog %s: %w", path, err)
	}
	return c, nil
}

// createCatalog makes an empty catalog. Nothing must be at path.
func createCatalog(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("catalog %s: %w", path, os.ErrExist)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	conn, err := connect(path, false)
	if err != nil {
		return fmt.Errorf("make catalog %s: %w", path, err)
	}
	defer conn.Close()
	if err := sqlitex.ExecuteTransient(conn, fmt.Sprintf("PRAGMA application_id = %d", applicationID), nil); err != nil {
		return fmt.Errorf("make catalog %s: %w", path, err)
	}
	return (&catalog{conn: conn}).migrate(0)
}

// connect opens a connection as every user of the catalog needs it.
func connect(path string, readOnly bool) (*sqlite.Conn, error) {
	uri := (&url.URL{Scheme: "file", Path: path}).String()
	flags := sqlite.OpenReadWrite | sqlite.OpenURI | sqlite.OpenWAL
	if readOnly {
		flags = sqlite.OpenReadOnly | sqlite.OpenURI
		if readOnlyMedia(path) {
			uri += "?immutable=1" // no place for the WAL's shared memory, and nobody can write
		}
	}
	conn, err := sqlite.OpenConn(uri, flags)
	if err != nil {
		return nil, err
	}
	conn.SetBusyTimeout(30 * time.Second)
	pragmas := []string{"cache_size = -16000", "temp_store = MEMORY"}
	if !readOnly {
		pragmas = append(pragmas, "synchronous = FULL", "wal_autocheckpoint = 4000")
	}
	for _, p := range pragmas {
		if err := sqlitex.ExecuteTransient(conn, "PRAGMA "+p, nil); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

func readOnlyMedia(path string) bool {
	return errors.Is(unix.Access(path, unix.W_OK), unix.EROFS)
}

// prepare looks whether the file is a catalog and of a known format.
func (c *catalog) prepare(readOnly bool) error {
	id, err := c.pragma("application_id")
	if err != nil {
		return err
	}
	if id != applicationID {
		return errors.New("is not a snapdiff catalog")
	}
	version, err := c.pragma("user_version")
	switch {
	case err != nil:
		return err
	case version > catalogFormat:
		return fmt.Errorf("%w: it has format %d, this one knows up to %d; install a newer snapdiff", ErrNewer, version, catalogFormat)
	case version == catalogFormat:
		return nil
	case readOnly:
		return fmt.Errorf("has the old format %d: the next snapdiff run brings it to format %d", version, catalogFormat)
	}
	return c.migrate(version)
}

// migrate runs the migrations after version, each in a transaction of its own.
func (c *catalog) migrate(version int) error {
	for ; version < len(migrations); version++ {
		script := migrations[version] + fmt.Sprintf("PRAGMA user_version = %d;", version+1)
		if err := sqlitex.ExecuteScript(c.conn, script, nil); err != nil {
			return fmt.Errorf("bring the catalog to format %d: %w", version+1, err)
		}
	}
	return nil
}

func (c *catalog) pragma(name string) (int, error) {
	var value int
	err := sqlitex.ExecuteTransient(c.conn, "PRAGMA "+name, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { value = row.ColumnInt(0); return nil },
	})
	return value, err
}

func (c *catalog) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn.Close()
}

// write runs do in one durable transaction; an error rolls it back.
func (c *catalog) write(doing string, do func(*sqlite.Conn) error) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end, err := sqlitex.ImmediateTransaction(c.conn)
	if err != nil {
		return catalogError(doing, err)
	}
	defer func() { err = catalogError(doing, err) }()
	defer end(&err)
	return do(c.conn)
}

// read runs do in one short read transaction.
func (c *catalog) read(doing string, do func(*sqlite.Conn) error) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := sqlitex.Transaction(c.conn)
	defer func() { err = catalogError(doing, err) }()
	defer end(&err)
	return do(c.conn)
}

// execSQL runs one statement without results; it stays prepared.
func execSQL(conn *sqlite.Conn, query string, args ...any) error {
	return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args})
}

// querySQL runs one statement and calls row for each result.
func querySQL(conn *sqlite.Conn, sql string, row func(*sqlite.Stmt) error, args ...any) error {
	return sqlitex.Execute(conn, sql, &sqlitex.ExecOptions{Args: args, ResultFunc: row})
}

// getMeta gives a value of the table meta, "" when there is none.
func getMeta(conn *sqlite.Conn, key string) (value string, err error) {
	err = querySQL(conn, `SELECT value FROM meta WHERE key = ?`, func(row *sqlite.Stmt) error {
		value = row.ColumnText(0)
		return nil
	}, key)
	return value, err
}

// setMeta sets a value of the table meta; "" removes it.
func setMeta(conn *sqlite.Conn, key, value string) error {
	if value == "" {
		return execSQL(conn, `DELETE FROM meta WHERE key = ?`, key)
	}
	return execSQL(conn, `INSERT OR REPLACE INTO meta(key, value) VALUES (?, ?)`, key, value)
}

const runColumns = `id, state, how, reason, date, started, finished, mark, counts, incomplete, warnings`

// readRuns calls each for the runs that the condition selects.
func readRuns(conn *sqlite.Conn, condition string, each func(RunRecord) error, args ...any) error {
	return querySQL(conn, `SELECT `+runColumns+` FROM runs `+condition, func(row *sqlite.Stmt) error {
		r, err := scanRun(row)
		if err != nil {
			return err
		}
		return each(r)
	}, args...)
}

func scanRun(row *sqlite.Stmt) (RunRecord, error) {
	r := RunRecord{
		ID: row.ColumnInt64(0), State: State(row.ColumnText(1)), How: row.ColumnText(2), Reason: row.ColumnText(3),
		Date: fromNanos(row.ColumnInt64(4)), Started: fromNanos(row.ColumnInt64(5)), Finished: fromNanos(row.ColumnInt64(6)),
		Incomplete: row.ColumnInt64(9),
	}
	for col, into := range map[int]any{7: &r.Mark, 8: &r.Counts, 10: &r.Warnings} {
		if err := json.Unmarshal([]byte(row.ColumnText(col)), into); err != nil {
			return r, fmt.Errorf("run r%d: %w", r.ID, err)
		}
	}
	return r, nil
}

// insertRun makes the row of a run. ID 0: the next one is taken and put into r.
func insertRun(conn *sqlite.Conn, r *RunRecord) error {
	if r.ID == 0 {
		err := querySQL(conn, `SELECT coalesce(max(id), 0) + 1 FROM runs`, func(row *sqlite.Stmt) error {
			r.ID = row.ColumnInt64(0)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return saveRun(conn, r)
}

// saveRun writes all fields of a run.
func saveRun(conn *sqlite.Conn, r *RunRecord) error {
	var text [3]string
	for i, v := range []any{r.Mark, r.Counts, r.Warnings} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		text[i] = string(b)
	}
	return execSQL(conn, `INSERT OR REPLACE INTO runs(`+runColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		r.ID, string(r.State), r.How, r.Reason, toNanos(r.Date), toNanos(r.Started), toNanos(r.Finished),
		text[0], text[1], r.Incomplete, text[2])
}

// toNanos is how times are stored: nanoseconds since the epoch, 0 for none.
func toNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
