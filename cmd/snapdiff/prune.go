package main

import (
	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newPruneCommand(a *app) *cobra.Command {
	dry := false
	cmd := &cobra.Command{
		Use:         "prune [JOB...]",
		Annotations: changing("the next run or prune finishes what was begun"),
		Short:       "Drop the restore points that keep does not keep",
		Long: `Drops the restore points that no rule of the job's keep keeps, and says of each what became of it and why. Every run does the
same at its end. The newest restore point is never dropped, nor is one that is mounted or read just now: it goes the next time.
All jobs when none is named.`,
		Example: "  snapdiff prune --dry-run\n  snapdiff prune mail",
		RunE: func(cmd *cobra.Command, args []string) error {
			var rows [][]string
			err := a.eachJob(args, func(j config.Job) error {
				news, end := a.progress(cmd, j.Name+": ")
				fates, err := job.Prune(cmd.Context(), j, dry, apply.Options{Progress: news})
				end()
				for _, f := range fates {
					if !a.json {
						rows = append(rows, f.Cells())
					} else if err := output.JSON(cmd.OutOrStdout(), f); err != nil {
						return err
					}
				}
				return err
			})
			if len(rows) > 0 {
				out := cmd.OutOrStdout()
				if werr := output.Table(out, a.aligned || output.IsTerminal(out), job.FateHeadings, rows); err == nil {
					err = werr
				}
			}
			return err
		},
	}
	addProgressFlag(cmd)
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what would be dropped, why, and what space that frees")
	return cmd
}
