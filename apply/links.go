package apply

import (
	"fmt"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/diff"
)

// The link index tells all names of an inode of the base, by its number, for sources whose filesystem cannot. Names of
// directories are in nodes; those of everything else are rows of links. It is begun by a first copy or a full comparison that
// is asked for it (the setting metaLinks says so), and from then on every run keeps it: names that went are taken out when the
// run is recorded, those that came are put in when it commits. In between nobody reads it: a run that was cut off is finished
// first, and one that is given up is followed by a full comparison, which makes the index anew. It has the names in the source,
// also of what the mirror lacks.
const metaLinks = "links"

// linkName is a row of links: a name of an inode in the directory that is being copied.
type linkName struct {
	name string
	key  diff.Key // Gen 0: could not be had
}

// Links is the link index of the base. It is for one goroutine, and only until the next run is begun.
func (s *Store) Links() diff.LinkIndex { return &linkIndex{s: s} }

// linkIndex reads the index in blocks of numbers that lie side by side: what changed often does.
type linkIndex struct {
	s       *Store
	checked bool
	blocks  map[uint64]map[uint64][]diff.Ref // by the first number of a block
}

const (
	linkBlock  = 32   // numbers in a block; ZFS tells changes in blocks of so many
	linkBlocks = 4096 // most blocks held
)

// Names implements diff.LinkIndex.
func (l *linkIndex) Names(ino uint64) ([]diff.Ref, error) {
	first := ino &^ (linkBlock - 1)
	if block, ok := l.blocks[first]; ok {
		return block[ino], nil
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	block := map[uint64][]diff.Ref{}
	for _, query := range []string{
		`SELECT l.ino, d.ino, l.name FROM links l JOIN nodes d ON d.id = l.dir WHERE l.ino BETWEEN ? AND ?`,
		`SELECT n.ino, d.ino, n.name FROM nodes n JOIN nodes d ON d.id = n.parent WHERE n.ino BETWEEN ? AND ? AND n.alive AND n.type = 16384`,
	} {
		err := l.s.query(query, func(row *sqlite.Stmt) error {
			num := uint64(row.ColumnInt64(0))
			block[num] = append(block[num], diff.Ref{Parent: uint64(row.ColumnInt64(1)), Name: columnBytes(row, 2)})
			return nil
		}, int64(first), int64(first+linkBlock-1))
		if err != nil {
			return nil, catalogError("read the link index", err)
		}
	}
	if len(l.blocks) >= linkBlocks || l.blocks == nil {
		l.blocks = map[uint64]map[uint64][]diff.Ref{}
	}
	l.blocks[first] = block
	return block[ino], nil
}

// check makes sure that the store has an index.
func (l *linkIndex) check() error {
	if l.checked {
		return nil
	}
	kept, err := l.s.keepsLinks()
	if err == nil && !kept {
		err = fmt.Errorf("the store has no index of names yet: %w", diff.ErrNotNative)
	}
	l.checked = err == nil
	return err
}

func (s *Store) keepsLinks() (bool, error) {
	value, err := s.Meta(metaLinks)
	return value != "", err
}

// beginLinks says that the index is whole from this transaction on.
func (s *Store) beginLinks() error { return s.SetMeta(metaLinks, "1") }

// clearLinks ends the index.
func (s *Store) clearLinks() error {
	if err := s.exec(`DELETE FROM links`); err != nil {
		return err
	}
	return s.exec(`DELETE FROM meta WHERE key = ?`, metaLinks)
}

func addLink(conn *sqlite.Conn, dir int64, name string, key diff.Key) error {
	return sqlitex.Execute(conn, `INSERT OR REPLACE INTO links(ino, dir, name, gen) VALUES (?, ?, ?, ?)`,
		&sqlitex.ExecOptions{Args: []any{int64(key.Ino), dir, []byte(name), int64(key.Gen)}})
}

// recordLinks takes out the names that go. It needs the nodes of their directories as they are before the run, and what went from
// the source, not from the mirror.
func (s *Store) recordLinks(c *diff.ChangeSet) (err error) {
	kept, err := s.keepsLinks()
	if err != nil || !kept {
		return err
	}
	c.Unlinked.Ascend(func(n diff.Name) bool {
		if n.Type == unix.S_IFDIR {
			return true
		}
		var dir int64
		if dir, err = s.nodeOf(n.Parent); err == nil {
			err = s.exec(`DELETE FROM links WHERE ino = ? AND dir = ? AND name = ?`, int64(n.Key.Ino), dir, []byte(n.Base()))
		}
		return err == nil
	})
	return err
}

// commitLinks puts in the names that came. It needs the nodes of new directories.
func (s *Store) commitLinks(p *plan) error {
	kept, err := s.keepsLinks()
	if err != nil || !kept {
		return err
	}
	dirs := map[diff.Key]int64{}
	for _, n := range p.Linked {
		if n.Type == unix.S_IFDIR {
			continue
		}
		dir := dirs[n.Parent]
		if dir == 0 {
			if dir, err = s.nodeOf(n.Parent); err != nil {
				return err
			}
			dirs[n.Parent] = dir
		}
		if err := addLink(s.conn, dir, n.Base(), n.Key); err != nil {
			return err
		}
	}
	return nil
}
