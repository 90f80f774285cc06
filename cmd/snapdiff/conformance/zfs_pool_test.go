package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestZFSReadOnlyPool: no snapshot can be taken in a pool that is imported read-only. That is said, and it goes on afterwards.
func TestZFSReadOnlyPool(t *testing.T) {
	b := zfsBench(t)
	Apply(t, b.origin.dir, Create("a", 10, 1))
	b.run()
	pool, _, _ := strings.Cut(b.origin.source, "/")
	again := func(options ...string) {
		t.Helper()
		b.command("zpool", "export", pool)
		vdevs := filepath.Dir(filepath.Dir(b.origin.dir))
		b.command("zpool", append(append([]string{"import"}, options...), "-d", vdevs, pool)...)
	}
	Apply(t, b.origin.dir, Append("a", 10, 1))
	again("-o", "readonly=on")
	next := "zpool export " + pool + " && zpool import " + pool
	b.checks(job.Missing, "imported read-only", next)
	b.fails("read-only", next)
	again()
	b.native()
}

// TestZFSSuspendedPool: a pool whose disk fails holds up everybody who asks it for something. A run says so and ends instead.
func TestZFSSuspendedPool(t *testing.T) {
	NeedZFS(t)
	disk := newFailingDisk(t)
	pool, dir := "snapdiff-suspended", filepath.Join(t.TempDir(), "pool")
	b := newBenchAt(t, driver{name: "zfs", make: func(t testing.TB) origin {
		command(t, "zpool", "create", "-o", "failmode=wait", "-O", "canmount=off", "-m", dir, pool, disk.path)
		t.Cleanup(func() { DestroyPool(t, pool) })
		Dataset(t, pool+"/source")
		return origin{source: pool + "/source", dir: filepath.Join(dir, "source"), live: true}
	}}, Mount(t, Ext4))
	Apply(t, b.origin.dir, Create("a", 10, 1))
	b.run()

	disk.fails(true)
	Apply(t, b.origin.dir, Append("a", 10, 1))
	sync := exec.Command("zpool", "sync", pool)
	b.must(sync.Start())
	state := func() string {
		s, err := os.ReadFile("/proc/spl/kstat/zfs/" + pool + "/state")
		b.must(err)
		return strings.TrimSpace(string(s))
	}
	for end := time.Now().Add(time.Minute); state() != "SUSPENDED"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the pool is %s without its disk", state())
		}
	}
	b.checks(job.Missing, "the pool "+pool+" is suspended", "zpool clear "+pool)
	b.fails("the pool "+pool+" is suspended", "zpool clear "+pool)

	disk.fails(false)
	b.command("zpool", "clear", pool)
	_ = sync.Wait() // it fails if the pool was suspended before it began
	b.native()
}

// failingDisk is a disk that can fail altogether.
type failingDisk struct {
	testing.TB
	path, name, table string
}

func newFailingDisk(t testing.TB) *failingDisk {
	t.Helper()
	NeedLVM(t)
	const size = 256 << 20
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, size); err != nil {
		t.Fatal(err)
	}
	loop := strings.TrimSpace(command(t, "losetup", "-f", "--show", image))
	t.Cleanup(func() { command(t, "losetup", "-d", loop) })
	d := &failingDisk{TB: t, name: "snapdiff-failing", table: fmt.Sprintf("0 %d linear %s 0", size/512, loop)}
	d.path = "/dev/mapper/" + d.name
	command(t, "dmsetup", "create", "--noudevrules", "--noudevsync", d.name, "--table", d.table)
	command(t, "dmsetup", "mknodes", d.name)
	t.Cleanup(func() { command(t, "dmsetup", "remove", "--noudevrules", "--noudevsync", "--retry", d.name) })
	return d
}

// fails lets everything that is asked of the disk fail from now on, or no more.
func (d *failingDisk) fails(yes bool) {
	d.Helper()
	table := d.table
	if yes {
		table = table[:strings.Index(table, " linear")] + " error"
	}
	command(d, "dmsetup", "suspend", "--noflush", "--nolockfs", d.name)
	command(d, "dmsetup", "load", d.name, "--table", table)
	command(d, "dmsetup", "resume", "--noudevrules", "--noudevsync", d.name)
}

// TestZFSWithoutModule: where the module is not loaded, a dataset cannot be found, and check says what to do.
func TestZFSWithoutModule(t *testing.T) {
	NeedZFS(t)
	command(t, "modprobe", "-r", "zfs")
	defer command(t, "modprobe", "zfs")
	b := &bench{TB: t}
	b.job.Name, b.job.Source, b.job.Store = "test", "tank/mail", t.TempDir()
	b.checks(job.Missing, "the ZFS module is not loaded", "modprobe zfs")
	b.fails("the ZFS module is not loaded", "modprobe zfs")
}

func command(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestZFSDelegated: what zfs allow gives to a user is not enough, and that is said before anything is done.
func TestZFSDelegated(t *testing.T) {
	b := zfsBench(t)
	Apply(t, b.origin.dir, Create("a", 10, 1))
	b.run()
	const user = 65534
	b.zfs("allow", "-u", fmt.Sprint(user), "snapshot,hold,release,send,mount,destroy", "SOURCE")
	b.must(os.Chmod("/dev/zfs", 0o666)) // as udev makes it
	b.must(syscall.Setresuid(-1, user, -1))
	out, err := exec.Command("zfs", "snapshot", b.origin.source+"@hers").CombinedOutput() // he may do that much
	b.checks(job.Missing, "only root", "sudo")
	b.fails("only root", "sudo")
	b.must(syscall.Setresuid(0, 0, 0)) // FUSE asks for all three
	if err != nil {
		t.Errorf("the user's own snapshot: %v: %s", err, out)
	}
	b.haveSnapshots("ours:1 hers:0")
	b.zfs("destroy", "SOURCE@hers")
	b.native()
}
