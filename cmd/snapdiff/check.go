package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "check [JOB...]",
		Example: "  snapdiff check\n  snapdiff check mail --json",
		Short:   "Tell whether the jobs can run, and what is missing",
		Long: `Looks at the kernel, the source, the store, what the mirror's filesystem can hold, the hooks' programs and the log, and names every
missing piece with the command that mends it. It changes nothing. (Whether the mirror is right is another question: snapdiff verify.)`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(args, func(j config.Job) error {
				found, err := job.Check(cmd.Context(), j, a.conf.Log)
				if werr := a.showFindings(cmd, j, found, err == nil); werr != nil {
					return werr
				}
				return err
			})
		},
	}
}

// showFindings prints what Check found; ready: the job can run.
func (a *app) showFindings(cmd *cobra.Command, j config.Job, found []job.Finding, ready bool) error {
	out := cmd.OutOrStdout()
	if a.json {
		for _, f := range found {
			if err := output.JSON(out, f); err != nil {
				return err
			}
		}
		return output.JSON(out, map[string]any{"job": j.Name, "ready": ready})
	}
	color := output.Colored(out)
	for _, f := range found {
		level := string(f.Level)
		switch f.Level {
		case job.Missing:
			level = color(output.Red, level)
		case job.Warning:
			level = color(output.Yellow, level)
		}
		fmt.Fprintf(out, "%s: %s: %s\n", j.Name, level, output.Text(f.Text))
		if f.Next != "" {
			fmt.Fprintf(out, "  next: %s\n", f.Next)
		}
	}
	if !ready {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", j.Name, color(output.Green, "can run"))
	return err
}
