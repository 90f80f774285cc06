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
	dry := false
	cmd := &cobra.Command{
		Use:   "release -j JOB",
		Short: "Give up a job's snapshots on its source, so that they pin no space there",
		Long: `Destroys the snapshots that the job keeps on its source, the base among them, and takes its holds off those of others. Restore
points stay: they are in the store, which need not be there. The next run cannot ask the filesystem what changed and compares in
full. A run that was cut off is then undone first, and one that is held is void.`,
		Example: "  snapdiff release -j mail --dry-run\n  snapdiff release -j mail",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			j, err := a.job(name)
			if err != nil {
				return err
			}
			released, err := job.Release(cmd.Context(), j, dry)
			for _, k := range released {
				if err := a.printReleased(cmd, k.Name, k.Taken, k.Bytes, dry); err != nil {
					return err
				}
			}
			return err
		},
	}
	addJobFlag(cmd, &name)
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what would go")
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
