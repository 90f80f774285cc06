package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

func newInitCommand(a *app) *cobra.Command {
	var adopt bool
	cmd := &cobra.Command{
		Example:     "  snapdiff init\n  snapdiff init mail --adopt    # /backup/mail/tree is a copy that rsync made",
		Use:         "init [JOB...]",
		Annotations: changing("run snapdiff init again"),
		Short:       "Make the store of each job",
		Long: `Makes the store of each job: a directory for root alone that will hold the mirror, its history and the catalog.
The source is remembered by its UUID. A directory that is not empty is refused, unless --adopt takes over the copy in it. A store
that is there already stays as it is. A store on the filesystem of the source, or on the root filesystem, is warned of.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(args, func(j config.Job) error {
				warnings, err := job.Init(cmd.Context(), j, job.InitOptions{Adopt: adopt, ThrowAway: a.throwAway})
				if errors.Is(err, job.ErrIsStore) { // the others of a configuration may be new
					a.tell(cmd.ErrOrStderr(), slog.LevelInfo, j.Name, "", "the store in "+j.Store+" is there already")
					return nil
				}
				if err != nil {
					return err
				}
				for _, w := range warnings {
					a.tell(cmd.ErrOrStderr(), slog.LevelWarn, j.Name, "", "warning: "+w)
				}
				a.tell(cmd.ErrOrStderr(), slog.LevelInfo, j.Name, "", "store made in "+j.Store+"; now: snapdiff run "+j.Name)
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&adopt, "adopt", false, "take the copy that already lies in STORE/tree (from years of rsync, say): the first run compares it in full instead of copying")
	return cmd
}
