package apply

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"snapdiff/diff"
)

// gauge counts how many are at work at once.
type gauge struct {
	mu        sync.Mutex
	now, most int
}

func (g *gauge) work() {
	g.mu.Lock()
	g.now++
	g.most = max(g.most, g.now)
	g.mu.Unlock()
	time.Sleep(2 * time.Millisecond)
	g.mu.Lock()
	g.now--
	g.mu.Unlock()
}

// No more workers than a job allows are at work: in a first copy, and in the phases of a run.
func TestWorkersAreLimited(t *testing.T) {
	source := folders(t, 40, 2)
	for _, workers := range []int{1, 3} {
		var g gauge
		f := batchCopy(t, source)
		f.workers = workers
		f.keys = func(path string, ino uint64) (diff.Key, error) { g.work(); return inoKeys(path, ino) }
		check(t, f.run(context.Background()))
		if g.most > workers || workers == 1 && g.most != 1 {
			t.Errorf("%d directories were copied at once, want at most %d", g.most, workers)
		}
		g = gauge{}
		check(t, inChunks(context.Background(), workers, 40*chunk, func(i int) error {
			if i%chunk == 0 {
				g.work()
			}
			return nil
		}))
		if g.most > workers || workers == 1 && g.most != 1 {
			t.Errorf("a phase did %d things at once, want at most %d", g.most, workers)
		}
	}
}

// TestMoreProcessors: a first copy has the scheduler to itself, and gives back what it found; what the administrator says stands.
func TestMoreProcessors(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Setenv("GOMAXPROCS", "")
	back := moreProcessors(before + 3)
	if got := runtime.GOMAXPROCS(0); runtime.NumCPU() > 1 && got != before+3 || runtime.NumCPU() == 1 && got != before {
		t.Errorf("%d of %d processors, before %d", got, runtime.NumCPU(), before)
	}
	back()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("%d processors afterwards, before %d", got, before)
	}
	t.Setenv("GOMAXPROCS", "2")
	defer moreProcessors(before + 3)()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("%d processors where the environment says how many, before %d", got, before)
	}
}
