package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	. "snapdiff/apply/applytest"
)

// hostileEnvironment is what programs that run as root must not be given, or not as it is.
var hostileEnvironment = []string{"LD_PRELOAD=/nowhere.so", "LD_LIBRARY_PATH=/nowhere", "BASH_ENV=/nowhere", "ENV=/nowhere", "IFS=/", "LC_ALL=xx_XX", "ZFS_DIFF_NO_MANGLE=1", "ZPOOL_VDEV_NAME_PATH=1",
	"LVM_SYSTEM_DIR=/nowhere", "LVM_BINARY=/nowhere", "DM_DEV_DIR=/nowhere", "SNAPDIFF_JOB=other", "GODEBUG=execerrdot=0", "GOTRACEBACK=crash"}

// asCalled wants an environment, as /proc has it, to be one that programs may be called in.
func asCalled(t *testing.T, who, environ string) {
	t.Helper()
	path := false
	for v := range strings.SplitSeq(strings.TrimSuffix(environ, "\x00"), "\x00") {
		name, value, _ := strings.Cut(v, "=")
		switch {
		case name == "PATH":
			path = true
			for dir := range strings.SplitSeq(value, ":") {
				path = path && slices.Contains([]string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/run/current-system/sw/bin"}, dir)
			}
		case v == "LC_ALL=C", v == "PWD=/", v == "LVM_SUPPRESS_FD_WARNINGS=1":
		case slices.Contains([]string{"HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "NO_COLOR", "JOURNAL_STREAM", "NOTIFY_SOCKET", "INVOCATION_ID", "GOMEMLIMIT", "GOMAXPROCS"}, name):
		default:
			t.Errorf("%s got %q", who, v)
		}
	}
	if !path {
		t.Errorf("%s got another PATH: %q", who, environ)
	}
}

// toldEnvironment is the file in the directory that holds the source into which tellEnvironment writes.
const toldEnvironment = "environment of who destroys"

// tellEnvironment writes down what this process was given, if the test that began it all, whose snapshot is to be destroyed, wants to know.
func tellEnvironment(snapshot string) {
	fs := filepath.Dir(filepath.Dir(filepath.Dir(snapshot)))
	f, err := os.OpenFile(filepath.Join(fs, toldEnvironment), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	environ, err := os.ReadFile("/proc/self/environ")
	if err == nil {
		_, err = f.Write(append(environ, strings.Join(os.Args[1:], "\x00")...))
	}
	if err != nil {
		panic(err)
	}
}

// begun starts the program with a hostile environment, with one more directory first in its PATH, and below a command that calls it.
func (b *jobBench) begun(path string, below []string, args ...string) string {
	b.t.Helper()
	program, err := os.Executable()
	b.must(err)
	argv := append(slices.Concat(below, []string{"/usr/bin/env"}, hostileEnvironment, []string{asProgram + "=" + asMain, "PATH=" + path, program, "--config", b.config}), args...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = filepath.Dir(b.config)
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Errorf("snapdiff %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// thieves are programs of these names, in a directory for PATH, that say that they were called.
func thieves(t *testing.T, names ...string) (dir, stolen string) {
	t.Helper()
	dir = t.TempDir()
	stolen = filepath.Join(dir, "stolen")
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho \"$0 $*\" >> "+stolen+"\nexit 1\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, stolen
}

// TestWhoDestroysSnapshots: the process that a run starts to destroy snapshots has a clean environment, and no shell is between.
func TestWhoDestroysSnapshots(t *testing.T) {
	fs, dir := Mount(t, Btrfs), t.TempDir()
	b := &jobBench{t: t, fs: fs, source: filepath.Join(fs, "a; touch stolen `touch stolen` $(touch stolen) '\" *"), store: filepath.Join(dir, "store"), config: filepath.Join(dir, "snapdiff.toml")}
	Subvolume(t, b.source)
	b.configure("")
	b.write("a")
	path, stolen := thieves(t, "sh", "bash", "btrfs", "umount", "mount")
	b.begun(path, nil, "init")
	b.begun(path, nil, "run")
	told := filepath.Join(fs, toldEnvironment)
	b.must(os.WriteFile(told, nil, 0o600))
	b.write("b")
	was, err := filepath.Glob(filepath.Join(fs, "*", ".snapdiff", "*"))
	b.must(err)
	b.begun(path, nil, "run")
	text := b.comes(told)
	environ, args, _ := strings.Cut(text, destroyCommand+"\x00--\x00")
	if len(was) != 1 || args != was[0] {
		t.Errorf("who destroys %q was called with %q", was, text)
	}
	asCalled(t, "who destroys", environ)
	b.equal()
	for _, path := range []string{stolen, filepath.Join(dir, "stolen"), "stolen"} {
		if said, err := os.ReadFile(path); err == nil {
			t.Errorf("called was\n%s", said)
		}
	}
}

// comes waits until there is something in a file.
func (b *jobBench) comes(file string) string {
	b.t.Helper()
	for range 3000 {
		if data, err := os.ReadFile(file); err == nil && len(data) > 0 {
			return string(data)
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("%s stays empty", file)
	return ""
}

// TestLVMPrograms: the programs of LVM and of ZFS get nothing of the environment, neither does PATH say which they are. What they get is written down by
// others of their names, in /usr/sbin of a mount namespace of the test's own, that then do what those do.
func TestLVMPrograms(t *testing.T) {
	volume := MountVolume(t, Thin, Ext4)
	pool, dir := ZFSPool(t)
	Dataset(t, pool+"/source")
	names := []string{"lvm", "lvs", "lvcreate", "lvremove", "lvchange", "thin_delta", "zfs"}
	const sbin = "/usr/sbin"
	ours, real, told := t.TempDir(), t.TempDir(), t.TempDir()
	programs, err := os.ReadDir(sbin)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if !slices.Contains(names, p.Name()) {
			err = errors.Join(err, os.Symlink(filepath.Join(real, p.Name()), filepath.Join(ours, p.Name())))
		}
	}
	for _, name := range names {
		program, e := exec.LookPath(name)
		if filepath.Dir(program) == sbin {
			program = filepath.Join(real, name)
		}
		script := fmt.Sprintf("#!/bin/sh\n/bin/cat /proc/$$/environ > %s/%s.$$\nexec %s \"$@\"\n", told, name, program)
		err = errors.Join(err, e, os.WriteFile(filepath.Join(ours, name), []byte(script), 0o755))
	}
	if err != nil {
		t.Fatal(err)
	}
	below := []string{"unshare", "-m", "/bin/sh", "-ec", `mount --bind ` + sbin + ` "$0"; mount --bind "$1" ` + sbin + `; shift; exec "$@"`, real, ours}
	path, stolen := thieves(t, append(names, "sh")...)
	lvm := newVolumeBench(t, volume, "")
	config := t.TempDir()
	zfs := &jobBench{t: t, fs: dir, source: filepath.Join(dir, "source"), store: filepath.Join(config, "store"), config: filepath.Join(config, "snapdiff.toml")}
	zfs.configure("")
	for _, b := range []*jobBench{lvm.jobBench, zfs} {
		b.write("a")
		b.begun(path, below, "init")
		b.begun(path, below, "run")
		b.write("b")
		b.begun(path, below, "run")
		b.equal()
		if r := b.lastRun(); r.How != "native" {
			t.Errorf("the run compared %+v", r)
		}
		b.begun(path, below, "release")
	}
	called := map[string]bool{}
	files, err := os.ReadDir(told)
	zfs.must(err)
	for _, f := range files {
		name, _, _ := strings.Cut(f.Name(), ".")
		called[name] = true
		environ, err := os.ReadFile(filepath.Join(told, f.Name()))
		zfs.must(err)
		asCalled(t, name, string(environ))
	}
	for _, name := range []string{"lvm", "thin_delta", "zfs"} {
		if !called[name] {
			t.Errorf("%s was not called: %v", name, called)
		}
	}
	if said, err := os.ReadFile(stolen); err == nil {
		t.Errorf("of the PATH were called\n%s", said)
	}
}
