// Package applytest is what the tests on real filesystems share: throw-away loop filesystems, a small printable language
// of changes to a tree, the judges that tell whether a mirror equals its snapshot, and random sequences of changes from a
// printed seed. Only tests import it.
package applytest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// tools are the programs that the real-filesystem tests call.
var tools = []string{"mkfs.btrfs", "mkfs.ext4", "mkfs.xfs", "btrfs", "mount", "umount", "rsync"}

// NeedRoot ends the test where it cannot run: as a user who may not mount. It, NeedZFS and NeedLVM are the only places in the
// project that skip (testdata/may-skip.txt says so, and a test reads that list). As root nothing is ever skipped: a missing program
// fails the test, so that a machine never looks green by accident.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("SNAPDIFF_NO_SKIP") != "" {
			t.Fatal("this test needs root, and SNAPDIFF_NO_SKIP forbids to skip it")
		}
		t.Skip("needs root: mounts filesystems")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install it (make deps), real-filesystem tests are never skipped as root", err)
		}
	}
}

// InTestMachine tells that the test runs in the machine of testdata/testvm, which belongs to the tests alone.
func InTestMachine() bool { return os.Getenv("SNAPDIFF_TESTVM") != "" }

// NeedZFS ends the test outside the test machine, where it never skips. A host's own ZFS is left alone: its tools may be of
// another version or not be there, and the tests set the clock and unload the module.
func NeedZFS(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	if !InTestMachine() {
		t.Skip("needs ZFS: it runs in the test machine")
	}
	load("zfs")
}

// NeedLVM ends the test outside the test machine, where it never skips. That a host has device-mapper says nothing of LVM's
// tools and targets there, and its volume groups are not the tests' business.
func NeedLVM(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	if !InTestMachine() {
		t.Skip("needs LVM: it runs in the test machine")
	}
	load("dm-mod", "dm-thin-pool", "dm-snapshot")
}

// load loads kernel modules of the test machine, which must have them all.
func load(modules ...string) {
	for _, m := range modules {
		if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
			panic(fmt.Sprintf("the test machine has no %s: %v: %s", m, err, out))
		}
	}
}

// Seed gives the seed for everything random in a test: SNAPDIFF_SEED, or the time. It is shown in -v and when the test
// fails.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1_000_000_000
	if s := os.Getenv("SNAPDIFF_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("SNAPDIFF_SEED=%q is no number", s)
		}
		seed = n
	}
	t.Logf("replay with SNAPDIFF_SEED=%d", seed)
	return seed
}

// Soak tells that the tests may take hours: SNAPDIFF_SOAK=1 runs whole products instead of a sample.
func Soak() bool { return os.Getenv("SNAPDIFF_SOAK") != "" }
