package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
)

// destroyCommand is what the process that leaveToDestroy starts is called with.
const destroyCommand = "destroy-snapshot"

func newDestroyCommand() *cobra.Command {
	return &cobra.Command{
		Use:    destroyCommand + " PATH...",
		Short:  "Destroy snapshots that a run needs no more (run starts this)",
		Hidden: true,
		Args:   cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var errs []error
			for _, path := range args {
				errs = append(errs, source.DestroyOld(path))
			}
			return errors.Join(errs...)
		},
	}
}

// destroyPatience is how long a run waits for snapshots to be destroyed, to tell what goes wrong. It mostly takes milliseconds. Tests
// make it longer.
var destroyPatience = 100 * time.Millisecond

// leaveToDestroy destroys snapshots in a process of its own (this program, started again), which goes on when it takes longer. It has to be
// a process: a program does not end before the system calls of its threads. Where it is killed the snapshot stays or is gone,
// and the next run destroys what stayed.
func leaveToDestroy(paths ...string) error {
	var said strings.Builder
	cmd := exec.Command("/proc/self/exe", append([]string{destroyCommand, "--"}, paths...)...)
	cmd.Stderr, cmd.Dir = &said, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // ^C is not meant for it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start to destroy the snapshot %s: %w", output.Name(paths[0]), err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			err = fmt.Errorf("an old snapshot stays: %w", errors.New(strings.TrimPrefix(strings.TrimSpace(said.String()), "snapdiff: ")))
		}
		return err
	case <-time.After(destroyPatience):
		return nil
	}
}
