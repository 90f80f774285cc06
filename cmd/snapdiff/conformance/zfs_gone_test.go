package conformance

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/source"
)

// destroy destroys a dataset below the source with its snapshots, ours too.
func (b *bench) destroy(name string) {
	b.Helper()
	for line := range strings.Lines(b.zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", "SOURCE/"+name)) {
		b.zfs("release", b.tag(strings.TrimSpace(line)), strings.TrimSpace(line))
	}
	b.zfs("destroy", "-r", "SOURCE/"+name)
}

// ours are the snapshots of ours in the whole pool, without those of the source itself, by dataset.
func (b *bench) ours() string {
	b.Helper()
	pool, _, _ := strings.Cut(b.origin.source, "/")
	var all []string
	for line := range strings.Lines(b.zfs("list", "-H", "-r", "-t", "snapshot", "-s", "name", "-o", "name", pool)) {
		dataset, snap, _ := strings.Cut(strings.TrimSpace(line), "@")
		if dataset != b.origin.source && strings.HasPrefix(snap, "snapdiff-") {
			all = append(all, strings.TrimPrefix(dataset, pool+"/"))
		}
	}
	return strings.Join(all, " ")
}

func (b *bench) haveOurs(want string) {
	b.Helper()
	if have := b.ours(); have != want {
		b.Errorf("there are snapshots of %q, want %q", have, want)
	}
}

// TestZFSRecursiveDestroyed: a dataset that is destroyed goes from the mirror, and the others are compared natively. The store knows what it had.
func TestZFSRecursiveDestroyed(t *testing.T) {
	b := datasets(t)
	dir := b.origin.dir
	Apply(t, dir, Create("top", 10, 1), Mkdir("d"), Mkdir("d/below"), Create("d/below/seen", 10, 1), Link("d/below/seen", "link"))
	b.dataset("one", "one", 10)
	b.dataset("one/inner", "one/inner", 20)
	b.dataset("two", "d", 30)
	Apply(t, dir, Mkdir("d/sub"), Create("d/sub/x", 70000, 1), Link("d/sub/x", "d/y"), Symlink("x", "d/sub/s"), SetXattr("d/sub/x", "user.x", "1"), Mkdir("d/sub/in"))
	b.dataset("within", "d/sub/in/within", 40) // in the second, but not below it
	b.run()
	Apply(t, dir, Append("d/a", 5, 1), Rename("d/sub/in", "d/in"), Remove("one/c"), Append("one/inner/c", 1, 1))
	b.native()

	t.Log("one and another below it")
	b.destroy("one")
	b.checks(job.Note, "the dataset was destroyed; the next run takes it out of the mirror", "")
	b.nothingToVerify()
	Apply(t, dir, Append("top", 1, 1), Append("d/b", 4, 4))
	b.native()
	b.haveOurs("source/two source/within")

	t.Log("one with one in it that stays, and comes at its place anew; what it hid comes to light")
	b.zfs("set", "mountpoint="+dir+"/within", "SOURCE/within")
	b.destroy("two")
	b.dataset("two", "two", 50)
	Apply(t, dir, Append("within/a", 1, 1), Append("link", 1, 1))
	b.native()

	t.Log("one of the same name and place")
	b.destroy("two")
	b.dataset("two", "two", 60)
	b.native()

	b.judgePast()
	t.Log("one of which somebody has deleted a file in the mirror")
	b.destroy("within")
	b.must(os.Remove(filepath.Join(b.job.Store, "tree/within/c")))
	b.full("is not what it was")
	b.haveOurs("source/two")
}

// TestZFSRecursiveLostSnapshot: where a dataset lives and its base is gone, all is compared in full.
func TestZFSRecursiveLostSnapshot(t *testing.T) {
	b := datasets(t)
	b.dataset("one", "one", 10)
	b.run()
	name := b.zfs("list", "-H", "-t", "snapshot", "-o", "name", "SOURCE/one")
	b.zfs("release", b.tag(name), name)
	b.zfs("destroy", name)
	Apply(t, b.origin.dir, Append("one/a", 1, 1))
	b.nothingToVerify()
	b.full("gone")
	b.native()
}

// TestZFSRecursiveRenamedAway: a dataset that is renamed to outside of the source goes from the mirror by a native comparison, and our snapshot
// of it goes too: at the latest with the next run where somebody else holds it.
func TestZFSRecursiveRenamedAway(t *testing.T) {
	b := datasets(t)
	pool, _, _ := strings.Cut(b.origin.source, "/")
	for i, name := range []string{"one", "two", "three"} {
		b.dataset(name, name, 10*i+10)
	}
	b.run()
	b.zfs("rename", "SOURCE/one", pool+"/one")
	Apply(t, b.origin.dir, Append("two/a", 1, 1))
	b.native()
	b.haveOurs("source/three source/two")

	b.zfs("rename", "SOURCE/two", pool+"/two")
	held := b.zfs("list", "-H", "-t", "snapshot", "-o", "name", pool+"/two")
	b.zfs("hold", "mine", held)
	if _, err := job.Run(b.Context(), b.job, job.Options{}); err == nil || !strings.Contains(err.Error(), "an old snapshot stays") {
		t.Errorf("with a snapshot that is held the run says %v", err)
	}
	b.haveOurs("source/three two")
	b.zfs("release", "mine", held)
	b.native()
	b.haveOurs("source/three")

	b.zfs("rename", "SOURCE/three", pool+"/three")
	b.job.Recursive = false
	b.full("recursive was switched off")
	b.haveOurs("")
	b.zfs("rename", pool+"/three", "SOURCE/three")
	b.job.Recursive = true
	b.full("recursive was switched on")
	b.zfs("rename", "SOURCE/three", pool+"/three")
	_, err := job.Release(b.Context(), b.job, job.ReleaseOptions{})
	b.must(err)
	b.haveOurs("")
}

// TestZFSRecursiveGivenUp: what an administrator does who wants to destroy a dataset that the job holds, as docs/zfs.md has it.
func TestZFSRecursiveGivenUp(t *testing.T) {
	b := datasets(t)
	dir := b.origin.dir
	for i, name := range []string{"one", "one/inner", "oneself", "two"} {
		b.dataset(name, name, 10*i+10)
	}
	b.run()
	destroyed := func(name string) {
		t.Helper()
		if _, err := b.tryZFS("destroy", "-r", "SOURCE/"+name); err != nil {
			t.Errorf("destroy %s: %v", name, err)
		}
	}
	if _, err := b.tryZFS("destroy", "-r", "SOURCE/one"); err == nil {
		t.Fatal("a dataset that is held was destroyed")
	}
	release := func(name string, dry bool) ([]source.Kept, error) {
		return job.Release(b.Context(), b.job, job.ReleaseOptions{Child: b.origin.source + name, Dry: dry})
	}
	for _, wrong := range []string{"", "/nobody", "/tw"} {
		if _, err := release(wrong, false); err == nil {
			t.Errorf("%q was released", wrong)
		}
	}
	for _, dry := range []bool{true, false} {
		if released, err := release("/one", dry); err != nil || len(released) != 2 {
			t.Errorf("released: %v, %v", released, err)
		}
	}
	b.haveOurs("source/oneself source/two")
	destroyed("one")
	Apply(t, dir, Append("two/a", 1, 1))
	b.native()

	b.zfs("set", "canmount=off", "SOURCE/two")
	Apply(t, dir, Append("oneself/a", 1, 1))
	b.skips("two")
	b.haveOurs("source/oneself")
	destroyed("two")
	b.native()
	b.judgePast()

	b.refusesStoreIn(filepath.Join(dir, "oneself"))
}

// refusesStoreIn wants a store to be refused that is in a dataset of the job, by another mount of that.
func (b *bench) refusesStoreIn(dataset string) {
	b.Helper()
	other := b.TempDir()
	b.must(unix.Mount(dataset, other, "", unix.MS_BIND, ""))
	defer unix.Unmount(other, unix.MNT_DETACH)
	j := b.job
	j.Store = filepath.Join(other, "store")
	if _, err := job.Init(b.Context(), j, job.InitOptions{}); err == nil || !strings.Contains(err.Error(), "lies inside the source") {
		b.Errorf("a store in the source: %v", err)
	}
}
