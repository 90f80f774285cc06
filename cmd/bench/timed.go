package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// timedJob is one measurement. It is made by a process of its own, so that -gate can hold it back, and so that what the
// benchmark itself has in memory is not counted: the kernel counts a process from its fork on.
type timedJob struct {
	Args  []string // the command
	Env   []string // beside the environment
	Cold  bool     // without caches
	Warm  []string // directories whose names and inodes are read before
	Btrfs string   // mount of the source: dropped snapshots are to be gone
}

// timed is what a measurement gives.
type timed struct {
	Seconds float64
	Peak    int64 // bytes, of the largest single process
	Output  string
	Failed  string
}

// self is this program with another task.
func self(task string, job any) *exec.Cmd {
	text, err := json.Marshal(job)
	if err != nil {
		panic(err) // strings and numbers alone
	}
	cmd := exec.Command("/proc/self/exe", "-task-"+task, string(text))
	cmd.Stderr = os.Stderr
	return cmd
}

// tasks are what self may ask for.
var tasks = map[string]func(text string) error{"floor": runFloor, "timed": runTimed, "compare": runCompare}

// task tells whether this process is one that the benchmark started.
func task(args []string) (func() error, bool) {
	if len(args) != 3 {
		return nil, false
	}
	name, ok := strings.CutPrefix(args[1], "-task-")
	do := tasks[name]
	return func() error { return do(args[2]) }, ok && do != nil
}

// timing makes a measurement, behind the gate.
func (b *bench) timing(job timedJob) (t timed, err error) {
	cmd := self("timed", job)
	if gate := strings.Fields(b.gate); len(gate) > 0 {
		exe, err := os.Executable()
		if err != nil {
			return t, err
		}
		args := append(append(gate[1:], exe), cmd.Args[1:]...)
		cmd = exec.Command(gate[0], args...)
		cmd.Stderr = os.Stderr
	}
	out, err := cmd.Output()
	if err != nil {
		return t, fmt.Errorf("measuring %s: %w", strings.Join(job.Args, " "), err)
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return t, err
	}
	if t.Failed != "" {
		err = fmt.Errorf("%s: %s\n%s", strings.Join(job.Args, " "), t.Failed, t.Output)
	}
	return t, err
}

// runTimed is the process that measures.
func runTimed(text string) error {
	var job timedJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return err
	}
	if err := job.prepare(); err != nil {
		return err
	}
	cmd := exec.Command(job.Args[0], job.Args[1:]...)
	cmd.Env = append(os.Environ(), job.Env...)
	var output strings.Builder
	cmd.Stderr, cmd.Stdout = &output, &output
	start := time.Now()
	err := cmd.Run()
	t := timed{Seconds: time.Since(start).Seconds()}
	if err != nil {
		t.Failed = err.Error()
	}
	if cmd.ProcessState != nil {
		usage, _ := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		t.Peak = usage.Maxrss << 10
	}
	t.Output = output.String()
	t.Output = t.Output[max(0, len(t.Output)-10_000):]
	return json.NewEncoder(os.Stdout).Encode(t)
}

// prepare writes everything out and waits until btrfs has cleaned up dropped snapshots: work of the last measurement that would
// otherwise fall into this one. Then the caches are dropped, or filled with names and inodes.
func (job *timedJob) prepare() error {
	err := errors.Join(command("sync"), command("btrfs", "subvolume", "sync", job.Btrfs))
	switch {
	case err != nil:
		return err
	case job.Cold:
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	case len(job.Warm) > 0:
		return command(append([]string{"find"}, append(job.Warm, "-size", "-0")...)...)
	}
	return nil
}
