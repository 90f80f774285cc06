package apply

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// The link index tells all names of an inode of the base, by its number, for sources whose filesystem cannot. Names of
// directories are in nodes; those of everything else are rows of links. It is begun by a first copy or a full comparison that
// is asked for it (the setting metaLinks says so), and from then on every run keeps it: names that went are taken out when the
// run is recorded, those that came are put in when it commits. In between nobody reads it: a run that was cut off is finished
// first, and one that is given up is followed by a full comparison, which makes the index anew. It has the names in the source,
// also of what the mirror lacks.
const metaLinks = "links"

// What metaLinks is set to: "1" where signatures are kept too, for sources that ask for them.
const (
	linksSigned = "1"
	linksNamed  = "names"
)

// linkName is a row of links: a name of an inode in the directory that is being copied.
type linkName struct {
	name string
	key  diff.Key // Gen 0: could not be had
	sig  uint64   // of the inode (see diff.Signature), for the table of these; 0: not known
}

// Links is the link index of the base. It must be closed before anything else is done with the store.
func (s *Store) Links() *LinkIndex { return &LinkIndex{s: s} }

// LinkIndex reads the index in blocks of numbers that lie side by side, where more than one of them is asked for: what changed often does. All of it is one read
// transaction of the catalog: to begin and end one costs more than to read a block. It is a diff.SignatureIndex and a diff.RangeIndex, for any number of
// goroutines.
type LinkIndex struct {
	s      *Store
	mu     sync.Mutex
	end    func(*error)          // of the transaction; nil before the first question
	blocks map[uint64]*linksRead // by the first number of a block
	dirs   map[uint64]indexed    // directories that what was read has names in: they are asked for next
}

// linksRead is what was read of a block: all of it, or the numbers that are in known.
type linksRead struct {
	all   bool
	known map[uint64]indexed
}

// Close ends the transaction. It may be called on nil.
func (l *LinkIndex) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.end == nil {
		return nil
	}
	var err error
	l.end(&err)
	l.end, l.blocks, l.dirs = nil, nil, nil
	return catalogError("read the link index", err)
}

// indexed is what the index knows of one inode.
type indexed struct {
	names []diff.Ref
	gen   uint64
}

const (
	linkBlock  = 32   // numbers in a block; ZFS tells changes in blocks of so many
	linkBlocks = 4096 // most blocks held
)

// The names of all inodes of a range of numbers: number, that of the directory, name, generation; linksQuery gives the same of the directory, too, NULL for the top one.
const (
	linksQuery = `SELECT l.ino, d.ino, l.name, l.gen, p.ino, d.name, d.gen FROM links l JOIN nodes d ON d.id = l.dir LEFT JOIN nodes p ON p.id = d.parent WHERE l.ino BETWEEN ? AND ?`
	dirsQuery  = `SELECT n.ino, d.ino, n.name, n.gen FROM nodes n JOIN nodes d ON d.id = n.parent WHERE n.ino BETWEEN ? AND ? AND n.alive AND n.type = 16384`
)

// Names implements diff.LinkIndex.
func (l *LinkIndex) Names(ino uint64) ([]diff.Ref, error) {
	i, err := l.inode(ino)
	return i.names, err
}

// Generation implements diff.SignatureIndex.
func (l *LinkIndex) Generation(ino uint64) (uint64, error) {
	i, err := l.inode(ino)
	return i.gen, err
}

// Expect implements diff.SignatureIndex.
func (l *LinkIndex) Expect(inos []uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ino := range inos {
		if _, err := l.read(ino); err != nil {
			return err
		}
	}
	return nil
}

func (l *LinkIndex) inode(ino uint64) (indexed, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.read(ino)
}

// read reads the number, or the block that it is in. l.mu is held.
func (l *LinkIndex) read(ino uint64) (indexed, error) {
	if i, ok := l.dirs[ino]; ok {
		return i, nil
	}
	low := ino &^ (linkBlock - 1)
	read := l.blocks[low]
	if read != nil {
		if i, ok := read.known[ino]; ok || read.all {
			return i, nil
		}
	}
	if err := l.begin(); err != nil {
		return indexed{}, err
	}
	if len(l.blocks) >= linkBlocks || l.blocks == nil {
		l.blocks, l.dirs = map[uint64]*linksRead{}, map[uint64]indexed{}
	}
	all := read != nil
	first, last := ino, ino
	if all {
		first, last = low, low+linkBlock-1
	}
	known := map[uint64]indexed{ino: {}}
	for _, query := range []string{linksQuery, dirsQuery} {
		if !all && len(known[ino].names) > 0 {
			break // it is no directory
		}
		err := l.s.query(query, func(row *sqlite.Stmt) error {
			num, parent := uint64(row.ColumnInt64(0)), uint64(row.ColumnInt64(1))
			i := known[num]
			i.names = append(i.names, diff.Ref{Parent: parent, Name: columnBytes(row, 2)})
			i.gen = uint64(row.ColumnInt64(3))
			known[num] = i
			if query == linksQuery && row.ColumnType(4) != sqlite.TypeNull {
				if _, ok := l.dirs[parent]; !ok {
					l.dirs[parent] = indexed{[]diff.Ref{{Parent: uint64(row.ColumnInt64(4)), Name: columnBytes(row, 5)}}, uint64(row.ColumnInt64(6))}
				}
			}
			return nil
		}, int64(first), int64(last))
		if err != nil {
			return indexed{}, catalogError("read the link index", err)
		}
	}
	l.blocks[low] = &linksRead{all, known}
	return known[ino], nil
}

// Each implements diff.RangeIndex.
func (l *LinkIndex) Each(first, last uint64, yield func(k diff.Key, dir bool, name diff.Ref) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.begin(); err != nil {
		return err
	}
	for _, query := range []string{linksQuery, dirsQuery} {
		err := l.s.query(query, func(row *sqlite.Stmt) error {
			k := diff.Key{Ino: uint64(row.ColumnInt64(0)), Gen: uint64(row.ColumnInt64(3))}
			return yield(k, query == dirsQuery, diff.Ref{Parent: uint64(row.ColumnInt64(1)), Name: columnBytes(row, 2)})
		}, int64(first), int64(last))
		if err != nil {
			return catalogError("read the link index", err)
		}
	}
	return nil
}

// begin makes sure that the store has an index, and begins the transaction.
func (l *LinkIndex) begin() error {
	if l.end != nil {
		return nil
	}
	kept, _, err := l.s.keepsLinks()
	if err == nil && !kept {
		err = fmt.Errorf("the store has no index of names yet: %w", diff.ErrNotNative)
	}
	if err == nil {
		l.s.cachePages(cacheOfRun) // a run that changes little writes to what is read now
		l.end = sqlitex.Transaction(l.s.conn)
	}
	return err
}

// keepsLinks tells whether there is an index, and whether with signatures.
func (s *Store) keepsLinks() (kept, signed bool, err error) {
	value, err := s.Meta(metaLinks)
	return value != "", value == linksSigned, err
}

// beginLinks says that the index is whole from this transaction on.
func (s *Store) beginLinks(signed bool) error {
	if signed {
		return s.SetMeta(metaLinks, linksSigned)
	}
	return s.SetMeta(metaLinks, linksNamed)
}

// clearLinks ends the index.
func (s *Store) clearLinks() error {
	for _, table := range []string{"links", "signatures"} {
		if err := s.exec(`DELETE FROM ` + table); err != nil {
			return err
		}
	}
	return s.exec(`DELETE FROM meta WHERE key = ?`, metaLinks)
}

func addLink(conn *sqlite.Conn, dir int64, n linkName) error {
	return sqlitex.Execute(conn, `INSERT OR REPLACE INTO links(ino, dir, name, gen) VALUES (?, ?, ?, ?)`,
		&sqlitex.ExecOptions{Args: []any{int64(n.key.Ino), dir, []byte(n.name), int64(n.key.Gen)}})
}

// recordLinks takes out the names that go. It needs the nodes of their directories as they are before the run, and what went from
// the source, not from the mirror.
func (s *Store) recordLinks(c *diff.ChangeSet) (err error) {
	kept, _, err := s.keepsLinks()
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

// commitLinks puts in the names that came and, where they are kept, the signatures of what is new or changed. It needs the nodes of new directories.
func (s *Store) commitLinks(p *plan, sigs signatures) error {
	kept, signed, err := s.keepsLinks()
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
		if err := addLink(s.conn, dir, linkName{name: n.Base(), key: n.Key}); err != nil {
			return err
		}
	}
	if !signed {
		return nil
	}
	return setSignatures(s.query, sigs.list(p))
}

// signatures tells those of the new snapshot's inodes. next is nil when a run is committed whose snapshot is gone.
type signatures struct {
	next  *beneath.Root
	known map[diff.Key]uint64
}

// list gives those that a run knows, behind zeros for numbers that it took away or gave other names to.
func (s signatures) list(p *plan) []inodeSignature {
	list := make([]inodeSignature, 0, len(p.Gone)+len(p.Linked)+len(p.Inodes))
	for _, g := range p.Gone {
		list = append(list, inodeSignature{g.Key.Ino, 0})
	}
	for _, n := range p.Linked {
		list = append(list, inodeSignature{n.Key.Ino, 0})
	}
	for i := range p.Inodes {
		if in := &p.Inodes[i]; !in.Key.IsPlaceholder() {
			list = append(list, inodeSignature{in.Key.Ino, s.of(in)})
		}
	}
	return list
}

// of gives the signature of a changed inode; 0: it cannot be looked at.
func (s signatures) of(in *diff.Inode) uint64 {
	if sig := s.known[in.Key]; sig != 0 || s.next == nil {
		return sig
	}
	_, ino := diff.SplitIno(in.Key.Ino)
	if st, err := s.next.Lstat(in.Paths[0]); err == nil && st.Ino == ino {
		return diff.Signature(&st, in.Key.Gen)
	}
	return 0
}
