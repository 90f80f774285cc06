package zfsfeed

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"snapdiff/diff"
)

// unzip reads a file of testdata.
func unzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	b, err := io.ReadAll(z)
	must(t, err)
	return b
}

var captures = []string{"plain", "flags", "freed"}

// parse reads a stream into lines, as zstream prints them.
func parse(stream []byte) (lines []string, err error) {
	_, err = readStream(bytes.NewReader(stream), func(r *record) error {
		switch r.kind {
		case object:
			lines = append(lines, fmt.Sprintf("OBJECT object = %d type = %d bonustype = %d bonus %d", r.object, r.objType, r.bonus, len(r.payload)))
		case freeObjects:
			lines = append(lines, fmt.Sprintf("FREEOBJECTS firstobj = %d numobjs = %d", r.object, r.count))
		case write:
			lines = append(lines, fmt.Sprintf("WRITE object = %d offset = %d logical_size = %d", r.object, r.off, r.len))
		case free:
			lines = append(lines, fmt.Sprintf("FREE object = %d offset = %d length = %d", r.object, r.off, int64(r.len)))
		case spill:
			lines = append(lines, fmt.Sprintf("SPILL block for object = %d flags = %d", r.object, r.flags))
		case writeEmbedded:
			lines = append(lines, fmt.Sprintf("WRITE_EMBEDDED object = %d offset = %d length = %d", r.object, r.off, r.len))
		}
		return nil
	})
	return lines, err
}

// dumped makes the same lines of what zstream dump -v printed.
func dumped(t *testing.T, name string) (lines []string) {
	t.Helper()
	fields := regexp.MustCompile(`(\w+) = (-?\d+)`)
	for line := range strings.Lines(string(unzip(t, name))) {
		f := map[string]string{}
		for _, m := range fields.FindAllStringSubmatch(line, -1) {
			f[m[1]] = m[2]
		}
		kind, _, _ := strings.Cut(line, " ")
		want := map[string][]string{"FREEOBJECTS": {"firstobj", "numobjs"}, "WRITE": {"object", "offset", "logical_size"},
			"FREE": {"object", "offset", "length"}, "WRITE_EMBEDDED": {"object", "offset", "length"}}[kind]
		out := kind
		for _, name := range want {
			out += " " + name + " = " + f[name]
		}
		switch kind {
		case "OBJECT":
			var bonus int
			fmt.Sscan(f["bonuslen"], &bonus)
			out = fmt.Sprintf("OBJECT object = %s type = %s bonustype = %s bonus %d", f["object"], f["type"], f["bonustype"], (bonus+7)/8*8)
		case "SPILL":
			out = fmt.Sprintf("SPILL block for object = %s flags = %s", f["object"], f["flags"])
		}
		if want != nil || kind == "OBJECT" || kind == "SPILL" {
			lines = append(lines, out)
		}
	}
	return lines
}

// TestCaptures: real streams are read as OpenZFS's own zstream reads them.
func TestCaptures(t *testing.T) {
	for _, name := range captures {
		got, err := parse(unzip(t, name+".zstream.gz"))
		must(t, err)
		if want := dumped(t, name+".dump.gz"); len(want) < 50 || !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// offsets are the starts of the records of a stream, and its end.
func offsets(t testing.TB, stream []byte) []int {
	t.Helper()
	s := &rawStream{left: stream}
	at := []int{0}
	for len(s.left) > 0 {
		s.left = s.left[recordSize+s.payloadSize():]
		at = append(at, len(stream)-len(s.left))
	}
	return at
}

// rawStream walks over a little endian stream without checking it.
type rawStream struct{ left []byte }

func (s *rawStream) payloadSize() int {
	p := &stream{order: binary.LittleEndian}
	copy(p.buf[:], s.left)
	r := &record{kind: kind(p.u32(0))}
	if r.kind == begin || r.kind == end {
		return int(p.u32(4))
	}
	n, _ := p.fields(r)
	return int(n)
}

// swap turns a little endian stream into the big endian one that another machine would have sent.
func swap(t testing.TB, in []byte) []byte {
	t.Helper()
	fields := map[kind][][]int{ // widths 4 and 8: where such fields are
		begin: {{0, 4, 32, 36}, {8, 16, 24, 40, 48}}, object: {{0, 4, 16, 20, 24, 28, 36}, {8, 40, 56}}, freeObjects: {{0, 4}, {8, 16, 24}},
		write: {{0, 4, 16}, {8, 24, 32, 40, 96}}, free: {{0, 4}, {8, 16, 24, 32}}, end: {{0, 4}, {8, 16, 24, 32, 40}},
		spill: {{0, 4}, {8, 16, 24, 40}}, writeEmbedded: {{0, 4, 48, 52}, {8, 16, 24, 32}},
	}
	out := slices.Clone(in)
	at := offsets(t, in)
	for _, off := range at[:len(at)-1] {
		b := out[off : off+recordSize]
		f := fields[kind(binary.LittleEndian.Uint32(b))]
		for _, o := range f[0] {
			slices.Reverse(b[o : o+4])
		}
		for _, o := range f[1] {
			slices.Reverse(b[o : o+8])
		}
	}
	return resum(out, at, binary.BigEndian)
}

// resum makes all checksums of a stream right.
func resum(b []byte, at []int, order binary.ByteOrder) []byte {
	var sum fletcher4
	put := func(b []byte) {
		for i, v := range sum {
			order.PutUint64(b[8*i:], v)
		}
	}
	for i, off := range at[:len(at)-1] {
		rec := b[off : off+recordSize]
		if kind(order.Uint32(rec)) == end {
			put(rec[8:])
		}
		sum.add(order, rec[:sumAt])
		if i > 0 {
			put(rec[sumAt:])
		}
		sum.add(order, b[off+sumAt:at[i+1]])
	}
	return b
}

// TestBigEndian: a stream from a machine of the other byte order reads the same.
func TestBigEndian(t *testing.T) {
	for _, name := range captures {
		stream := unzip(t, name+".zstream.gz")
		want, err := parse(stream)
		must(t, err)
		got, err := parse(swap(t, stream))
		must(t, err)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the swapped stream reads differently", name)
		}
	}
}

// TestDamage: no byte can change without being noticed, and no stream can end early.
func TestDamage(t *testing.T) {
	stream := unzip(t, "freed.zstream.gz")
	at := offsets(t, stream)
	for i := 0; i < len(stream); i += 1 + i%37 {
		damaged := slices.Clone(stream)
		damaged[i] ^= 0x10
		if _, err := parse(damaged); err == nil {
			t.Fatalf("byte %d of %d was changed and not noticed", i, len(stream))
		}
	}
	for _, n := range append(at[:len(at)-1], 1, 300, at[3]+5, len(stream)-1) {
		if _, err := parse(stream[:n]); !errors.Is(err, errCut) {
			t.Errorf("cut off after %d bytes: %v", n, err)
		}
	}
	if _, err := parse(append(slices.Clone(stream), 0)); !errors.Is(err, errDamaged) {
		t.Errorf("something behind the end: %v", err)
	}
	broken := errors.New("the sender's words")
	_, err := readStream(io.MultiReader(bytes.NewReader(stream[:5000]), &failing{broken}), func(*record) error { return nil })
	if !errors.Is(err, broken) {
		t.Errorf("what the sender says: %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// TestUnknown: what changes the meaning of a stream and is not known leads to a full comparison.
func TestUnknown(t *testing.T) {
	stream := unzip(t, "freed.zstream.gz")
	at := offsets(t, stream)
	for name, change := range map[string]func(b []byte){
		"feature":  func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 1|1<<(2+29)) },
		"raw":      func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 1|1<<(2+24)) },
		"compound": func(b []byte) { binary.LittleEndian.PutUint64(b[16:], 2) },
		"redacted": func(b []byte) { binary.LittleEndian.PutUint32(b[at[4]:], uint32(redact)) },
	} {
		b := slices.Clone(stream)
		change(b)
		if _, err := parse(resum(b, at, binary.LittleEndian)); !errors.Is(err, diff.ErrNotNative) {
			t.Errorf("%s: %v, want ErrNotNative", name, err)
		}
	}
}

// TestRanges: written and freed parts are joined, cut to the size, and what a file grew by is among them.
func TestRanges(t *testing.T) {
	o := &objects{data: map[uint64]*extents{}}
	for _, r := range []record{
		{kind: object, object: 7, objType: typeFile, bonus: typeSystemAttrs}, {kind: free, object: 7, off: 5000, len: ^uint64(0)},
		{kind: write, object: 7, off: 1024, len: 512}, {kind: write, object: 7, off: 1536, len: 512}, {kind: free, object: 7, off: 512, len: 512},
		{kind: writeEmbedded, object: 7, off: ^uint64(0) - 12287, len: 6144}, {kind: write, object: 7, off: 4096, len: 1024},
		{kind: object, object: 3, objType: typeFile, bonus: typeSystemAttrs}, {kind: free, object: 3, off: 512, len: ^uint64(0) - 512},
	} {
		must(t, o.note(&r))
	}
	o.sort()
	for _, c := range []struct {
		num        uint64
		base, size int64
		want       []diff.Range
		written    bool
	}{
		{7, 5000, 5000, []diff.Range{{Off: 512, Len: 1536}, {Off: 4096, Len: 904}}, true},
		{7, 5000, 700, []diff.Range{{Off: 512, Len: 188}}, true},
		{7, 3000, 6000, []diff.Range{{Off: 512, Len: 1536}, {Off: 3000, Len: 3000}}, true},
		{3, 512, 512, []diff.Range{}, false},
		{3, 9000, 9000, []diff.Range{{Off: 512, Len: 8488}}, false},
		{4, 10, 20, []diff.Range{{Off: 10, Len: 10}}, false},
	} {
		got, written := o.ranges(c.num, c.base, c.size)
		if !slices.Equal(got, c.want) || got == nil || written != c.written {
			t.Errorf("object %d, %d to %d bytes: %v, %v, want %v", c.num, c.base, c.size, got, written, c.want)
		}
	}
}

func TestParseHandle(t *testing.T) {
	k, err := parseHandle([]byte{10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	if want := (diff.Key{Ino: 0x060504030201, Gen: 0x0a090807}); err != nil || k != want {
		t.Errorf("%+v, %v, want %+v", k, err, want)
	}
	if _, err := parseHandle(make([]byte, 11)); err == nil {
		t.Error("a handle that is too short was read")
	}
}

// FuzzStream: whatever is read, nothing breaks and little memory is taken; with right checksums it gets beyond the first record.
func FuzzStream(f *testing.F) {
	for _, name := range captures { // small: the engine takes long to make large inputs smaller
		stream := unzip(f, name+".zstream.gz")
		at := offsets(f, stream)
		for i := range at[:len(at)-1] {
			if at[i+1]-at[i] < 1000 && i%9 == 1 {
				f.Add(append(slices.Clone(stream[:recordSize]), stream[at[i]:at[i+1]]...), true)
			}
		}
		f.Add(append(slices.Clone(stream[:recordSize]), stream[at[len(at)-2]:]...), true)
		f.Add(stream[:at[2]+100], false)
	}
	f.Fuzz(func(t *testing.T, b []byte, right bool) {
		if right {
			at := []int{0}
			for left := b; len(left) >= recordSize; {
				n := recordSize + min(max((&rawStream{left}).payloadSize(), 0), maxPayload)
				if n > len(left) {
					break
				}
				left = left[n:]
				at = append(at, len(b)-len(left))
			}
			b = resum(slices.Clone(b), at, binary.LittleEndian)
		}
		o := &objects{data: map[uint64]*extents{}}
		if _, err := readStream(bytes.NewReader(b), o.note); err != nil {
			return
		}
		o.sort()
		for num := range o.data {
			o.ranges(num, 0, 1<<40)
		}
	})
}

// TestKnownObjects: what is known takes no room, and comes back when something of it is told later.
func TestKnownObjects(t *testing.T) {
	o := &objects{data: map[uint64]*extents{}, known: func(list []candidate) (known []bool, err error) {
		for _, c := range list {
			known = append(known, c.num%2 == 0)
		}
		return known, nil
	}}
	for num := uint64(1); num <= 6; num++ {
		must(t, o.note(&record{kind: object, object: num, objType: typeFile, bonus: typeSystemAttrs}))
		must(t, o.note(&record{kind: free, object: num, off: 512, len: 1024}))
		must(t, o.note(&record{kind: free, object: num, off: 512, len: ^uint64(0)}))
		if num == 4 {
			must(t, o.note(&record{kind: write, object: num, off: 0, len: 512}))
		}
	}
	must(t, o.dropKnown())
	must(t, o.note(&record{kind: free, object: 2, off: 0, len: 512}))
	must(t, o.note(&record{kind: object, object: 7, objType: typeFile, bonus: typeSystemAttrs}))
	must(t, o.dropKnown())
	o.sort()
	var nums []uint64
	for _, c := range o.all {
		nums = append(nums, c.num)
	}
	if want := []uint64{1, 3, 4, 5, 7}; !slices.Equal(nums, want) {
		t.Errorf("candidates %v, want %v", nums, want)
	}
	if o.data[2] == nil || o.data[6] != nil {
		t.Errorf("what came late is forgotten, or what is known is not: %v", o.data)
	}
}
