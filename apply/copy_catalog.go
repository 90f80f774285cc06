package apply

import (
	"fmt"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// catalogMarks keeps the marks of a first copy in the tables nodes, copied and pending. Its connection must not be used
// by anybody else until the copy has ended.
type catalogMarks struct {
	conn  *sqlite.Conn
	guard *faultGuard // of conn
	s     *Store      // for checksums
}

func (c catalogMarks) query(query string, row func(*sqlite.Stmt) error, args ...any) error {
	return c.guard.do(func() error { return sqlitex.Execute(c.conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row}) })
}

func (c catalogMarks) lastNode() (int64, error) {
	var last int64
	err := c.query(`SELECT coalesce(max(id), 0) FROM nodes`, func(row *sqlite.Stmt) error { last = row.ColumnInt64(0); return nil })
	return last, catalogError("find the last node", err)
}

func (c catalogMarks) marked(d *copyDir) (int64, bool, error) {
	node, found := int64(rootNode), false
	err := c.query(`SELECT 1 FROM copied WHERE path = ?`, func(*sqlite.Stmt) error { found = true; return nil }, []byte(d.path))
	if err != nil || !found || d.path == "" {
		return node, found, catalogError("look up a copied directory", err)
	}
	found = false
	// The condition names the type in words that the partial index has.
	err = c.query(`SELECT id FROM nodes WHERE parent = ? AND name = ? AND alive AND type = 16384`,
		func(row *sqlite.Stmt) error { node, found = row.ColumnInt64(0), true; return nil }, d.parent, []byte(d.name))
	if err == nil && !found {
		err = fmt.Errorf("%q is marked as copied and has no node", d.path)
	}
	return node, found, catalogError("look up a copied directory", err)
}

func (c catalogMarks) pending() (map[string]bool, error) {
	paths := make(map[string]bool)
	err := c.query(`SELECT path FROM pending`, func(row *sqlite.Stmt) error { paths[columnBytes(row, 0)] = true; return nil })
	return paths, catalogError("read what could not be copied", err)
}

// columnBytes reads a BLOB of any bytes.
func columnBytes(row *sqlite.Stmt, col int) string {
	b := make([]byte, row.ColumnLen(col))
	return string(b[:row.ColumnBytes(col, b)])
}

func (c catalogMarks) mark(batch copyBatch) error {
	return catalogError("mark a batch", c.guard.transaction(c.conn, func() error {
		for _, d := range batch.dirs {
			if err := c.markDir(d); err != nil {
				return err
			}
		}
		for _, b := range batch.bad {
			err := c.query(`INSERT OR REPLACE INTO pending(path, ino, gen, reason) VALUES (?, ?, ?, ?)`, nil,
				[]byte(b.path), int64(b.key.Ino), int64(b.key.Gen), reasonOf(b.err, b.path))
			if err != nil {
				return err
			}
		}
		return c.s.setSums(batch.sums)
	}))
}

func (c catalogMarks) markDir(d markedDir) error {
	err := c.query(`INSERT OR REPLACE INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (?, ?, ?, ?, ?, ?, 1)`, nil,
		d.node, int64(d.key.Ino), int64(d.key.Gen), d.parent, []byte(d.name), unix.S_IFDIR)
	if err != nil {
		return err
	}
	for _, n := range d.names {
		if err := addLink(c.conn, d.node, n); err != nil {
			return err
		}
	}
	if err := setSignatures(c.query, d.signatures()); err != nil {
		return err
	}
	return c.query(`INSERT INTO copied(path) VALUES (?)`, nil, []byte(d.path))
}
