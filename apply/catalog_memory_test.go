package apply

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"

	"snapdiff/apply/applytest"
)

// TestSQLiteMemory: pieces of all sizes keep what is written to them, whatever is taken, given back and changed in size beside them.
func TestSQLiteMemory(t *testing.T) {
	random := rand.New(rand.NewPCG(applytest.Seed(t), 0))
	tls := libc.NewTLS()
	defer tls.Close()
	type piece struct {
		at  uintptr
		has []byte
	}
	bytesOf := func(p piece) []byte { return unsafe.Slice(*(**byte)(unsafe.Pointer(&p.at)), len(p.has)) }
	write := func(p piece) piece {
		for i := range p.has {
			p.has[i] = byte(random.Uint32())
		}
		copy(bytesOf(p), p.has)
		return p
	}
	sizes := []int{1, 8, 100, 4088, 4089, 4376, pageSlot - sizeHeader, pageSlot, largeMore - sizeHeader, largeMore, 53_000, largeSlot - sizeHeader, largeSlot, 100_000}
	size := func() int { return max(1, sizes[random.IntN(len(sizes))]-random.IntN(3)) }
	var pieces []piece
	for range 5000 {
		i := 0
		if len(pieces) > 0 {
			i = random.IntN(len(pieces))
		}
		switch op := random.IntN(3); {
		case op == 0 || len(pieces) == 0:
			n := size()
			pieces = append(pieces, write(piece{sqliteMalloc(tls, int32(n)), make([]byte, n)}))
		case op == 1:
			n := size()
			p := pieces[i]
			kept := min(n, len(p.has))
			p = piece{sqliteRealloc(tls, p.at, int32(n)), append(bytes.Clone(p.has[:kept]), make([]byte, n-kept)...)}
			if !bytes.Equal(bytesOf(p)[:kept], p.has[:kept]) {
				t.Fatalf("a piece of %d bytes lost something when it got %d", kept, n)
			}
			pieces[i] = write(p)
		default:
			sqliteFree(tls, pieces[i].at)
			pieces = append(pieces[:i], pieces[i+1:]...)
		}
		for _, p := range pieces {
			if p.at%8 != 0 || int(sqliteSize(tls, p.at)) < len(p.has) {
				t.Fatalf("a piece of %d bytes lies at %#x and has %d", len(p.has), p.at, sqliteSize(tls, p.at))
			}
		}
		if len(pieces) > 0 {
			if p := pieces[random.IntN(len(pieces))]; !bytes.Equal(bytesOf(p), p.has) {
				t.Fatalf("a piece of %d bytes was written by another", len(p.has))
			}
		}
		if len(pieces) > 200 {
			for _, p := range pieces[100:] {
				sqliteFree(tls, p.at)
			}
			pieces = pieces[:100]
		}
	}
	for _, p := range pieces {
		if !bytes.Equal(bytesOf(p), p.has) {
			t.Fatalf("a piece of %d bytes was written by another", len(p.has))
		}
		sqliteFree(tls, p.at)
	}
}

// TestSQLiteUsesItsMemory: a catalog's pages are pieces for pages: the size that SQLite asks for is the one that is meant.
func TestSQLiteUsesItsMemory(t *testing.T) {
	if err := createCatalog(t.TempDir() + "/catalog.db"); err != nil {
		t.Fatal(err)
	}
	if len(sqliteMemory.pages) == 0 {
		t.Errorf("SQLite %s took no memory for a page of here: what it needs for one has changed, see pageSlot", sqlite3.SQLITE_VERSION)
	}
}
