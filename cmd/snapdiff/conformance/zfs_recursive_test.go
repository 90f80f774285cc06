package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// datasets is a job of a dataset and those below it.
func datasets(t *testing.T) *bench {
	t.Helper()
	NeedZFS(t)
	return newBench(t, driver{name: "zfs", make: func(t testing.TB) origin {
		o := zfsOrigin(t, "-o", "xattr=sa")
		o.settings = "recursive = true"
		return o
	}}, Ext4)
}

// dataset makes one below the source, with two files of which one has two names: they have the same object numbers in each.
func (b *bench) dataset(name, place string, seed int, options ...string) {
	b.Helper()
	if place != name {
		options = append(options, "-o", "mountpoint="+filepath.Join(b.origin.dir, place))
	}
	b.zfs(slices.Concat([]string{"create"}, options, []string{"SOURCE/" + name})...)
	Apply(b, b.origin.dir, twoFiles(place, seed)...)
}

// TestZFSRecursive: datasets below the source come, go, move, are mounted over directories with something in them and away again.
func TestZFSRecursive(t *testing.T) {
	b := datasets(t)
	dir := b.origin.dir
	said := func(what string, report *job.Report) {
		t.Helper()
		var all []string
		for _, p := range report.Skipped {
			all = append(all, p.Path)
		}
		slices.Sort(all)
		if got := strings.Join(all, " "); got != what {
			t.Errorf("not followed are %q, want %q", got, what)
		}
	}
	native := func(what string) *job.Report {
		t.Helper()
		t.Log(what)
		report := b.native()
		if t.Failed() {
			t.FailNow()
		}
		return report
	}
	Apply(t, dir, Create("top", 10, 1), Mkdir("d"), Mkdir("d/e"), Mkdir("h"), Mkdir("h/s"), Create("h/s/x", 10, 2), Create("h/y", 10, 2), Link("h/y", "y"))
	b.dataset("one", "one", 10)
	b.dataset("two", "d/two", 20)
	b.dataset("one/inner", "one/inner", 30)
	b.zfs("create", "-V", "8M", "-s", "SOURCE/vol")
	b.zfs("create", "-o", "mountpoint=none", "SOURCE/none")
	b.zfs("create", "-o", "canmount=off", "SOURCE/off")
	said("none off vol", b.run())

	Apply(t, dir, Append("top", 5, 1), Append("one/a", 5, 1), Chmod("d/two/c", 0o600), Rename("one/inner/c", "one/inner/d"), Remove("one/b"), Append("h/s/x", 5, 5),
		Create("h/s/new", 10, 1), Link("h/y", "h/s/y"), Mkdir("h/s/t"), Create("h/s/t/u", 10, 1), Rename("d/e", "h/s/e"), Mkdir("d/e"))
	b.dataset("three", "h", 40)
	Apply(t, dir, Append("y", 5, 1))
	said("none off vol", native("each of them changed, one came over a directory with something in it"))
	b.dataset("one/inner/deep", "one/inner/deep", 50)
	b.zfs("set", "mountpoint="+dir+"/d/e/zwei", "SOURCE/two")
	b.zfs("rename", "SOURCE/one", "SOURCE/uno")
	Apply(t, dir, Append("d/e/zwei/b", 9, 4), Append("y", 50, 1), Rename("d", "f"))
	b.zfs("set", "canmount=off", "SOURCE/three")
	said("none off three vol", native("one came below another, one moved and the directory above it, one was renamed with what is below it, what one hid came back"))
	b.zfs("set", "canmount=on", "SOURCE/three")
	b.zfs("mount", "SOURCE/three")
	b.zfs("snapshot", "SOURCE/three@mine")
	if Soak() {
		Apply(t, dir, Link("h/a", "h/z"))
		native("and went again")
		b.job.Exclude = []string{"/h"}
		b.full("exclude was changed")
		Apply(t, dir, Append("h/a", 1, 1), Append("top", 1, 1))
		native("what is excluded changed")
		b.job.Exclude = nil
		b.full("exclude was changed")
	}

	b.destroy("two")
	said("none off vol", native("one was destroyed"))
	b.job.Recursive = false
	b.full("recursive was switched off")
	for line := range strings.Lines(b.zfs("list", "-H", "-r", "-t", "snapshot", "-o", "name", "SOURCE")) {
		if strings.Contains(line, "/three@mine") || strings.HasPrefix(line, b.origin.source+"@") {
			continue
		}
		t.Errorf("the snapshot %s stays", strings.TrimSpace(line))
	}
	b.judgePast()
}

// tag is the only hold on a snapshot.
func (b *bench) tag(name string) string {
	b.Helper()
	return strings.Fields(b.zfs("holds", "-H", name))[1]
}

// TestZFSRecursiveRandom does random changes in datasets that come, move and hide each other, and kills some runs.
func TestZFSRecursiveRandom(t *testing.T) {
	rounds, count := 1, 50
	const most = 12 // of more nearly all would be hidden
	if Soak() {
		rounds, count = 100, 500
	}
	r := rand.New(rand.NewPCG(Seed(t), 9))
	b := datasets(t)
	made := 0
	b.run()
	for range rounds {
		for i := range count {
			if c := RandomChange(r); c.Apply(b.origin.dir) == nil {
				t.Log(c)
			}
			if i%40 != 0 {
				continue
			}
			place := RandomPath(r)
			if create := r.IntN(2) == 0; made == 0 || create && made < most {
				made++
				t.Logf("dataset %d at %s", made, place)
				if _, err := b.tryZFS("create", "-o", fmt.Sprintf("mountpoint=%s/%s", b.origin.dir, place), fmt.Sprintf("SOURCE/%d", made)); err != nil {
					t.Log(err)
				}
				continue
			}
			n := 1 + r.IntN(made)
			if !b.visible(n) { // zfs goes by its path and unmounts what hides it: it would be mounted in two places then
				continue
			}
			t.Logf("dataset %d to %s", n, place)
			if _, err := b.tryZFS("set", fmt.Sprintf("mountpoint=%s/%s", b.origin.dir, place), fmt.Sprintf("SOURCE/%d", n)); err != nil {
				t.Log(err)
			}
		}
		if _, err := b.tryZFS("mount", "-a"); err != nil { // what had no directory may have one now
			t.Log(err)
		}
		for range r.IntN(2) {
			b.runKilled(time.Duration(r.Int64N(int64(time.Second))))
		}
		reports := b.runAll()
		if last := reports[len(reports)-1]; last.How != "native" {
			t.Errorf("the run compared %s: %s", last.How, last.Reason)
		}
	}
	b.judgePast()
}

// visible tells whether a dataset of the random test is what its mount point shows.
func (b *bench) visible(n int) bool {
	b.Helper()
	name := fmt.Sprintf("%s/%d", b.origin.source, n)
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) { return m.Source != name, false })
	b.must(err)
	for _, m := range mounts {
		var st unix.Stat_t
		if unix.Stat(m.Mountpoint, &st) != nil || st.Dev != unix.Mkdev(uint32(m.Major), uint32(m.Minor)) {
			return false
		}
	}
	return true
}

// TestZFSOtherDataset: another dataset of the same pool becomes the source, and the run that would bring the mirror to it is held. What was the base is found all
// the same, and is none of the new source.
func TestZFSOtherDataset(t *testing.T) {
	b := datasets(t)
	dir := b.origin.dir
	Apply(t, dir, Create("a", 10, 1), Create("b", 10, 2), Create("c", 10, 3))
	b.run()
	b.job.Source = strings.TrimSuffix(b.origin.source, "source") + "other"
	b.zfs("create", "-o", "xattr=sa", b.job.Source)
	b.origin.dir = filepath.Join(filepath.Dir(dir), "other")
	Apply(t, b.origin.dir, Create("x", 10, 1))
	b.job.MaxDeleted = config.Limit{Count: 1}
	_, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf, NewSource: true})
	var held *job.RunHeld
	if !errors.As(err, &held) {
		t.Fatalf("the run is not held: %v", err)
	}
	_, err = job.Run(b.Context(), b.job, job.Options{Say: b.Logf, Approve: held.Held.ID})
	b.must(err)
	b.native()
}
