package apply

import (
	"context"
	"errors"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// maxMissing is how many files are named that the mirror lacks.
const maxMissing = 1000

// missing names the files that the mirror lacks, where the number of names shows that it does. Those that ever changed names has found; all
// others only a link index can tell (of ZFS and LVM): it has the name of every file. That takes another walk of the mirror, so it is done only
// when the number is wrong.
func (c *catalogCheck) missing() (err error) {
	kept, err := c.s.Meta(metaLinks)
	if err != nil || kept == "" || !c.short {
		return err
	}
	pending, err := c.s.Pending()
	if err != nil {
		return err
	}
	known := map[string]bool{} // to lack
	for _, p := range pending {
		known[p.Path] = true
	}
	return c.s.atOneTime(func() (err error) {
		if err := c.s.exec(`CREATE TEMP TABLE met(dir INTEGER, name BLOB, PRIMARY KEY(dir, name)) WITHOUT ROWID`); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.s.exec(`DROP TABLE temp.met`)) }()
		for node, path := range c.dirs {
			if err := c.meet(node, path); err != nil {
				return err
			}
		}
		return c.s.query(`SELECT l.dir, l.name FROM links l WHERE NOT EXISTS (SELECT 1 FROM met WHERE met.dir = l.dir AND met.name = l.name) AND
			NOT EXISTS (SELECT 1 FROM names n WHERE n.dir = l.dir AND n.name = l.name) LIMIT ?`, func(row *sqlite.Stmt) error {
			dir, ok := c.dirs[row.ColumnInt64(0)]
			if path := join(dir, columnBytes(row, 1)); ok && !known[path] {
				c.fault("%q is not in the mirror", path)
			}
			return nil
		}, maxMissing+len(pending))
	})
}

// meet notes the names of files in a directory of the mirror.
func (c *catalogCheck) meet(node int64, path string) error {
	if err := context.Cause(c.ctx); err != nil {
		return err
	}
	return c.s.tree.ReadDir(path, func(name string, dtype uint8, _ uint64) error {
		if dtype == unix.DT_DIR {
			return nil
		}
		return c.s.exec(`INSERT INTO met(dir, name) VALUES (?, ?)`, node, []byte(name))
	})
}
