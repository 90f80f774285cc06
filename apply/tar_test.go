package apply

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What is written is what another program reads: archive/tar of Go.
func TestPaxHeaders(t *testing.T) {
	long, deep := strings.Repeat("ä", 100), strings.Repeat("d/", 300)+"f"
	entries := []paxEntry{
		{kind: paxRegular, name: "plain", mode: 0o4755, uid: 1, gid: 2, mtime: 1_700_000_000},
		{kind: paxRegular, name: "\xff\n" + long, uid: 4_000_000_000, gid: octal7 + 1, mtime: -5, nsec: 1},
		{kind: paxSymlink, name: deep, link: long + "\xfe", mtime: octal11 + 1, nsec: 123_000_000},
		{kind: paxChar, name: "dev", major: 4095, minor: 1<<20 - 1, mtime: 0, nsec: 999_999_999},
		{kind: paxDir, name: "dir/", records: []paxRecord{{"SCHILY.xattr." + paxKey("user.a=%b"), "\x00\n\xff="}}},
		{kind: paxLink, name: "link", link: "plain"},
	}
	var b bytes.Buffer
	for i := range entries {
		check(t, entries[i].writeHeader(&b))
	}
	r := tar.NewReader(&b)
	for _, e := range entries {
		h, err := r.Next()
		check(t, err)
		if h.Name != e.name || h.Linkname != e.link || h.Typeflag != e.kind || h.Mode != int64(e.mode) || h.Uid != int(e.uid) || h.Gid != int(e.gid) ||
			h.Devmajor != int64(e.major) || h.Devminor != int64(e.minor) || !h.ModTime.Equal(time.Unix(e.mtime, int64(e.nsec))) {
			t.Errorf("%q: read %+v, written %+v", e.name, h, e)
		}
		for _, r := range e.records {
			if h.PAXRecords[r.key] != r.value {
				t.Errorf("%s is %q, want %q", r.key, h.PAXRecords[r.key], r.value)
			}
		}
	}
	if big := (&paxEntry{size: octal11 + 1}).extended(); big != "19 size=8589934592\n" {
		t.Errorf("8 GiB is %q", big)
	}
}

// The length at the start of a record counts its own digits.
func TestPaxRecordLength(t *testing.T) {
	for n := range 1200 {
		rec := formatRecord("k", strings.Repeat("v", n))
		if size, _, _ := strings.Cut(rec, " "); size != strings.TrimLeft(size, "0") || len(rec) != atoi(t, size) {
			t.Fatalf("a record of %d bytes says %s", len(rec), size)
		}
	}
}

func atoi(t *testing.T, s string) (n int) {
	t.Helper()
	for _, c := range s {
		n = n*10 + int(c-'0')
	}
	return n
}

// Files with holes everywhere come out of GNU tar and archive/tar as they went in.
func TestTarSparse(t *testing.T) {
	store, _, _ := pastStore(t)
	tree := filepath.Join(store, "tree", "same")
	shell(t, tree, `
		truncate -s 10M onlyhole; : > empty; printf x > one; truncate -s 5000000 middle; printf x | dd of=middle bs=1 seek=2000000 conv=notrunc status=none
		head -c 9000 /dev/urandom > tail; truncate -s 3M tail; for i in $(seq 0 300); do printf y | dd of=many bs=4096 seek=$((i * 3)) conv=notrunc status=none; done
		cp --sparse=always many $'\377\n'"$(printf %0240d 1)"`)
	var b bytes.Buffer
	check(t, openView(t, store, 2).Tar(context.Background(), &b, "same", TarOptions{}))
	if b.Len() > 4<<20 {
		t.Errorf("the archive has %d bytes: holes were written", b.Len())
	}
	out := t.TempDir()
	cmd := exec.Command("tar", "-x", "--acls", "--xattrs", "--xattrs-include=*", "-C", out)
	cmd.Stdin = bytes.NewReader(b.Bytes())
	if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
		t.Fatalf("tar: %v\n%s", err, said)
	}
	rsyncJudge(t, tree, filepath.Join(out, "same"))
	shell(t, out, `test "$(du -B1 same/onlyhole | cut -f1)" = 0; test "$(du -k same/middle | cut -f1)" -le 8; test "$(du -k same/many | cut -f1)" -le 1300`)
	r := tar.NewReader(&b)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		got, err := io.ReadAll(r)
		check(t, err)
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if want, err := os.ReadFile(filepath.Join(store, "tree", h.Name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: archive/tar reads other contents (%v)", h.Name, err)
		}
	}
}

func TestACLText(t *testing.T) {
	acl := "\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff\x02\x00\x04\x00\x4d\x00\x00\x00\x04\x00\x05\x00\xff\xff\xff\xff" +
		"\x08\x00\x00\x00\x58\x00\x00\x00\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x01\x00\xff\xff\xff\xff"
	if got, err := aclText([]byte(acl)); err != nil || got != "user::rwx,user:77:r--,group::r-x,group:88:---,mask::rw-,other::--x" {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzACLText(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x01\x00\x07\x00\xff\xff\xff\xff"))
	f.Add([]byte("\x02\x00\x00\x00\x80\x00\x0f\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := aclText(b)
		if err == nil && len(b) > 4 && strings.Count(text, ",")+1 != (len(b)-4)/8 {
			t.Errorf("%d bytes give %q", len(b), text)
		}
	})
}
