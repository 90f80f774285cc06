package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
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

// fill leaves about so many bytes on the filesystem that dir lies on, and gives them back with the result.
func fill(t testing.TB, dir string, leave int64) (free func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for step := int64(64 << 20); step >= 64<<10; {
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		end, err := f.Seek(0, 2)
		if err != nil {
			t.Fatal(err)
		}
		room := int64(st.Bavail)*st.Bsize - leave
		if room < step || unix.Fallocate(int(f.Fd()), 0, end, step) != nil {
			step /= 2
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		Apply(t, dir, Sync())
	}
}

// TestFullDisk lets the mirror's filesystem fill up in different places of a run: the run says so and stops, earlier restore
// points can still be had, and with room again the next run is right.
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
				free := fill(t, dir, leave)
				b.noRoom(nil)
				free()
				b.runAll()
				b.manyChanges(2*i + 2)
				if kind == Btrfs && leave > 0 {
					// With room for some steps the catalog's shared memory may be what finds none (job.GuardFaults): right for a program,
					// which ends, but this test would go on with a connection that cannot be closed.
					b.runAll()
					continue
				}
				b.noRoom(func() { free = fill(t, dir, leave) })
				free()
				b.runAll()
			}
			b.judgePast()
		})
	}
}

// noRoom makes a run that must fail because its disk is full, from the beginning or, with a function, when the mirror is
// about to be changed.
func (b *bench) noRoom(during func()) {
	b.Helper()
	_, err := job.Run(b.Context(), b.job, job.Options{Say: func(format string, args ...any) {
		b.Logf(format, args...)
		if format == "applying" && during != nil {
			during()
		}
	}})
	var full *job.NoSpace
	if !errors.As(err, &full) {
		b.Errorf("on a full disk the run says %v", err)
	}
	b.Log(err)
}

// sampleOf is one of the kinds, chosen by the seed; all of them with SNAPDIFF_SOAK.
func sampleOf(t *testing.T, kinds []Kind) []Kind {
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
	if _, err := job.Run(t.Context(), b.job, job.Options{Say: t.Logf}); err == nil {
		t.Error("a run on a read-only disk succeeds")
	} else {
		t.Log(err)
	}
	b.judgePast()
	remount("rw")
	b.runAll()
	b.judgePast()
}

// TestKill kills the real program at random moments of its runs; the next run finishes what was cut off, and mirror and restore
// points are exact.
func TestKill(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 4))
	rounds := 5
	if Soak() {
		rounds = 300
	}
	binary := filepath.Join(t.TempDir(), "snapdiff")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "snapdiff/cmd/snapdiff")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b := newBench(t, drivers[0], sampleOf(t, MirrorKinds)[0])
	config := filepath.Join(t.TempDir(), "snapdiff.toml")
	text := fmt.Sprintf("[jobs.test]\nsource = %q\nstore = %q\nmax_deleted = \"100%%\"\n", b.job.Source, b.job.Store)
	b.must(os.WriteFile(config, []byte(text), 0o600))
	killed := 0
	for round := range rounds {
		b.manyChanges(round)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.IntN(250))*time.Millisecond)
			out, err := exec.CommandContext(ctx, binary, "--config", config, "run").CombinedOutput()
			if ctx.Err() != nil {
				killed++
			} else if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cancel()
		}
		b.runAll()
	}
	t.Logf("%d runs were killed", killed)
	b.judgePast()
}
