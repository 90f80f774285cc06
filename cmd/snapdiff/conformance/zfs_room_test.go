package conformance

import (
	"bytes"
	"os"
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// TestZFSRecursiveRoom: what is too large for the store counts wherever it is, also uncompressed and in a dataset that is not mounted; what is
// excluded does not.
func TestZFSRecursiveRoom(t *testing.T) {
	NeedZFS(t)
	b := newBenchAt(t, driver{name: "zfs", make: func(t testing.TB) origin {
		o := zfsOrigin(t, "-o", "compression=lz4")
		o.settings = "recursive = true"
		return o
	}}, MountSized(t, Ext4, 32<<20))
	warned := func(want bool) {
		t.Helper()
		found, _ := job.Check(b.Context(), b.job, config.Log{})
		got := false
		for _, f := range found {
			got = got || f.Level == job.Warning && strings.Contains(f.Text, "are in use in the source")
		}
		if got != want {
			t.Errorf("check warns: %v, want %v: %+v", got, want, found)
		}
	}
	b.zfs("create", "SOURCE/child")
	warned(false)
	b.must(os.WriteFile(b.origin.dir+"/child/large", bytes.Repeat([]byte("x"), 64<<20), 0o600))
	b.zfs("unmount", "SOURCE/child")
	warned(true)
	b.job.Exclude = []string{"child"}
	warned(false)
}
