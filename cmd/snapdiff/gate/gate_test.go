package gate

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

func chance(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// TestContents: what is encrypted and what is not are told apart, from the shortest piece on.
func TestContents(t *testing.T) {
	text := []byte(strings.Repeat("It was the best of times, it was the worst of times, it was the age of wisdom. ", 200))
	var packed bytes.Buffer
	w, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte(base64.StdEncoding.EncodeToString(chance(30_000, 9)))) // does not shrink to nothing, as repeated text does
	w.Close()
	for _, n := range []int{leastPiece, 1000, piece} {
		wrong := 0
		for seed := range byte(200) {
			if b := chance(n, seed); !random(b) || compressible(b) {
				wrong++
			}
		}
		if wrong > 2 {
			t.Errorf("%d of 200 pieces of %d bytes by chance are not told", wrong, n)
		}
		if b := packed.Bytes()[:n]; !random(b) || compressible(b) {
			t.Errorf("%d compressed bytes scatter %f", n, scatter(b))
		}
		for what, b := range map[string][]byte{"text": text, "base64": []byte(base64.StdEncoding.EncodeToString(chance(piece, 1))), "zeros": make([]byte, piece)} {
			if b = b[:n]; random(b) || !compressible(b) {
				t.Errorf("%d bytes of %s scatter %f", n, what, scatter(b))
			}
		}
	}
	if b := chance(leastPiece-1, 1); random(b) || compressible(b) {
		t.Error("too few bytes tell something")
	}
}

// TestExtensions: which file came in the place of which, and with what extension.
func TestExtensions(t *testing.T) {
	for _, c := range []struct{ base, came, next, gained string }{
		{"d/a.doc", "d/a.doc.locked", "d/a.doc.locked", "locked"},
		{"d/a.doc", "d/a.locked", "d/a.locked", "locked"},
		{"d/a.doc", "d/a.doc", "d/a.doc", ""},
		{"d/a.doc", "e/a.doc.locked", "", ""},
		{"d/a.doc", "d/ab.locked", "", ""},
		{"d/a", "d/a.b.locked", "", ""},
		{"d/1700.M5.host,S=12:2,S", "d/1700.M5.host,S=12:2,RS", "", ""},
		{".profile", ".profile.enc", ".profile.enc", "enc"},
	} {
		set := diff.NewChangeSet()
		set.Linked.ReplaceOrInsert(diff.Name{Path: c.came, Type: unix.S_IFREG})
		if next := successor(set, c.base); next != c.next {
			t.Errorf("%s came in the place of %s: got %q, want %q", c.came, c.base, next, c.next)
		} else if ext := gained(c.base, c.came); next != "" && ext != c.gained {
			t.Errorf("%s to %s gained %q, want %q", c.base, c.came, ext, c.gained)
		}
	}
}

// TestWorst: the directories that are named are those in which it happened.
func TestWorst(t *testing.T) {
	set := diff.NewChangeSet()
	add := func(path string) {
		key := diff.Key{Ino: uint64(set.Inodes.Len() + 1)}
		set.Inodes.ReplaceOrInsert(diff.Inode{Key: key, What: diff.Data, Attr: diff.Attr{Mode: unix.S_IFREG}, Paths: []string{path}, BasePaths: []string{path}})
	}
	gone := func(path string) {
		key := diff.Key{Ino: uint64(set.Gone.Len() + 1000)}
		set.Gone.ReplaceOrInsert(diff.Gone{Key: key, BasePaths: []string{path}, BaseAttr: diff.Attr{Mode: unix.S_IFREG}})
		set.Unlinked.ReplaceOrInsert(diff.Name{Path: path, Parent: diff.Key{Ino: uint64(path[strings.LastIndexByte(path, '/')-1])}, Key: key})
	}
	add("etc/passwd")
	for i := range 30 {
		name := string(rune('a' + i))
		add("home/anna/mail/" + name + "/1")
		gone("home/anna/mail/" + name + "/2")
	}
	for i := range 5 {
		gone("home/anna/mail/x/" + string(rune('a'+i)))
	}
	got := Worst(set)
	if len(got) != most || got[0] != (Dir{"home/anna/mail/x", 6, 1}) || got[1] != (Dir{"home/anna/mail/a", 1, 1}) {
		t.Errorf("%+v", got)
	}
	if Deleted(set) != 35 || Changed(set) != 66 {
		t.Errorf("%d deleted, %d changed", Deleted(set), Changed(set))
	}
	set = diff.NewChangeSet()
	for i := range 30 {
		add("top" + string(rune('a'+i)))
	}
	if got := Worst(set); !slices.Equal(got, []Dir{{"", 0, 30}}) {
		t.Errorf("%+v", got)
	}
	if got := Worst(diff.NewChangeSet()); got != nil {
		t.Errorf("%+v", got)
	}
}
