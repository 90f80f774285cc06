package apply

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Errors of reading a manifest.
var (
	errManifest    = errors.New("the manifest is damaged")
	errOldManifest = errors.New("the manifest has format 1, which does not say enough")
)

// maxManifestLine bounds a line: 65,000 names of 255 bytes, each escaped, fit.
const maxManifestLine = 80 << 20

// manifestVisitor is told what a manifest says. What is nil is passed over.
type manifestVisitor struct {
	// place: a node that is nowhere has no places.
	place func(p nodePlace, places []manifestPlace) error
	// entry: node 0 is nothing.
	entry   func(dir int64, name string, node int64) error
	version func(v manifestVersion) error
	sum     func(node int64, sum uint64) error
	// saved: see savedRange.
	saved func(node int64, r savedRange) error
	// key, move and time are in manifests of runs that were cut off.
	key  func(node int64, k diff.Key) error
	move func(node int64, path string) error
	time func(dir int64, mtime unix.Timespec) error
}

// manifestPlace is one name of a node.
type manifestPlace struct {
	dir  int64
	name string
}

// manifestVersion is a row of versions.
type manifestVersion struct {
	node    int64
	attr    diff.Attr
	content int64
	xattrs  []byte // encoded
}

// readManifest reads a manifest. What v was told before an error is to be forgotten. errOldManifest comes with a head that has
// nothing but the number of the run.
func readManifest(r io.Reader, v manifestVisitor) (*manifestHead, error) {
	m := &manifestReader{r: bufio.NewReaderSize(r, 256<<10), sum: xxhash.New(), v: v}
	err := m.read()
	if errors.Is(err, errOldManifest) {
		return m.head, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: line %d: %w", errManifest, m.lines, err)
	}
	return m.head, nil
}

type manifestReader struct {
	r     *bufio.Reader
	sum   *xxhash.Digest
	v     manifestVisitor
	head  *manifestHead
	lines int64
}

// line reads the next line, without its end.
func (m *manifestReader) line() (string, error) {
	m.lines++
	var long []byte
	for {
		part, err := m.r.ReadSlice('\n')
		if err == nil && long == nil {
			return string(part[:len(part)-1]), nil
		}
		long = append(long, part...)
		switch {
		case err == nil:
			return string(long[:len(long)-1]), nil
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != bufio.ErrBufferFull:
			return "", err
		case len(long) > maxManifestLine:
			return "", errors.New("is too long")
		}
	}
}

// title reads the first two lines. Of format 1 the head has the number of the run alone, and errOldManifest comes with it.
func (m *manifestReader) title() (*manifestHead, error) {
	title, err := m.line()
	if err != nil {
		return nil, err
	}
	format, ok := strings.CutPrefix(title, manifestTitle)
	if !ok {
		return nil, errors.New("this is no manifest")
	}
	head, err := m.line()
	if err != nil {
		return nil, err
	}
	text, ok := strings.CutPrefix(head, "run ")
	if !ok {
		return nil, errors.New("does not say which run")
	}
	h := new(manifestHead)
	if format == "1" {
		if h.Run, err = strconv.ParseInt(text, 10, 64); err != nil {
			return h, err
		}
		return h, errOldManifest
	}
	if n, err := strconv.Atoi(format); err != nil || n < 2 || n > manifestFormat {
		return nil, fmt.Errorf("format %q is not known: it was written by a newer snapdiff", format)
	}
	if err := json.Unmarshal([]byte(text), h); err != nil {
		return nil, err
	}
	if m.sum != nil {
		m.sum.WriteString(title + "\n" + head + "\n")
	}
	return h, nil
}

func (m *manifestReader) read() (err error) {
	if m.head, err = m.title(); err != nil {
		return err
	}
	for {
		line, err := m.line()
		if err != nil {
			return err
		}
		if end, ok := strings.CutPrefix(line, "end "); ok {
			return m.atEnd(end)
		}
		m.sum.WriteString(line)
		m.sum.WriteString("\n")
		if err := m.item(line); err != nil {
			return err
		}
	}
}

// atEnd compares the last line with what was read.
func (m *manifestReader) atEnd(end string) error {
	if want := fmt.Sprintf("%d %016x", m.lines-1, m.sum.Sum64()); end != want {
		return errors.New("the checksum does not fit")
	}
	if _, err := m.r.ReadByte(); err != io.EOF {
		return errors.New("something follows the end")
	}
	return nil
}

// item reads one line between head and end.
func (m *manifestReader) item(line string) error {
	f := &fields{rest: line}
	var err error
	switch kind := f.word(); kind {
	case "#":
		return nil
	case "@":
		err = m.place(f)
	case "-", "+":
		dir, name, node := f.number(), f.text(), int64(0)
		if kind == "-" {
			node = f.number()
		}
		if f.done() && m.v.entry != nil {
			err = m.v.entry(dir, name, node)
		}
	case "=":
		err = m.version(f)
	case "*":
		node, sum := f.number(), f.unsigned(16)
		if f.done() && m.v.sum != nil {
			err = m.v.sum(node, sum)
		}
	case "%":
		node, r := f.number(), savedRange{diff.Range{Off: f.number(), Len: f.number()}, f.number()}
		if f.done() && m.v.saved != nil {
			err = m.v.saved(node, r)
		}
	case "~":
		node, k := f.number(), diff.Key{Ino: f.unsigned(10), Gen: f.unsigned(10)}
		if f.done() && m.v.key != nil {
			err = m.v.key(node, k)
		}
	case ">":
		node, path := f.number(), f.text()
		if f.done() && m.v.move != nil {
			err = m.v.move(node, path)
		}
	case "^":
		dir, mtime := f.number(), f.time()
		if f.done() && m.v.time != nil {
			err = m.v.time(dir, mtime)
		}
	default:
		return fmt.Errorf("begins with %q", kind)
	}
	if err == nil && !f.done() {
		err = errors.New("has not the form that it should have")
	}
	return err
}

func (m *manifestReader) place(f *fields) error {
	p := nodePlace{id: f.number()}
	letter := f.word()
	for kind, l := range typeLetters {
		if letter == string(l) {
			p.kind = kind
		}
	}
	p.born = f.number()
	var places []manifestPlace
	if f.rest == "-" {
		f.rest = ""
	} else {
		for f.more() {
			places = append(places, manifestPlace{f.number(), f.text()})
		}
	}
	if p.alive = len(places) > 0; p.kind == 0 || p.kind == unix.S_IFDIR && len(places) > 1 {
		f.bad = true
	}
	if !f.done() || m.v.place == nil {
		return nil
	}
	return m.v.place(p, places)
}

func (m *manifestReader) version(f *fields) error {
	v := manifestVersion{node: f.number()}
	mode, err := strconv.ParseUint(f.word(), 8, 32)
	f.fail(err)
	v.attr.Mode, v.attr.UID, v.attr.GID = uint32(mode), uint32(f.number()), uint32(f.number())
	v.attr.Rdev, v.attr.Size = uint64(f.number()), f.number()
	mtime := f.time()
	v.attr.MtimeSec, v.attr.MtimeNsec, v.attr.Nlink = mtime.Sec, int32(mtime.Nsec), uint32(f.number())
	switch word := f.word(); word {
	case "later":
		v.content = contentLater
	case "here":
		v.content = contentObject
	case "ranges":
		v.content = contentSaved
	default:
		v.content, err = strconv.ParseInt(word, 10, 8)
		f.fail(err)
	}
	if v.xattrs, err = parseXattrs(f.word()); err != nil {
		return err
	}
	if !f.done() || m.v.version == nil {
		return nil
	}
	return m.v.version(v)
}

// parseXattrs reads NAME=BASE64,NAME=BASE64... or "-" for none.
func parseXattrs(text string) ([]byte, error) {
	if text == "-" {
		return nil, nil
	}
	var list []beneath.Xattr
	for one := range strings.SplitSeq(text, ",") {
		name, value, ok := strings.Cut(one, "=")
		x := beneath.Xattr{}
		var err, bad error
		x.Name, err = unescape(name)
		x.Value, bad = base64.StdEncoding.DecodeString(value)
		if !ok || err != nil || bad != nil || x.Name == "" {
			return nil, errors.New("has attributes that cannot be read")
		}
		list = append(list, x)
	}
	return encodeXattrs(list), nil
}

// fields cuts a line at its spaces.
type fields struct {
	rest string
	bad  bool
}

func (f *fields) more() bool { return f.rest != "" && !f.bad }

func (f *fields) done() bool { return f.rest == "" && !f.bad }

func (f *fields) fail(err error) { f.bad = f.bad || err != nil }

func (f *fields) word() string {
	word, rest, _ := strings.Cut(f.rest, " ")
	f.rest = rest
	f.bad = f.bad || word == ""
	return word
}

func (f *fields) number() int64 {
	n, err := strconv.ParseInt(f.word(), 10, 64)
	f.fail(err)
	if n == math.MinInt64 {
		f.bad = true
	}
	return n
}

func (f *fields) unsigned(base int) uint64 {
	n, err := strconv.ParseUint(f.word(), base, 64)
	f.fail(err)
	return n
}

// time reads seconds and nanoseconds.
func (f *fields) time() unix.Timespec {
	sec, nsec, _ := strings.Cut(f.word(), ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	f.fail(err)
	n, err := strconv.ParseInt(nsec, 10, 32)
	f.fail(err)
	return unix.Timespec{Sec: s, Nsec: n}
}

func (f *fields) text() string {
	s, err := unescape(f.word())
	f.fail(err)
	return s
}

// unescape is the opposite of appendEscaped.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b bytes.Buffer
	for len(s) > 0 {
		if s[0] != '\\' {
			b.WriteByte(s[0])
			s = s[1:]
			continue
		}
		if len(s) < 4 || s[1] != 'x' {
			return "", errors.New("has a backslash that escapes nothing")
		}
		c, err := hex.DecodeString(s[2:4])
		if err != nil {
			return "", err
		}
		b.Write(c)
		s = s[4:]
	}
	return b.String(), nil
}
