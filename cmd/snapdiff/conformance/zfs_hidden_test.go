package conformance

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// skips makes a native run that names these as not followed.
func (b *bench) skips(what string) {
	b.Helper()
	var all []string
	for _, p := range b.native().Skipped {
		all = append(all, p.Path)
	}
	slices.Sort(all)
	if got := strings.Join(all, " "); got != what {
		b.Errorf("not followed are %q, want %q", got, what)
	}
}

// TestZFSRecursiveHidden: what another dataset is mounted over, nobody sees, neither in the source nor in the mirror; it is named, and comes back
// when it can be seen again.
func TestZFSRecursiveHidden(t *testing.T) {
	b := datasets(t)
	Apply(t, b.origin.dir, Create("top", 10, 1), Mkdir("d"))
	b.dataset("deep", "d/e", 10)
	b.dataset("deeper", "d/e/f", 20)
	b.run()

	Apply(t, b.origin.dir, Create("d/new", 10, 1), Mkdir("d/dir"), Create("d/dir/new", 10, 1)) // what is hidden changed too
	b.dataset("over", "d", 30)                                                                 // has no e
	b.skips("deep deeper")
	Apply(t, b.origin.dir, Mkdir("d/e"), Create("d/e/seen", 10, 1))
	b.dataset("inside", "d/e/f", 40) // at a place of one that is hidden
	b.skips("deep deeper")
	b.zfs("set", "canmount=off", "SOURCE/inside")
	b.zfs("set", "canmount=off", "SOURCE/over")
	Apply(t, b.origin.dir, Append("d/e/a", 5, 5), Append("d/e/f/c", 5, 5))
	b.skips("inside over")

	b.dataset("second", "d/e", 50)
	b.skips("deep deeper inside over")
	b.zfs("set", "mountpoint="+filepath.Join(b.origin.dir, "elsewhere"), "SOURCE/second")
	b.skips("inside over")
	b.judgePast()
}

// TestZFSRecursiveMountOrder: the source is mounted over what was mounted before it.
func TestZFSRecursiveMountOrder(t *testing.T) {
	b := datasets(t)
	b.dataset("child", "child", 10)
	b.run()
	b.zfs("unmount", "SOURCE")
	b.zfs("mount", "SOURCE/child")
	b.zfs("mount", "SOURCE")
	b.skips("child")
	b.must(unix.Unmount(b.origin.dir, 0))
	b.zfs("unmount", "SOURCE/child")
	b.zfs("mount", "SOURCE")
	b.zfs("mount", "SOURCE/child")
	b.skips("")
}

// TestZFSRecursiveOtherMounts: what is no dataset hides none: with systemd, directories may be hidden from one program alone.
func TestZFSRecursiveOtherMounts(t *testing.T) {
	b := datasets(t)
	b.dataset("child", "d/child", 10)
	b.zfs("create", "-o", "readonly=on", "SOURCE/fixed")
	b.run()
	Apply(t, b.origin.dir, MmapWrite("d/child/a", 100, 1000, 2), Create("d/y", 10, 2))
	for _, dir := range []string{"d", "fixed"} {
		b.must(unix.Mount("none", filepath.Join(b.origin.dir, dir), "tmpfs", 0, ""))
	}
	reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	for _, dir := range []string{"d", "fixed"} {
		b.must(unix.Unmount(filepath.Join(b.origin.dir, dir), 0))
	}
	b.must(err)
	if how := reports[0].How; how != "native" {
		t.Errorf("the run compared %s: %s", how, reports[0].Reason)
	}
	b.judge()
}

// TestZFSRecursiveByPath: the source may be named by a symlink to its mount point.
func TestZFSRecursiveByPath(t *testing.T) {
	b := datasets(t)
	b.dataset("child", "child", 10)
	b.job.Source = filepath.Join(t.TempDir(), "link")
	Apply(t, filepath.Dir(b.job.Source), Symlink(b.origin.dir, "link"))
	if skipped := b.run().Skipped; len(skipped) > 0 {
		t.Errorf("not followed are %v", skipped)
	}
}
