package apply

import (
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

const (
	catalogID     = 0x736e6470           // "sndp", SQLite's application_id
	catalogFormat = int64(len(upgrades)) // SQLite's user_version
)

// upgrade makes a catalog of one format from that of the format before.
type upgrade struct {
	script string
	// convert, where set, does within the same transaction what no script can. It comes after the script.
	convert func(*sqlite.Conn) error
	// show makes a catalog of the format before look like this one to a connection that only reads. (What is temporary hides
	// what is in the file.)
	show string
}

// upgrades are the formats of the catalog in order: a new store goes through all of them, an older one through those that
// it lacks. A format that was released is never changed, and each has other tables than all before (see schema). Tables and columns are described in docs/store-format.md.
var upgrades = [...]upgrade{
	{script: `
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
`},
	{script: `
ALTER TABLE plans RENAME TO plans_1;
CREATE TABLE plans(run INTEGER NOT NULL, seq INTEGER NOT NULL, data BLOB NOT NULL, UNIQUE(run, seq));
ALTER TABLE runs ADD COLUMN base TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN space INTEGER NOT NULL DEFAULT 0;
CREATE INDEX entries_run ON entries(run);
CREATE INDEX entries_node ON entries(node) WHERE node IS NOT NULL;
CREATE TABLE links(ino INTEGER, dir INTEGER, name BLOB, gen INTEGER NOT NULL, sig INTEGER, PRIMARY KEY(ino, dir, name)) WITHOUT ROWID;
ALTER TABLE nodes ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
CREATE TABLE moves(node INTEGER, path BLOB, PRIMARY KEY(node, path)) WITHOUT ROWID;
CREATE TABLE times(node INTEGER PRIMARY KEY, mtime_s INTEGER, mtime_n INTEGER);
CREATE TABLE pruning(run INTEGER PRIMARY KEY);
CREATE TABLE trash(run INTEGER, node INTEGER, bytes INTEGER NOT NULL, PRIMARY KEY(run, node)) WITHOUT ROWID;
`, convert: plansInPieces, show: `
CREATE TEMP VIEW runs AS SELECT *, '' AS base, 0 AS space FROM main.runs;
CREATE TEMP VIEW moves AS SELECT 0 AS node, x'' AS path WHERE 0;
CREATE TEMP VIEW times AS SELECT 0 AS node, 0 AS mtime_s, 0 AS mtime_n WHERE 0;
CREATE TEMP VIEW pruning AS SELECT 0 AS run WHERE 0;
CREATE TEMP VIEW trash AS SELECT 0 AS run, 0 AS node, 0 AS bytes WHERE 0;
`},
	{script: `
CREATE TABLE saved(node INTEGER, run INTEGER, off INTEGER, len INTEGER NOT NULL, object INTEGER NOT NULL, PRIMARY KEY(node, run, off)) WITHOUT ROWID;
CREATE TABLE patches(node INTEGER PRIMARY KEY, ino INTEGER NOT NULL, failed TEXT);
CREATE TABLE trim(run INTEGER, node INTEGER, bytes INTEGER NOT NULL, PRIMARY KEY(run, node)) WITHOUT ROWID;
CREATE TABLE sums(ino INTEGER PRIMARY KEY, sum INTEGER NOT NULL);
`, show: `
CREATE TEMP VIEW saved AS SELECT 0 AS node, 0 AS run, 0 AS off, 0 AS len, 0 AS object WHERE 0;
CREATE TEMP VIEW trim AS SELECT 0 AS run, 0 AS node, 0 AS bytes WHERE 0;
CREATE TEMP VIEW sums AS SELECT 0 AS ino, 0 AS sum WHERE 0;
`},
	{script: `
CREATE TABLE signatures(block INTEGER PRIMARY KEY, sigs BLOB NOT NULL);
`, convert: packSignatures, show: `
CREATE TEMP VIEW signatures AS SELECT 0 AS block, x'' AS sigs WHERE 0;
`},
}

// ErrFormat says that a catalog was written by a newer version.
var ErrFormat = errors.New("was written by a newer snapdiff: use that one")

// createCatalog makes the catalog under another name first, so that a cut leaves no half one.
func createCatalog(path string) error {
	tmp := path + ".new"
	os.Remove(tmp)
	conn, err := sqlite.OpenConn(tmp, sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return catalogError("create it", err)
	}
	err = sqlitex.ExecuteTransient(conn, fmt.Sprintf("PRAGMA application_id=%d", catalogID), nil)
	err = errors.Join(err, upgradeCatalog(conn, 0), conn.Close())
	if err != nil {
		return catalogError("create it", err)
	}
	return os.Rename(tmp, path)
}

// upgradeCatalog brings a catalog from the format that it has to the newest one, whole or not at all.
func upgradeCatalog(conn *sqlite.Conn, from int64) (err error) {
	if from == catalogFormat {
		return nil
	}
	end, err := sqlitex.ImmediateTransaction(conn)
	if err != nil {
		return err
	}
	defer end(&err)
	for i, u := range upgrades[from:] {
		err := sqlitex.ExecuteScript(conn, u.script, nil)
		if err == nil && u.convert != nil {
			err = u.convert(conn)
		}
		if err != nil {
			return fmt.Errorf("make format %d: %w", from+int64(i)+1, err)
		}
	}
	return sqlitex.ExecuteTransient(conn, fmt.Sprintf("PRAGMA user_version=%d", catalogFormat), nil)
}

// showAsNewest lets a connection that only reads see an older catalog as one of the newest format. It gives the format that it
// has; when another program makes a newer one of it, it is to be called again.
func showAsNewest(conn *sqlite.Conn) (format int64, err error) {
	if format, err = checkFormat(conn); err != nil {
		return 0, err
	}
	var shown []string
	err = sqlitex.ExecuteTransient(conn, `SELECT name FROM temp.sqlite_master WHERE type = 'view'`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { shown = append(shown, row.ColumnText(0)); return nil },
	})
	for _, name := range shown {
		err = errors.Join(err, sqlitex.ExecuteTransient(conn, `DROP VIEW temp.`+name, nil))
	}
	for _, u := range upgrades[format:] {
		err = errors.Join(err, sqlitex.ExecuteScript(conn, u.show, nil))
	}
	if err != nil {
		return 0, fmt.Errorf("has format %d: %w", format, err)
	}
	return format, nil
}

// formatOf reads the format number of a catalog and refuses one that is newer than this program, with ErrFormat.
func formatOf(conn *sqlite.Conn) (int64, error) {
	id, version := int64(0), int64(0)
	for pragma, to := range map[string]*int64{"application_id": &id, "user_version": &version} {
		err := sqlitex.ExecuteTransient(conn, "PRAGMA "+pragma, &sqlitex.ExecOptions{
			ResultFunc: func(row *sqlite.Stmt) error { *to = row.ColumnInt64(0); return nil },
		})
		if err != nil {
			return 0, err
		}
	}
	switch {
	case id != catalogID || version < 1:
		return 0, &DamagedCatalog{errors.New("this is no catalog of snapdiff")}
	case version > catalogFormat:
		return version, fmt.Errorf("%w (it has format %d, this one knows %d)", ErrFormat, version, catalogFormat)
	}
	return version, nil
}

// plansInPieces takes over the plan of a run that was cut off. Format 1 had it in one piece, as a gob.
func plansInPieces(conn *sqlite.Conn) error {
	err := sqlitex.Execute(conn, `SELECT run, data FROM plans_1`, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		p := new(plan)
		if err := gob.NewDecoder(strings.NewReader(columnBytes(row, 1))).Decode(p); err != nil {
			return fmt.Errorf("read the plan of r%d: %w", row.ColumnInt64(0), err)
		}
		return storePlan(conn, row.ColumnInt64(0), p)
	}})
	if err != nil {
		return err
	}
	return sqlitex.ExecuteScript(conn, `DROP TABLE plans_1`, nil)
}
