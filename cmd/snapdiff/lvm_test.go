package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
)

// volumeBench is a job whose source is a logical volume.
type volumeBench struct {
	*jobBench
	v *LogicalVolume
}

// newVolumeBench makes a job for a volume that is mounted.
func newVolumeBench(t *testing.T, v *LogicalVolume, settings string) *volumeBench {
	t.Helper()
	dir := t.TempDir()
	b := &volumeBench{&jobBench{t: t, fs: v.Dir, source: v.Dir, store: filepath.Join(dir, "store"), config: filepath.Join(dir, "snapdiff.toml")}, v}
	b.configure(settings)
	t.Cleanup(func() {
		for _, name := range b.lvs("-o", "lv_name", "-S", "lv_name=~^snapdiff_ && origin="+filepath.Base(v.Name), "snapdiff-test") {
			b.sh("lvremove -q -y snapdiff-test/" + name)
		}
	})
	return b
}

// sh runs a command line, which must succeed, and gives its output.
func (b *volumeBench) sh(command string) string {
	b.t.Helper()
	out, err := exec.Command("bash", "-ec", command).CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return string(out)
}

// lvs gives the words that lvs prints.
func (b *volumeBench) lvs(args ...string) []string {
	b.t.Helper()
	out, err := exec.Command("lvs", append([]string{"--noheadings"}, args...)...).Output()
	if err != nil {
		b.t.Fatalf("lvs %q: %v", args, err)
	}
	return strings.Fields(string(out))
}

// atRest makes sure that of all snapshots of the job the base alone is left, and not active if it is a thin one.
func (b *volumeBench) atRest() {
	b.t.Helper()
	got := b.lvs("-o", "lv_attr", "-S", "lv_name=~^snapdiff_ && origin="+filepath.Base(b.v.Name), "snapdiff-test")
	if want := map[VolumeKind]byte{Thin: '-', Classic: 'a'}[b.v.Kind]; len(got) != 1 || got[0][4] != want {
		b.t.Errorf("the snapshots that are left have the attributes %q, want one with %q at the fifth place", got, want)
	}
}

// native makes sure that no run compared in full.
func (b *volumeBench) native() {
	b.t.Helper()
	if out := b.snapdiff(0, "list", "--json"); !strings.Contains(out, `"how":"native"`) || strings.Contains(out, `"how":"full"`) {
		b.t.Errorf("not all runs but the first are native:\n%s", out)
	}
}

// dm is the name of the pool's own device.
const dm = "snapdiff--test-pool-tpool"

// held tells whether the pool has a metadata snapshot.
func (b *volumeBench) held() bool {
	b.t.Helper()
	return strings.Fields(b.sh("dmsetup status " + dm))[6] != "-"
}

// slowDelta is a thin_delta, in a directory for PATH, that says in the file "began" what process it is and waits for "go".
func slowDelta(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	real, err := exec.LookPath("thin_delta")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" != -V ] || exec %[2]s -V\necho $$ >%[1]s/began.new; mv %[1]s/began.new %[1]s/began\nwhile [ ! -e %[1]s/go ]; do sleep 0.02; done\nexec %[2]s \"$@\"\n", dir, real)
	if err := os.WriteFile(filepath.Join(dir, "thin_delta"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start begins a run of the real program, with one more directory in its PATH.
func (b *volumeBench) start(path string) (cmd *exec.Cmd, out *bytes.Buffer) {
	b.t.Helper()
	cmd, out = exec.Command(os.Args[0], "--config", b.config, "run"), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+path+":"+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, out
}

// wait waits until a file is there, and gives what is in it.
func (b *volumeBench) wait(file string) string {
	b.t.Helper()
	for range 3000 {
		if data, err := os.ReadFile(file); err == nil {
			return strings.TrimSpace(string(data))
		}
		time.Sleep(20 * time.Millisecond)
	}
	b.t.Fatalf("%s does not come", file)
	return ""
}

// TestLVMStopped: a run that a signal stops while the pool's metadata snapshot is reserved gives it back; one that is killed
// leaves it, and the next run knows it again. Either way nothing is lost, and the next run is a native one.
func TestLVMStopped(t *testing.T) {
	b := newVolumeBench(t, MountVolume(t, Thin, Ext4), "")
	b.snapdiff(0, "init")
	b.write("a")
	b.snapdiff(0, "run")
	for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL} {
		b.write(fmt.Sprint("round", i))
		slow := slowDelta(t)
		cmd, out := b.start(slow)
		delta, err := strconv.Atoi(b.wait(filepath.Join(slow, "began")))
		if err != nil {
			t.Fatal(err)
		}
		if !b.held() {
			t.Fatalf("%v: thin_delta runs, and no metadata snapshot is reserved", signal)
		}
		cmd.Process.Signal(signal)
		cmd.Wait()
		if want := 128 + int(signal); signal != syscall.SIGKILL && cmd.ProcessState.ExitCode() != want {
			t.Errorf("%v: exit status %d, want %d: %s", signal, cmd.ProcessState.ExitCode(), want, out)
		}
		if held := b.held(); held != (signal == syscall.SIGKILL) {
			t.Errorf("%v: a metadata snapshot is reserved afterwards: %v", signal, held)
		}
		if signal == syscall.SIGKILL {
			unix.Kill(delta, syscall.SIGKILL)
		} else {
			b.atRest()
		}
		b.silent("run")
		b.equal()
		b.native()
		b.atRest()
		if b.held() {
			t.Errorf("%v: a metadata snapshot is reserved after the next run", signal)
		}
	}
}

// TestLVMTwoJobsInOnePool: there is one metadata snapshot a pool: the second of two runs waits for the first.
func TestLVMTwoJobsInOnePool(t *testing.T) {
	one, two := newVolumeBench(t, MountVolume(t, Thin, XFS), ""), newVolumeBench(t, MountVolume(t, Thin, Ext4), "")
	for _, b := range []*volumeBench{one, two} {
		b.snapdiff(0, "init")
		b.write("a")
		b.snapdiff(0, "run")
		b.write("b")
	}
	slow := slowDelta(t)
	first, said := one.start(slow)
	one.wait(filepath.Join(slow, "began"))
	second, saidToo := two.start(t.TempDir())
	time.Sleep(time.Second) // it would be done by then
	if err := os.WriteFile(filepath.Join(slow, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first run: %v: %s", err, said)
	}
	if err := second.Wait(); err != nil {
		t.Errorf("the second run: %v: %s", err, saidToo)
	}
	for _, b := range []*volumeBench{one, two} {
		b.equal()
		b.native()
		b.atRest()
	}
}

// checks wants these words from check of a source.
func (b *volumeBench) checks(source string, status int, words ...string) {
	b.t.Helper()
	b.source = source
	b.configure("")
	out := b.snapdiff(status, "check")
	for _, w := range words {
		if !strings.Contains(out, w) {
			b.t.Errorf("check of %s does not say %q:\n%s", source, w, out)
		}
	}
}

// TestLVMCheck: check says what is wrong with a volume and how to mend it.
func TestLVMCheck(t *testing.T) {
	b := newVolumeBench(t, MountVolume(t, Thin, Ext4), "")
	b.snapdiff(0, "init")
	b.checks(b.v.Dir, 0, "mail: can run")
	hidden := filepath.Join(t.TempDir(), "empty")
	b.sh("touch " + hidden + "; mount --bind " + hidden + " $(readlink -f /usr/sbin/thin_delta)")
	b.checks(b.v.Name, 0, "warning: each run compares in full: thin_delta is not installed: install thin-provisioning-tools")
	b.sh("umount $(readlink -f /usr/sbin/thin_delta)")

	classic := MountVolume(t, Classic, Ext4)
	b.sh("lvcreate -q -y -s -l 20%ORIGIN -n hers " + classic.Name)
	b.checks("snapdiff-test/hers", 1, "it is itself a snapshot", "next: name its origin, "+classic.Name)
	b.checks("snapdiff-test/pool", 1, `of type "thin-pool"`, "next: name a volume with a filesystem on it")
	classic.Unmount(t)
	b.checks(classic.Name, 1, "is not mounted", "next: mount it, unless that is meant") // another source than that of the store
	other := NewVolume(t, Thin, 128<<20)
	b.sh("mkfs.btrfs -q -f " + other.Dev)
	b.checks(other.Name, 1, "neither ext4 nor XFS is on the volume", "mount the volume and name its mount point if it holds btrfs")

	b.sh("lvcreate -q -y -L 32M -c 64k -T snapdiff-test/small; lvcreate -q -y -V 64M -T snapdiff-test/small -n filled")
	t.Cleanup(func() { b.sh("lvremove -q -f -y snapdiff-test/small") })
	b.sh(`mkfs.ext4 -q /dev/snapdiff-test/filled
		for ((i = 60; $(lvs --noheadings -o data_percent snapdiff-test/small | cut -d. -f1) < 96; i++)); do
			dd if=/dev/urandom of=/dev/snapdiff-test/filled bs=512k seek=$i count=1 oflag=direct status=none
		done`)
	b.checks("snapdiff-test/filled", 1, "the data of the thin pool snapdiff-test/small is full to 9", "next: lvextend -L +SIZE snapdiff-test/small")
}

// TestLVMBtrfs: btrfs on a logical volume is a btrfs source: it makes its snapshots itself, and LVM none.
func TestLVMBtrfs(t *testing.T) {
	v, dir := NewVolume(t, Thin, 256<<20), t.TempDir()
	b := &volumeBench{&jobBench{t: t, fs: dir, source: dir, store: filepath.Join(t.TempDir(), "store"), config: filepath.Join(t.TempDir(), "snapdiff.toml")}, v}
	b.configure("")
	b.sh("modprobe -q btrfs || true; mkfs.btrfs -q -f " + v.Dev + "; mount " + v.Dev + " " + dir)
	t.Cleanup(func() { b.sh("umount " + dir) })
	b.jobBench.begin("a", "d/b")
	b.write("c")
	b.silent("run")
	b.equal()
	b.native()
	b.wantSnapshots(1, "the base")
	if ours := b.lvs("-o", "lv_name", "-S", "lv_name=~^snapdiff_", "snapdiff-test"); len(ours) > 0 {
		t.Errorf("LVM has snapshots of ours: %q", ours)
	}
	b.checks(dir, 0, "mail: can run")
}

// TestLVMSegments: a volume that is RAID is a source like others; one below a cache is refused with what to do, and goes on without it.
func TestLVMSegments(t *testing.T) {
	b := newVolumeBench(t, MountVolume(t, Classic, XFS), "")
	dir := t.TempDir()
	var disks []string
	for i := range 2 {
		image := filepath.Join(dir, fmt.Sprint("disk", i))
		disk := strings.TrimSpace(b.sh("truncate -s 700M " + image + "; losetup -f --show " + image))
		t.Cleanup(func() { b.sh("losetup -d " + disk) })
		disks = append(disks, disk)
	}
	b.sh("modprobe -a dm-raid raid1 dm-cache dm-cache-smq; pvcreate -q " + strings.Join(disks, " ") + "; vgcreate -q snapdiff-segments " + strings.Join(disks, " "))
	t.Cleanup(func() { b.sh("vgremove -q -f -y snapdiff-segments") })
	b.sh("lvcreate -q -y --type raid1 -m 1 -L 320M -n raid snapdiff-segments; mkfs.ext4 -q /dev/snapdiff-segments/raid; mkdir " + dir + "/mnt; mount /dev/snapdiff-segments/raid " + dir + "/mnt")
	t.Cleanup(func() { b.sh("umount " + dir + "/mnt") })
	b.source = dir + "/mnt"
	b.configure(`snapshot_size = "20%"`)
	b.snapdiff(0, "init")
	b.write("a")
	b.silent("run")
	b.write("b")
	b.silent("run")
	b.equal()
	b.native()
	b.sh("lvremove -q -y $(lvs --noheadings -o vg_name,lv_name --separator / -S lv_name=~^snapdiff_ snapdiff-segments)")

	b.sh("lvcreate -q -y -L 32M -n fast snapdiff-segments; lvcreate -q -y -L 100M -n slow snapdiff-segments; lvconvert -q -y --type cache --cachevol fast snapdiff-segments/slow")
	b.checks("snapdiff-segments/slow", 1, "a cache lies over it", "lvconvert --splitcache")
	b.sh("lvconvert -q -y --splitcache snapdiff-segments/slow; mkfs.ext4 -q /dev/snapdiff-segments/slow")
	b.store += "2"
	b.checks("snapdiff-segments/slow", 1, "no store yet", "is not mounted")
}
