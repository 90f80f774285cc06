package apply_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// TestSignaturesOfLinks: whatever numbers are asked for together, in whatever order, each has the signature of its own rows. Where these are not
// alike it is not known.
func TestSignaturesOfLinks(t *testing.T) {
	seed := Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	store := filepath.Join(t.TempDir(), "store")
	if err := apply.Init(store); err != nil {
		t.Fatal(err)
	}
	want := map[uint64]uint64{}
	rows := []string{`INSERT INTO meta(key, value) VALUES ('links', '1')`}
	add := func(ino, name, sig uint64) {
		rows = append(rows, fmt.Sprintf(`INSERT INTO links(ino, dir, name, gen, sig) VALUES (%d, 1, 'n%d', 1, nullif(%d, 0))`, ino, name, int64(sig)))
	}
	for range 300 {
		ino := rng.Uint64N(2000) * (1 + rng.Uint64N(2)*20) // dense ones and rare ones
		if _, ok := want[ino]; ok {
			continue
		}
		want[ino] = rng.Uint64N(3) * rng.Uint64()
		names := 1 + rng.Uint64N(3)
		other := names > 1 && rng.IntN(4) == 0
		for n := range names {
			if sig := want[ino]; other && n == names-1 {
				add(ino, n, sig+1)
			} else {
				add(ino, n, sig)
			}
		}
		if other {
			want[ino] = 0
		}
	}
	alterCatalog(t, store, strings.Join(rows, ";\n")+";")
	s, err := apply.Open(store)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	links := s.Links()
	defer links.Close()
	for range 200 {
		var inos []uint64
		for range rng.IntN(200) {
			inos = append(inos, rng.Uint64N(2100)*(1+rng.Uint64N(2)*20))
		}
		if rng.IntN(3) > 0 {
			slices.Sort(inos)
		}
		sigs, err := links.Signatures(inos)
		if err != nil || len(sigs) != len(inos) {
			t.Fatalf("%d signatures of %d numbers: %v", len(sigs), len(inos), err)
		}
		for i, ino := range inos {
			if sigs[i] != want[ino] {
				t.Fatalf("of %v, %d has %x, want %x", inos, ino, sigs[i], want[ino])
			}
		}
	}
}
