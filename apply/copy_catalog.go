package apply

import (
	"fmt"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// catalogMarks keeps the marks of a first copy in the tables nodes, copied and pending. Its connection must not be used
// by anybody else until the copy has ended.
type catalogMarks struct{ conn *sqlite.Conn }

func (c catalogMarks) lastNode() (int64, error) {
	var last int64
	err := sqlitex.Execute(c.conn, `SELECT coalesce(max(id), 0) FROM nodes`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { last = row.ColumnInt64(0); return nil },
	})
	return last, catalogError("find the last node", err)
}

func (c catalogMarks) marked(d *copyDir) (int64, bool, error) {
	node, found := int64(rootNode), false
	err := sqlitex.Execute(c.conn, `SELECT 1 FROM copied WHERE path = ?`, &sqlitex.ExecOptions{
		Args:       []any{[]byte(d.path)},
		ResultFunc: func(*sqlite.Stmt) error { found = true; return nil },
	})
	if err != nil || !found || d.path == "" {
		return node, found, catalogError("look up a copied directory", err)
	}
	found = false
	// The condition names the type in words that the partial index has.
	err = sqlitex.Execute(c.conn, `SELECT id FROM nodes WHERE parent = ? AND name = ? AND alive AND type = 16384`, &sqlitex.ExecOptions{
		Args:       []any{d.parent, []byte(d.name)},
		ResultFunc: func(row *sqlite.Stmt) error { node, found = row.ColumnInt64(0), true; return nil },
	})
	if err == nil && !found {
		err = fmt.Errorf("%q is marked as copied and has no node", d.path)
	}
	return node, found, catalogError("look up a copied directory", err)
}

func (c catalogMarks) pending() (map[string]bool, error) {
	paths := make(map[string]bool)
	err := sqlitex.Execute(c.conn, `SELECT path FROM pending`, &sqlitex.ExecOptions{
		ResultFunc: func(row *sqlite.Stmt) error { paths[columnBytes(row, 0)] = true; return nil },
	})
	return paths, catalogError("read what could not be copied", err)
}

// columnBytes reads a BLOB of any bytes.
func columnBytes(row *sqlite.Stmt, col int) string {
	b := make([]byte, row.ColumnLen(col))
	return string(b[:row.ColumnBytes(col, b)])
}

func (c catalogMarks) mark(batch copyBatch) (err error) {
	end, err := sqlitex.ImmediateTransaction(c.conn)
	if err != nil {
		return catalogError("mark a batch", err)
	}
	defer end(&err)
	for _, d := range batch.dirs {
		if err := c.markDir(d); err != nil {
			return catalogError("mark a batch", err)
		}
	}
	for _, b := range batch.bad {
		err := sqlitex.Execute(c.conn, `INSERT OR REPLACE INTO pending(path, ino, gen, reason) VALUES (?, ?, ?, ?)`,
			&sqlitex.ExecOptions{Args: []any{[]byte(b.path), int64(b.key.Ino), int64(b.key.Gen), b.err.Error()}})
		if err != nil {
			return catalogError("mark a batch", err)
		}
	}
	return nil
}

func (c catalogMarks) markDir(d markedDir) error {
	err := sqlitex.Execute(c.conn, `INSERT OR REPLACE INTO nodes(id, ino, gen, parent, name, type, alive) VALUES (?, ?, ?, ?, ?, ?, 1)`,
		&sqlitex.ExecOptions{Args: []any{d.node, int64(d.key.Ino), int64(d.key.Gen), d.parent, []byte(d.name), unix.S_IFDIR}})
	if err != nil {
		return err
	}
	for _, n := range d.names {
		if err := addLink(c.conn, d.node, n); err != nil {
			return err
		}
	}
	return sqlitex.Execute(c.conn, `INSERT INTO copied(path) VALUES (?)`, &sqlitex.ExecOptions{Args: []any{[]byte(d.path)}})
}

func catalogError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("catalog: %s: %w", doing, err)
}
