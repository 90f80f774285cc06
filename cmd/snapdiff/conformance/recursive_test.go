package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/snapshot"
)

// nested is a job of a subvolume and all that are nested in it.
var nested = driver{"btrfs-recursive", nil, MirrorKinds, func(t testing.TB) origin {
	dir := Subvolume(t, filepath.Join(Mount(t, Btrfs), "source"))
	return origin{source: dir, dir: dir, settings: "recursive = true"}
}}

func eachNested(t *testing.T, test func(t *testing.T, b *bench, r *rand.Rand)) {
	t.Helper()
	seed := Seed(t)
	r := rand.New(rand.NewPCG(seed, 7))
	mirrors := []Kind{MirrorKinds[r.IntN(len(MirrorKinds))]}
	if Soak() {
		mirrors = MirrorKinds
	}
	for _, mirror := range mirrors {
		t.Run(string(mirror), func(t *testing.T) { test(t, newBench(t, nested, mirror), r) })
	}
}

// twoFiles are a file of two names and one of one, which have the same inode numbers in each subvolume in which they are made first.
func twoFiles(dir string, seed int) []Change {
	return []Change{Create(dir+"/a", 5000, seed), Link(dir+"/a", dir+"/b"), Create(dir+"/c", 100, seed+1), SetXattr(dir+"/c", "user.x", fmt.Sprint(seed))}
}

// subvolumeWith makes a subvolume with such files.
func subvolumeWith(dir string, seed int) []Change {
	return append([]Change{NestedSubvolume(dir)}, twoFiles(dir, seed)...)
}

// TestRecursive: children come, go, move, change places, are replaced by directories and back, at any depth, and with the inode numbers that
// others have. Each run but the first is a native one.
func TestRecursive(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		dir := b.origin.dir
		do := func(what string, changes ...Change) {
			t.Helper()
			t.Log(what)
			Apply(t, dir, changes...)
			if b.native(); t.Failed() {
				t.FailNow()
			}
		}
		Apply(t, dir, Create("top", 10, 1), Mkdir("d"), Mkdir("d/e"))
		Apply(t, dir, subvolumeWith("one", 10)...)
		Apply(t, dir, subvolumeWith("d/two", 20)...)
		Apply(t, dir, subvolumeWith("one/inner", 30)...)
		b.run()

		do("nothing changed")
		do("each of them changed", Append("top", 5, 1), Append("one/a", 5, 1), Chmod("d/two/c", 0o600), Rename("one/inner/c", "one/inner/d"), Remove("one/b"))
		do("one came", subvolumeWith("three", 40)...)
		do("one came below another, with more below it", append(subvolumeWith("one/inner/deep", 50), subvolumeWith("one/inner/deep/er", 60)...)...)
		do("one moved", Rename("d/two", "d/e/zwei"))
		do("one moved into another, and changed", Rename("three", "one/inner/three"), Append("one/inner/three/b", 9, 4))
		do("the directory above one moved", Rename("d", "f"), Append("f/e/zwei/a", 9, 4))
		do("two changed places", Exchange("one", "f/e/zwei"))
		do("one and a directory changed places", Exchange("one", "f"), Append("one/e/zwei/inner/a", 1, 2))
		do("one went", DeleteSubvolume("f"))
		do("a directory took its name", append([]Change{Mkdir("f")}, twoFiles("f", 70)...)...)
		do("and it came back, another one", append([]Change{RemoveAll("f")}, subvolumeWith("f", 80)...)...)
		do("one took another's place in one go", append([]Change{DeleteSubvolume("f")}, subvolumeWith("f", 90)...)...)
		do("a file took its name", DeleteSubvolume("f"), Create("f", 77, 1))
		do("a copy of the source with all its inode numbers came", SnapshotInto("copy"))
		do("both changed in the same inodes", Append("top", 9, 3), Append("copy/top", 9, 4), Rename("copy/one", "copy/uno"))
		do("the copy went with what is nested in it", append(subvolumeWith("copy/in", 95), DeleteSubvolume("copy/in"), DeleteSubvolume("copy"))...)
		do("one below another below another went", RemoveAll("one/e/zwei/inner/deep"))
		do("a hard link went and one came in one", Remove("one/e/zwei/inner/b"), Link("one/e/zwei/inner/a", "one/e/zwei/inner/z"))
		do("all went", RemoveAll("one"))
		b.judgePast()
	})
}

// TestRecursiveSetting: the setting may be changed between runs, also while subvolumes come and go; and patterns keep them out.
func TestRecursiveSetting(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		dir := b.origin.dir
		Apply(t, dir, Create("top", 10, 1), Mkdir("d"))
		Apply(t, dir, subvolumeWith("one", 10)...)
		Apply(t, dir, subvolumeWith("d/two", 20)...)
		Apply(t, dir, subvolumeWith("d/two/in", 30)...)
		b.job.Recursive = false
		b.run()
		b.job.Recursive = true
		b.full("recursive was switched on in the configuration")
		b.native()
		b.job.Exclude = []string{"/d/two"}
		b.full("exclude was changed")
		if n := len(b.kept()); n != 2 {
			t.Errorf("%d snapshots are kept, want those of the source and of one", n)
		}
		Apply(t, dir, Append("d/two/a", 1, 1), Append("one/a", 1, 1))
		b.native()
		Apply(t, dir, Rename("d/two", "d/seen"))
		b.native()
		Apply(t, dir, Rename("d/seen", "d/two"))
		b.native()
		b.job.Exclude = nil
		b.full("exclude was changed")
		if n := len(b.kept()); n != 4 {
			t.Errorf("%d snapshots are kept, want 4", n)
		}
		b.job.Recursive = false
		b.full("recursive was switched off in the configuration")
		if n := len(b.kept()); n != 1 {
			t.Errorf("%d snapshots are kept, want 1", n)
		}
		Apply(t, dir, Append("top", 1, 1))
		b.native()
		b.judgePast()
	})
}

// kept are the snapshots that the job keeps, by their paths.
func (b *bench) kept() (paths []string) {
	b.Helper()
	src, err := source.Open(b.Context(), b.job)
	b.must(err)
	defer src.Close()
	all, err := src.Kept(b.Context())
	b.must(err)
	for _, k := range all {
		paths = append(paths, k.Name)
	}
	return paths
}

// TestRecursiveMany: many at once, nested in each other too; one that cannot be taken leaves nothing of the others.
func TestRecursiveMany(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, r *rand.Rand) {
		dir := b.origin.dir
		const many = 30
		for i := range many {
			Apply(t, dir, subvolumeWith(fmt.Sprint("n", i), 10*i)...)
			if i%5 == 0 {
				Apply(t, dir, subvolumeWith(fmt.Sprintf("n%d/in", i), 10*i+5)...)
			}
		}
		b.run()
		before := fmt.Sprint(b.kept())
		Apply(t, dir, Append(fmt.Sprintf("n%d/a", r.IntN(many)), 5, 1), Append("n5/in/c", 5, 1), Rename("n7", "n5/in/n7"))
		lane := filepath.Dir(b.lastMark().Children[0].Mark.Path)
		b.must(os.Rename(lane, lane+".away"))
		Apply(t, filepath.Dir(lane), Create(filepath.Base(lane), 1, 1))
		if _, err := job.Run(t.Context(), b.job, job.Options{}); err == nil || !strings.Contains(err.Error(), "not a directory") {
			t.Errorf("with a file in the place of a directory for snapshots the run says %v", err)
		}
		Apply(t, filepath.Dir(lane), Remove(filepath.Base(lane)))
		b.must(os.Rename(lane+".away", lane))
		if after := fmt.Sprint(b.kept()); after != before {
			t.Errorf("snapshots were %s and are %s", before, after)
		}
		b.native()
		if n := len(b.lastMark().Children); n != many+many/5 {
			t.Errorf("%d nested subvolumes were taken, want %d", n, many+many/5)
		}
		b.judgePast()
	})
}

// lastMark is that of the snapshot which the mirror equals.
func (b *bench) lastMark() snapshot.Mark {
	b.Helper()
	store, err := apply.OpenReadOnly(b.job.Store)
	b.must(err)
	defer store.Close()
	last, _, err := store.Last()
	b.must(err)
	return last.Mark
}

// TestRecursiveLostBase: where the snapshot of one child is gone the whole job compares in full, and says so.
func TestRecursiveLostBase(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		Apply(t, b.origin.dir, subvolumeWith("one", 10)...)
		Apply(t, b.origin.dir, subvolumeWith("two", 20)...)
		b.run()
		for _, name := range b.kept() {
			if strings.Count(filepath.Base(name), ".") > 1 { // of a child: its name ends in the number of its tree
				Apply(t, filepath.Dir(name), DeleteSubvolume(filepath.Base(name)))
				break
			}
		}
		Apply(t, b.origin.dir, Append("one/a", 5, 1), Append("two/a", 5, 1))
		b.nothingToVerify()
		b.full("gone")
		b.native()
		b.judgePast()
	})
}

// TestRecursiveSnapshots: nested read-only snapshots are somebody's past and are not copied; one that was made read-only later stays.
func TestRecursiveSnapshots(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		dir := b.origin.dir
		Apply(t, dir, subvolumeWith("one", 10)...)
		btrfs(t, "subvolume", "snapshot", dir+"/one", dir+"/clone")
		btrfs(t, "subvolume", "snapshot", "-r", dir+"/one", dir+"/past")
		report, err := job.Run(t.Context(), b.job, job.Options{})
		b.must(err)
		if s := report[0].Skipped; len(s) != 1 || s[0].Path != "past" {
			t.Errorf("skipped are %v, want past", s)
		}
		tree := filepath.Join(b.job.Store, "tree")
		for path, there := range map[string]bool{"one/a": true, "clone/a": true, "past": true, "past/a": false} {
			if _, err := os.Stat(filepath.Join(tree, path)); (err == nil) != there {
				t.Errorf("%s: %v", path, err)
			}
		}
		btrfs(t, "subvolume", "delete", dir+"/past")
		btrfs(t, "property", "set", "-ts", dir+"/clone", "ro", "true")
		Apply(t, dir, Append("one/a", 1, 1))
		b.native()
	})
}

// TestRecursiveSnapper: the folder of snapper is a nested subvolume like another; the snapshots in it, which come and go, are empty directories.
func TestRecursiveSnapper(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		dir := b.origin.dir
		snapper := func(n int) {
			Apply(t, dir, Mkdir(fmt.Sprint(".snapshots/", n)), Create(fmt.Sprintf(".snapshots/%d/info.xml", n), 100, n))
			btrfs(t, "subvolume", "snapshot", "-r", dir, fmt.Sprintf("%s/.snapshots/%d/snapshot", dir, n))
		}
		run := func(skipped string) {
			t.Helper()
			report, err := job.Run(t.Context(), b.job, job.Options{})
			b.must(err)
			if s := report[0].Skipped; len(s) != 1 || s[0].Path != skipped || report[0].Run != "r1" && report[0].How != "native" {
				t.Errorf("%s compared %s, %q; skipped are %v, want %s", report[0].Run, report[0].How, report[0].Reason, s, skipped)
			}
			if v, err := job.Verify(t.Context(), b.job, job.VerifyOptions{}, t.Logf); err != nil {
				t.Errorf("%v: %v", err, v.Found)
			}
		}
		Apply(t, dir, Create("top", 10, 1), NestedSubvolume(".snapshots"))
		snapper(1)
		run(".snapshots/1/snapshot")
		Apply(t, dir, Append("top", 1, 1))
		snapper(2)
		Apply(t, dir, DeleteSubvolume(".snapshots/1/snapshot"), RemoveAll(".snapshots/1"))
		run(".snapshots/2/snapshot")
		in, err := os.ReadDir(filepath.Join(b.job.Store, "tree/.snapshots/2/snapshot"))
		if err != nil || len(in) > 0 {
			t.Errorf("in the place of a snapshot is %v, %v", in, err)
		}
	})
}

// TestSnapshotsInside: our own snapshots are not in the mirror, wherever they are.
func TestSnapshotsInside(t *testing.T) {
	for _, recursive := range []bool{false, true} {
		t.Run(fmt.Sprint("recursive=", recursive), func(t *testing.T) {
			b := newBench(t, driver{"btrfs", nil, MirrorKinds, func(t testing.TB) origin {
				dir := Subvolume(t, filepath.Join(Mount(t, Btrfs), "source"))
				Apply(t, dir, append(subvolumeWith("one", 1), Mkdir("place"), Create("place/x", 1, 1))...)
				return origin{source: dir, dir: dir, settings: fmt.Sprintf("recursive = %v\nsnapshots = %q", recursive, dir+"/place/[of]*")}
			}}, Ext4)
			for i := range 3 {
				report, err := job.Run(t.Context(), b.job, job.Options{})
				b.must(err)
				if skipped := len(report[0].Skipped); recursive && skipped > 0 || !recursive && i == 0 && skipped != 1 || i > 0 && report[0].How != "native" {
					t.Errorf("%s compared %s, %q, and did not follow %v", report[0].Run, report[0].How, report[0].Reason, report[0].Skipped)
				}
				Apply(t, b.origin.dir, Append("place/x", 1, i))
			}
			in, err := os.ReadDir(filepath.Join(b.job.Store, "tree/place"))
			if err != nil || len(in) != 1 {
				t.Errorf("in the mirror there are %v, %v", in, err)
			}
		})
	}
}

func btrfs(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("btrfs", args...).CombinedOutput(); err != nil {
		t.Fatalf("btrfs %q: %v: %s", args, err, out)
	}
}

// TestRecursiveRandom does random changes in subvolumes that come, go and move.
func TestRecursiveRandom(t *testing.T) {
	rounds, count := 5, 200
	if Soak() {
		rounds, count = 200, 600
	}
	eachNested(t, func(t *testing.T, b *bench, r *rand.Rand) {
		b.run()
		for range rounds {
			b.randomChildren(r, count)
			b.native()
			if t.Failed() {
				t.FailNow()
			}
		}
		b.judgePast()
	})
}

// randomChildren does random changes, and has subvolumes come, go and move. If the test then fails, they are printed.
func (b *bench) randomChildren(r *rand.Rand, count int) {
	b.Helper()
	var done []Change
	b.Cleanup(func() {
		if b.Failed() {
			b.Logf("changes of one round:\n%s", Script(done))
		}
	})
	for range count {
		c := RandomChange(r)
		if r.IntN(8) == 0 {
			x, y := RandomPath(r), RandomPath(r)
			c = []Change{NestedSubvolume(x), NestedSubvolume(x), SnapshotInto(x), DeleteSubvolume(x), Rename(x, y), Exchange(x, y)}[r.IntN(6)]
		}
		if c.Apply(b.origin.dir) == nil {
			done = append(done, c)
		}
	}
}

// TestRecursiveKill kills runs of a job with children at random moments.
func TestRecursiveKill(t *testing.T) {
	rounds, kills := 3, 3
	if Soak() {
		rounds, kills = 60, 4
	}
	eachNested(t, func(t *testing.T, b *bench, r *rand.Rand) {
		killed, takes := 0, 200*time.Millisecond
		for range rounds {
			b.randomChildren(r, 100)
			for range kills {
				if b.runKilled(time.Duration(r.Int64N(int64(takes)))) {
					killed++
				}
			}
			reports := b.runAll()
			takes = 60*time.Millisecond + time.Duration(reports[len(reports)-1].Seconds*1.5*float64(time.Second))
		}
		t.Logf("%d runs were killed", killed)
		b.judgePast()
	})
}

// TestRecursiveLook: a dry run leaves nothing behind, and status of the store is that of before.
func TestRecursiveLook(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		Apply(t, b.origin.dir, subvolumeWith("one", 10)...)
		b.run()
		before := fmt.Sprint(b.kept())
		Apply(t, b.origin.dir, append(subvolumeWith("two", 20), DeleteSubvolume("one"))...)
		p, err := job.Look(t.Context(), b.job, job.Options{})
		b.must(err)
		if p.How != "native" || p.Deleted != 4 || p.Set.Linked.Len() != 5 {
			t.Errorf("a dry run shows %s: %d deleted, %d came", p.How, p.Deleted, p.Set.Linked.Len())
		}
		if after := fmt.Sprint(b.kept()); after != before {
			t.Errorf("snapshots were %s and are %s", before, after)
		}
		b.native()
		if points, err := apply.RestorePoints(b.job.Store, ""); err != nil || len(points) != 2 {
			t.Errorf("%d restore points, %v", len(points), err)
		}
		b.judgePast()
	})
}

// TestRecursiveForeign: a snapshot that somebody made of the source alone is refused, and nothing is left behind.
func TestRecursiveForeign(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		Apply(t, b.origin.dir, subvolumeWith("one", 10)...)
		b.run()
		his := filepath.Join(filepath.Dir(b.origin.dir), "his")
		btrfs(t, "subvolume", "snapshot", "-r", b.origin.dir, his)
		if _, err := job.Run(t.Context(), b.job, job.Options{Snapshot: his}); err == nil || !strings.Contains(err.Error(), "recursive") {
			t.Errorf("a foreign snapshot: %v", err)
		}
		if n := len(b.kept()); n != 2 {
			t.Errorf("%d snapshots are kept, want 2", n)
		}
		b.native()
	})
}

// TestRecursiveBusy: subvolumes come, go and move while snapshots are taken. Each run ends well, and the mirror is what its snapshots show.
func TestRecursiveBusy(t *testing.T) {
	runs := 4
	if Soak() {
		runs = 100
	}
	eachNested(t, func(t *testing.T, b *bench, r *rand.Rand) {
		stop, stopped := make(chan bool), make(chan bool)
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				default:
					x, y := fmt.Sprint("n", r.IntN(5)), fmt.Sprint("n", r.IntN(5), "/n", r.IntN(5))
					c := []Change{NestedSubvolume(x), NestedSubvolume(y), DeleteSubvolume(x), Rename(x, y), Rename(y, x), RemoveAll(x), Append(x+"/inside", 10, 1)}[r.IntN(7)]
					_ = c.Apply(b.origin.dir) // not all can be done
				}
			}
		}()
		defer func() { <-stopped }()
		defer close(stop)
		for range runs {
			reports, err := job.Run(t.Context(), b.job, job.Options{Say: t.Logf})
			b.must(err)
			if last := reports[len(reports)-1]; last.Run != "r1" && last.How != "native" {
				t.Errorf("the run compared %s: %s", last.How, last.Reason)
			}
			if v, err := job.Verify(t.Context(), b.job, job.VerifyOptions{}, t.Logf); err != nil {
				t.Errorf("%v: %v", err, v.Found)
			}
		}
	})
}

// TestRecursiveHeld: that a subvolume went is held as other deletions are, with the snapshots of all, and goes through when it is approved.
func TestRecursiveHeld(t *testing.T) {
	eachNested(t, func(t *testing.T, b *bench, _ *rand.Rand) {
		Apply(t, b.origin.dir, subvolumeWith("one", 10)...)
		Apply(t, b.origin.dir, subvolumeWith("two", 20)...)
		b.run()
		b.job.MaxDeleted = config.Limit{Count: 3}
		Apply(t, b.origin.dir, DeleteSubvolume("one"), Append("two/a", 5, 1))
		_, err := job.Run(t.Context(), b.job, job.Options{})
		var held *job.RunHeld
		if !errors.As(err, &held) || held.Held.Deleted != 4 {
			t.Fatalf("the run says %v", err)
		}
		if n := len(b.kept()); n != 5 {
			t.Errorf("%d snapshots are kept, want 3 of the base and 2 of the held run", n)
		}
		reports, err := job.Run(t.Context(), b.job, job.Options{Approve: held.Held.ID})
		b.must(err)
		if len(reports) != 1 || reports[0].How != "native" {
			t.Errorf("the approved run is %+v", reports)
		}
		b.judge()
		if n := len(b.kept()); n != 2 {
			t.Errorf("%d snapshots are kept, want 2", n)
		}
	})
}
