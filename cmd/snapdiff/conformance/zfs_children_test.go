package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestZFSRecursiveUnmountedSource: the source is only the parent of others (canmount=off): each of them is in the mirror all the same.
func TestZFSRecursiveUnmountedSource(t *testing.T) {
	b := datasets(t)
	dir, tree := b.origin.dir, filepath.Join(b.job.Store, "tree")
	b.zfs("set", "canmount=off", "SOURCE")
	b.dataset("anna", "anna", 10)
	b.zfs("create", "-o", "canmount=off", "SOURCE/groups")
	b.dataset("groups/staff", "groups/staff", 20)
	b.zfs("set", "mountpoint="+dir+"//", "SOURCE")
	b.zfs("create", "-o", "canmount=noauto", "-o", "mountpoint="+dir+"/no/where/", "SOURCE/lost")
	b.zfs("set", "canmount=on", "SOURCE/lost") // it is not mounted
	run := func(how string) {
		t.Helper()
		reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
		b.must(err)
		if r := reports[0]; r.How != how || len(r.Skipped) != 1 || r.Skipped[0].Path != "no/where" {
			t.Errorf("the run compared %s, %q, and did not follow %v", r.How, r.Reason, r.Skipped)
		}
		for _, child := range []string{"anna", "groups/staff"} {
			Judge(b, filepath.Join(dir, child), filepath.Join(tree, child))
		}
	}
	run("first")
	Apply(t, dir, Append("anna/a", 1, 1), Remove("groups/staff/c"))
	run("native")
	b.zfs("rename", "SOURCE/groups", "SOURCE/teams")
	b.zfs("create", "SOURCE/bert")
	_, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	b.must(err)
	var names []string
	entries, err := os.ReadDir(tree)
	b.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "anna bert teams" {
		t.Errorf("the mirror has %s", got)
	}
	v, err := job.Verify(b.Context(), b.job, job.VerifyOptions{}, b.Logf)
	if err != nil {
		t.Errorf("%v: %v", err, v.Found)
	}
}

// TestZFSRecursiveKinds: datasets of other kinds: below one that is never mounted, with legacy mounts, read-only, with other properties, encrypted.
func TestZFSRecursiveKinds(t *testing.T) {
	b := datasets(t)
	dir := b.origin.dir
	key := filepath.Join(t.TempDir(), "key")
	b.must(os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600))
	b.zfs("create", "-o", "canmount=off", "SOURCE/off")
	b.dataset("off/child", "off/child", 10)
	b.dataset("plain", "plain", 20, "-o", "xattr=dir", "-o", "dnodesize=legacy", "-o", "recordsize=4k", "-o", "compression=zstd")
	b.dataset("fixed", "fixed", 30)
	b.zfs("set", "readonly=on", "SOURCE/fixed")
	b.dataset("secret", "secret", 40, "-o", "encryption=on", "-o", "keyformat=raw", "-o", "keylocation=file://"+key)
	b.zfs("create", "-o", "mountpoint=legacy", "SOURCE/legacy")
	Apply(t, dir, Mkdir("old"))
	command(b, "mount", "-t", "zfs", b.origin.source+"/legacy", dir+"/old")
	Apply(t, dir, twoFiles("old", 50)...)
	b.run()

	Apply(t, dir, Append("old/a", 1, 1), Append("off/child/a", 1, 1), SetXattr("plain/c", "user.x", "other"), Append("secret/a", 1, 1))
	b.skips("off")
	command(b, "umount", dir+"/old") // nobody knows any more where it belongs
	b.skips("legacy off")

	b.zfs("unmount", "SOURCE/secret")
	b.zfs("unload-key", "SOURCE/secret")
	b.fails("its key is not loaded", "zfs load-key "+b.origin.source+"/secret")
	b.zfs("load-key", "SOURCE/secret")
	b.zfs("mount", "SOURCE/secret")
	b.skips("legacy off")
}

// TestZFSRecursiveBusy: datasets come and go while the snapshots are taken, as those of containers do.
func TestZFSRecursiveBusy(t *testing.T) {
	runs := 2
	if Soak() {
		runs = 50
	}
	b := datasets(t)
	b.dataset("stays", "stays", 10)
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond): // there are times in which a snapshot can be taken
				name := fmt.Sprintf("SOURCE/layer%d", i)
				_, _ = b.tryZFS("create", name)
				_, _ = b.tryZFS("destroy", "-r", name) // not one that has our hold
			}
		}
	}()
	defer func() { <-stopped }()
	defer close(stop)
	for range runs {
		reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
		b.must(err)
		if last := reports[len(reports)-1]; last.Run != "r1" && last.How != "native" {
			t.Errorf("the run compared %s: %s", last.How, last.Reason)
		}
		if v, err := job.Verify(b.Context(), b.job, job.VerifyOptions{}, b.Logf); err != nil {
			t.Errorf("%v: %v", err, v.Found)
		}
	}
}
