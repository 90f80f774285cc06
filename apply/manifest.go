package apply

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/snapshot/beneath"
)

// The manifest of a run says in plain text what the catalog has of it, for the day on which the catalog is lost: the run itself,
// its rows of entries and versions, and where the nodes are that these speak of. docs/store-format.md describes the lines.
//
// What holds whenever no transaction is open and no prune is unfinished:
//
//   - Every run in the table runs that is done or was abandoned, and every run number that has rows, has a manifest with just
//     these rows.
//   - Of all that manifests say about where a live node is, the newest (by manifestHead.Places) is right. So a run writes down
//     all nodes that its rows speak of and the directories above them, and whoever takes rows out of a manifest hands what is
//     needed of the rest to a later one (see keepManifests).
const (
	manifestName  = "manifest"
	manifestTitle = "snapdiff manifest "
	// manifestFormat is the number behind the title.
	manifestFormat = 3
)

// stateDropped is the state, in its manifest alone, of a run that is no restore point any more and still has rows.
const stateDropped = "dropped"

// manifestWriter writes one manifest.
type manifestWriter struct {
	s      *Store
	run    int64
	w      *bufio.Writer // keeps its first error
	sum    *xxhash.Digest
	lines  int64
	buf    []byte
	placed map[int64]bool
	// mentioned: see Store.mentioned.
	mentioned string
	paths     dirPaths
	// recorded: the run is not done yet.
	recorded bool
}

// writeManifest writes the manifest of a run from the catalog. carry are nodes that it is to tell the places of besides those that
// its rows speak of. It is atomic, and durable with the next sync of the filesystem.
func (s *Store) writeManifest(run int64, carry []int64) (err error) {
	dir := fmt.Sprintf("r%d", run)
	if err := s.history_.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the history of r%d: %w", run, err)
	}
	name := dir + "/" + manifestName
	fd, err := s.history_.Open(name+".new", unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("writing history/%s: %w", name, err)
	}
	file := os.NewFile(uintptr(fd), name)
	m := &manifestWriter{s: s, run: run, sum: xxhash.New(), placed: map[int64]bool{rootNode: true}, paths: dirPaths{s: s}}
	m.w = bufio.NewWriterSize(tee{file, m.sum}, 256<<10)
	err = s.atOneTime(func() error { return m.write(carry) })
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("writing history/%s: %w", name, err)
	}
	s.wrote = run
	return beneath.Rename(s.history_, name+".new", s.history_, name, 0)
}

// tee writes to a file what it adds to a sum.
type tee struct {
	file *os.File
	sum  *xxhash.Digest
}

// Write implements io.Writer.
func (t tee) Write(p []byte) (int, error) {
	t.sum.Write(p)
	return t.file.Write(p)
}

func (m *manifestWriter) write(carry []int64) error {
	m.line("%s%d", manifestTitle, manifestFormat)
	for _, part := range []func() error{m.head, m.places, func() error { return m.carried(carry) }, m.entries, m.versions, m.savedRanges, m.objectSums, m.keysAndMoves} {
		if err := part(); err != nil {
			return err
		}
	}
	if err := m.w.Flush(); err != nil { // the sum has all of it now
		return err
	}
	fmt.Fprintf(m.w, "end %d %016x\n", m.lines, m.sum.Sum64())
	return m.w.Flush()
}

// line writes one line.
func (m *manifestWriter) line(format string, args ...any) {
	fmt.Fprintf(m.w, format, args...)
	m.end()
}

// number writes a space and a number. There are many of them, and Fprintf takes its time.
func (m *manifestWriter) number(n int64) {
	b := append(m.w.AvailableBuffer(), ' ')
	m.w.Write(strconv.AppendInt(b, n, 10))
}

// unsigned is number for all 64 bits.
func (m *manifestWriter) unsigned(n uint64) {
	b := append(m.w.AvailableBuffer(), ' ')
	m.w.Write(strconv.AppendUint(b, n, 10))
}

// objectSums writes the checksum of each object that is known
//
//   - NODE SUM
func (m *manifestWriter) objectSums() error {
	return m.s.objectSums(m.run, func(node int64, sum uint64) error {
		m.line("* %d %016x", node, sum)
		return nil
	})
}

func (m *manifestWriter) end() {
	m.w.WriteByte('\n')
	m.lines++
}

func (m *manifestWriter) head() error {
	h, err := m.s.manifestHead(m.run)
	if err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	m.line("run %s", text)
	m.recorded = h.State != Done && h.State != Abandoned && h.State != stateDropped
	return nil
}

// mentioned gives the nodes that a run's rows speak of, as a JSON array in ascending order: to work it out takes as long as to look at
// all of them.
func (s *Store) mentioned(run int64) (string, error) {
	var ids []int64
	add := func(row *sqlite.Stmt) error {
		for i := range row.ColumnCount() {
			if id := row.ColumnInt64(i); id != 0 {
				ids = append(ids, id)
			}
		}
		return nil
	}
	for _, rows := range []string{`SELECT dir, node FROM entries WHERE run = ?`, `SELECT node FROM versions WHERE run = ?`} {
		if err := s.query(rows, add, run); err != nil {
			return "", err
		}
	}
	slices.Sort(ids)
	list := []byte{'['}
	for i, id := range slices.Compact(ids) {
		if i > 0 {
			list = append(list, ',')
		}
		list = strconv.AppendInt(list, id, 10)
	}
	return string(append(list, ']')), nil
}

// eachMentioned begins a query about the nodes that mentioned gave, in their order: CROSS JOIN keeps it.
const eachMentioned = ` FROM json_each(?1) m CROSS JOIN nodes n ON n.id = m.value `

// nodePlace is a row of nodes.
type nodePlace struct {
	id, born, parent int64
	kind             uint32
	alive            bool
	name             string
}

func readNodePlace(row *sqlite.Stmt) nodePlace {
	return nodePlace{row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), uint32(row.ColumnInt64(3)), row.ColumnBool(4), columnBytes(row, 5)}
}

// places writes for each node that the rows speak of
//
//	@ NODE TYPE BORN -                    one that is nowhere any more
//	@ NODE d BORN PARENT NAME             a directory
//	@ NODE TYPE BORN DIR NAME DIR NAME... anything else, with all its names
//
// and the same for all directories above.
func (m *manifestWriter) places() error {
	var err error
	if m.mentioned, err = m.s.mentioned(m.run); err != nil {
		return err
	}
	var above []int64
	err = m.s.query(`SELECT n.id, n.born, n.parent, n.type, n.alive, n.name`+eachMentioned+`WHERE n.type = 16384 OR NOT n.alive`, func(row *sqlite.Stmt) error {
		p := readNodePlace(row)
		m.placed[p.id] = true
		if p.alive && p.id != rootNode {
			above = append(above, p.parent)
		}
		m.place(p)
		return nil
	}, m.mentioned)
	if err != nil {
		return err
	}
	last := int64(0)
	err = m.s.query(`SELECT n.id, n.born, x.dir, n.type, n.alive, x.name`+eachMentioned+`CROSS JOIN names x ON x.node = n.id WHERE n.type <> 16384 AND n.alive`, func(row *sqlite.Stmt) error {
		p := readNodePlace(row)
		above = append(above, p.parent)
		m.fileName(p, &last)
		return nil
	}, m.mentioned)
	if last != 0 {
		m.end()
	}
	if err != nil {
		return err
	}
	return m.above(above)
}

// place writes the line of a directory, or of what is nowhere any more.
func (m *manifestWriter) place(p nodePlace) {
	if p.id == rootNode {
		return
	}
	fmt.Fprintf(m.w, "@ %d %c %d ", p.id, typeLetter(p.kind), p.born)
	if p.alive {
		fmt.Fprintf(m.w, "%d ", p.parent)
		m.text(p.name)
	} else {
		m.w.WriteByte('-')
	}
	m.end()
}

// fileName writes one name of what is no directory. last is the node whose line is open.
func (m *manifestWriter) fileName(p nodePlace, last *int64) {
	if p.id != *last {
		if *last != 0 {
			m.end()
		}
		*last = p.id
		m.w.WriteByte('@')
		m.number(p.id)
		m.w.WriteByte(' ')
		m.w.WriteByte(typeLetter(p.kind))
		m.number(p.born)
	}
	m.number(p.parent)
	m.w.WriteByte(' ')
	m.text(p.name)
}

// above writes the places of directories that are not written yet, and of all above these.
func (m *manifestWriter) above(dirs []int64) error {
	for _, id := range dirs {
		for id != 0 && !m.placed[id] {
			m.placed[id] = true
			p, err := m.s.nodePlace(id)
			if err != nil {
				return err
			}
			if p.id == 0 {
				break
			}
			m.place(p)
			id = p.parent
		}
	}
	return nil
}

// nodePlace reads one node; zero when there is none.
func (s *Store) nodePlace(id int64) (p nodePlace, err error) {
	err = s.query(`SELECT id, born, parent, type, alive, name FROM nodes WHERE id = ?`, func(row *sqlite.Stmt) error { p = readNodePlace(row); return nil }, id)
	return p, err
}

// carried writes the places of further nodes.
func (m *manifestWriter) carried(nodes []int64) error {
	for _, id := range nodes {
		p, err := m.s.nodePlace(id)
		if err != nil {
			return err
		}
		switch {
		case p.id == 0:
			continue
		case p.kind == unix.S_IFDIR:
			err = m.above([]int64{id})
		case !p.alive:
			m.place(p)
		default:
			last, dirs := int64(0), []int64{}
			err = m.s.query(`SELECT dir, name FROM names WHERE node = ?`, func(row *sqlite.Stmt) error {
				p.parent, p.name = row.ColumnInt64(0), columnBytes(row, 1)
				dirs = append(dirs, p.parent)
				m.fileName(p, &last)
				return nil
			}, id)
			if last != 0 {
				m.end()
			}
			if err == nil {
				err = m.above(dirs)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// entries writes for each name that went or came
//
//	# PATH                 of the directory that follows, where it is now
//	- DIR NAME NODE        the name meant NODE before the run
//	+ DIR NAME             it meant nothing
func (m *manifestWriter) entries() error {
	dir := int64(-1)
	return m.s.query(`SELECT dir, name, node FROM entries WHERE run = ? ORDER BY dir, name`, func(row *sqlite.Stmt) error {
		if d := row.ColumnInt64(0); d != dir {
			dir = d
			m.title(d)
		}
		node := row.ColumnInt64(2)
		sign := byte('+')
		if node != 0 {
			sign = '-'
		}
		m.w.WriteByte(sign)
		m.number(dir)
		m.w.WriteByte(' ')
		m.text(columnBytes(row, 1))
		if node != 0 {
			m.number(node)
		}
		m.end()
		return nil
	}, m.run)
}

// title writes where a live directory is, for people, who cannot read paths that are longer than any system call takes.
func (m *manifestWriter) title(dir int64) {
	if path, err := m.paths.of(dir); err == nil && len(path) < unix.PathMax {
		m.w.WriteString("# ")
		m.text(path)
		m.end()
	}
}

// versions writes for each inode that the run changed or removed
//
//	= NODE MODE UID GID RDEV SIZE MTIME NLINK CONTENT XATTRS
func (m *manifestWriter) versions() error {
	return m.s.query(`SELECT node, mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, content, xattrs FROM versions WHERE run = ? ORDER BY node`, func(row *sqlite.Stmt) error {
		m.w.WriteByte('=')
		m.number(row.ColumnInt64(0))
		fmt.Fprintf(m.w, " %06o", row.ColumnInt64(1))
		for col := 2; col <= 5; col++ {
			m.number(row.ColumnInt64(col))
		}
		fmt.Fprintf(m.w, " %d.%09d", row.ColumnInt64(6), row.ColumnInt64(7))
		m.number(row.ColumnInt64(8))
		m.w.WriteByte(' ')
		m.w.WriteString(contentWord(row.ColumnInt64(9)))
		m.w.WriteByte(' ')
		xattrs, err := decodeXattrs([]byte(columnBytes(row, 10)))
		if err != nil {
			return err
		}
		if len(xattrs) == 0 {
			m.w.WriteByte('-')
		}
		for i, x := range xattrs {
			if i > 0 {
				m.w.WriteByte(',')
			}
			m.text(x.Name)
			m.w.WriteByte('=')
			m.w.WriteString(base64.StdEncoding.EncodeToString(x.Value))
		}
		m.end()
		return nil
	}, m.run)
}

// savedRanges writes for each range that a version with saved ranges has, at its place in history/rOBJECT/NODE.saved,
//
//	% NODE OFF LEN OBJECT
func (m *manifestWriter) savedRanges() error {
	return m.s.query(`SELECT s.node, s.off, s.len, s.object FROM versions v JOIN saved s ON s.node = v.node AND s.run = v.run WHERE v.run = ? AND v.content = 2 ORDER BY s.node, s.off`,
		func(row *sqlite.Stmt) error {
			m.line("%% %d %d %d %d", row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), row.ColumnInt64(3))
			return nil
		}, m.run)
}

// contentWord says where a version's contents are (versions.content).
func contentWord(content int64) string {
	switch content {
	case contentLater:
		return "later"
	case contentObject:
		return "here"
	case contentSaved:
		return "ranges"
	}
	return strconv.FormatInt(content, 10)
}

// text writes bytes of which those that are not plain are \xHH; the top directory is ".".
func (m *manifestWriter) text(s string) {
	if s == "" {
		s = "."
	}
	m.buf = appendEscaped(m.buf[:0], s)
	m.w.Write(m.buf)
}

// appendEscaped escapes all but printable ASCII, and of that the backslash, space, comma and equals sign.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || c == '\\' || c == ',' || c == '=' {
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}

// typeLetters are the types of inodes as find -type has them.
var typeLetters = map[uint32]byte{unix.S_IFREG: 'f', unix.S_IFDIR: 'd', unix.S_IFLNK: 'l', unix.S_IFBLK: 'b', unix.S_IFCHR: 'c', unix.S_IFIFO: 'p', unix.S_IFSOCK: 's'}

func typeLetter(kind uint32) byte {
	if letter, ok := typeLetters[kind]; ok {
		return letter
	}
	return '?'
}
