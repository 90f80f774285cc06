package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// inner names the folder in which the process works that apart started.
const inner = "SNAPDIFF_BENCH_INNER"

// apart makes the measurements in a process that has its mounts for itself. However that ends, by ^C too, the mounts and loop devices go
// with it; the files are removed here.
func apart(o options) (err error) {
	if o.report != "" {
		return writeReport(o.save, o.report)
	}
	if dir := os.Getenv(inner); dir != "" {
		o.dir = dir
		return run(o)
	}
	dir, err := os.MkdirTemp(o.dir, "snapdiff-bench.")
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inner+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return errors.Join(fmt.Errorf("starting with mounts of its own: %w", err), os.RemoveAll(dir))
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case s := <-stop:
		err = errors.Join(fmt.Errorf("stopped: %v", s), syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
		<-ended
	}
	return errors.Join(err, os.RemoveAll(dir))
}
