package apply

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

func openRoot(t *testing.T, path string) *beneath.Root {
	t.Helper()
	r, err := beneath.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise is n bytes that do not compress.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// everyInode makes one inode of each sort, with every attribute that counts, in dir.
func everyInode(t *testing.T, dir string) {
	t.Helper()
	write := func(name string, data []byte) { check(t, os.WriteFile(filepath.Join(dir, name), data, 0o640)) }
	write("empty", nil)
	write("small", []byte("hello"))
	write("block", noise(1, 4096))
	write("zeros", make([]byte, 300_000)) // zeros that are no hole
	write("large", noise(2, 3<<20+17))
	write("set-id", []byte("x"))
	write("capable", []byte("x"))
	write("acl", []byte("x"))
	write("old", []byte("x"))
	write("attributes", []byte("x"))
	write(strings.Repeat("n", 255), []byte("long"))
	write("bad-\xff\xfe\n\\name", []byte("x"))
	shell(t, dir, `
		truncate -s 10M hole
		truncate -s 5M ends-in-hole; printf data | dd of=ends-in-hole conv=notrunc status=none
		printf data | dd of=islands bs=1 seek=1048576 status=none; printf data | dd of=islands bs=1 seek=3000000 conv=notrunc status=none
		fallocate -l 1M preallocated
		truncate -s 100 short-hole
		mknod char c 1 7; mknod block-device b 8 300; mkfifo fifo
		ln -s nowhere symlink; chown -h 7:8 symlink; touch -h -d '2001-02-03 04:05:06.789012345' symlink
		ln -s "$(printf 'x%.0s' $(seq 1000))" long-symlink
		chown 1234:4321 set-id fifo; chmod 6755 set-id; chmod 1641 fifo
		setfacl -m u:99:rwx,g:77:r acl
		setfattr -n user.a -v 1 attributes; setfattr -n trusted.b -v 2 attributes
		setfattr -h -n trusted.c -v 3 symlink; setfattr -n security.d -v 4 fifo
		mkdir dir; chown 5:6 dir; chmod 2770 dir; setfacl -d -m u:99:rwx dir; setfattr -n user.big -v "$(printf 'v%.0s' $(seq 1500))" dir
		touch -d '1999-12-31 23:59:59.123456789' old dir char`)
	capability := append([]byte{1, 0, 0, 2, 0, 0x20}, make([]byte, 14)...)
	check(t, unix.Setxattr(filepath.Join(dir, "capable"), "security.capability", capability, 0))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(t, err)
	defer unix.Close(fd)
	short := filepath.Join("/proc/self/cwd", "socket")
	t.Chdir(dir)
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: short}))
}

// source makes a btrfs with one of each inode and shows it read-only.
func everyInodeSnapshot(t *testing.T) string {
	t.Helper()
	top := applytest.Mount(t, applytest.Btrfs)
	sub := applytest.Subvolume(t, filepath.Join(top, "source"))
	everyInode(t, sub)
	snapshot := filepath.Join(top, "snapshot")
	shell(t, top, "btrfs subvolume snapshot -r source snapshot >/dev/null")
	return snapshot
}

// names lists a directory.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	check(t, err)
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func TestBuildEveryInode(t *testing.T) {
	applytest.NeedRoot(t)
	source := everyInodeSnapshot(t)
	from := openRoot(t, source)
	for _, kind := range applytest.MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			top := applytest.Mount(t, kind)
			for _, where := range []struct {
				name    string
				inStage bool
				made    string // what is done to the directory
			}{
				// What the mirror's directory hands down must not reach what is built in it.
				{"mirror", false, "setfacl -d -m u:1:rwx . && chmod g+s . && chgrp 99 ."},
				{"stage", true, "true"},
				{"group", true, "chmod g+s . && chgrp 99 ."},
				{"acl", true, "setfacl -d -m u:1:rwx ."},
			} {
				mirror := filepath.Join(top, where.name)
				check(t, os.Mkdir(mirror, 0o755))
				shell(t, mirror, where.made)
				to, b := openRoot(t, mirror), newBuilder(nil)
				b.inStage = where.inStage
				for _, name := range names(t, source) {
					if _, err := b.build(place{from, name}, place{to, name}, 0, nil, nil); err != nil {
						t.Error(err)
					}
					// A second time: what a run left behind is replaced.
					if _, err := b.build(place{from, name}, place{to, name}, 0, nil, nil); err != nil {
						t.Error(err)
					}
				}
				check(t, b.applyMeta(place{from, ""}, place{to, ""}))
				applytest.Judge(t, source, mirror)
			}
		})
	}
}

// Metadata alone goes to the inode that is there.
func TestApplyMeta(t *testing.T) {
	applytest.NeedRoot(t)
	source := everyInodeSnapshot(t)
	for _, kind := range applytest.MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			mirror := applytest.Mount(t, kind)
			from, to, b := openRoot(t, source), openRoot(t, mirror), newBuilder(nil)
			for _, name := range names(t, source) {
				_, err := b.build(place{from, name}, place{to, name}, 0, nil, nil)
				check(t, err)
			}
			shell(t, mirror, `
				for f in * ; do case $f in *symlink) ;; *)
					setfattr -n trusted.more -v 1 "$f"; chmod 777 "$f"; setfacl -m u:3:r "$f"; esac
					chown -h 55:66 "$f"; touch -h "$f"; done
				setfattr -n user.a -v other attributes; setfacl -d -m u:4:r dir`)
			before := stats(t, mirror)
			for _, name := range append(names(t, source), "") {
				check(t, b.applyMeta(place{from, name}, place{to, name}))
			}
			applytest.Judge(t, source, mirror)
			for name, st := range stats(t, mirror) {
				if st.Ino != before[name].Ino {
					t.Errorf("%q was made anew", name)
				}
			}
			// Nothing to do: nothing is touched, not even the time of change.
			before = stats(t, mirror)
			check(t, b.applyMeta(place{from, "old"}, place{to, "old"}))
			if now := stats(t, mirror)["old"]; now.Ctim != before["old"].Ctim {
				t.Error("equal attributes were set again")
			}
		})
	}
}

func stats(t *testing.T, dir string) map[string]unix.Stat_t {
	t.Helper()
	all := map[string]unix.Stat_t{}
	for _, name := range names(t, dir) {
		var st unix.Stat_t
		check(t, unix.Lstat(filepath.Join(dir, name), &st))
		all[name] = st
	}
	return all
}

// A patched clone equals the new file, holes and size included.
func TestBuildByRanges(t *testing.T) {
	applytest.NeedRoot(t)
	for _, kind := range applytest.MirrorKinds {
		t.Run(string(kind), func(t *testing.T) {
			next, mirror := applytest.Mount(t, applytest.Btrfs), applytest.Mount(t, kind)
			old := noise(3, 2<<20)
			check(t, os.WriteFile(filepath.Join(mirror, "f"), old, 0o600))
			changed := bytes.Clone(old)
			copy(changed[100_000:], noise(4, 5000))
			changed = append(changed[:1_500_000], noise(5, 100_000)...)
			path := filepath.Join(next, "f")
			check(t, os.WriteFile(path, changed, 0o644))
			shell(t, next, "fallocate -p -o 524288 -l 65536 f")
			ranges := []diff.Range{{Off: 98304, Len: 8192}, {Off: 524288, Len: 65536}, {Off: 1_499_136, Len: 200_000}}
			from, to, b := openRoot(t, next), openRoot(t, mirror), newBuilder(nil)
			want, err := os.ReadFile(path)
			check(t, err)
			// What lies in another filesystem, as a base does, is copied; that says nothing of clones in this one.
			_, err = b.build(place{from, "f"}, place{to, "apart"}, 0, &place{from, "f"}, []diff.Range{})
			check(t, err)
			if now, err := os.ReadFile(filepath.Join(mirror, "apart")); err != nil || !bytes.Equal(now, want) {
				t.Errorf("what cannot be cloned was not copied (%v)", err)
			}
			check(t, os.Remove(filepath.Join(mirror, "apart")))
			_, err = b.build(place{from, "f"}, place{to, "new"}, 0, &place{to, "f"}, ranges)
			check(t, err)
			if cloned := !b.noClone.Load(); cloned != (kind != applytest.Ext4) {
				t.Errorf("cloned: %v", cloned)
			}
			if now, err := os.ReadFile(filepath.Join(mirror, "f")); err != nil || !bytes.Equal(now, old) {
				t.Errorf("the old file was altered (%v)", err)
			}
			check(t, os.Rename(filepath.Join(mirror, "new"), filepath.Join(mirror, "f")))
			check(t, b.applyMeta(place{from, ""}, place{to, ""}))
			applytest.Judge(t, next, mirror)
		})
	}
}

// What the mirror cannot hold is the file's own fault, and leaves nothing behind.
func TestBadFiles(t *testing.T) {
	applytest.NeedRoot(t)
	next, mirror := applytest.Mount(t, applytest.Btrfs), applytest.Mount(t, applytest.Ext4)
	shell(t, next, `touch big-attribute far-future; setfattr -n user.big -v "$(printf 'v%.0s' $(seq 9000))" big-attribute
		touch -d '2600-01-01' far-future`)
	from, to, b := openRoot(t, next), openRoot(t, mirror), newBuilder(nil)
	for _, name := range []string{"big-attribute", "far-future"} {
		_, err := b.build(place{from, name}, place{to, name}, 0, nil, nil)
		if !IsBadFile(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.build(place{from, "not there"}, place{to, "x"}, 0, nil, nil); err == nil || IsBadFile(err) {
		t.Errorf("a name that is not in the snapshot: %v", err)
	}
	if left := names(t, mirror); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// A full disk is nobody's own fault.
func TestFullDiskIsFatal(t *testing.T) {
	applytest.NeedRoot(t)
	next, mirror := applytest.Mount(t, applytest.Btrfs), applytest.MountSized(t, applytest.Ext4, 16<<20)
	check(t, os.WriteFile(filepath.Join(next, "f"), noise(1, 20<<20), 0o600))
	from, to := openRoot(t, next), openRoot(t, mirror)
	_, err := newBuilder(nil).build(place{from, "f"}, place{to, "f"}, 0, nil, nil)
	if !errors.Is(err, unix.ENOSPC) || IsBadFile(err) {
		t.Errorf("got %v", err)
	}
}
