package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/snapshot"
)

// What the catalog has of its pages in memory, in KiB as SQLite counts them; they take up a tenth more (see sqliteMemory). With its own choice a run of a few
// thousand changes reads 20,000 pages again, and writes those that it changes to the WAL several times. A large run needs its memory for itself.
const (
	cacheOfRun = 32 << 10
	cacheElse  = 2000
)

// How many pages the WAL may have before what is in it is brought into the catalog. That happens with a commit and costs two syncs. A run, for
// which there is room, waits with it until its end.
const (
	walPagesOfRun = 10_000
	walPagesElse  = 1000
)

// openCatalog opens a catalog for writing. One of an older format is upgraded.
func openCatalog(path string) (*sqlite.Conn, error) {
	steadySharedMemory(path)
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, catalogError("open "+path, err)
	}
	conn.SetBusyTimeout(10 * time.Second)
	format, err := checkFormat(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("catalog %s %w", path, damaged(err))
	}
	for _, pragma := range []string{"journal_mode=WAL", "synchronous=FULL"} {
		err = errors.Join(err, sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, nil))
	}
	if err == nil {
		err = upgradeCatalog(conn, format)
	}
	if err != nil {
		conn.Close()
		return nil, catalogError("open "+path, err)
	}
	return conn, nil
}

// forRun sets the catalog up for a run of so many inodes; end takes that back. It is no failure when it cannot be done.
func (s *Store) forRun(inodes int) (end func()) {
	set := func(cache, wal int) {
		s.cachePages(cache)
		_ = s.exec(fmt.Sprint("PRAGMA wal_autocheckpoint=", wal))
	}
	cache := cacheElse
	if inodes <= smallPlan {
		cache = cacheOfRun
	}
	set(cache, walPagesOfRun)
	return func() { set(cacheElse, walPagesElse) }
}

// cachePages says how much of its pages the catalog is to have in memory, in KiB. It is no failure when it cannot be done.
func (s *Store) cachePages(cache int) { _ = s.exec(fmt.Sprint("PRAGMA cache_size=-", cache)) }

// exec runs one statement of the catalog.
func (s *Store) exec(query string, args ...any) error {
	return s.query(query, nil, args...)
}

// query runs one statement and hands over its rows.
func (s *Store) query(query string, row func(*sqlite.Stmt) error, args ...any) error {
	return s.guard.do(func() error { return sqlitex.Execute(s.conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row}) })
}

// transaction runs f whole or not at all.
func (s *Store) transaction(doing string, f func() error) (err error) {
	return catalogError(doing, s.guard.transaction(s.conn, f))
}

// atOneTime lets f read the catalog as it is at one time: to begin and end a transaction for each question costs more than its answer.
// It may be called within a transaction.
func (s *Store) atOneTime(f func() error) error {
	return s.guard.do(func() (err error) {
		defer sqlitex.Save(s.conn)(&err)
		return f()
	})
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
	Saved    = "saved"   // only in runs that patch files in place
	Patched  = "patched" // likewise
	Detached = "detached"
	Attached = "attached"
	Finished = "finished"
	Done     = "done"
	// Abandoned is a run that was undone. It is no restore point.
	Abandoned = "abandoned"
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
	Mark           snapshot.Mark // of the snapshot that it made the mirror equal to
	Base           snapshot.Mark // of the one that it was compared with; zero for a first copy and a full comparison
	Space          int64         // bytes that its history takes up on the disk
	Counts         Counts
	Incomplete     int64 // files that could not be copied
	Warnings       []string
}

// Runs gives all runs, oldest first.
func (s *Store) Runs() ([]RunInfo, error) { return s.runs(`ORDER BY id`) }

// runs reads the runs that the end of a query picks.
func (s *Store) runs(which string) (runs []RunInfo, err error) {
	err = s.query(`SELECT id, state, how, reason, date, started, finished, mark, counts, incomplete, warnings, base, space FROM runs `+which, func(row *sqlite.Stmt) error {
		r := RunInfo{
			ID: row.ColumnInt64(0), State: row.ColumnText(1), How: row.ColumnText(2), Reason: row.ColumnText(3), Date: time.Unix(0, row.ColumnInt64(4)),
			Started: time.Unix(0, row.ColumnInt64(5)), Ended: time.Unix(0, row.ColumnInt64(6)), Incomplete: row.ColumnInt64(9), Space: row.ColumnInt64(12),
		}
		err := errors.Join(json.Unmarshal([]byte(row.ColumnText(7)), &r.Mark), json.Unmarshal([]byte(row.ColumnText(8)), &r.Counts), json.Unmarshal([]byte(row.ColumnText(10)), &r.Warnings))
		if base := row.ColumnText(11); base != "" {
			err = errors.Join(err, json.Unmarshal([]byte(base), &r.Base))
		}
		runs = append(runs, r)
		if err != nil {
			err = &DamagedCatalog{fmt.Errorf("run r%d: %w", r.ID, err)}
		}
		return err
	})
	return runs, catalogError("read the runs", err)
}

// Last is the newest finished run, nil when there is none; Unfinished the one that was cut off: no run begins before it is
// ended, so it is the newest of all.
func (s *Store) Last() (last, unfinished *RunInfo, err error) {
	newest, err := s.runs(`ORDER BY id DESC LIMIT 1`)
	if err != nil || len(newest) == 0 {
		return nil, nil, err
	}
	if newest[0].State == Done {
		return &newest[0], nil, nil
	}
	if newest[0].State != Abandoned {
		unfinished = &newest[0]
	}
	done, err := s.runs(`WHERE state = 'done' ORDER BY id DESC LIMIT 1`)
	if err == nil && len(done) > 0 {
		last = &done[0]
	}
	return last, unfinished, err
}

// newRun begins a run; id 0 takes the next.
func (s *Store) newRun(id int64, state, how, reason string, base, mark snapshot.Mark) (int64, error) {
	m, err := json.Marshal(mark)
	if err != nil {
		return 0, err
	}
	var b []byte
	if base.ID != "" {
		if b, err = json.Marshal(base); err != nil {
			return 0, err
		}
	}
	if id != 0 { // runs are in the order of their ids: everything that reads history rests on it
		later := false
		err := s.query(`SELECT 1 FROM runs WHERE id >= ? LIMIT 1`, func(*sqlite.Stmt) error { later = true; return nil }, id)
		if err == nil && later {
			err = fmt.Errorf("a later run than r%d has begun", id)
		}
		if err != nil {
			return 0, catalogError("begin a run", err)
		}
	}
	err = s.exec(`INSERT INTO runs(id, state, how, reason, date, started, base, mark) VALUES (nullif(?, 0), ?, ?, ?, ?, ?, ?, ?)`,
		id, state, how, reason, mark.Taken.UnixNano(), time.Now().UnixNano(), string(b), string(m))
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

// noContent notes that a run had no contents of a node to keep: they are those of the next later version, if any.
func (s *Store) noContent(node, run int64) error {
	return catalogError("note what is lost", s.exec(`UPDATE versions SET content = ? WHERE node = ? AND run = ?`, contentLater, node, run))
}
