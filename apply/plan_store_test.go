package apply

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// samplePlan has something of everything, and n inodes.
func samplePlan(n int) *plan {
	a := diff.Attr{Mode: unix.S_IFREG | 0o4755, UID: 1<<32 - 1, GID: 7, Rdev: 1 << 63, Size: 1 << 40, MtimeSec: -5, MtimeNsec: 999999999, Nlink: 3}
	p := &plan{
		Full:     true,
		Unlinked: []diff.Name{{Path: "a/\xff\n", Parent: diff.Key{Ino: 256}, Key: diff.PlaceholderKey(5), Type: unix.S_IFDIR}},
		Linked:   []diff.Name{{Path: "b", Parent: diff.Key{Ino: 1<<64 - 1, Gen: 1<<64 - 1}, Key: diff.Key{Ino: 257, Gen: 9}, Type: unix.S_IFREG}},
		Gone:     []diff.Gone{{Key: diff.Key{Ino: 300, Gen: 1}, BasePaths: []string{"x", "y"}, BaseAttr: a}},
		Settled:  []uint64{1, 1 << 63},
		TooDeep:  []diff.Name{{Path: "d/e/e/p", Key: diff.Key{Ino: 1 << 63, Gen: 7}}},
		Inodes: []diff.Inode{
			{Key: diff.Key{Ino: 1, Gen: 2}, What: diff.Data, Paths: []string{""}, Attr: a, BaseAttr: a, BasePaths: []string{"old"}},
			{Key: diff.Key{Ino: 2, Gen: 2}, What: diff.Data | diff.Meta, Paths: []string{"nothing differs"}, Ranges: []diff.Range{}},
			{Key: diff.Key{Ino: 3, Gen: 2}, What: diff.Data, Paths: []string{"some differs", "z"}, Ranges: []diff.Range{{Off: 0, Len: 4096}, {Off: 1 << 50, Len: 1}}},
		},
	}
	for i := range n {
		p.Inodes = append(p.Inodes, diff.Inode{Key: diff.Key{Ino: uint64(i), Gen: 1}, What: diff.New, Attr: a, Paths: []string{fmt.Sprintf("%07d/%s", i, strings.Repeat("n", 250))}})
	}
	return p
}

func encoded(t testing.TB, p *plan) (pieces [][]byte) {
	t.Helper()
	err := encodePlan(p, func(b []byte) error { pieces = append(pieces, bytes.Clone(b)); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return pieces
}

// What is read back is what was written; "the whole file" and "nothing of it" stay two things.
func TestPlanRoundTrip(t *testing.T) {
	many := samplePlan(0)
	for i := range 300_000 { // one record that is longer than a piece
		many.Inodes[2].Ranges = append(many.Inodes[2].Ranges, diff.Range{Off: int64(i) << 20, Len: 4096})
	}
	for what, p := range map[string]*plan{"empty": {}, "small": samplePlan(0), "large": samplePlan(20_000), "ranges": many} {
		pieces := encoded(t, p)
		for i, b := range pieces {
			if len(b) == 0 || len(b) > planPiece {
				t.Errorf("%s: piece %d has %d bytes", what, i, len(b))
			}
		}
		got, err := decodePlan(bytes.NewReader(bytes.Join(pieces, nil)))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s: %d pieces came back as something else: %v", what, len(pieces), err)
		}
	}
}

// A plan of which a part is missing, or that something follows, is refused.
func TestPlanDamaged(t *testing.T) {
	whole := encoded(t, samplePlan(3))[0]
	for n := range whole {
		if _, err := decodePlan(bytes.NewReader(whole[:n])); !errors.Is(err, errPlan) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(whole), err)
		}
	}
	if _, err := decodePlan(bytes.NewReader(append(whole, 0))); !errors.Is(err, errPlan) {
		t.Errorf("a byte more: %v", err)
	}
}

// FuzzPlan: any bytes are refused or read as a plan that is written and read the same again.
func FuzzPlan(f *testing.F) {
	f.Add(encoded(f, samplePlan(1))[0])
	f.Add([]byte{planVersion, planEnd, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePlan(bytes.NewReader(data))
		if err != nil {
			return
		}
		again, err := decodePlan(bytes.NewReader(bytes.Join(encoded(t, p), nil)))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("read as %+v, and then as %+v: %v", p, again, err)
		}
	})
}
