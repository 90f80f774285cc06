package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newRunCommand(a *app) *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run [JOB...]",
		Short: "Bring the mirror of each job up to date",
		Long: `Takes a snapshot of the source, asks the filesystem what changed since the last run and applies just that to the
mirror. Silent when all is well, for cron. A run that was cut off is finished first. All jobs when none is named; one
that fails does not keep the others from running.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(args, func(j config.Job) error {
				return a.runJob(cmd, j, verbose)
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say what is done")
	return cmd
}

// runJob runs one job and reports it.
func (a *app) runJob(cmd *cobra.Command, j config.Job, verbose bool) error {
	say := func(string, ...any) {}
	if verbose {
		say = func(format string, args ...any) {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", j.Name, fmt.Sprintf(format, args...))
		}
	}
	reports, err := job.Run(cmd.Context(), j, say)
	for _, r := range reports {
		if err := a.reportRun(cmd.OutOrStdout(), cmd.ErrOrStderr(), r, verbose); err != nil {
			return err
		}
	}
	return err
}

// reportRun says what one run did: everything in JSON, one line when verbose, otherwise only what is wrong.
func (a *app) reportRun(stdout, stderr io.Writer, r *job.Report, verbose bool) error {
	if a.json {
		return output.JSON(stdout, r)
	}
	for _, p := range r.Incomplete {
		fmt.Fprintf(stderr, "%s: %s: not copied: %s: %s\n", r.Job, r.Run, output.Name(p.Path.Path), p.Error)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(stderr, "%s: %s: %s\n", r.Job, r.Run, w)
	}
	if r.How == "full" {
		fmt.Fprintf(stderr, "%s: %s: compared in full: %s\n", r.Job, r.Run, r.Reason)
	}
	if !verbose {
		return nil
	}
	_, err := fmt.Fprintln(stdout, r.Sentence())
	return err
}

// eachJob does something for each job. All are tried.
func (a *app) eachJob(names []string, do func(config.Job) error) error {
	jobs, err := a.jobs(names)
	if err != nil {
		return err
	}
	var errs []error
	for _, j := range jobs {
		if err := do(j); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", j.Name, err))
		}
	}
	return errors.Join(errs...)
}
