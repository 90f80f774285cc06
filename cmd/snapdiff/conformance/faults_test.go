package conformance

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// manyChanges makes and changes files of about 4 MB, so that a run needs room in every phase.
func (b *bench) manyChanges(round int) {
	b.Helper()
	dir := fmt.Sprintf("round%d", round)
	Apply(b, b.origin.dir, Mkdir(dir))
	for i := range 40 {
		Apply(b, b.origin.dir, Create(fmt.Sprintf("%s/%d", dir, i), 100_000, round*100+i))
	}
	if round > 0 {
		last := fmt.Sprintf("round%d", round-1)
		Apply(b, b.origin.dir, Append(last+"/1", 5000, 1), Remove(last+"/2"), Rename(last+"/3", dir+"/moved"), Link(last+"/4", dir+"/link"), Chmod(last+"/5", 0o600))
	}
}

// TestFullDisk lets the mirror's filesystem fill up in different places of a run: the run says so and stops, earlier restore
// points can still be had, with not a byte left, and with room again the next run is right. So it is when the disk fills up in a repair.
func TestFullDisk(t *testing.T) {
	for _, kind := range sampleOf(t, MirrorKinds) {
		t.Run(string(kind), func(t *testing.T) {
			var options []string
			if kind == Ext4 {
				options = []string{"-m", "0"} // nothing set aside for root, who runs this
			}
			dir := MountSized(t, kind, 320<<20, options...)
			b := newBenchAt(t, drivers[0], dir)
			b.manyChanges(0)
			b.run()
			for i, leave := range []int64{0, 2 << 20} {
				b.manyChanges(2*i + 1)
				free := Fill(t, dir, leave)
				b.failsBecause(new(*job.NoSpace), nil)
				b.judgePast()
				free()
				b.runAll()
				b.manyChanges(2*i + 2)
				b.failsBecause(new(*job.NoSpace), func() { free = Fill(t, dir, leave) })
				b.judgePast()
				free()
				b.runAll()
			}
			for i := range 40 {
				b.must(os.WriteFile(filepath.Join(b.job.Store, "tree/round4", fmt.Sprint(i)), []byte("altered"), 0o644))
			}
			free := Fill(t, dir, 2<<20)
			var full *job.NoSpace
			if _, err := job.Verify(t.Context(), b.job, job.VerifyOptions{Repair: true}, t.Logf); !errors.As(err, &full) {
				t.Errorf("the repair says %v", err)
			}
			free()
			_, err := job.Verify(t.Context(), b.job, job.VerifyOptions{Repair: true}, t.Logf)
			b.must(err)
			b.runAll()
			b.judgePast()
		})
	}
}

// sampleOf is one of the kinds, chosen by the seed; that of SNAPDIFF_MIRROR; all of them with SNAPDIFF_SOAK.
func sampleOf(t *testing.T, kinds []Kind) []Kind {
	if only := Kind(os.Getenv("SNAPDIFF_MIRROR")); only != "" {
		return []Kind{only}
	}
	if Soak() {
		return kinds
	}
	r := rand.New(rand.NewPCG(Seed(t), 3))
	i := r.IntN(len(kinds))
	return kinds[i : i+1]
}

// TestReadOnlyMirror: a disk that turned read-only stops the run and loses nothing.
func TestReadOnlyMirror(t *testing.T) {
	dir := Mount(t, Ext4)
	b := newBenchAt(t, drivers[0], dir)
	b.manyChanges(0)
	b.run()
	b.manyChanges(1)
	remount := func(how string) {
		if out, err := exec.Command("mount", "-o", "remount,"+how, dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	remount("ro")
	b.failsBecause(new(*job.DiskFails), nil)
	b.judgePast()
	remount("rw")
	b.runAll()
	b.judgePast()
}

// failsBecause makes a run that must fail with an error of this type; during, if not nil, is called when the mirror is about to be changed.
func (b *bench) failsBecause(target any, during func()) {
	b.Helper()
	_, err := job.Run(b.Context(), b.job, job.Options{Say: func(format string, args ...any) {
		b.Logf(format, args...)
		if format == "applying" && during != nil {
			during()
		}
	}})
	if !errors.As(err, target) {
		b.Errorf("the run says %v, want a %T", err, target)
	}
	b.Log(err)
}

// TestDiskGone: the disk goes away while the mirror is changed, and comes back.
func TestDiskGone(t *testing.T) {
	for _, kind := range []Kind{Ext4, XFS} {
		t.Run(string(kind), func(t *testing.T) {
			dir := Mount(t, kind)
			b := newBenchAt(t, drivers[0], dir)
			b.manyChanges(0)
			b.run()
			b.manyChanges(1)
			b.failsBecause(new(*job.DiskFails), func() { Shutdown(t, dir) })
			b.failsBecause(new(*job.DiskFails), nil)
			Remount(t, dir)
			b.runAll()
			b.judgePast()
		})
	}
}

// TestUnreadableFile: a file that the source's disk cannot read any more keeps its old version and makes the run incomplete; when it can be read
// again, or is gone, all is well.
func TestUnreadableFile(t *testing.T) {
	small := drivers[0]
	small.make = func(t testing.TB) origin {
		dir := Subvolume(t, filepath.Join(MountSized(t, Btrfs, 256<<20), "source"))
		return origin{source: dir, dir: dir}
	}
	b := newBench(t, small, Ext4)
	dir := b.origin.dir
	Apply(t, dir, Create("rotten", 50_000, 1), Create("sound", 50_000, 2))
	b.run()
	const text = "this very text is what the disk will lose "
	b.must(os.WriteFile(filepath.Join(dir, "rotten"), []byte(strings.Repeat(text, 2000)), 0o644))
	Apply(t, dir, Append("sound", 10, 3), Sync())
	rot(t, dir, text)
	reports, err := job.Run(t.Context(), b.job, job.Options{Say: t.Logf})
	var incomplete *job.Incomplete
	if !errors.As(err, &incomplete) || len(reports) != 1 || len(reports[0].Incomplete) != 1 || reports[0].Incomplete[0].Path.Path != "rotten" {
		t.Fatalf("the run says %v: %+v", err, reports)
	}
	t.Log(reports[0].Incomplete[0].Error)
	for name, want := range map[string]int64{"rotten": 50_000, "sound": 50_010} {
		st, err := os.Stat(filepath.Join(b.job.Store, "tree", name))
		b.must(err)
		if st.Size() != want {
			t.Errorf("%s has %d bytes in the mirror, want %d", name, st.Size(), want)
		}
	}
	b.must(os.WriteFile(filepath.Join(dir, "rotten"), []byte("written anew"), 0o644))
	b.run()
	b.judgePast()
}

// TestUnreadableStore: the mirror's disk cannot read some of its sectors any more, of the catalog, of a file of the mirror and of what history keeps
// of one. What is lost is told, what can be mended is, and all else is what it was.
func TestUnreadableStore(t *testing.T) {
	t.Run("btrfs", func(t *testing.T) {
		b := newBenchAt(t, drivers[0], MountSized(t, Btrfs, 256<<20))
		b.unreadableStore(b.job.Store)
	})
	for _, kind := range sampleOf(t, []Kind{Ext4, XFS}) { // which have no checksums of data: below them is a btrfs, whose image rots
		t.Run(string(kind)+" in btrfs", func(t *testing.T) {
			below := filepath.Join(MountSized(t, Btrfs, 640<<20), "disk")
			if err := os.Mkdir(below, 0o755); err != nil {
				t.Fatal(err)
			}
			newBenchAt(t, drivers[0], MountIn(t, below, kind, 320<<20)).unreadableStore(below)
		})
	}
}

// unreadableStore is for a store on a disk of which sectors can rot: see rot.
func (b *bench) unreadableStore(disk string) {
	b.Helper()
	t := b.TB
	const was, is = "this text the disk will lose of history ", "and this one it will lose of the mirror "
	for round, text := range []string{was, is} {
		b.must(os.WriteFile(filepath.Join(b.origin.dir, "file"), []byte(strings.Repeat(text, 2000)), 0o644))
		b.manyChanges(round)
		b.run()
	}
	say := func(string, ...any) {}
	rot(t, disk, "CREATE TABLE entries")
	b.failsBecause(new(*job.DiskFails), nil)
	var damaged *apply.DamagedCatalog
	if _, err := job.Doctor(t.Context(), b.job, false, say, nil); !errors.As(err, &damaged) {
		t.Errorf("doctor says %v", err)
	}
	_, err := job.Doctor(t.Context(), b.job, true, say, nil)
	b.must(err)
	b.runAll()
	b.judgePast()

	rot(t, disk, is, was)
	var differs *job.Differs
	if _, err := job.Verify(t.Context(), b.job, job.VerifyOptions{}, t.Logf); !errors.As(err, &differs) || differs.Found != 1 {
		t.Errorf("verify says %v", err)
	}
	_, err = job.Verify(t.Context(), b.job, job.VerifyOptions{Repair: true}, t.Logf)
	b.must(err)
	var rotten *job.Rotten
	found, err := job.VerifySums(t.Context(), b.job, 0, job.VerifyOptions{})
	if !errors.As(err, &rotten) || len(found.Lost) != 1 || found.Lost[0].Name != "file" || found.Lost[0].Points != "r1" {
		t.Errorf("verify --history says %v: %+v", err, found)
	}
	delete(b.past, "r1")
	b.judgePast()
	b.manyChanges(2)
	b.run()
}

// rot has texts rot on the disk of the filesystem in which dir is, and has the kernel forget what it read.
func rot(t testing.TB, dir string, texts ...string) {
	t.Helper()
	Rot(t, filepath.Dir(dir), texts...)
	Forget(t)
}

// TestPruneOnAFullDisk: a prune makes room on a disk that is full to the last block, by the room that the store set aside. What is kept
// is exact.
func TestPruneOnAFullDisk(t *testing.T) {
	for _, kind := range sampleOf(t, MirrorKinds) {
		t.Run(string(kind), func(t *testing.T) {
			var options []string
			if kind == Ext4 {
				options = []string{"-m", "0"}
			}
			dir := MountSized(t, kind, 320<<20, options...)
			b := newBenchAt(t, drivers[0], dir)
			for i, leave := range []int64{0, 2 << 20} {
				b.job.Keep = nil
				for round := range 4 {
					b.manyChanges(4*i + round)
					b.run()
				}
				b.job.Keep = &config.Keep{Last: 2}
				spare := filepath.Join(b.job.Store, "spare")
				if _, err := os.Stat(spare); err != nil {
					t.Errorf("before: %v", err)
				}
				free := Fill(t, dir, leave)
				fates, err := job.Prune(t.Context(), b.job, false, apply.Options{})
				if err != nil {
					t.Errorf("with %d bytes free: %v", leave, err)
				}
				free()
				b.judgeKept()
				if left, err := apply.RestorePoints(b.job.Store, ""); err != nil || len(left) != 2 {
					t.Errorf("left are %v, %v; fates %v", left, err, fates)
				}
				b.must(os.WriteFile(spare, nil, 0o600)) // as a kill leaves it
				if _, err := job.Prune(t.Context(), b.job, false, apply.Options{}); err != nil {
					t.Error(err)
				}
				if st, err := os.Stat(spare); err != nil || st.Sys().(*syscall.Stat_t).Blocks*512 < 4<<20 {
					t.Errorf("afterwards: %v, %v", st, err)
				}
			}
		})
	}
}

// TestNoInodes: where all inodes are used a run says so, restore points can still be had, and a prune makes room by those that the store set
// aside. What is kept is exact.
func TestNoInodes(t *testing.T) {
	dir := MountSized(t, Ext4, 320<<20, "-N", "3000")
	b := newBenchAt(t, drivers[0], dir)
	for round := range 4 {
		b.manyChanges(round)
		b.run()
	}
	free := FillInodes(t, dir)
	b.manyChanges(4)
	b.failsBecause(new(*job.NoSpace), nil)
	b.judgePast()
	b.job.Keep = &config.Keep{Last: 2}
	if _, err := job.Prune(t.Context(), b.job, false, apply.Options{}); err != nil {
		t.Error(err)
	}
	b.judgeKept()
	if left, err := apply.RestorePoints(b.job.Store, ""); err != nil || len(left) != 2 {
		t.Errorf("left are %v, %v", left, err)
	}
	free()
	b.runAll()
	b.judgeKept()
	if kept, err := os.ReadDir(filepath.Join(b.job.Store, "spare-inodes")); err != nil || len(kept) < 64 {
		t.Errorf("%d inodes are set aside again: %v", len(kept), err)
	}
}

// judgeKept judges the restore points that are there.
func (b *bench) judgeKept() {
	b.Helper()
	b.forgetDropped()
	b.judgePast()
}
