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

// NeedZFS ends the test where there is no ZFS. In the test machine, where there is, it never skips.
func NeedZFS(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	if !loaded("/dev/zfs", "zfs") {
		t.Skip("needs ZFS: it runs in the test machine")
	}
}

// NeedZFSAlone ends the test where ZFS is not there for the tests alone: in the test machine the clock may be set and the module be unloaded,
// a machine with pools of its own is left as it is. In the test machine it never skips.
func NeedZFSAlone(t testing.TB) {
	t.Helper()
	NeedZFS(t)
	if os.Getenv("SNAPDIFF_TESTVM") == "" {
		t.Skip("needs ZFS for itself alone: it runs in the test machine")
	}
}

// NeedLVM ends the test where there is no device-mapper or LVM. In the test machine, where there is, it never skips.
func NeedLVM(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	if !loaded("/dev/mapper/control", "dm-mod", "dm-thin-pool", "dm-snapshot") {
		t.Skip("needs LVM: it runs in the test machine")
	}
}

// loaded loads kernel modules and tells whether the device is there. The test machine must have them all.
func loaded(device string, modules ...string) bool {
	for _, m := range modules {
		out, err := exec.Command("modprobe", m).CombinedOutput()
		if err != nil && os.Getenv("SNAPDIFF_TESTVM") != "" {
			panic(fmt.Sprintf("the test machine has no %s: %v: %s", m, err, out))
		}
	}
	_, err := os.Stat(device)
	return err == nil
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
