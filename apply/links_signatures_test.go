package apply

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"zombiezen.com/go/sqlite"

	"snapdiff/apply/applytest"
)

// signaturesRig is a store with a link index to which signatures are given.
type signaturesRig struct {
	*testing.T
	store *Store
	rng   *rand.Rand
	want  map[uint64]uint64
}

func newSignaturesRig(t *testing.T) *signaturesRig {
	store := filepath.Join(t.TempDir(), "store")
	if err := Init(store); err != nil {
		t.Fatal(err)
	}
	s, err := Open(store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.beginLinks(true); err != nil {
		t.Fatal(err)
	}
	return &signaturesRig{t, s, rand.New(rand.NewPCG(applytest.Seed(t), 0)), map[uint64]uint64{}}
}

// number is that of some inode: side by side with others, rare, or in a child of the source.
func (r *signaturesRig) number() uint64 {
	ino := r.rng.Uint64N(2000)
	switch r.rng.IntN(4) {
	case 0:
		return ino * 21
	case 1:
		return (65535-ino%2)<<48 | ino
	}
	return ino
}

// set gives some inodes signatures, or takes them away.
func (r *signaturesRig) set(n int) {
	list := make([]inodeSignature, n)
	for i := range list {
		list[i] = inodeSignature{r.number(), r.rng.Uint64N(3) * r.rng.Uint64()}
		r.want[list[i].ino] = list[i].sig
	}
	if err := setSignatures(r.store.query, list); err != nil {
		r.Fatal(err)
	}
}

// ask compares the signatures of some numbers.
func (r *signaturesRig) ask(n int) {
	links := r.store.Links()
	defer links.Close()
	inos := make([]uint64, n)
	for i := range inos {
		inos[i] = r.number()
	}
	if r.rng.IntN(3) > 0 {
		slices.Sort(inos)
	}
	sigs, err := links.Signatures(inos)
	if err != nil || len(sigs) != len(inos) {
		r.Fatalf("%d signatures of %d numbers: %v", len(sigs), len(inos), err)
	}
	for i, ino := range inos {
		if sigs[i] != r.want[ino] {
			r.Fatalf("of %v, %d has %x, want %x", inos, ino, sigs[i], r.want[ino])
		}
	}
}

// TestSignatures: whatever numbers are given signatures or lose them together, and whatever are asked for, in whatever order, each has
// the last one that it was given.
func TestSignatures(t *testing.T) {
	r := newSignaturesRig(t)
	for range 100 {
		r.set(r.rng.IntN(100))
		for range 3 {
			r.ask(r.rng.IntN(200))
		}
	}
	for ino, sig := range r.want { // blocks of which nothing is known leave no row
		if sig != 0 {
			r.want[ino] = 0
			if err := setSignatures(r.store.query, []inodeSignature{{ino, 0}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.ask(1000)
	err := r.store.query(`SELECT count(*) FROM signatures`, func(row *sqlite.Stmt) error {
		if n := row.ColumnInt64(0); n != 0 {
			t.Errorf("%d rows are left", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDamagedSignatures: a row that is no block of signatures is a damaged catalog, to whoever reads it and to whoever adds to it.
func TestDamagedSignatures(t *testing.T) {
	for _, sigs := range []string{`x''`, `x'000000'`, `x'0100000001020304050607'`, `x'010000000102030405060708ff'`, `zeroblob(300)`, `'text'`} {
		r := newSignaturesRig(t)
		if err := r.store.exec(`INSERT INTO signatures(block, sigs) VALUES (1, ` + sigs + `)`); err != nil {
			t.Fatal(err)
		}
		links := r.store.Links()
		_, reading := links.Signatures([]uint64{40})
		links.Close()
		writing := setSignatures(r.store.query, []inodeSignature{{41, 1}})
		var damaged *DamagedCatalog
		if !errors.As(reading, &damaged) || !errors.As(writing, &damaged) {
			t.Errorf("%s: reading: %v, writing: %v", sigs, reading, writing)
		}
	}
}
