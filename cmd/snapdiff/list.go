package main

import (
	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newListCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [JOB...]",
		Short: "Show the restore points",
		Long: `Shows the restore points of each job, the oldest first: when its snapshot was taken, how the changes were found (first copy, native, or a full
comparison), what changed, what the store keeps of it for earlier restore points (HISTORY), and whether anything could not be copied.`,
		Example: "  snapdiff list\n  snapdiff list mail --json | jq 'select(.how == \"full\")'",
		RunE: func(cmd *cobra.Command, args []string) error {
			var rows [][]string
			err := a.eachJob(args, func(j config.Job) error {
				reports, err := job.List(j)
				for _, r := range reports {
					if !a.json {
						rows = append(rows, r.Cells())
					} else if err := output.JSON(cmd.OutOrStdout(), r); err != nil {
						return err
					}
				}
				return err
			})
			if len(rows) > 0 {
				out := cmd.OutOrStdout()
				if werr := output.Table(out, a.aligned || output.IsTerminal(out), job.Headings, rows); err == nil {
					err = werr
				}
			}
			return err
		},
	}
}
