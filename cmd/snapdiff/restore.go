package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/output"
)

func newRestoreCommand(a *app) *cobra.Command {
	var job string
	cmd := &cobra.Command{
		Use:   "restore DATE PATH [TO]",
		Short: "Bring back a file or directory as it was",
		Long: `Brings back the file or directory PATH, and all below it, as it was at DATE, with owner, mode, times, attributes, ACLs, hard links and holes.

PATH is the path in the source, or relative to it. TO is the new name, or an existing directory that takes it in; the current
directory when left out. Nothing that exists is ever overwritten.`,
		Example: `  snapdiff restore yesterday /srv/mail/anna /tmp
  snapdiff restore '2026-11-20 14:00' anna/inbox/17 ./17.old`,
		Args: cobra.RangeArgs(2, 3),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := "."
			if len(args) == 3 {
				to = args[2]
			}
			return a.restore(cmd, job, args[0], args[1], to)
		},
	}
	addJobFlag(cmd, &job)
	return cmd
}

func (a *app) restore(cmd *cobra.Command, job, date, path, to string) (err error) {
	j, err := a.job(job)
	if err != nil {
		return err
	}
	path, err = sourcePath(j, path)
	if err != nil {
		return err
	}
	run, err := chooseRun(cmd.ErrOrStderr(), j, date)
	if err != nil {
		return err
	}
	view, err := apply.OpenView(j.Store, j.Catalog, run)
	if err != nil {
		return err
	}
	defer view.Close()
	place, err := view.Restore(cmd.Context(), path, to)
	if err != nil {
		return err
	}
	if a.json {
		return output.JSON(cmd.OutOrStdout(), map[string]any{"run": fmt.Sprintf("r%d", run), "restored": place})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), output.Name(place))
	return err
}
