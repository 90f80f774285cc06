package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapdiff/apply/applytest"
)

// traces are all names, sizes and times below the source and the store: what a command that changes nothing leaves equal. (SQLite
// makes helper files beside a catalog that it only reads; what stands for a nested snapshot in a snapshot has the time of now.)
func (b *jobBench) traces() string {
	b.t.Helper()
	out, err := exec.Command("find", b.source, b.store, "!", "-name", "catalog.db-*", "!", "-path", b.store, "!", "-path", "*/.snapdiff/*/*", "-printf", "%p %s %T@ %C@ %m %i\n").Output()
	if err != nil {
		b.t.Fatal(err)
	}
	return string(out)
}

// check wants these words from check, and no trace of it.
func (b *jobBench) check(status int, words ...string) {
	b.t.Helper()
	before := b.traces()
	out := b.snapdiff(status, "check")
	for _, w := range words {
		if !strings.Contains(out, w) {
			b.t.Errorf("check does not say %q:\n%s", w, out)
		}
	}
	if after := b.traces(); after != before {
		for line := range strings.Lines(after) {
			if !strings.Contains(before, line) {
				b.t.Errorf("check has changed something: %s", line)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.Mount(t, applytest.XFS), "store")
	b.configure("max_deleted = 1")
	b.write("1", "2", "3", "4")
	if out := b.snapdiff(1, "check"); !strings.Contains(out, "no store yet") || !strings.Contains(out, "next: snapdiff init mail") {
		t.Errorf("check without a store:\n%s", out)
	}
	b.snapdiff(0, "init")
	b.check(0, "mail: can run", "XFS takes symlinks of 1,024 bytes")
	b.silent("run")
	b.check(0, "mail: can run")
	if out := b.snapdiff(0, "check", "--json"); !strings.HasSuffix(out, `{"job":"mail","ready":true}`+"\n") || strings.Contains(out, `"error"`) {
		t.Errorf("check --json:\n%s", out)
	}

	b.sh("rm $S/1 $S/2")
	b.snapdiff(5, "run")
	b.check(0, "r2 is held", "snapdiff run mail --approve r2")
	b.sh(`for s in $S/.snapdiff/*; do btrfs property set $s ro false; echo x > $s/3; btrfs property set $s ro true; done`)
	b.check(0, "warning: the base", "was altered", "compares in full")
	b.sh("btrfs -q subvolume delete $S/.snapdiff/*")
	b.configure(`on_lost_base = "stop"`)
	b.check(1, "error: the base", "is gone", "next: snapdiff run mail --full")
	b.sh("chown 1 $STORE")
	b.check(1, "is not ours", "chown root")
	b.sh("chown 0 $STORE; mv $S $S.old; btrfs -q subvolume create $S")
	b.check(1, "another source", "--accept-new-source")
	b.sh("btrfs -q subvolume delete $S; mkdir $S")
	b.check(1, "is not a btrfs subvolume")
	b.source += ".none"
	b.configure("")
	if out := b.snapdiff(1, "check"); !strings.Contains(out, "no such file or directory") {
		t.Errorf("check without a source:\n%s", out)
	}
}

// A hook that cannot be called, or a log that cannot be opened, keeps runs from working.
func TestCheckHooksAndLog(t *testing.T) {
	b := newJobBench(t, "")
	b.write("1")
	b.snapdiff(0, "init")
	dir := filepath.Dir(b.config)
	plain := filepath.Join(dir, "plain")
	b.allRight(os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o644))
	b.configure(fmt.Sprintf("[jobs.mail.hooks]\nbefore_snapshot = [\"/bin/nope\", \"x\"]\nafter_snapshot = [%q]\nafter_run = [%q]\non_failure = [\"/bin/false\"]\n", plain, dir))
	b.check(1, "mail: error: hook before_snapshot cannot be called: stat /bin/nope: no such file", "next: install the program, or correct before_snapshot in [jobs.mail.hooks]",
		"hook after_snapshot cannot be called: "+plain+" is not executable", "next: chmod +x "+plain, "hook after_run cannot be called: "+dir+" is a directory", "see the 3 errors above")
	b.configure("[jobs.mail.hooks]\non_failure = [\"/bin/nope\"]\n")
	b.check(1, "hook on_failure cannot be called")

	log := filepath.Join(dir, "logs", "log")
	b.configure(fmt.Sprintf("[log]\nto = %q\n", log))
	b.check(1, "mail: error: open the log: open "+log+": no such file or directory", "next: mkdir -p "+filepath.Dir(log))
	b.refused(1, "next: mkdir -p "+filepath.Dir(log), "run")
	b.allRight(os.Mkdir(filepath.Dir(log), 0o700))
	b.check(0, "mail: can run")
	if _, err := os.Lstat(log); !os.IsNotExist(err) {
		t.Errorf("check has made the log: %v", err)
	}
	b.silent("run")
	b.check(0, "mail: can run")
	b.configure(fmt.Sprintf("[log]\nto = %q\n", dir))
	b.check(1, "is a directory", "next: name another file")
}

// An ext4 of the old kind keeps whole seconds: no file would ever count as copied.
func TestCheckOldFilesystem(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.MountSized(t, applytest.Ext4, 64<<20, "-I", "128"), "store")
	b.configure("")
	b.snapdiff(0, "init")
	b.check(1, "error: the mirror's filesystem keeps no nanoseconds", "attributes of about 4", "65,000 links")
}

// What the mirror's filesystem cannot hold makes runs incomplete, never stops them, and is tried again until it can be copied.
func TestIncompleteRuns(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.Mount(t, applytest.Ext4), "store")
	b.configure("")
	b.snapdiff(0, "init")
	b.write("a", "b", "c")
	b.sh("setfattr -n user.big -v $(head -c 8000 /dev/zero | tr '\\0' x) $S/b $S")
	for _, name := range []string{"first", "later"} {
		b.write(name)
		b.refused(3, "not copied: b: set attribute \"user.big\": ", "run")
		b.untouched(name)
	}
	b.refused(3, "next: see the files named above; each run tries them again; 2 of them this mirror cannot hold: exclude them", "run")
	out := b.snapdiff(3, "run", "--json")
	if !strings.Contains(out, `{"path":"b","error":`) || !strings.Contains(out, `{"path":".","error":`) || !strings.Contains(out, `"incomplete":2`) {
		t.Errorf("run --json:\n%s", out)
	}
	b.refused(0, "incomplete (2)", "list")
	b.check(0, "2 files could not be copied, the first is ")
	b.sh("setfattr -x user.big $S/b; setfattr -x user.big $S")
	b.silent("run")
	b.equal()
	b.checkCatalog()
}

// A file that is not copied is named once, however long its path is.
func TestIncompleteRunNamesLongPathsOnce(t *testing.T) {
	b := newJobBench(t, "")
	applytest.Apply(t, b.source, applytest.Deep("deep", 40))
	b.snapdiff(0, "init")
	for _, args := range [][]string{{"run"}, {"run"}, {"run", "--full"}} {
		out := b.snapdiff(3, args...)
		line, _, _ := strings.Cut(out, "\n")
		if len(line) > 500 || strings.Count(line, "deep/") != 1 || !strings.Contains(line, " ... ") || !strings.HasSuffix(line, ": copy: it lies too deep: paths of more than 8192 bytes are not copied") {
			t.Errorf("%q says\n%s", args, out)
		}
	}
	if status, out := b.any("check"); status != 0 || len(out) > 1500 || !strings.Contains(out, "the first is deep/") {
		t.Errorf("check: status %d\n%s", status, out)
	}
}

// TestFullDisk has a store on a btrfs without a byte left, where a write to mapped memory ends a program. What only reads works,
// and what writes says why it does not.
func TestFullDisk(t *testing.T) {
	b := newJobBench(t, "")
	disk := applytest.MountSized(t, applytest.Btrfs, 128<<20)
	b.store = filepath.Join(disk, "store")
	b.configure("")
	b.begin("a", "b")
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size, end := int64(64<<20), int64(0); size >= 4096; {
		if unix.Fallocate(int(f.Fd()), 0, end, size) != nil {
			size /= 2
			continue
		}
		end += size
	}
	b.write("c")
	for _, command := range []string{"list", "status"} {
		b.refused(0, "r1", command)
	}
	b.refused(1, "the store's filesystem is full", "check")
	b.refused(7, "KB are free", "run")
	b.sh(": > " + f.Name() + "; sync -f " + disk)
	b.silent("run")
	b.equal()
}

// TestPlaces are places for a store that are refused or warned of. Nothing is written in any of them.
func TestPlaces(t *testing.T) {
	b := newJobBench(t, "")
	outside := b.store
	b.store = filepath.Join(b.fs, "store")
	b.configure("")
	if out := b.snapdiff(0, "init"); strings.Count(out, "same filesystem") != 1 {
		t.Errorf("a store on the disk of the source is not warned of:\n%s", out)
	}
	b.check(0, "same filesystem")
	b.silent("run") // once is enough
	remount := func(flag uintptr) {
		if err := unix.Mount("", b.fs, "", unix.MS_REMOUNT|flag, ""); err != nil {
			t.Fatal(err)
		}
	}
	remount(unix.MS_RDONLY)
	b.check(1, "read-only", "next: mount -o remount,rw "+b.fs)
	b.refused(8, "remount,rw "+b.fs, "run")
	remount(0)
	for words, store := range map[string]string{"lies inside the source": filepath.Join(b.source, "deep/store"), "lies inside the store": b.fs} {
		b.store = store
		b.configure("")
		b.refused(1, words, "init")
		b.refused(1, words, "check")
	}
	if _, err := os.Lstat(filepath.Join(b.source, "deep")); err == nil {
		t.Error("a refused init has made directories")
	}
	disk := t.TempDir()
	if err := unix.Mount("disk", disk, "tmpfs", unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, 0) })
	b.store = filepath.Join(disk, "store")
	b.configure("")
	for command, status := range map[string]int{"init": 8, "check": 1} {
		b.refused(status, "mount -o remount,rw "+disk, command)
	}
	b.store = outside
	b.configure("")
	b.sh("mkdir $STORE; chown 1 $STORE")
	b.refused(1, "is not ours", "init")
	b.sh("rmdir $STORE; touch $STORE")
	b.refused(1, "is no directory", "init")
}

// A store that lands on the root filesystem, as when the backup disk is not mounted, is made and warned of; the demo's is not warned of.
func TestStoreOnTheRootFilesystem(t *testing.T) {
	b := newJobBench(t, "")
	var root, at unix.Stat_t
	b.allRight(unix.Stat("/", &root))
	b.allRight(unix.Stat(filepath.Dir(b.store), &at))
	const words = "mail: warning: the store "
	if out := b.snapdiff(0, "init"); strings.Contains(out, words+b.store+" is on the root filesystem") != (root.Dev == at.Dev) {
		t.Errorf("root filesystem: %v, and init says:\n%s", root.Dev == at.Dev, out)
	}
	b.silent("run")
	b.store = filepath.Join(applytest.Mount(t, applytest.XFS), "store")
	b.configure("")
	if out := b.snapdiff(0, "init"); strings.Contains(out, "warning") {
		t.Errorf("a store on a disk of its own is warned of:\n%s", out)
	}
	if out := b.snapdiff(0, "demo"); strings.Contains(out, "warning") {
		t.Errorf("the demo warns:\n%s", out)
	}
}

// TestNetworkFilesystem has the store on FUSE, behind which sshfs and the like are: refused, unless the catalog is elsewhere.
func TestNetworkFilesystem(t *testing.T) {
	applytest.NeedRoot(t)
	disk, mount := t.TempDir(), t.TempDir()
	root, err := fs.NewLoopbackRoot(disk)
	if err != nil {
		t.Fatal(err)
	}
	server, err := fs.Mount(mount, root, &fs.Options{MountOptions: fuse.MountOptions{DirectMount: true, FsName: "loopback"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Unmount() })
	b := newJobBench(t, "")
	local := filepath.Dir(b.store)
	b.store = filepath.Join(mount, "store")
	b.configure("")
	for _, command := range []string{"init", "check", "run"} {
		b.refused(1, `catalog = "/var/lib/snapdiff/mail.db"`, command)
	}
	b.configure(fmt.Sprintf("catalog = %q", filepath.Join(mount, "mail.db")))
	b.refused(1, "the catalog "+mount, "init")
	if names, err := os.ReadDir(disk); err != nil || len(names) > 0 {
		t.Errorf("something was written: %v %v", names, err)
	}
	b.configure(fmt.Sprintf("catalog = %q", filepath.Join(local, "mail.db")))
	b.begin("a/1", "a/2", "b")
	b.sh("cd $S; mv a c; rm b; echo more >> c/1")
	b.silent("run")
	b.equal()
	b.check(0, "can run")
	if out := b.snapdiff(0, "restore", "r1", "b", local); !strings.Contains(out, "r1") {
		t.Errorf("restore: %s", out)
	}
}

// TestWithoutRoot runs as a user who may do nothing.
func TestWithoutRoot(t *testing.T) {
	b := newJobBench(t, "")
	b.begin("file")
	// The user has to get at the configuration. Everything above it that is not the machine's own was made for this test run.
	for path := b.config; path != "/tmp" && path != "/"; path = filepath.Dir(path) {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(filepath.Dir(b.config), "snapdiff")
	data, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for command, words := range map[string]string{"run": "only root", "check": "only root", "init": "only root", "list": "next: run snapdiff as root"} {
		cmd := exec.Command(program, "--config", b.config, command)
		cmd.Env = append(os.Environ(), asProgram+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), words) {
			t.Errorf("%s: status %d (%v), want %q:\n%s", command, code, err, words, out)
		}
	}
	for _, command := range []string{"run", "check"} { // as root of a container
		cmd := exec.Command(program, "--config", b.config, command)
		cmd.Env = append(os.Environ(), asProgram+"=1")
		self := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: self, GidMappings: self}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), "on the machine itself") {
			t.Errorf("%s as root of a container: status %d (%v):\n%s", command, code, err, out)
		}
	}
}

// TestKernelWithoutBtrfs shows commands another /proc/filesystems, as that of a kernel without btrfs is. (There no subvolume can be mounted.)
func TestKernelWithoutBtrfs(t *testing.T) {
	applytest.NeedRoot(t)
	b := &jobBench{t: t, source: t.TempDir(), config: filepath.Join(t.TempDir(), "snapdiff.toml"), store: filepath.Join(t.TempDir(), "store")}
	b.configure("")
	other := filepath.Join(t.TempDir(), "filesystems")
	b.allRight(os.WriteFile(other, []byte("nodev\tproc\n\text4\n\txfs\n"), 0o600))
	for command, words := range map[string]string{"init": "it is no mount point", "run": "it is no mount point", "check": "the kernel knows no btrfs at this moment\n  next: modprobe btrfs"} {
		cmd := exec.Command("unshare", "-m", "sh", "-ec", `mount --bind "$1" /proc/filesystems; exec "$0" --config "$2" "$3"`, os.Args[0], other, b.config, command)
		cmd.Env = append(os.Environ(), asProgram+"=1")
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(out), words) {
			t.Errorf("%s: status %d, does not say %q:\n%s", command, code, words, out)
		}
	}
	if _, err := os.Lstat(b.store); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
}

// A store without one of its directories is told of with what to do, by every command; doctor makes those anew that can be.
func TestStoreLacksADirectory(t *testing.T) {
	b := newJobBench(t, "")
	b.write("1", "2")
	b.snapdiff(0, "init")
	b.silent("run")
	for _, dir := range []string{"history", "stage", "tree"} {
		b.sh("mv $STORE/" + dir + " $STORE/../away")
		next := "next: snapdiff doctor shows what is lost"
		if dir == "tree" {
			next = "next: if the mirror is on a filesystem of its own, mount it"
		}
		for _, command := range []string{"run", "check", "list"} {
			if out := b.snapdiff(1, command); !strings.Contains(out, "store/"+dir+" is missing") || !strings.Contains(out, next) {
				t.Errorf("%s without %s:\n%s", command, dir, out)
			}
		}
		if dir == "tree" {
			b.sh("mv $STORE/../away $STORE/tree")
			continue
		}
		if out := b.snapdiff(6, "doctor"); !strings.Contains(out, dir+" is missing\n") || strings.Contains(out, "opening the store") {
			t.Errorf("doctor without %s:\n%s", dir, out)
		}
		b.snapdiff(0, "doctor", "--repair")
		b.write("more of " + dir)
		b.silent("run")
		b.sh("rm -r $STORE/../away")
	}
}

// A store in memory is lost with the next boot.
func TestStoreInMemory(t *testing.T) {
	b := newJobBench(t, "")
	b.sh("mkdir -p $STORE/../memory; mount -t tmpfs none $STORE/../memory")
	t.Cleanup(func() { b.sh("umount " + filepath.Dir(filepath.Dir(b.store)) + "/memory") })
	b.store = filepath.Join(filepath.Dir(b.store), "memory", "store")
	b.configure("")
	b.write("1")
	if out := b.snapdiff(1, "check"); !strings.Contains(out, "warning: the store lies in memory") {
		t.Errorf("a store on tmpfs:\n%s", out)
	}
}
