package applytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// ZFSPool makes a pool in a file for the duration of the test and gives its name. Its datasets are mounted below dir, the
// pool's own one is not; nothing waits for the disk. zpool create takes the options. It calls NeedZFS.
func ZFSPool(t testing.TB, options ...string) (pool, dir string) {
	t.Helper()
	NeedZFS(t)
	base := t.TempDir()
	image := filepath.Join(base, "vdev")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 2<<30); err != nil {
		t.Fatal(err)
	}
	pool, dir = fmt.Sprintf("snapdiff%d", os.Getpid()), filepath.Join(base, "pool")
	args := append([]string{"create", "-O", "canmount=off", "-O", "acltype=posix", "-O", "sync=disabled", "-m", dir}, options...)
	command(t, "zpool", append(args, pool, image)...)
	t.Cleanup(func() { DestroyPool(t, pool) })
	return pool, dir
}

// DestroyPool destroys a pool. It may be busy for some time, as a mount may (see unmountPatience).
func DestroyPool(t testing.TB, pool string) {
	t.Helper()
	for start := time.Now(); exec.Command("zpool", "destroy", "-f", pool).Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Since(start) > unmountPatience {
			command(t, "zpool", "destroy", "-f", pool) // to say why not
			return
		}
		unmountHidden(pool)
	}
}

// unmountHidden unmounts all datasets of a pool, the last one first: zpool destroy goes by paths, and fails where one dataset is mounted over
// another. What is busy stays.
func unmountHidden(pool string) {
	all, _ := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return !strings.HasPrefix(m.Source, pool+"/"), false })
	for _, m := range slices.Backward(all) {
		_ = unix.Unmount(m.Mountpoint, 0)
	}
}

// Dataset makes a dataset in a pool, with the options of zfs create. It is mounted at the last element of its name below
// the pool's directory.
func Dataset(t testing.TB, name string, options ...string) {
	t.Helper()
	command(t, "zfs", append(append([]string{"create"}, options...), name)...)
}

// ZFS runs the zfs program and gives what it prints.
func ZFS(t testing.TB, args ...string) string {
	t.Helper()
	return command(t, "zfs", args...)
}
