package apply

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Every format of the catalog has tables, columns or indexes of its own: so what a catalog says that it consists of tells a damaged
// one, and a damaged format number from that of a newer program. SQLite itself finds only such damage in there as it cannot
// read: a column whose name has changed by a bit is a column of another name to it.

// schema is what a catalog consists of: the statements that made its tables and indexes, by kind and name.
type schema map[string]string

// schemaOf reads what a catalog consists of. Views, which are temporary, are no part of it.
func schemaOf(conn *sqlite.Conn) (schema, error) {
	s := schema{}
	err := sqlitex.ExecuteTransient(conn, `SELECT type, name, tbl_name, sql FROM main.sqlite_schema`, &sqlitex.ExecOptions{ResultFunc: func(row *sqlite.Stmt) error {
		made := strings.Join(strings.Fields(row.ColumnText(3)), " ") // how lines are broken means nothing
		s[row.ColumnText(0)+" "+row.ColumnText(1)] = row.ColumnText(2) + ": " + made
		return nil
	}})
	return s, err
}

// fingerprint tells schemas apart.
func (s schema) fingerprint() string {
	all := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(all, "%q %q\n", name, s[name])
	}
	return hex.EncodeToString(all.Sum(nil))
}

// newestSchema is the fingerprint of the newest format: to make all schemas takes longer than many a command.
const newestSchema = "2db34e81d365649a43d69e9d6c90ad28201a67dc748d6dd216cd250048d1094e"

// differs names one thing that is not as it is in another schema; "" if all is.
func (s schema) differs(want schema) string {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if made, ok := s[name]; !ok {
			return fmt.Sprintf("its %s is missing", name)
		} else if made != want[name] {
			return fmt.Sprintf("its %s is not what it should be", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if _, ok := want[name]; !ok {
			return fmt.Sprintf("it has a strange %s", name)
		}
	}
	return ""
}

// knownSchemas are those of all formats, from 1 on.
var knownSchemas = sync.OnceValues(func() (list []schema, err error) {
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, u := range upgrades {
		if err := sqlitex.ExecuteScript(conn, u.script, nil); err != nil {
			return nil, err
		}
		if u.convert != nil {
			if err := u.convert(conn); err != nil {
				return nil, err
			}
		}
		s, err := schemaOf(conn)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
})

// checkFormat makes sure that a catalog is what its format number says, and gives the number. It refuses what is newer than this program.
// Format and tables are read at one time: another program may be about to upgrade it.
func checkFormat(conn *sqlite.Conn) (format int64, err error) {
	defer sqlitex.Transaction(conn)(&err)
	if format, err = formatOf(conn); err != nil && !errors.Is(err, ErrFormat) {
		return 0, err
	}
	newer := err
	is, err := schemaOf(conn)
	if err != nil {
		return 0, err
	}
	if format == catalogFormat && is.fingerprint() == newestSchema {
		return format, nil
	}
	known, err := knownSchemas()
	if err != nil {
		return 0, err
	}
	if newer != nil {
		for i, s := range known {
			if is.differs(s) == "" {
				return 0, &DamagedCatalog{fmt.Errorf("its format is not %d: its tables are those of format %d", format, i+1)}
			}
		}
		return 0, newer
	}
	if differs := is.differs(known[format-1]); differs != "" {
		return 0, &DamagedCatalog{errors.New(differs)}
	}
	return format, nil
}
