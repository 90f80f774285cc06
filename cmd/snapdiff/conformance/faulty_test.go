package conformance

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	. "snapdiff/apply/applytest"
)

// TestFaultyDisk unplugs the mirror's disk at random moments of first copies and runs, or has it fail to write, so that the filesystem turns
// read-only. The run ends by itself and says that a disk does not work; with the disk well again the next run makes mirror and restore
// points exact.
func TestFaultyDisk(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 7))
	for _, kind := range sampleOf(t, MirrorKinds) {
		t.Run(string(kind), func(t *testing.T) {
			disk := NewFaultyDisk(t, kind, 512<<20)
			b := newBenchAt(t, drivers[0], disk.Dir)
			rounds := 2
			if Soak() {
				rounds = 40
			}
			for round := range rounds {
				b.manyChanges(round)
				fail := disk.Unplug
				if r.IntN(2) == 0 {
					fail = disk.FailWrites
				}
				b.failsDuring(time.Duration(r.Int64N(int64(time.Second))), fail)
				disk.Mend()
				b.runAll()
			}
			b.judgePast()
		})
	}
}

// failsDuring runs the job in a process of its own and has the disk fail after a time. The process must end by itself.
func (b *bench) failsDuring(after time.Duration, fail func()) {
	b.Helper()
	cmd := b.process(b.Context())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	b.must(cmd.Start())
	time.Sleep(after)
	fail()
	err := cmd.Wait()
	var status *exec.ExitError
	switch {
	case err == nil:
		b.Logf("the disk failed after the run")
	case !errors.As(err, &status) || status.ExitCode() != statusDisk || strings.Contains(out.String(), "goroutine "):
		b.Errorf("the disk failed after %s, and the run ends with %v: %s", after, err, out.String())
	default:
		b.Logf("after %s: %s", after, out.String())
	}
}
