package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

func newInitCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "init [JOB...]",
		Short: "Make the store of each job",
		Long: `Makes the store of each job: a directory for root alone that will hold the mirror, its history and the catalog.
The source is remembered by its UUID. A directory that is not empty is refused.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(args, func(j config.Job) error {
				if err := job.Init(cmd.Context(), j); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.ErrOrStderr(), "%s: store made in %s; now: snapdiff run %s\n", j.Name, j.Store, j.Name)
				return err
			})
		},
	}
}
