package apply

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
)

// manifestName is the file in history/rRUN that says in plain text what the run replaced, for the day on which the catalog is
// lost. docs/store-format.md describes it.
const manifestName = "manifest"

// writeManifest writes the manifest of the run. It is made anew after a cut.
func (x *execution) writeManifest() (err error) {
	fd, err := x.s.history_.Open(x.history()+"/"+manifestName, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	file := os.NewFile(uintptr(fd), manifestName)
	defer func() {
		if e := file.Close(); err == nil {
			err = e
		}
	}()
	m := &manifest{w: bufio.NewWriterSize(file, 256<<10), x: x}
	if err := m.write(); err != nil {
		return fmt.Errorf("writing history/%s/%s: %w", x.history(), manifestName, err)
	}
	return m.w.Flush()
}

type manifest struct {
	w   *bufio.Writer // keeps its first error
	x   *execution
	buf []byte
}

func (m *manifest) write() error {
	fmt.Fprintf(m.w, "snapdiff manifest 1\nrun %d\n", m.x.run)
	for _, n := range m.x.plan.Unlinked {
		m.name('-', n)
	}
	for _, n := range m.x.plan.Linked {
		m.name('+', n)
	}
	return m.versions()
}

// node is how an inode is called that may have no node: a new one, or a directory that was only moved.
func (m *manifest) node(k diff.Key) string {
	if id := m.x.nodes[k]; id != 0 {
		return strconv.FormatInt(id, 10)
	}
	if m.x.unlinked[k] > 0 {
		return fmt.Sprintf("i%d.%d", k.Ino, k.Gen)
	}
	return "new"
}

// name writes "- NODE TYPE PATH" or "+ NODE TYPE PATH".
func (m *manifest) name(sign byte, n diff.Name) {
	fmt.Fprintf(m.w, "%c %s %c ", sign, m.node(n.Key), typeLetter(n.Type))
	m.text(n.Path)
	m.w.WriteByte('\n')
}

// versions writes for each inode that the run changed or removed
//
//	= NODE MODE UID GID RDEV SIZE MTIME NLINK CONTENT XATTRS PATH...
//
// from the rows that were recorded.
func (m *manifest) versions() error {
	paths := map[int64][]string{}
	for i := range m.x.plan.Inodes {
		in := &m.x.plan.Inodes[i]
		paths[m.x.nodes[in.Key]] = in.BasePaths
	}
	for i := range m.x.plan.Gone {
		g := &m.x.plan.Gone[i]
		paths[m.x.nodes[g.Key]] = g.BasePaths
	}
	return m.x.s.query(`SELECT node, mode, uid, gid, rdev, size, mtime_s, mtime_n, nlink, content, xattrs FROM versions WHERE run = ? ORDER BY node`, func(row *sqlite.Stmt) error {
		kept := "later"
		if row.ColumnInt64(9) == contentObject {
			kept = "here"
		}
		fmt.Fprintf(m.w, "= %d %06o %d %d %d %d %d.%09d %d %s ", row.ColumnInt64(0), row.ColumnInt64(1), row.ColumnInt64(2), row.ColumnInt64(3),
			row.ColumnInt64(4), row.ColumnInt64(5), row.ColumnInt64(6), row.ColumnInt64(7), row.ColumnInt64(8), kept)
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
		for _, p := range paths[row.ColumnInt64(0)] {
			m.w.WriteByte(' ')
			m.text(p)
		}
		return m.w.WriteByte('\n')
	}, m.x.run)
}

// text writes bytes of which those that are not plain are \xHH; the top directory is ".".
func (m *manifest) text(s string) {
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

// typeLetter is that of find -type.
func typeLetter(kind uint32) byte {
	switch kind {
	case unix.S_IFREG:
		return 'f'
	case unix.S_IFDIR:
		return 'd'
	case unix.S_IFLNK:
		return 'l'
	case unix.S_IFBLK:
		return 'b'
	case unix.S_IFCHR:
		return 'c'
	case unix.S_IFIFO:
		return 'p'
	case unix.S_IFSOCK:
		return 's'
	}
	return '?'
}
