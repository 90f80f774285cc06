package job

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/snapshot"
)

// hookGrace is how long a hook that is to stop may take for that, from SIGTERM to SIGKILL.
const hookGrace = 2 * time.Second

// hook calls one of the job's programs; an empty argv is none. What it prints is said when verbose and part of the error when it
// fails. env are more variables, as "SNAPDIFF_RUN=r17".
func (r *runner) hook(ctx context.Context, name string, argv []string, env ...string) error {
	if len(argv) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.job.Hooks.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = snapshot.Environ("SNAPDIFF_HOOK="+name, "SNAPDIFF_JOB="+r.job.Name, "SNAPDIFF_SOURCE="+r.job.Source, "SNAPDIFF_STORE="+r.job.Store)
	cmd.Env = append(cmd.Env, env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// A group of its own, so that a timeout ends what the program has started too, and an interrupt at the terminal does not.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		group := -cmd.Process.Pid
		time.AfterFunc(hookGrace, func() { syscall.Kill(group, syscall.SIGKILL) })
		return syscall.Kill(group, syscall.SIGTERM)
	}
	cmd.WaitDelay = 2 * hookGrace
	r.say("hook %s: %s", name, strings.Join(argv, " "))
	err := cmd.Run()
	said := strings.TrimSpace(out.String())
	if err == nil {
		if said != "" {
			r.say("hook %s says: %s", name, said)
		}
		return nil
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		err = fmt.Errorf("it took longer than %s and was stopped", r.job.Hooks.Timeout)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if said != "" {
		err = fmt.Errorf("%w; it says: %s", err, said)
	}
	return fmt.Errorf("hook %s (%s): %w", name, argv[0], err)
}

// quiesced calls take between the hooks before and after the snapshot. The second is called even where the run was stopped: the
// first may have stopped a database.
func (r *runner) quiesced(ctx context.Context, take func() error) error {
	err := r.hook(ctx, "before_snapshot", r.job.Hooks.BeforeSnapshot)
	if err == nil {
		err = take()
	}
	status := "SNAPDIFF_STATUS=taken"
	if err != nil {
		status = "SNAPDIFF_STATUS=failed"
	}
	return errors.Join(err, r.hook(context.WithoutCancel(ctx), "after_snapshot", r.job.Hooks.AfterSnapshot, status))
}

// ended calls the hook that is for how a run ended, and gives the run's error with the hook's own. What the hook after a run was to do is missed
// when it fails, so that is a failure too.
func (r *runner) ended(ctx context.Context, reports []*Report, err error) error {
	var env []string
	if len(reports) > 0 {
		env = append(env, "SNAPDIFF_RUN="+reports[len(reports)-1].Run)
	}
	if err == nil {
		if err = r.hook(ctx, "after_run", r.job.Hooks.AfterRun, env...); err == nil {
			return nil
		}
		err = hint.With(fmt.Errorf("%s is done, but %w", reports[len(reports)-1].Run, err), "the mirror is right; call the program yourself, or let the next run call it")
	}
	return errors.Join(err, r.hook(context.WithoutCancel(ctx), "on_failure", r.job.Hooks.OnFailure, append(env, "SNAPDIFF_ERROR="+err.Error())...))
}
