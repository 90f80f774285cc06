package conformance

import (
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// tooLarge is more than ext4 keeps in attributes.
var tooLarge = strings.Repeat("v", 16000)

// pendingDirectory has a directory of a child whose attribute the mirror cannot hold, and whose number in its filesystem a file of the source has too. It
// stays known by what it is, through a rename and while the other changes, until it can be copied.
func pendingDirectory(b *bench) {
	dir := b.origin.dir
	b.run()
	Apply(b, dir, SetXattr("one/d", "user.x", tooLarge))
	b.lacks("native", []string{"one/d"})
	Apply(b, dir, Rename("one/d", "one/e"), Append("top", 10, 2))
	b.lacks("native", []string{"one/e"})
	Apply(b, dir, Create("one/e/y", 10, 1))
	b.lacks("native", []string{"one/e"})
	Apply(b, dir, RemoveXattr("one/e", "user.x"))
	b.native()
	if v, err := job.Verify(b.Context(), b.job, job.VerifyOptions{}, b.Logf); err != nil || v.Differences > 0 {
		b.Errorf("the mirror differs in %d places: %v", v.Differences, err)
	}
	Apply(b, dir, SetXattr("one", "user.x", tooLarge), SetXattr(".", "user.x", tooLarge))
	b.lacks("native", []string{".", "one"})
	Apply(b, dir, RemoveXattr("one", "user.x"), RemoveXattr(".", "user.x"))
	b.native()
}

// TestPendingDirectory: see pendingDirectory.
func TestPendingDirectory(t *testing.T) {
	b := newBench(t, nested, Ext4)
	Apply(t, b.origin.dir, Create("top", 10, 1), NestedSubvolume("one"), Mkdir("one/d"), Create("one/d/x", 10, 1))
	pendingDirectory(b)
}

// TestZFSPendingDirectory: see pendingDirectory.
func TestZFSPendingDirectory(t *testing.T) {
	b := datasets(t)
	Apply(t, b.origin.dir, Create("top", 10, 1))
	b.zfs("create", "-o", "xattr=sa", "SOURCE/one")
	Apply(t, b.origin.dir, Mkdir("one/d"), Create("one/d/x", 10, 1))
	pendingDirectory(b)
}
