package changes

import (
	"bytes"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/diff"
)

// printed writes changes and paths in one format.
func printed(t *testing.T, o Options, list []apply.Change, paths ...string) string {
	t.Helper()
	var b bytes.Buffer
	p := New(&b, o)
	for _, c := range list {
		if err := p.Change(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range paths {
		if err := p.Path(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestShowsChanges(t *testing.T) {
	list := []apply.Change{
		{Kind: apply.Modified, Type: unix.S_IFDIR, Why: apply.ReasonNames},
		{Kind: apply.Added, Path: "a\n", Type: unix.S_IFREG, Size: 5},
		{Kind: apply.Removed, Path: "d", Type: unix.S_IFDIR},
		{Kind: apply.Renamed, Path: "to\xff", OldPath: "from\xfe", Type: unix.S_IFREG, Why: apply.ReasonData | apply.ReasonLink, Size: 1, OldSize: 2},
		{Kind: apply.Modified, Path: "s", Type: unix.S_IFLNK, Why: apply.ReasonMetadata},
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Format: Human}, "+ a\\n\n- d/\nR from\\xfe -> to\\xff (data, link)\nM s (metadata)\n"},
		{Options{Format: Human, Prefix: "/srv/mail"}, "+ /srv/mail/a\\n\n- /srv/mail/d/\nR /srv/mail/from\\xfe -> /srv/mail/to\\xff (data, link)\nM /srv/mail/s (metadata)\n"},
		{Options{Format: JSON}, `{"kind":"modified","path":".","type":"directory","reasons":["names"]}
{"kind":"added","path":"a\n","type":"file","reasons":[],"size":5}
{"kind":"removed","path":"d","type":"directory","reasons":[]}
{"kind":"renamed","path":"to` + "\uFFFD" + `","path_b64":"dG//","old_path":"from` + "\uFFFD" + `","old_path_b64":"ZnJvbf4=","type":"file","reasons":["data","link"],"size":1,"old_size":2}
{"kind":"modified","path":"s","type":"symlink","reasons":["metadata"]}
`},
	} {
		if got := printed(t, c.o, list); got != c.want {
			t.Errorf("%+v:\n%s\nwant:\n%s", c.o, got, c.want)
		}
	}
}

func TestListsPaths(t *testing.T) {
	var rejects bytes.Buffer
	for _, c := range []struct {
		o     Options
		paths string // with blanks between them; _ stands for the top directory
		want  string
	}{
		{Options{Format: Null}, "_ a #b", ".\x00a\x00#b\x00"},
		{Options{Format: Tar}, "_ a", ".\x00a\x00"},
		{Options{Format: Deleted}, "d/a d", "d/a\x00d\x00"},
		{Options{Format: Rsync}, "_ a #b", "./a\x00./#b\x00"},
		{Options{Format: Rsync}, "_", "./\x00"},
		{Options{Format: Rsync, Prefix: "/s"}, "_ a", "/s/a\x00"},
		{Options{Format: Rsync, Prefix: "/"}, "_", "/\x00"},
		{Options{Format: Null, Prefix: "/"}, "_ a", "/\x00/a\x00"},
		{Options{Format: Lines, Rejects: &rejects}, "a b\nc d\re f\xff", "a\nf\xff\n"},
	} {
		paths := strings.Split(strings.ReplaceAll(c.paths, "_", ""), " ")
		if got := printed(t, c.o, nil, paths...); got != c.want {
			t.Errorf("%+v: %q, want %q", c.o, got, c.want)
		}
	}
	if got := rejects.String(); got != "b\nc\x00d\re\x00" {
		t.Errorf("rejected: %q", got)
	}
}

func TestLinesWithoutRejectsFails(t *testing.T) {
	var b bytes.Buffer
	p := New(&b, Options{Format: Lines})
	for _, path := range []string{"a", "b\n", "c"} {
		if err := p.Path(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Close(); err == nil || !strings.Contains(err.Error(), `b\n`) || b.String() != "a\nc\n" {
		t.Errorf("%v, wrote %q", err, b.String())
	}
}

func TestParseFormat(t *testing.T) {
	for _, f := range Formats {
		if got, err := ParseFormat(string(f)); got != f || err != nil {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	if _, err := ParseFormat("xml"); err == nil || !strings.Contains(err.Error(), "human, json") {
		t.Errorf("%v", err)
	}
}

func TestPrintSet(t *testing.T) {
	set := diff.NewChangeSet()
	top := diff.Key{Ino: 256}
	set.Linked.ReplaceOrInsert(diff.Name{Path: "new", Parent: top, Key: diff.Key{Ino: 300}, Type: unix.S_IFREG})
	set.Inodes.ReplaceOrInsert(diff.Inode{Key: diff.Key{Ino: 300}, What: diff.New, Paths: []string{"new"}, Attr: diff.Attr{Mode: unix.S_IFREG | 0o600, Size: 3}})
	var b bytes.Buffer
	if err := PrintSet(&b, Options{Format: Human}, set); err != nil || b.String() != "+ new\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
	if err := PrintSet(&b, Options{Format: Tar}, set); err == nil {
		t.Error("a list for tar was made of what is only pending")
	}
}
