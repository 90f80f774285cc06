package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/changes"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

// runFlags are the flags of run.
type runFlags struct {
	dryRun, newSource, full bool
	approve, snapshot       string
	limit                   bwLimitFlag
}

func newRunCommand(a *app) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:         "run [JOB...]",
		Annotations: changing("the next run finishes what was begun"),
		Short:       "Bring the mirror of each job up to date",
		Long: `Takes a snapshot of the source, asks the filesystem what changed since the last run and applies just that to the
mirror. Silent when all is well, for cron. A run that was cut off is finished first. All jobs when none is named; one
that fails does not keep the others from running, and the exit status is that of the first failure, or 3 when nothing
worse happened than that files could not be copied.`,
		Example: `  snapdiff run
  snapdiff run mail --dry-run
  snapdiff run mail --approve r17
  for s in /srv/.snapshots/mail.*; do snapdiff run mail --snapshot "$s"; done`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := f.options()
			if err != nil {
				return usageError{err}
			}
			if f.one() {
				j, err := a.onlyJob(args)
				if err != nil {
					return err
				}
				args = []string{j.Name}
			}
			return a.eachJob(args, func(j config.Job) error {
				j = f.limit.on(j)
				if f.dryRun {
					return a.lookAtJob(cmd, j, opts)
				}
				return a.runJob(cmd, j, opts)
			})
		},
	}
	flags := cmd.Flags()
	f.limit.add(cmd)
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "say what is done")
	flags.BoolVarP(&f.dryRun, "dry-run", "n", false, "show what would change, and change nothing")
	addProgressFlag(cmd)
	flags.StringVar(&f.approve, "approve", "", "let the held run `ID` (r17) through, just as it was reported")
	flags.StringVar(&f.snapshot, "snapshot", "", "take the existing read-only `SNAPSHOT` of the source, made by any program, as its new state")
	flags.BoolVar(&f.newSource, "accept-new-source", false, "mirror the source although it is another one than before: compare in full, keep history")
	flags.BoolVar(&f.full, "full", false, "compare every name and content with the mirror, whatever the filesystem tells")
	return cmd
}

// one tells that the flags are about one job alone.
func (f runFlags) one() bool { return f.approve != "" || f.snapshot != "" || f.newSource }

func (f runFlags) options() (job.Options, error) {
	o := job.Options{Snapshot: f.snapshot, NewSource: f.newSource, Full: f.full}
	if f.approve == "" {
		return o, nil
	}
	if f.snapshot != "" {
		return o, errors.New("--approve lets a run through as it was reported: it goes with no other --snapshot")
	}
	id, err := strconv.ParseInt(strings.TrimPrefix(f.approve, "r"), 10, 64)
	if err != nil || id <= 0 || !strings.HasPrefix(f.approve, "r") {
		return o, fmt.Errorf("--approve %s: the id of the held run is needed, as it was reported (r17)", f.approve)
	}
	o.Approve = id
	return o, nil
}

// onlyJob is the one job that a command line is about.
func (a *app) onlyJob(args []string) (config.Job, error) {
	jobs, err := a.jobs(args)
	if err == nil && len(jobs) != 1 {
		err = usageError{errors.New("this is about one job: name it")}
	}
	if err != nil {
		return config.Job{}, err
	}
	return jobs[0], nil
}

// runJob runs one job and reports it.
func (a *app) runJob(cmd *cobra.Command, j config.Job, opts job.Options) error {
	stderr := cmd.ErrOrStderr()
	opts.Say, opts.Destroy = a.sayer(stderr, j), a.destroy
	news, end := a.progress(cmd, j.Name+": ")
	opts.Progress = news
	a.note(slog.LevelInfo, j.Name, "", "run begins", "source", j.Source, "store", j.Store)
	reports, err := job.Run(cmd.Context(), j, opts)
	end()
	if err != nil {
		a.noteFailed(cmd, j, err)
	}
	for _, r := range reports {
		if err := a.reportRun(cmd.OutOrStdout(), stderr, r); err != nil {
			return err
		}
	}
	var held *job.RunHeld
	if a.json && errors.As(err, &held) {
		return errors.Join(err, output.JSON(cmd.OutOrStdout(), heldJSON(held)))
	}
	return err
}

// noteFailed has the store remember that a run failed, with the first of what is said of it that has the exit status.
func (a *app) noteFailed(cmd *cobra.Command, j config.Job, err error) {
	ctx := cmd.Context()
	f := job.Failed{Time: time.Now(), Status: exitStatus(ctx, err)}
	for _, one := range a.failures(ctx, cmd, err) {
		same := exitStatus(ctx, one.err) == f.Status
		if f.Error == "" || same {
			f.Error = one.text
		}
		if same {
			break
		}
	}
	const most = 500
	f.Error = output.Shorten(output.Text(f.Error), most)
	job.NoteFailed(j, err, f)
}

// heldJSON is a held run for programs.
func heldJSON(e *job.RunHeld) any {
	type place struct {
		output.Path
		Deleted int64 `json:"deleted"`
		Changed int64 `json:"changed"`
	}
	var worst []place
	for _, d := range e.Held.Worst {
		worst = append(worst, place{output.NewPath(d.Path), d.Deleted, d.Changed})
	}
	return map[string]any{"job": e.Job, "run": fmt.Sprintf("r%d", e.Held.ID), "state": "held", "why": e.Held.Why,
		"deleted": e.Held.Deleted, "changed": e.Held.Changed, "files": e.Held.Files, "worst": worst}
}

// reportRun says what one run did: everything in JSON, one line when verbose, otherwise only what is wrong.
func (a *app) reportRun(stdout, stderr io.Writer, r *job.Report) error {
	warn := func(text string, attrs ...any) { a.tell(stderr, slog.LevelWarn, r.Job, r.Run, text, attrs...) }
	if a.json {
		warn = func(text string, attrs ...any) { a.note(slog.LevelWarn, r.Job, r.Run, text, attrs...) }
	}
	for _, p := range r.Incomplete {
		warn("not copied: "+job.ShortName(p.Path.Path)+": "+p.Error, "path", p.Path.Path)
	}
	for _, w := range r.Warnings {
		warn(w)
	}
	if r.How == "full" {
		warn("compared in full: " + r.Reason)
	}
	a.noteReport(r)
	if a.json {
		return output.JSON(stdout, r)
	}
	if !a.verbose {
		return nil
	}
	_, err := fmt.Fprintln(stdout, r.Sentence())
	return err
}

// lookAtJob shows what a run of one job would do.
func (a *app) lookAtJob(cmd *cobra.Command, j config.Job, opts job.Options) error {
	stdout, stderr := cmd.OutOrStdout(), cmd.ErrOrStderr()
	opts.Say = a.sayer(stderr, j)
	news, end := a.progress(cmd, j.Name+": ")
	opts.Progress = news
	p, err := job.Look(cmd.Context(), j, opts)
	end()
	if err != nil {
		return err
	}
	if p.Set != nil {
		format := changes.Human
		if a.json {
			format = changes.JSON
		}
		if err := changes.PrintSet(stdout, changes.Options{Format: format}, p.Set); err != nil {
			return err
		}
	}
	if a.json {
		return output.JSON(stdout, p)
	}
	for _, line := range p.Sentences() {
		fmt.Fprintf(stderr, "%s: %s\n", j.Name, line)
	}
	return nil
}

// eachJob does something for each job. All are tried, unless a signal stops it.
func (a *app) eachJob(names []string, do func(config.Job) error) error {
	jobs, err := a.jobs(names)
	if err != nil {
		return err
	}
	var errs []error
	for _, j := range jobs {
		err := do(j)
		if err != nil {
			errs = append(errs, jobFailed{j.Name, err})
		}
		if errors.Is(err, context.Canceled) {
			break
		}
	}
	return errors.Join(errs...)
}

// jobFailed is the error of one job of several.
type jobFailed struct {
	job string
	error
}

// Error names the job.
func (f jobFailed) Error() string { return f.job + ": " + f.error.Error() }

// Unwrap gives the error itself.
func (f jobFailed) Unwrap() error { return f.error }
