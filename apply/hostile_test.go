package apply

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/snapshot/beneath"
)

// outside is what symlinks in the mirror point to and what no run may touch.
type outside struct{ file, dir string }

func newOutside(t *testing.T) outside {
	t.Helper()
	top := t.TempDir()
	o := outside{file: filepath.Join(top, "file"), dir: filepath.Join(top, "dir")}
	check(t, os.WriteFile(o.file, []byte("precious"), 0o600))
	check(t, os.Mkdir(o.dir, 0o700))
	check(t, os.WriteFile(filepath.Join(o.dir, "small"), []byte("precious"), 0o600))
	return o
}

// state tells all that a write would change: ctime moves with everything.
func (o outside) state(t *testing.T) string {
	t.Helper()
	var all string
	for _, path := range []string{o.file, o.dir, filepath.Join(o.dir, "small")} {
		var st unix.Stat_t
		check(t, unix.Lstat(path, &st))
		all += fmt.Sprintf("%s %o %d:%d %d %d %d.%d\n", path, st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Ctim.Sec, st.Ctim.Nsec)
	}
	return all + fmt.Sprint(names(t, o.dir))
}

// Somebody put a symlink in the mirror in the place of every single name.
func TestSymlinksInThePlaceOfNames(t *testing.T) {
	applytest.NeedRoot(t)
	source, o := everyInodeSnapshot(t), newOutside(t)
	mirror, b := applytest.Mount(t, applytest.Ext4), newBuilder(nil)
	from, to := openRoot(t, source), openRoot(t, mirror)
	for _, target := range []string{o.file, o.dir} {
		for _, name := range names(t, source) {
			check(t, os.RemoveAll(filepath.Join(mirror, name)))
			check(t, os.Symlink(target, filepath.Join(mirror, name)))
			before := o.state(t)
			_ = b.applyMeta(place{from, name}, place{to, name}) // may fail, must not reach the outside
			if after := o.state(t); after != before {
				t.Fatalf("metadata of %q went through a symlink:\n%s\n%s", name, before, after)
			}
			_, _ = b.build(place{from, name}, place{to, name}, 0, nil, nil)
			if after := o.state(t); after != before {
				t.Fatalf("%q was built through a symlink:\n%s\n%s", name, before, after)
			}
		}
	}
}

// Somebody put a symlink in the mirror in the place of a directory.
func TestSymlinksOnTheWay(t *testing.T) {
	applytest.NeedRoot(t)
	source, o := everyInodeSnapshot(t), newOutside(t)
	mirror, b := applytest.Mount(t, applytest.Ext4), newBuilder(nil)
	from, to := openRoot(t, source), openRoot(t, mirror)
	check(t, os.Symlink(o.dir, filepath.Join(mirror, "way")))
	check(t, os.WriteFile(filepath.Join(mirror, "ours"), nil, 0o600))
	before := o.state(t)
	for _, name := range names(t, source) {
		at := "way/" + name
		_, err := b.build(place{from, name}, place{to, at}, 0, nil, nil)
		for what, err := range map[string]error{
			"build":         err,
			"metadata":      b.applyMeta(place{from, name}, place{to, at}),
			"rename into":   beneath.Rename(to, "ours", to, at, 0),
			"link into":     beneath.Link(to, "ours", to, at),
			"rename out of": beneath.Rename(to, "way/small", to, "stolen", 0),
			"unlink":        to.Unlink("way/small"),
		} {
			if err == nil {
				t.Errorf("%s %q went through the symlink", what, at)
			}
		}
	}
	if after := o.state(t); after != before {
		t.Errorf("the outside was touched:\n%s\n%s", before, after)
	}
}

// A restore goes to directories that users may write to: one may swap a fifo for a symlink before its mode is set.
func TestChmodByNameFollowsNoSymlink(t *testing.T) {
	o, dir := newOutside(t), t.TempDir()
	check(t, os.Symlink(o.file, filepath.Join(dir, "fifo")))
	root, before := openRoot(t, dir), o.state(t)
	n := node{spot: spot{dir: root.FD(), base: "fifo"}, fd: -1}
	for what, err := range map[string]error{"chmod": n.chmod(0o6777), "the way of old kernels": beneath.ChmodByDescriptor(n.dir, n.base, 0o6777)} {
		if err != unix.EOPNOTSUPP {
			t.Errorf("%s: %v", what, err)
		}
	}
	if after := o.state(t); after != before {
		t.Errorf("the outside was touched:\n%s\n%s", before, after)
	}
}
