package apply

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"snapdiff/diff"
)

// A plan in the table plans is one stream of bytes in pieces. It begins with planVersion; then come records, each a letter
// and its fields; the last one is planEnd with the number of records before it. Numbers are varints (signed ones in zigzag),
// strings have their length before them. See docs/store-format.md.
const (
	planVersion = 2
	planPiece   = 1 << 20 // bytes of a piece

	planFull     = 'F'
	planUnlinked = 'U'
	planLinked   = 'L'
	planInode    = 'I'
	planGone     = 'G'
	planSettled  = 'S'
	planTooDeep  = 'D'
	planEnd      = 'E'
)

var errPlan = errors.New("the recorded plan is damaged")

// storePlan writes a plan within the caller's transaction.
func storePlan(conn *sqlite.Conn, run int64, p *plan) error {
	seq := 0
	return encodePlan(p, func(piece []byte) error {
		seq++
		return sqlitex.Execute(conn, `INSERT INTO plans(run, seq, data) VALUES (?, ?, ?)`, &sqlitex.ExecOptions{Args: []any{run, seq, piece}})
	})
}

// loadPlan reads the plan of an unfinished run.
func (s *Store) loadPlan(run int64) (p *plan, err error) {
	err = s.guard.do(func() (err error) { p, err = loadPlan(s.conn, run); return err })
	return p, err
}

// loadPlan reads the plan of a run.
func loadPlan(conn *sqlite.Conn, run int64) (*plan, error) {
	p, err := decodePlan(&planReader{conn: conn, run: run})
	if err != nil {
		return nil, catalogError(fmt.Sprintf("read the plan of r%d", run), err)
	}
	return p, nil
}

// planReader reads the pieces one after the other.
type planReader struct {
	conn *sqlite.Conn
	run  int64
	seq  int
	left string
}

// Read gives what is left of the present piece.
func (r *planReader) Read(b []byte) (int, error) {
	for r.left == "" {
		r.seq++
		found := false
		err := sqlitex.Execute(r.conn, `SELECT data FROM plans WHERE run = ? AND seq = ?`, &sqlitex.ExecOptions{
			Args:       []any{r.run, r.seq},
			ResultFunc: func(row *sqlite.Stmt) error { found, r.left = true, columnBytes(row, 0); return nil },
		})
		if err == nil && !found {
			err = io.EOF
		}
		if err != nil {
			return 0, err
		}
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

// encodePlan hands over the plan in pieces, none of which is longer than planPiece. A piece is good until the next.
func encodePlan(p *plan, piece func([]byte) error) error {
	e := &planEncoder{piece: piece}
	e.buf = append(e.buf, planVersion)
	if p.Full {
		e.record(planFull)
	}
	for _, n := range p.Unlinked {
		e.record(planUnlinked)
		e.name(n)
	}
	for _, n := range p.Linked {
		e.record(planLinked)
		e.name(n)
	}
	for i := range p.Inodes {
		e.record(planInode)
		e.inode(&p.Inodes[i])
	}
	for _, g := range p.Gone {
		e.record(planGone)
		e.key(g.Key)
		e.attr(&g.BaseAttr)
		e.paths(g.BasePaths)
	}
	for _, ino := range p.Settled {
		e.record(planSettled)
		e.number(ino)
	}
	for _, n := range p.TooDeep {
		e.record(planTooDeep)
		e.text(n.Path)
		e.key(n.Key)
	}
	records := e.records
	e.record(planEnd)
	e.number(records)
	e.flush(1)
	return e.err
}

type planEncoder struct {
	buf     []byte
	records uint64
	piece   func([]byte) error
	err     error
}

// flush hands over whole pieces until fewer than least bytes are left.
func (e *planEncoder) flush(least int) {
	rest := e.buf
	for len(rest) >= least && e.err == nil {
		n := min(len(rest), planPiece)
		e.err = e.piece(rest[:n])
		rest = rest[n:]
	}
	e.buf = append(e.buf[:0], rest...)
}

func (e *planEncoder) record(kind byte) {
	if len(e.buf) >= planPiece {
		e.flush(planPiece)
	}
	e.records++
	e.buf = append(e.buf, kind)
}

func (e *planEncoder) number(n uint64) { e.buf = binary.AppendUvarint(e.buf, n) }
func (e *planEncoder) signed(n int64)  { e.buf = binary.AppendVarint(e.buf, n) }
func (e *planEncoder) text(s string)   { e.number(uint64(len(s))); e.buf = append(e.buf, s...) }
func (e *planEncoder) key(k diff.Key)  { e.number(k.Ino); e.number(k.Gen) }

func (e *planEncoder) name(n diff.Name) {
	e.text(n.Path)
	e.key(n.Parent)
	e.key(n.Key)
	e.number(uint64(n.Type))
}

func (e *planEncoder) paths(list []string) {
	e.number(uint64(len(list)))
	for _, p := range list {
		e.text(p)
	}
}

func (e *planEncoder) attr(a *diff.Attr) {
	for _, n := range []uint64{uint64(a.Mode), uint64(a.UID), uint64(a.GID), a.Rdev} {
		e.number(n)
	}
	e.signed(a.Size)
	e.signed(a.MtimeSec)
	e.signed(int64(a.MtimeNsec))
	e.number(uint64(a.Nlink))
}

// inode writes 0 for ranges that are not known and one more than their number otherwise: "the whole file" and "nothing of
// it" are two things.
func (e *planEncoder) inode(in *diff.Inode) {
	e.key(in.Key)
	e.number(uint64(in.What))
	e.paths(in.Paths)
	e.paths(in.BasePaths)
	e.attr(&in.Attr)
	e.attr(&in.BaseAttr)
	if in.Ranges == nil {
		e.number(0)
		return
	}
	e.number(uint64(len(in.Ranges)) + 1)
	for _, r := range in.Ranges {
		e.signed(r.Off)
		e.signed(r.Len)
	}
}

// decodePlan reads what encodePlan wrote. A plan that was cut short or has anything else in it is refused.
func decodePlan(r io.Reader) (*plan, error) {
	d := &planDecoder{r: bufio.NewReaderSize(r, 64<<10)}
	p := new(plan)
	if v := d.byte(); d.err == nil && v != planVersion {
		return nil, fmt.Errorf("%w: it has version %d", errPlan, v)
	}
	for records := uint64(0); d.err == nil; records++ {
		switch kind := d.byte(); kind {
		case planFull:
			p.Full = true
		case planUnlinked:
			p.Unlinked = append(p.Unlinked, d.name())
		case planLinked:
			p.Linked = append(p.Linked, d.name())
		case planInode:
			p.Inodes = append(p.Inodes, d.inode())
		case planGone:
			p.Gone = append(p.Gone, diff.Gone{Key: d.key(), BaseAttr: d.attr(), BasePaths: d.paths()})
		case planSettled:
			p.Settled = append(p.Settled, d.number())
		case planTooDeep:
			p.TooDeep = append(p.TooDeep, diff.Name{Path: d.text(), Key: d.key()})
		case planEnd:
			if n := d.number(); d.err == nil && n == records {
				return p, d.end()
			}
			d.fail(errPlan)
		default:
			d.fail(errPlan)
		}
	}
	return nil, d.err
}

type planDecoder struct {
	r   *bufio.Reader
	err error
}

// fail keeps the first error. The end of the stream anywhere but at its end is damage.
func (d *planDecoder) fail(err error) {
	if d.err != nil || err == nil {
		return
	}
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%w: it was cut short", errPlan)
	}
	d.err = err
}

// end makes sure that nothing follows.
func (d *planDecoder) end() error {
	if _, err := d.r.ReadByte(); err != io.EOF {
		return errors.Join(errPlan, err)
	}
	return nil
}

func (d *planDecoder) byte() byte {
	if d.err != nil {
		return 0
	}
	b, err := d.r.ReadByte()
	d.fail(err)
	return b
}

func (d *planDecoder) number() uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	d.fail(err)
	return n
}

func (d *planDecoder) signed() int64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(d.r)
	d.fail(err)
	return n
}

// text reads in steps: a length that is wrong must not cost memory.
func (d *planDecoder) text() string {
	const step = 4096
	var b []byte
	for n := d.number(); n > 0 && d.err == nil; {
		from := len(b)
		b = append(b, make([]byte, min(n, step))...)
		_, err := io.ReadFull(d.r, b[from:])
		d.fail(err)
		n -= min(n, step)
	}
	return string(b)
}

func (d *planDecoder) key() diff.Key { return diff.Key{Ino: d.number(), Gen: d.number()} }

func (d *planDecoder) name() diff.Name {
	return diff.Name{Path: d.text(), Parent: d.key(), Key: d.key(), Type: uint32(d.number())}
}

func (d *planDecoder) paths() []string {
	var list []string
	for n := d.number(); n > 0 && d.err == nil; n-- {
		list = append(list, d.text())
	}
	return list
}

func (d *planDecoder) attr() diff.Attr {
	return diff.Attr{Mode: uint32(d.number()), UID: uint32(d.number()), GID: uint32(d.number()), Rdev: d.number(), Size: d.signed(),
		MtimeSec: d.signed(), MtimeNsec: int32(d.signed()), Nlink: uint32(d.number())}
}

func (d *planDecoder) inode() diff.Inode {
	in := diff.Inode{Key: d.key(), What: diff.What(d.number()), Paths: d.paths(), BasePaths: d.paths(), Attr: d.attr(), BaseAttr: d.attr()}
	if d.err == nil && len(in.Paths) == 0 {
		d.fail(errPlan)
	}
	n := d.number()
	if n == 0 {
		return in
	}
	in.Ranges = []diff.Range{}
	for ; n > 1 && d.err == nil; n-- {
		in.Ranges = append(in.Ranges, diff.Range{Off: d.signed(), Len: d.signed()})
	}
	return in
}
