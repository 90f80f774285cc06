package beneath

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openTemp(t *testing.T) (*Root, string) {
	t.Helper()
	dir := t.TempDir()
	r, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r, dir
}

// write makes a file below r with the content given.
func write(t *testing.T, r *Root, path, content string) {
	t.Helper()
	fd, err := r.Open(path, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0o600)
	must(t, err)
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(content))
	must(t, err)
}

func read(t *testing.T, r *Root, path string) string {
	t.Helper()
	fd, err := r.Open(path, unix.O_RDONLY, 0)
	must(t, err)
	defer unix.Close(fd)
	buf := make([]byte, 1000)
	n, err := unix.Read(fd, buf)
	must(t, err)
	return string(buf[:n])
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func TestSymlinksAreNeverFollowed(t *testing.T) {
	r, dir := openTemp(t)
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/secret", []byte("secret"), 0o600))
	must(t, os.Mkdir(dir+"/real", 0o700))
	for name, target := range map[string]string{
		"absolute": outside, "upwards": "../" + filepath.Base(outside), "inside": "real", "proc": "/proc/self/cwd",
	} {
		must(t, r.Symlink(target, name))
		for what, err := range map[string]error{
			"lstat":  second(r.Lstat(name + "/secret")),
			"open":   second(r.Open(name+"/secret", unix.O_RDONLY, 0)),
			"create": second(r.Open(name+"/new", unix.O_CREAT|unix.O_WRONLY, 0o600)),
			"mkdir":  r.Mkdir(name+"/new", 0o700),
			"unlink": r.Unlink(name + "/secret"),
			"chmod":  r.Chmod(name+"/secret", 0o777),
			"link":   Link(r, name+"/secret", r, "stolen"),
			"rename": Rename(r, name+"/secret", r, "stolen", 0),
			"xattrs": second(r.Xattrs(name + "/secret")),
			"list":   r.ReadDir(name, func(string, uint8, uint64) error { return nil }),
			"itself": second(r.Open(name, unix.O_RDONLY, 0)),
		} {
			wantErr(t, name+" "+what, err, unix.ELOOP)
			wantErr(t, name+" "+what, err, ErrSymlink)
		}
		target2, err := r.Readlink(name)
		must(t, err)
		if target2 != target {
			t.Errorf("readlink %s = %q", name, target2)
		}
	}
	if got, err := os.ReadFile(outside + "/secret"); err != nil || string(got) != "secret" {
		t.Errorf("outside file was touched: %q, %v", got, err)
	}
}

// Somebody swaps a directory and a symlink to the outside all the time: nothing is ever read or made there, whether the directory is known already or not.
func TestSymlinksSwappedIn(t *testing.T) {
	r, dir := openTemp(t)
	outside := t.TempDir()
	must(t, os.Mkdir(dir+"/d", 0o700))
	must(t, errors.Join(os.WriteFile(dir+"/d/file", []byte("ours"), 0o600), os.WriteFile(outside+"/file", []byte("secret"), 0o600), os.Symlink(outside, dir+"/s")))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, dir+"/d", unix.AT_FDCWD, dir+"/s", unix.RENAME_EXCHANGE)
			}
		}
	}()
	reached := 0
	for i := range 5000 {
		if i%3 > 0 {
			r.Forget("")
		}
		fd, err := r.Open("d/file", unix.O_RDONLY, 0)
		if err != nil {
			if !errors.Is(err, unix.ELOOP) {
				t.Errorf("open: %v", err)
			}
			continue
		}
		reached++
		buf := make([]byte, 10)
		n, _ := unix.Read(fd, buf)
		unix.Close(fd)
		if string(buf[:n]) != "ours" {
			t.Fatalf("%q was read", buf[:n])
		}
		_ = r.Mkdir("d/new", 0o700) // all of these may fail
		_ = r.Chmod("d/file", 0o640)
		_ = r.SetXattr("d/file", "user.x", []byte("1"))
		_ = Rename(r, "d/new", r, "d/newer", 0)
		_ = r.Rmdir("d/newer")
	}
	close(stop)
	<-stopped
	names, err := os.ReadDir(outside)
	must(t, err)
	st, err := os.Stat(outside + "/file")
	must(t, err)
	n, err := unix.Llistxattr(outside+"/file", nil)
	if len(names) != 1 || st.Mode().Perm() != 0o600 || n != 0 || err != nil || reached == 0 {
		t.Errorf("reached %d times; the outside has %v, %v, %d bytes of attributes, %v", reached, names, st.Mode(), n, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestLastElementIsNotFollowed(t *testing.T) {
	r, _ := openTemp(t)
	write(t, r, "file", "x")
	must(t, r.Chmod("file", 0o640))
	must(t, r.Utimes("file", 1000, 1))
	must(t, r.Symlink("file", "link"))
	must(t, r.Utimes("link", -5, 999_999_999))
	wantErr(t, "chmod of a symlink", r.Chmod("link", 0o777), unix.EOPNOTSUPP)
	must(t, Link(r, "link", r, "link2"))
	link, err := r.Lstat("link2")
	must(t, err)
	if link.Mode&unix.S_IFMT != unix.S_IFLNK || link.Mtim.Sec != -5 || link.Mtim.Nsec != 999_999_999 || link.Nlink != 2 {
		t.Errorf("link2: %+v", link)
	}
	file, err := r.Lstat("file")
	must(t, err)
	if file.Mode&0o7777 != 0o640 || file.Mtim.Sec != 1000 || file.Mtim.Nsec != 1 {
		t.Errorf("file behind the symlink was changed: %+v", file)
	}
	fd, err := r.Open("link", unix.O_PATH, 0)
	must(t, err)
	must(t, unix.Close(fd))
}

func TestPathsThatAreRefused(t *testing.T) {
	r, _ := openTemp(t)
	must(t, r.Mkdir("a", 0o700))
	for _, path := range []string{"/", "/etc", "a/", "a//b", ".", "..", "a/..", "a/../a", "./a", "a/.", "a\x00b", "../" + "etc"} {
		_, err := r.Lstat(path)
		wantErr(t, fmt.Sprintf("%q", path), err, unix.EINVAL)
	}
	for _, path := range []string{"...", "..a", "a./b", ".a"} {
		_, err := r.Lstat(path)
		wantErr(t, path, err, fs.ErrNotExist)
	}
}

func TestNamesOfAnyBytes(t *testing.T) {
	r, _ := openTemp(t)
	names := []string{
		strings.Repeat("n", 255), strings.Repeat("\xff", 255), "\xc3\x28 invalid", "new\nline", "back\\slash", "-rf", " ", "…",
		"%s", "a:b", "\x01\x7f",
	}
	for _, name := range names {
		must(t, r.Mkdir(name, 0o700))
		write(t, r, name+"/"+name, name)
	}
	var got []string
	must(t, r.ReadDir("", func(name string, dtype uint8, ino uint64) error {
		if st, err := r.Lstat(name); err != nil || st.Ino != ino || dtype != unix.DT_DIR {
			t.Errorf("%q: type %d, ino %d, stat %d, %v", name, dtype, ino, st.Ino, err)
		}
		got = append(got, name)
		return nil
	}))
	slices.Sort(got)
	slices.Sort(names)
	if !slices.Equal(got, names) {
		t.Errorf("names %q, want %q", got, names)
	}
	for _, name := range names {
		if got := read(t, r, name+"/"+name); got != name {
			t.Errorf("content of %q is %q", name, got)
		}
	}
	wantErr(t, "256 bytes", r.Mkdir(strings.Repeat("n", 256), 0o700), unix.ENAMETOOLONG)
}

func TestPathsLongerThanPathMax(t *testing.T) {
	r, _ := openTemp(t)
	var path string
	for i := range 20 {
		path += strings.Repeat(string(rune('a'+i)), 255)
		must(t, r.Mkdir(path, 0o700))
		path += "/"
	}
	file := path + strings.Repeat("f", 255)
	write(t, r, file, "deep")
	must(t, r.Chmod(file, 0o604))
	must(t, r.SetXattr(file, "user.deep", []byte("v")))
	must(t, Link(r, file, r, path+"link"))
	must(t, Rename(r, path+"link", r, "up", 0))
	r.Forget("") // now without any help of the cache
	st, err := r.Lstat(file)
	must(t, err)
	if st.Mode&0o7777 != 0o604 || st.Nlink != 2 {
		t.Errorf("%+v", st)
	}
	r.Forget("")
	seen := 0
	must(t, r.ReadDir(strings.TrimSuffix(path, "/"), func(string, uint8, uint64) error { seen++; return nil }))
	if seen != 1 {
		t.Errorf("%d names in the deepest directory", seen)
	}
	wantErr(t, "element too long", r.Mkdir(strings.Repeat("x", 5000)+"/y", 0o700), unix.ENAMETOOLONG)
	removeDeep(t, r, file, path)
}

// removeDeep removes what os.RemoveAll also could, but from the longest path on.
func removeDeep(t *testing.T, r *Root, file, path string) {
	t.Helper()
	must(t, r.Unlink(file))
	for path != "" {
		path = strings.TrimSuffix(path, "/")
		must(t, r.Rmdir(path))
		path = path[:strings.LastIndexByte(path, '/')+1]
	}
	if len(r.dirs) != 0 || r.order.Len() != 0 {
		t.Errorf("cache still has %d directories, %d counts", len(r.dirs), r.order.Len())
	}
}

func TestTopDirectory(t *testing.T) {
	r, dir := openTemp(t)
	must(t, r.Chmod("", 0o750))
	must(t, r.Utimes("", 77, 7))
	must(t, r.SetXattr("", "user.top", []byte("1")))
	st, err := r.Lstat("")
	must(t, err)
	if st.Mode != unix.S_IFDIR|0o750 || st.Mtim.Sec != 77 {
		t.Errorf("%+v", st)
	}
	list, err := r.Xattrs("")
	must(t, err)
	if len(list) != 1 || list[0].Name != "user.top" {
		t.Errorf("xattrs %v", list)
	}
	wantErr(t, "rename of the top", Rename(r, "", r, "x", 0), unix.EINVAL)
	wantErr(t, "removal of the top", r.Rmdir(""), unix.EINVAL)
	must(t, r.SyncFS())
	must(t, r.Mkdir("sub", 0o700))
	sub, err := r.OpenRoot("sub")
	must(t, err)
	defer sub.Close()
	must(t, sub.Mkdir("x", 0o700))
	if _, err := os.Stat(dir + "/sub/x"); err != nil {
		t.Error(err)
	}
}

func TestXattrsOfEveryType(t *testing.T) {
	applytest.NeedRoot(t)
	r, _ := openTemp(t)
	write(t, r, "file", "")
	must(t, r.Mkdir("dir", 0o700))
	must(t, r.Symlink("file", "symlink"))
	must(t, r.Mknod("fifo", unix.S_IFIFO|0o600, 0))
	must(t, r.Mknod("socket", unix.S_IFSOCK|0o600, 0))
	must(t, r.Mknod("device", unix.S_IFCHR|0o600, unix.Mkdev(1, 3)))
	big := bytes.Repeat([]byte("v"), 2000)
	for _, path := range []string{"file", "dir", "symlink", "fifo", "socket", "device"} {
		list, err := r.Xattrs(path)
		if err != nil || list != nil {
			t.Errorf("%s: %v, %v before", path, list, err)
		}
		must(t, r.SetXattr(path, "trusted.z", big))
		must(t, r.SetXattr(path, "trusted.a", nil))
		must(t, r.SetXattr(path, "trusted.gone", []byte{0}))
		must(t, r.RemoveXattr(path, "trusted.gone"))
		wantErr(t, "second removal", r.RemoveXattr(path, "trusted.gone"), unix.ENODATA)
		list, err = r.Xattrs(path)
		must(t, err)
		if len(list) != 2 || list[0].Name != "trusted.a" || len(list[0].Value) != 0 || list[1].Name != "trusted.z" || !bytes.Equal(list[1].Value, big) {
			t.Errorf("%s: %v", path, list)
		}
	}
	st, err := r.Lstat("device")
	must(t, err)
	if st.Rdev != unix.Mkdev(1, 3) || st.Mode != unix.S_IFCHR|0o600 {
		t.Errorf("device: %+v", st)
	}
}

func TestAccessControlListsAreXattrs(t *testing.T) {
	r, _ := openTemp(t)
	write(t, r, "file", "")
	// struct posix_acl_xattr_header and entries (linux/posix_acl_xattr.h): version 2; owner, user 1234, group, mask, other.
	acl := []byte{2, 0, 0, 0,
		1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0xd2, 4, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255,
		16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	must(t, r.SetXattr("file", "system.posix_acl_access", acl))
	list, err := r.Xattrs("file")
	must(t, err)
	if len(list) != 1 || list[0].Name != "system.posix_acl_access" || !bytes.Equal(list[0].Value, acl) {
		t.Errorf("%v", list)
	}
}

func TestMountPointIsAClearError(t *testing.T) {
	applytest.NeedRoot(t)
	r, dir := openTemp(t)
	must(t, r.Mkdir("mnt", 0o700))
	must(t, unix.Mount("none", dir+"/mnt", "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir+"/mnt", unix.MNT_DETACH)) })
	err := r.Mkdir("mnt/x", 0o700)
	wantErr(t, "mkdir on a mount", err, ErrMount)
	wantErr(t, "mkdir on a mount", err, unix.EXDEV)
	if !strings.Contains(err.Error(), "another filesystem is mounted there") || !strings.Contains(err.Error(), "mnt/x") {
		t.Errorf("unclear error: %v", err)
	}
	c, err := OpenCrossing(dir)
	must(t, err)
	must(t, c.Mkdir("mnt/x", 0o700))
	must(t, c.Close())
}

func TestClosedRoot(t *testing.T) {
	r, _ := openTemp(t)
	must(t, r.Mkdir("a", 0o700))
	h, base, err := r.OpenParent("a/b")
	must(t, err)
	must(t, r.Close())
	must(t, unix.Mkdirat(h.FD(), base, 0o700)) // what is held stays open
	h.Release()
	_, err = r.Lstat("a/b")
	wantErr(t, "use after close", err, fs.ErrClosed)
	wantErr(t, "second close", r.Close(), fs.ErrClosed)
}
