package lvm

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/moby/sys/mountinfo"
)

// cowCapture is the store of a real snapshot; see testdata/capture.sh.
func cowCapture(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/cow.gz")
	must(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	must(t, err)
	data, err := io.ReadAll(z)
	must(t, err)
	return data
}

func TestExceptionsOfRealStore(t *testing.T) {
	const chunk = 4096
	data := cowCapture(t)
	got, err := readExceptions(bytes.NewReader(data), int64(len(data)))
	must(t, err)
	var want []Block
	for i := int64(10); i <= 608; i += 2 { // more than the 256 that one area holds
		want = append(want, Block{i * chunk, chunk})
	}
	if !slices.Equal(NewBlocks(got, 1<<40), NewBlocks(want, 1<<40)) {
		t.Errorf("the store holds %v, want %v", got, want)
	}
}

func TestExceptionsOfDamagedStore(t *testing.T) {
	for name, c := range map[string]struct {
		at   int
		with []byte
		want error
	}{
		"magic":              {0, []byte("snap"), errStore},
		"overflowed":         {4, []byte{0, 0, 0, 0}, ErrOverflowed},
		"version":            {8, []byte{2}, errStore},
		"chunk of 0":         {12, []byte{0, 0, 0, 0}, errStore},
		"chunk of 12 KiB":    {12, []byte{24, 0, 0, 0}, errStore},
		"copy in the header": {4096 + 8, []byte{1}, errStore},
		"copy in an area":    {4096 + 8, []byte{2, 1}, errStore}, // chunk 258 is the second area
		"copy behind":        {4096 + 8, []byte{0, 2}, errStore},
		"far chunk":          {4096, bytes.Repeat([]byte{255}, 8), errStore},
	} {
		data := cowCapture(t)
		copy(data[c.at:], c.with)
		if _, err := readExceptions(bytes.NewReader(data), int64(len(data))); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, err := readExceptions(bytes.NewReader(nil), 0); err == nil {
		t.Error("an empty store has exceptions")
	}
}

func FuzzReadExceptions(f *testing.F) {
	data := cowCapture(f)
	f.Add(data[:3*4096])
	f.Add(data[:5000])
	f.Fuzz(func(t *testing.T, b []byte) {
		blocks, err := readExceptions(bytes.NewReader(b), int64(len(b)))
		if err == nil && NewBlocks(blocks, 1<<62).Bytes() > 1<<62 {
			t.Error("more than there can be")
		}
	})
}

// TestSizes: the sizes of what lies on disk, as the kernel's structures have it.
func TestSizes(t *testing.T) {
	var header struct{ magic, valid, version, chunkSize uint32 }
	var exception struct{ oldChunk, newChunk uint64 }
	if unsafe.Sizeof(header) != cowHeaderSize || unsafe.Sizeof(exception) != cowExceptionSize {
		t.Error("sizes are wrong")
	}
	for _, n := range []int{4096, 65536} {
		if b := aligned(n); len(b) != n || uintptr(unsafe.Pointer(&b[0]))%pageSize != 0 {
			t.Errorf("aligned(%d) has %d bytes at %p", n, len(b), &b[0])
		}
	}
}

func TestDeltaOfRealPool(t *testing.T) {
	const unit = 64 << 10
	want := Blocks{{4 * unit, 2 * unit}, {8 * unit, unit}, {20 * unit, unit}}
	for _, name := range []string{"testdata/delta.xml", "testdata/delta-verbose.xml"} {
		data, err := os.ReadFile(name)
		must(t, err)
		for layout, text := range map[string]string{"lines": string(data), "one line": strings.ReplaceAll(string(data), "\n", " ")} {
			got, err := parseDelta(strings.NewReader(text))
			if must(t, err); !slices.Equal(NewBlocks(got, 1<<40), want) {
				t.Errorf("%s in %s holds %v, want %v", name, layout, got, want)
			}
		}
	}
}

func TestDeltaRefused(t *testing.T) {
	const front = `<superblock data_block_size="128"><diff left="1" right="2">`
	for _, text := range []string{"", "garbage", front, `<superblock data_block_size="128"/>`, `<diff/>`,
		`<superblock data_block_size="0"><diff/></superblock>`,
		front + `<different begin="x" length="1"/></diff></superblock>`,
		front + `<different begin="1"/></diff></superblock>`,
		front + `<different begin="1" length="-1"/></diff></superblock>`,
		front + `<different begin="1" length="9223372036854775807"/></diff></superblock>`,
		front + `<moved begin="1" length="1"/></diff></superblock>`,
		front + `<different begin="1" length="1"/></superblock>`} {
		if got, err := parseDelta(strings.NewReader(text)); err == nil {
			t.Errorf("%s gives %v", text, got)
		}
	}
}

func FuzzParseDelta(f *testing.F) {
	for _, name := range []string{"testdata/delta.xml", "testdata/delta-verbose.xml"} {
		data, err := os.ReadFile(name)
		must(f, err)
		f.Add(string(data))
	}
	f.Fuzz(func(t *testing.T, text string) {
		blocks, err := parseDelta(strings.NewReader(text))
		for _, b := range blocks {
			if err == nil && (b.Off < 0 || b.Len < 0 || b.End() < 0) {
				t.Errorf("block %v", b)
			}
		}
	})
}

func TestVolumesOfRealReport(t *testing.T) {
	data, err := os.ReadFile("testdata/lvs.json")
	must(t, err)
	all, err := parseVolumes(append([]byte("  Library version:   1.02 ${prefix} {\n"), data...), "vg-t")
	must(t, err)
	byName := map[string]Volume{}
	for _, v := range all {
		byName[v.Name] = v
	}
	thin, classic, pool := byName["snapdiff_1"], byName["snapdiff_2"], byName["pool"]
	if !thin.Thin() || !thin.ReadOnly || !thin.Active || thin.ThinID != "2" || thin.PoolUUID != pool.UUID || thin.OriginUUID != byName["thin"].UUID {
		t.Errorf("the thin snapshot is %+v", thin)
	}
	if !classic.Classic() || classic.Thin() || !classic.ReadOnly || classic.Invalid || classic.Data < 0 || classic.OriginUUID != byName["classic"].UUID {
		t.Errorf("the classic snapshot is %+v", classic)
	}
	if meta, ok := byUUID(all, pool.MetadataUUID); !ok || meta.Name != "pool_tmeta" || pool.Metadata <= 0 || pool.NeedsCheck || pool.Free == 0 {
		t.Errorf("the pool is %+v, its metadata %+v", pool, meta)
	}
	if lost := byName["lost"]; !lost.Invalid {
		t.Errorf("the overflowed snapshot is %+v", lost)
	}
	if origin := byName["thin"]; origin.ReadOnly || !origin.Active || origin.Size != 64<<20 || origin.Created.IsZero() || origin.Path() != "vg-t/thin" {
		t.Errorf("the origin is %+v", origin)
	}
	for _, text := range []string{"", "{}x", `{"report":[{"lv":[{"lv_name":"x"}]}]}`} {
		if got, err := parseVolumes([]byte(text), "vg-t"); err == nil {
			t.Errorf("%q gives %v", text, got)
		}
	}
}

// TestAttributes: what lv_attr tells, by lvs(8).
func TestAttributes(t *testing.T) {
	for attr, want := range map[string]string{
		"Vwi-aotz--": "active", "Vri---tz-k": "read-only", "Vri-a-tz-k": "active read-only", "Vwi-XXtzX-": "", "Vwi-d-tz--": "active", "Vwi-s-tz--": "active",
		"Owi-aos---": "active merging", "Swi-a-s---": "active merging", "Owi-aotz--": "active merging", "swi-I-s---": "active invalid", "sri-S-s---": "active read-only invalid",
		"sri-a-s---": "active read-only", "twi-aotz--": "active", "twi-cotzM-": "active check", "twi-CotzM-": "active check", "twi---tz--": "",
	} {
		lv := map[string]string{}
		for _, f := range strings.Split(fields, ",") {
			lv[f] = "1"
		}
		lv["lv_attr"] = attr
		v, err := volume(lv, "vg")
		must(t, err)
		var got []string
		for _, flag := range []struct {
			is   bool
			name string
		}{{v.Active, "active"}, {v.ReadOnly, "read-only"}, {v.Merging, "merging"}, {v.Invalid, "invalid"}, {v.NeedsCheck, "check"}} {
			if flag.is {
				got = append(got, flag.name)
			}
		}
		if is := strings.Join(got, " "); is != want {
			t.Errorf("%s: %s, want %s", attr, is, want)
		}
	}
}

func FuzzParseVolumes(f *testing.F) {
	data, err := os.ReadFile("testdata/lvs.json")
	must(f, err)
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) { parseVolumes(data, "vg-t") })
}

func TestDeviceNames(t *testing.T) {
	const id = "LVM-dHYit6125WsUSDvPm1ofQFGhHGcZ1iOWNOgB5kgvJbgG5poT6rWdtmWWDYK1OQxH"
	if got := fromDMUUID(id); got != "NOgB5k-gvJb-gG5p-oT6r-Wdtm-WWDY-K1OQxH" {
		t.Errorf("the volume of %s is %s", id, got)
	}
	for _, other := range []string{"", "LVM-", id + "-real", "CRYPT-" + id[6:]} {
		if got := fromDMUUID(other); got != "" {
			t.Errorf("%s is said to be the volume %s", other, got)
		}
	}
	for dm, vg := range map[string]string{"vg-lv": "vg", "vg--t-my--lv": "vg-t", "/dev/mapper/a----b-c": "a--b"} {
		if got := groupOf(dm); got != vg {
			t.Errorf("the group of %s is %s, want %s", dm, got, vg)
		}
	}
}

func TestHeld(t *testing.T) {
	for status, want := range map[string]string{
		"2 113/1024 149/8192 - rw no_discard_passdown queue_if_no_space - 256 ": "",
		"2 114/1024 149/8192 40 rw no_discard_passdown queue_if_no_space - 256": "40",
	} {
		if got, err := parseHeld(dmTarget{"thin-pool", status}); err != nil || got != want {
			t.Errorf("%q: %q, %v", status, got, err)
		}
	}
	for _, target := range []dmTarget{{}, {"thin-pool", "Fail"}, {"linear", "1 2 3 4 5"}} {
		if _, err := parseHeld(target); err == nil {
			t.Errorf("%q is accepted", target)
		}
	}
}

func TestMounts(t *testing.T) {
	const text = `22 1 8:1 / / rw - ext4 /dev/sda1 rw
36 22 254:4 / /srv/with\040space rw,noatime shared:1 - xfs /dev/mapper/a rw,attr2
37 22 254:5 /sub /srv/part rw - ext4 /dev/mapper/b rw
38 36 254:6 / /srv/with\040space ro master:2 - ext4 /dev/mapper/c ro,noload
`
	all, err := mountinfo.GetMountsFromReader(strings.NewReader(text), nil)
	must(t, err)
	m, ok := mountedAt(all, "/srv/with space")
	if !ok || numberOf(m) != 254<<8|6 || m.FSType != "ext4" || m.VFSOptions != "ro,noload" {
		t.Errorf("mounted there is %+v", m)
	}
	if part, _ := mountedAt(all, "/srv/part"); part.Root != "/sub" {
		t.Errorf("mounted there is %+v", part)
	}
}
