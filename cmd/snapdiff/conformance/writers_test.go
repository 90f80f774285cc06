package conformance

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// mapFiles makes files that stay mapped for writing until the test ends.
func (b *bench) mapFiles(count int) (maps [][]byte) {
	b.Helper()
	const size = 64 << 10
	for i := range count {
		name := fmt.Sprint("mapped", i)
		Apply(b, b.origin.dir, Create(name, size, i))
		f, err := os.OpenFile(filepath.Join(b.origin.dir, name), os.O_RDWR, 0)
		b.must(err)
		m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		b.must(err)
		b.must(f.Close())
		b.Cleanup(func() { b.must(unix.Munmap(m)) })
		maps = append(maps, m)
	}
	return maps
}

// scribble writes a few bytes into each mapping and syncs nothing.
func scribble(r *rand.Rand, maps [][]byte) {
	for _, m := range maps {
		copy(m[r.IntN(len(m)-16):], fmt.Sprintf("%016x", r.Uint64()))
	}
}

// TestMappedWrites writes through shared mappings just before each snapshot is taken and just after, often within one tick of the clock
// that ctimes are made of: what came before is in the mirror at once, what came after with the next run.
func TestMappedWrites(t *testing.T) {
	rounds := 4
	switch {
	case Soak():
		rounds = 200
	case InTestMachine():
		rounds = 1
	}
	each(t, func(t *testing.T, d driver, mirror Kind, r *rand.Rand) {
		b := newBench(t, d, mirror)
		maps := b.mapFiles(8)
		b.run()
		for range rounds {
			scribble(r, maps)
			reports, err := job.Run(t.Context(), b.job, job.Options{Say: func(format string, _ ...any) {
				if format == "snapshot %s" {
					scribble(r, maps)
				}
			}})
			b.must(err)
			b.judge()
			if how := reports[0].How; how != "native" {
				t.Errorf("the run compared %s: %s", how, reports[0].Reason)
			}
		}
		b.native()
		b.judgePast()
	})
}

// TestLargeDirectory has 20,000 names in one directory, with SNAPDIFF_SOAK 200,000.
func TestLargeDirectory(t *testing.T) {
	count := 20_000
	if Soak() {
		count *= 10
	}
	name := func(i int) string { return fmt.Sprintf("w/f%06d", i) }
	b := newBenchAt(t, drivers[0], MountSized(t, sampleOf(t, MirrorKinds)[0], 6<<30))
	Apply(t, b.origin.dir, Wide("w", count), Create("x", 10, 1))
	b.run()
	Apply(t, b.origin.dir,
		Many("append", 0, count, count/20, func(i int) Change { return Append(name(i), 3, i) }),
		Many("remove", 1, count, count/20, func(i int) Change { return Remove(name(i)) }),
		Many("rename", 2, count, count/20, func(i int) Change { return Rename(name(i), name(i)+"-renamed") }),
		Many("link", 3, count, count/20, func(i int) Change { return Link(name(i), name(i)+"-link") }),
		Rename("x", "w/x"))
	b.native()
	Apply(t, b.origin.dir, Rename("w", "v"), Mkdir("w"), Rename("v/f000000", "w/f000000"))
	b.native()
	Apply(t, b.origin.dir, RemoveAll("v"))
	if c := b.native().Counts; c.Removed < int64(count)*9/10 {
		t.Errorf("a directory of %d names went, the run counts %+v", count, c)
	}
}
