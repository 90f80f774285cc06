package btrfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
	"snapdiff/snapshot"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// source makes a filesystem with a subvolume "src" and a directory "snaps".
func source(t *testing.T) (src, snaps string) {
	t.Helper()
	top := applytest.Mount(t, applytest.Btrfs)
	must(t, CreateSubvolume(top, "src"))
	must(t, os.Mkdir(top+"/snaps", 0o700))
	return top + "/src", top + "/snaps"
}

func take(t *testing.T, src, snaps, name string) snapshot.Mark {
	t.Helper()
	mark, err := Create(src, snaps, Prefix+name)
	must(t, err)
	return mark
}

func setReadOnly(t *testing.T, path string, on bool) {
	t.Helper()
	d, err := openDir(path)
	must(t, err)
	defer d.Close()
	var flags uint64
	must(t, ioctl(int(d.Fd()), iocGetFlags, unsafe.Pointer(&flags)))
	if flags &^= flagReadOnly; on {
		flags |= flagReadOnly
	}
	must(t, ioctl(int(d.Fd()), iocSetFlags, unsafe.Pointer(&flags)))
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
}

func put(t *testing.T, path, content string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(content), 0o600))
}

func TestSizes(t *testing.T) {
	for name, sizes := range map[string][2]uintptr{
		"btrfs_ioctl_vol_args":             {unsafe.Sizeof(volArgs{}), 4096},
		"btrfs_ioctl_vol_args_v2":          {unsafe.Sizeof(volArgsV2{}), 4096},
		"btrfs_ioctl_get_subvol_info_args": {unsafe.Sizeof(subvolInfoArgs{}), 504},
		"btrfs_ioctl_search_args_v2":       {unsafe.Sizeof(searchHead{}), 112},
		"BTRFS_IOC_TREE_SEARCH_V2":         {iocTreeSearchV2, 0xc0709411},
		"BTRFS_IOC_SNAP_CREATE_V2":         {iocSnapCreateV2, 0x50009417},
		"BTRFS_IOC_SUBVOL_CREATE_V2":       {iocSubvolCreate2, 0x50009418},
		"BTRFS_IOC_SNAP_DESTROY_V2":        {iocSnapDestroyV2, 0x5000943f},
		"BTRFS_IOC_GET_SUBVOL_INFO":        {iocSubvolInfo, 0x81f8943c},
		"BTRFS_IOC_SUBVOL_GETFLAGS":        {iocGetFlags, 0x80089419},
		"BTRFS_IOC_SUBVOL_SETFLAGS":        {iocSetFlags, 0x4008941a},
		"BTRFS_IOC_RESIZE":                 {iocResize, 0x50009403},
		"BTRFS_IOC_SYNC":                   {iocSync, 0x9408},
	} {
		if sizes[0] != sizes[1] {
			t.Errorf("%s is %#x, want %#x", name, sizes[0], sizes[1])
		}
	}
}

// TestSwapFile: btrfs takes no snapshot of what is swapped to, and the error says what to do.
func TestSwapFile(t *testing.T) {
	src, snaps := source(t)
	applytest.Apply(t, src, applytest.NoCow("swap"), applytest.Append("swap", 1<<20, 1), applytest.Chmod("swap", 0o600), applytest.Sync())
	command(t, "mkswap", src+"/swap")
	command(t, "swapon", src+"/swap")
	defer command(t, "swapoff", src+"/swap")
	if _, err := Create(src, snaps, Prefix+"1"); !errors.Is(err, unix.ETXTBSY) || !strings.Contains(err.Error(), "swap file") {
		t.Errorf("a snapshot of a subvolume that is swapped to: %v", err)
	}
}

func TestCreateListDestroy(t *testing.T) {
	src, snaps := source(t)
	put(t, src+"/a", "dirty data that nobody synced")
	first := take(t, src, snaps, "z")
	second := take(t, src, snaps, "a")
	command(t, "btrfs", "subvolume", "snapshot", "-r", src, snaps+"/by-hand")
	must(t, CreateSubvolume(snaps, Prefix+"other"))
	must(t, os.Mkdir(snaps+"/"+Prefix+"directory", 0o700))

	info, err := Info(src)
	must(t, err)
	if first.Kind != "btrfs" || first.Source != info.UUID.String() || first.Parent != first.Source || first.ID == "" || first.Trans == 0 || first.Taken.IsZero() {
		t.Errorf("mark %+v", first)
	}
	if got, err := os.ReadFile(first.Path + "/a"); err != nil || string(got) != "dirty data that nobody synced" {
		t.Errorf("in the snapshot: %q, %v", got, err)
	}
	if err := os.WriteFile(first.Path+"/a", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing to the snapshot: %v", err)
	}
	list, err := List(src, snaps)
	must(t, err)
	first.Session, second.Session = "", "" // only who takes one knows
	if !reflect.DeepEqual(list, []snapshot.Mark{first, second}) {
		t.Errorf("list %+v", list)
	}
	if err := Destroy(snaps, "by-hand"); err == nil {
		t.Error("a snapshot that is not ours was destroyed")
	}
	must(t, Destroy(snaps, Prefix+"z"))
	if _, err := Find(first, snaps); !errors.Is(err, snapshot.ErrGone) {
		t.Errorf("find after destroy: %v", err)
	}
	if err := Destroy(snaps, Prefix+"z"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second destroy: %v", err)
	}
	if list, err := List(src, snaps+"/none"); err != nil || list != nil {
		t.Errorf("list of no directory: %v, %v", list, err)
	}
}

func TestFindByUUID(t *testing.T) {
	src, snaps := source(t)
	mark := take(t, src, snaps, "1")
	must(t, os.Rename(mark.Path, snaps+"/moved"))
	take(t, src, snaps, "1") // another one under the old name
	path, err := Find(mark, snaps)
	must(t, err)
	if path != snaps+"/moved" {
		t.Errorf("found %s", path)
	}
}

func TestAlteredBase(t *testing.T) {
	src, snaps := source(t)
	put(t, src+"/a", "1")
	mark := take(t, src, snaps, "1")
	setReadOnly(t, mark.Path, false)
	if _, err := Find(mark, snaps); !errors.Is(err, snapshot.ErrAltered) {
		t.Errorf("a writable base: %v", err)
	}
	put(t, mark.Path+"/a", "2")
	setReadOnly(t, mark.Path, true)
	must(t, SyncFS(mark.Path))
	if _, err := Find(mark, snaps); !errors.Is(err, snapshot.ErrAltered) {
		t.Errorf("a base that was changed: %v", err)
	}
	if _, err := CreateOf(mark.Path, snaps, Prefix+"of"); !errors.Is(err, snapshot.ErrAltered) {
		t.Errorf("import of a changed snapshot: %v", err)
	}
}

// A file that was deleted while it is open is in the snapshot as an orphan, and the kernel removes it there later. That
// must not look as if somebody had altered the snapshot.
func TestOrphansDoNotAlter(t *testing.T) {
	src, snaps := source(t)
	f, err := os.Create(src + "/deleted")
	must(t, err)
	defer f.Close()
	_, err = f.Write(make([]byte, 1<<20))
	must(t, err)
	must(t, os.Remove(src+"/deleted"))
	mark := take(t, src, snaps, "1")
	must(t, SyncFS(src))
	if _, err := Find(mark, snaps); err != nil {
		t.Error(err)
	}
	_, err = CreateOf(mark.Path, snaps, Prefix+"of")
	must(t, err)
}

func TestBalanceMovesGenerationOnly(t *testing.T) {
	src, snaps := source(t)
	for i := range 50 {
		put(t, fmt.Sprintf("%s/%d", src, i), "x")
	}
	mark := take(t, src, snaps, "1")
	before, err := Info(mark.Path)
	must(t, err)
	command(t, "btrfs", "balance", "start", "--full-balance", filepath.Dir(src))
	must(t, SyncFS(src))
	after, err := Info(mark.Path)
	must(t, err)
	if after.Generation <= before.Generation {
		t.Errorf("generation %d -> %d: balance did not raise it, this test shows nothing", before.Generation, after.Generation)
	}
	if after.OTransid != mark.Trans || after.CTransid != mark.Content {
		t.Errorf("otransid %d -> %d, ctransid %d -> %d", mark.Trans, after.OTransid, mark.Content, after.CTransid)
	}
	if _, err := Find(mark, snaps); err != nil {
		t.Error(err)
	}
}

func TestLineage(t *testing.T) {
	src, snaps := source(t)
	first, second := take(t, src, snaps, "1"), take(t, src, snaps, "2")
	command(t, "btrfs", "subvolume", "snapshot", first.Path, src+"-back") // rolled back to the first
	back := take(t, src+"-back", snaps, "3")
	ofFirst := take(t, first.Path, snaps, "4")
	for _, c := range []struct {
		what       string
		base, next snapshot.Mark
		want       string
	}{
		{"in order", first, second, ""},
		{"the same", first, first, ""},
		{"snapshot of the base", first, ofFirst, ""},
		{"backwards", second, first, "older"},
		{"rolled back", second, back, "another subvolume"},
		{"rolled back, older base", first, back, "another subvolume"},
		{"nothing known", snapshot.Mark{ID: "x"}, first, "do not say"},
	} {
		if got := Lineage(c.base, c.next); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.what, got, c.want)
		}
	}
}

func TestSnapshotOfASnapshotKeepsItsBound(t *testing.T) {
	src, snaps := source(t)
	command(t, "btrfs", "subvolume", "snapshot", "-r", src, snaps+"/his1")
	put(t, src+"/between", "changed before ours was taken")
	command(t, "btrfs", "subvolume", "snapshot", "-r", src, snaps+"/his2")
	ours, err := CreateOf(snaps+"/his1", snaps, Prefix+"of-his1")
	must(t, err)
	his1, err := MarkOf(snaps + "/his1")
	must(t, err)
	his2, err := MarkOf(snaps + "/his2")
	must(t, err)
	if ours.Trans != his1.Trans || ours.ID == his1.ID || ours.Source != his1.Source || !ours.Taken.Equal(his1.Taken) {
		t.Errorf("ours %+v, his %+v", ours, his1)
	}
	if why := Lineage(ours, his2); why != "" {
		t.Error(why)
	}
	if path, err := Find(ours, snaps); err != nil || path != ours.Path {
		t.Errorf("find: %s, %v", path, err)
	}
	if _, err := MarkOf(src); !errors.Is(err, ErrWritable) {
		t.Errorf("mark of a writable subvolume: %v", err)
	}
}

func TestClearErrors(t *testing.T) {
	src, snaps := source(t)
	must(t, os.Mkdir(src+"/dir", 0o700))
	_, err := Info(src + "/dir")
	if !errors.Is(err, ErrNotSubvolume) {
		t.Errorf("a directory: %v", err)
	}
	must(t, CreateSubvolume(src, "nested"))
	mark, err := Create(src, snaps, Prefix+"with-nested")
	must(t, err)
	if _, err := Info(mark.Path + "/nested"); !errors.Is(err, ErrNotSubvolume) {
		t.Errorf("the place of a nested subvolume: %v", err)
	}
	_, err = Info(t.TempDir())
	if !errors.Is(err, ErrNotBtrfs) {
		t.Errorf("no btrfs: %v", err)
	}
	if is, err := IsSubvolume(t.TempDir()); is || err != nil {
		t.Errorf("no btrfs: %v, %v", is, err)
	}
	if is, err := IsSubvolume(src); !is || err != nil {
		t.Errorf("subvolume: %v, %v", is, err)
	}
	if _, err := IsSubvolume(src + "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := Create(src, snaps, "a/b"); err == nil {
		t.Error("a name without our prefix was taken")
	}
	if _, err := Create(src, snaps, Prefix+"a/b"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a name with a slash: %v", err)
	}
	if err := explain("x", "y", unix.EPERM); !errors.Is(err, ErrNotRoot) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%q", err)
	}
}
