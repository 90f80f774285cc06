// Package conformance holds the tests that every kind of source has to pass with every kind of mirror: whole runs of jobs,
// judged after each one. There is nothing but tests in it.
package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/apply/fusefs"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/source"
)

// bench is one job: a source that a driver made and a store.
type bench struct {
	testing.TB
	driver driver
	origin origin
	job    config.Job
	past   map[string]Picture // of the mirror after the runs, by their ids
}

// newBench makes a source and a store for it.
func newBench(t testing.TB, d driver, mirror Kind) *bench {
	t.Helper()
	return newBenchAt(t, d, Mount(t, mirror))
}

// newBenchAt makes a source, and a store for it below dir.
func newBenchAt(t testing.TB, d driver, dir string) *bench {
	t.Helper()
	b := &bench{TB: t, driver: d, origin: d.make(t), past: map[string]Picture{}}
	store := filepath.Join(dir, "store")
	text := fmt.Sprintf("[jobs.test]\nsource = %q\nstore = %q\nmax_deleted = \"100%%\"\n%s\n", b.origin.source, store, b.origin.settings)
	c, err := config.Parse("test.toml", []byte(text))
	b.must(err)
	b.job = c.Jobs[0]
	_, err = job.Init(t.Context(), b.job, job.InitOptions{})
	b.must(err)
	t.Cleanup(b.dropSnapshots)
	return b
}

// dropSnapshots gives the filesystem of the source free for its driver.
func (b *bench) dropSnapshots() {
	ctx := context.Background()
	src, err := source.Open(ctx, b.job)
	if err == nil {
		err = src.Clean(ctx)
		src.Close()
	}
	if err != nil {
		b.Errorf("removing the snapshots: %v", err)
	}
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// scenarios are those that the source's filesystem can do.
func (b *bench) scenarios() []Scenario {
	b.Helper()
	list := ScenariosFor(b.driver.lacks...)
	if len(list) == 0 {
		b.Fatalf("no scenario that this source can do has the name %q", os.Getenv("SNAPDIFF_SCENARIO"))
	}
	return list
}

// run makes one run and judges the mirror.
func (b *bench) run() *job.Report {
	b.Helper()
	reports := b.runAll()
	if len(reports) != 1 {
		b.Fatalf("%d runs were made, want 1", len(reports))
	}
	return reports[0]
}

// runAll finishes a run that was cut off, makes one, and judges the mirror.
func (b *bench) runAll() []*job.Report {
	b.Helper()
	reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	b.must(err)
	b.past[reports[len(reports)-1].Run] = b.judge()
	return reports
}

// native makes a run that must not compare in full.
func (b *bench) native() *job.Report {
	b.Helper()
	report := b.run()
	if report.How != "native" {
		b.Errorf("the run compared %s: %s", report.How, report.Reason)
	}
	return report
}

// judge compares the mirror with the snapshot that it was made of and, where that can be, with the source itself, in which
// nothing has changed since. It gives the picture of the mirror.
func (b *bench) judge() Picture {
	b.Helper()
	ctx := b.Context()
	src, err := source.Open(ctx, b.job)
	b.must(err)
	defer src.Close()
	store, err := apply.Open(b.job.Store)
	b.must(err)
	last, _, err := store.Last()
	store.Close()
	b.must(err)
	snap, err := src.Open(ctx, last.Mark)
	b.must(err)
	defer snap.Close()
	tree := filepath.Join(b.job.Store, "tree")
	if b.job.Recursive { // no snapshot shows the whole
		return Judge(b, b.origin.dir, tree, b.job.Exclude...)
	}
	picture := Judge(b, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), snap.Root.FD()), tree, b.job.Exclude...)
	if b.origin.live {
		Judge(b, b.origin.dir, tree, b.job.Exclude...)
	}
	return picture
}

// judgePast restores and mounts each restore point and judges it by the picture that was taken of the mirror when it was the newest.
func (b *bench) judgePast() {
	b.Helper()
	b.judgePastIn(b.TempDir())
}

// judgePastIn is judgePast with a directory to restore to, on a filesystem that can hold all there was.
func (b *bench) judgePastIn(dir string) {
	b.Helper()
	for id, picture := range b.past {
		run, err := strconv.ParseInt(strings.TrimPrefix(id, "r"), 10, 64)
		b.must(err)
		view, err := apply.OpenView(b.job.Store, "", run)
		b.must(err)
		to, err := os.MkdirTemp(dir, id+"-")
		b.must(err)
		_, err = view.Restore(b.Context(), "", filepath.Join(to, "tree"))
		b.must(err)
		picture.Judge(b, filepath.Join(to, "tree"))
		b.judgeMounted(view, picture)
		b.must(view.Close())
	}
}

// judgeMounted judges a restore point that is mounted.
func (b *bench) judgeMounted(view *apply.View, picture Picture) {
	b.Helper()
	dir := b.TempDir()
	server, err := fusefs.Mount(view, dir, fusefs.Options{})
	b.must(err)
	defer server.Wait()
	defer server.Unmount()
	picture.Judge(b, dir)
}

// each runs a test for every kind of source with one of its mirrors, which the seed chooses; with SNAPDIFF_SOAK with all, with
// SNAPDIFF_MIRROR with that one. Each has a row of random numbers of its own, so that a seed replays one of them alone.
func each(t *testing.T, test func(t *testing.T, d driver, mirror Kind, r *rand.Rand)) {
	t.Helper()
	eachOf(t, nil, test)
}

// eachOf is each for the kinds of these names, nil: all; with SNAPDIFF_SOAK always for all.
func eachOf(t *testing.T, names []string, test func(t *testing.T, d driver, mirror Kind, r *rand.Rand)) {
	t.Helper()
	seed := Seed(t)
	for i, d := range drivers {
		if names != nil && !slices.Contains(names, d.name) && !Soak() {
			continue
		}
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		mirrors := []Kind{d.mirrors[r.IntN(len(d.mirrors))]}
		if Soak() {
			mirrors = MirrorKinds
		}
		if only := Kind(os.Getenv("SNAPDIFF_MIRROR")); only != "" {
			if mirrors = []Kind{only}; !slices.Contains(MirrorKinds, only) {
				t.Fatalf("SNAPDIFF_MIRROR=%q is none of %v", only, MirrorKinds)
			}
		}
		for _, mirror := range mirrors {
			t.Run(d.name+"/"+string(mirror), func(t *testing.T) { test(t, d, mirror, rand.New(rand.NewPCG(seed, uint64(100+i)))) })
		}
	}
}

// TestScenarios brings every operation that the source can do into a mirror.
func TestScenarios(t *testing.T) {
	each(t, func(t *testing.T, d driver, mirror Kind, _ *rand.Rand) {
		b := newBench(t, d, mirror)
		Begin(t, b.origin.dir, b.scenarios())
		b.run()
		Go(t, b.origin.dir, b.scenarios())
		b.native()
		if r := b.native(); r.Counts != (apply.Counts{}) {
			t.Errorf("a run with nothing changed counts %+v", r.Counts)
		}
		End(t, b.origin.dir, b.scenarios())
		b.native()
		b.judgePast()
	})
}

// TestUnlinkedWhileOpen: a file that is deleted while somebody still writes to it goes from the mirror at once and does not
// come back. (A chain of `zfs diff` misses it for ever.)
func TestUnlinkedWhileOpen(t *testing.T) {
	each(t, func(t *testing.T, d driver, mirror Kind, _ *rand.Rand) {
		b := newBench(t, d, mirror)
		Apply(t, b.origin.dir, Create("open", 50000, 1), Create("other", 10, 2), Mkdir("dir"))
		b.run()
		f, err := os.OpenFile(filepath.Join(b.origin.dir, "open"), os.O_WRONLY, 0)
		b.must(err)
		dir, err := os.Open(filepath.Join(b.origin.dir, "dir"))
		b.must(err)
		defer dir.Close()
		Apply(t, b.origin.dir, Remove("open"), Remove("dir"))
		_, err = f.WriteString(strings.Repeat("unseen", 1000))
		b.must(err)
		b.native()
		b.must(f.Close())
		b.native()
	})
}

// TestRandomRounds does random changes between runs.
func TestRandomRounds(t *testing.T) {
	rounds, count := 4, 200
	if InTestMachine() { // system calls are slow in there
		rounds = 2
	}
	if Soak() {
		rounds, count = 300, 1000
	}
	each(t, func(t *testing.T, d driver, mirror Kind, r *rand.Rand) {
		b := newBench(t, d, mirror)
		b.run()
		for range rounds {
			b.randomRound(r, count)
		}
		b.judgePast()
	})
}

// randomRound does one round; if it fails, the changes are printed.
func (b *bench) randomRound(r *rand.Rand, count int) {
	b.Helper()
	b.randomRun(r, count, b.native)
}

// randomRun does random changes and then the run; if that fails, the changes are printed.
func (b *bench) randomRun(r *rand.Rand, count int, run func() *job.Report) {
	b.Helper()
	var done []Change
	defer func() {
		if b.Failed() {
			b.Logf("the last changes:\n%s", Script(done))
		}
	}()
	for range count {
		if c := RandomChange(r); c.Apply(b.origin.dir) == nil {
			done = append(done, c)
		}
	}
	run()
}
