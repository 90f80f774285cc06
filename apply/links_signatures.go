package apply

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// Signatures of the base's inodes lie packed beside the names of the link index, those of linkBlock numbers in one row. A send stream of ZFS asks
// for all of a block, 32 for one that changed; among the names they would be on ten times as many pages, and a change of each would write one.

// inodeSignature is what diff.Signature gives of an inode; 0: not known.
type inodeSignature struct{ ino, sig uint64 }

// signatureBlock are the signatures of numbers that lie side by side. Its row has a little-endian bitmap of which are known, and these, each of eight bytes.
type signatureBlock [linkBlock]uint64

// packedSignatures is the most bytes that a row takes.
const packedSignatures = 4 + 8*linkBlock

func (b *signatureBlock) pack() []byte {
	data := make([]byte, 4, packedSignatures)
	known := uint32(0)
	for i, sig := range b {
		if sig != 0 {
			known |= 1 << i
			data = binary.LittleEndian.AppendUint64(data, sig)
		}
	}
	binary.LittleEndian.PutUint32(data, known)
	return data
}

func (b *signatureBlock) unpack(data []byte) error {
	if len(data) < 4 || len(data) != 4+8*bits.OnesCount32(binary.LittleEndian.Uint32(data)) {
		return &DamagedCatalog{fmt.Errorf("a block of signatures has %d bytes", len(data))}
	}
	known := binary.LittleEndian.Uint32(data)
	data = data[4:]
	for i := range b {
		b[i] = 0
		if known>>i&1 != 0 {
			b[i], data = binary.LittleEndian.Uint64(data), data[8:]
		}
	}
	return nil
}

// readColumn takes a block from a row.
func (b *signatureBlock) readColumn(row *sqlite.Stmt, col int) error {
	var data [packedSignatures + 1]byte
	return b.unpack(data[:row.ColumnBytes(col, data[:])])
}

// querier runs one statement and hands over its rows.
type querier func(query string, row func(*sqlite.Stmt) error, args ...any) error

// setSignatures keeps signatures in the place of those that were known. Of several for one number the last one counts. It sorts the list.
func setSignatures(query querier, list []inodeSignature) error {
	slices.SortStableFunc(list, func(a, b inodeSignature) int { return cmp.Compare(a.ino, b.ino) })
	for len(list) > 0 {
		number := list[0].ino / linkBlock
		var block signatureBlock
		err := query(`SELECT sigs FROM signatures WHERE block = ?`, func(row *sqlite.Stmt) error { return block.readColumn(row, 0) }, int64(number))
		if err != nil {
			return err
		}
		for ; len(list) > 0 && list[0].ino/linkBlock == number; list = list[1:] {
			block[list[0].ino%linkBlock] = list[0].sig
		}
		if block == (signatureBlock{}) {
			err = query(`DELETE FROM signatures WHERE block = ?`, nil, int64(number))
		} else {
			err = query(`INSERT OR REPLACE INTO signatures(block, sigs) VALUES (?, ?)`, nil, int64(number), block.pack())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// packSignatures takes the signatures out of the names, where format 3 had them. An inode whose names do not agree has none.
func packSignatures(conn *sqlite.Conn) error {
	query := func(query string, row func(*sqlite.Stmt) error, args ...any) error {
		return sqlitex.Execute(conn, query, &sqlitex.ExecOptions{Args: args, ResultFunc: row})
	}
	var list []inodeSignature
	err := query(`SELECT ino, coalesce(sig, 0) FROM links ORDER BY ino`, func(row *sqlite.Stmt) error {
		next := inodeSignature{uint64(row.ColumnInt64(0)), uint64(row.ColumnInt64(1))}
		n := len(list)
		if n > 0 && list[n-1].ino == next.ino {
			if list[n-1].sig != next.sig {
				list[n-1].sig = 0
			}
			return nil
		}
		if n > 0 && list[n-1].ino/linkBlock != next.ino/linkBlock {
			if err := setSignatures(query, list); err != nil {
				return err
			}
			list = list[:0]
		}
		list = append(list, next)
		return nil
	})
	if err == nil {
		err = setSignatures(query, list)
	}
	if err != nil {
		return err
	}
	return sqlitex.ExecuteScript(conn, `ALTER TABLE links DROP COLUMN sig`, nil)
}

const (
	signaturesQuery = `SELECT block, sigs FROM signatures WHERE block >= ? ORDER BY block`
	// signatureGap is how many rows it takes less time to go through than to look for one anew.
	signatureGap = 8
)

// Signatures implements diff.SignatureIndex. It goes through the blocks where they lie side by side.
func (l *LinkIndex) Signatures(inos []uint64) ([]uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.begin(); err != nil {
		return nil, err
	}
	sigs := make([]uint64, len(inos))
	err := l.s.guard.do(func() error {
		stmt, err := l.s.conn.Prepare(signaturesQuery)
		if err != nil {
			return err
		}
		defer stmt.Reset()
		at := signatureReader{stmt: stmt}
		for i, ino := range inos {
			if sigs[i], err = at.signature(ino); err != nil {
				return err
			}
		}
		return nil
	})
	return sigs, catalogError("read the link index", err)
}

// signatureReader goes through the rows of signaturesQuery.
type signatureReader struct {
	stmt   *sqlite.Stmt
	begun  bool
	row    bool   // it stands at one; else, once begun, it is at the end
	number uint64 // of the block in that row
	block  signatureBlock
	from   uint64 // no block from here on is before the row
}

// signature gives that of an inode, 0 where it is not known.
func (r *signatureReader) signature(ino uint64) (sig uint64, err error) {
	number := ino / linkBlock
	if near := r.begun && r.from <= number && (!r.row || number <= r.number+signatureGap); !near {
		err = r.seek(number)
	}
	for err == nil && r.row && r.number < number {
		err = r.step()
	}
	r.from = number
	if err != nil || !r.row || r.number != number {
		return 0, err
	}
	return r.block[ino%linkBlock], nil
}

func (r *signatureReader) seek(number uint64) error {
	if err := r.stmt.Reset(); err != nil {
		return err
	}
	r.stmt.BindInt64(1, int64(number))
	r.begun = true
	return r.step()
}

func (r *signatureReader) step() (err error) {
	if r.row, err = r.stmt.Step(); err != nil || !r.row {
		return err
	}
	r.number = uint64(r.stmt.ColumnInt64(0))
	return r.block.readColumn(r.stmt, 1)
}
