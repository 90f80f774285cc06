package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newReleaseCommand(a *app) *cobra.Command {
	var name string
	var o job.ReleaseOptions
	cmd := &cobra.Command{
		Use:   "release -j JOB [DATASET]",
		Short: "Give up a job's snapshots on its source, so that they pin no space there",
		Long: `Destroys the snapshots that the job keeps on its source, the base among them, and takes its holds off those of others. Restore
points stay: they are in the store, which need not be there. The next run cannot ask the filesystem what changed and compares in
full. A run that was cut off is then undone first, and one that is held is void.

With the name of a ZFS dataset below the source only the snapshots of that one and of those below it are given up, so that zfs destroy -r
works. The run after that takes it out of the mirror, and asks the filesystem about all others.`,
		Example: "  snapdiff release -j mail --dry-run\n  snapdiff release -j mail\n  snapdiff release -j mail tank/mail/anna && zfs destroy -r tank/mail/anna",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := a.job(name)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				o.Child = args[0]
			}
			released, err := job.Release(cmd.Context(), j, o)
			for _, k := range released {
				if err := a.printReleased(cmd, k.Name, k.Taken, k.Bytes, o.Dry); err != nil {
					return err
				}
			}
			return err
		},
	}
	addJobFlag(cmd, &name)
	cmd.Flags().BoolVarP(&o.Dry, "dry-run", "n", false, "only say what would go")
	return cmd
}

func (a *app) printReleased(cmd *cobra.Command, name string, taken time.Time, bytes int64, dry bool) error {
	out := cmd.OutOrStdout()
	if a.json {
		row := map[string]any{"snapshot": name, "time": taken, "released": !dry}
		if bytes >= 0 {
			row["bytes"] = bytes
		}
		return output.JSON(out, row)
	}
	what, size := "released", ""
	if dry {
		what = "would release"
	}
	if bytes >= 0 {
		size = ", " + output.Size(bytes)
	}
	_, err := fmt.Fprintf(out, "%s %s (%s old%s)\n", what, output.Name(name), output.Duration(time.Since(taken)), size)
	return err
}
