package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// jobToRun, in the environment, has this test program run that job instead of tests: a process that can be killed.
const jobToRun = "SNAPDIFF_TEST_JOB"

func TestMain(m *testing.M) {
	text := os.Getenv(jobToRun)
	if text == "" {
		os.Exit(m.Run())
	}
	var j config.Job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		_, err = job.Run(context.Background(), j, job.Options{})
	}
	var fails *job.DiskFails
	var full *job.NoSpace
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &fails), errors.As(err, &full):
		fmt.Println(err)
		os.Exit(statusDisk)
	}
	fmt.Println(err)
	os.Exit(1)
}

// statusDisk is how a process for a job ends that met a disk which is full or fails.
const statusDisk = 8

// process is a process that runs the job.
func (b *bench) process(ctx context.Context) *exec.Cmd {
	b.Helper()
	text, err := json.Marshal(b.job)
	b.must(err)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), jobToRun+"="+string(text))
	return cmd
}

// runKilled runs the job in a process of its own, which is killed after a time, and tells whether it was.
func (b *bench) runKilled(after time.Duration) (killed bool) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), after)
	defer cancel()
	out, err := b.process(ctx).CombinedOutput()
	if ctx.Err() != nil {
		return true
	}
	if err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return false
}

// TestKill kills runs at random moments, first copies and prunes too; the source goes on meanwhile; the next run finishes what was cut off, and
// mirror and restore points are exact.
func TestKill(t *testing.T) {
	rounds, kills, changes := 2, 3, 60
	slow := InTestMachine() && !Soak()
	if Soak() {
		rounds, kills, changes = 60, 4, 200
	}
	each(t, func(t *testing.T, d driver, mirror Kind, r *rand.Rand) {
		b := newBench(t, d, mirror)
		b.job.Keep = &config.Keep{Last: 4}
		killed, takes := 0, 200*time.Millisecond
		for round := range rounds {
			b.manyChanges(round)
			for range changes {
				_ = RandomChange(r).Apply(b.origin.dir) // not all can be done
			}
			for i := range kills {
				if slow && (round == 0 || i > 1) {
					break
				}
				if b.runKilled(time.Duration(r.Int64N(int64(takes)))) {
					killed++
				}
			}
			for range 10 { // what was cut off is finished from its own snapshots, whatever the source is by now
				_ = RandomChange(r).Apply(b.origin.dir)
			}
			reports := b.runAll()
			takes = 60*time.Millisecond + time.Duration(reports[len(reports)-1].Seconds*1.5*float64(time.Second)) // some end by themselves
			b.forgetDropped()
		}
		t.Logf("%d runs were killed", killed)
		b.judgePast()
	})
}

// forgetDropped leaves the pictures of the restore points that are still there.
func (b *bench) forgetDropped() {
	b.Helper()
	points, err := apply.RestorePoints(b.job.Store, "")
	b.must(err)
	kept := map[string]Picture{}
	for _, p := range points {
		id := fmt.Sprintf("r%d", p.Run)
		if picture, ok := b.past[id]; ok {
			kept[id] = picture
		}
	}
	b.past = kept
}
