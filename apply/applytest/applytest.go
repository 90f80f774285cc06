// Package applytest is what the tests on real filesystems share: throw-away loop filesystems, a small printable language
// of changes to a tree, the judges that tell whether a mirror equals its snapshot, and random sequences of changes from a
// printed seed. Only tests import it.
package applytest

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"
)

// tools are the programs that the real-filesystem tests call.
var tools = []string{"mkfs.btrfs", "mkfs.ext4", "mkfs.xfs", "btrfs", "mount", "umount", "rsync"}

// NeedRoot ends the test where it cannot run: as a user who may not mount. It is the only place in the project that skips
// (testdata/may-skip.txt says so, and a test reads that list). As root nothing is ever skipped: a missing program
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
