package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newDoctorCommand(a *app) *cobra.Command {
	var repair bool
	cmd := &cobra.Command{
		Use:         "doctor [JOB...]",
		Annotations: changing("what --repair had not done yet is still to be done: begin it again"),
		Short:       "Tell what is wrong with a store, and mend it with --repair",
		Long: `Examines the store alone, without the source: its owner and mode, the catalog and whether it says what the manifests in
history say, objects in history that are missing (with the paths and restore points that lose them) or that nothing needs, left-overs
in stage, and whether the mirror has the names that runs gave it. What is in the files is for snapdiff verify; whether a job can run,
for snapdiff check. It says what --repair would do, and changes nothing without it.

A catalog that is damaged or lost is rebuilt from the manifests, with all restore points. The old one is kept beside it.`,
		Example: `  snapdiff doctor
  snapdiff doctor mail --repair`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.eachJob(args, func(j config.Job) error {
				news, end := a.progress(cmd, j.Name+": ")
				found, err := job.Doctor(cmd.Context(), j, repair, a.sayer(cmd.ErrOrStderr(), j), news)
				end()
				if werr := a.showIllnesses(cmd, j, found, err == nil); werr != nil {
					return werr
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&repair, "repair", false, "do what can be done about it")
	addProgressFlag(cmd)
	cmd.Flags().BoolVarP(&a.verbose, "verbose", "v", false, "say what is being looked at")
	return cmd
}

// showIllnesses prints what Doctor found; well: nothing is wrong any more.
func (a *app) showIllnesses(cmd *cobra.Command, j config.Job, found []job.Illness, well bool) error {
	out := cmd.OutOrStdout()
	if a.json {
		for _, i := range found {
			if err := output.JSON(out, i); err != nil {
				return err
			}
		}
		return output.JSON(out, map[string]any{"job": j.Name, "well": well})
	}
	color := output.Colored(out)
	for _, i := range found {
		level := string(i.Level)
		switch i.Level {
		case job.Missing:
			level = color(output.Red, level)
		case job.Warning:
			level = color(output.Yellow, level)
		}
		fmt.Fprintf(out, "%s: %s: %s\n", j.Name, level, output.Text(i.Text))
		for _, l := range i.Lost {
			fmt.Fprintf(out, "  %s: %s (%s)\n", l.Points, output.Name(l.Name), l.Object)
		}
		switch {
		case i.Repaired:
			fmt.Fprintf(out, "  repaired: %s\n", i.Repair)
		case i.Repair != "":
			fmt.Fprintf(out, "  --repair %s\n", i.Repair)
		}
	}
	if !well {
		return nil
	}
	_, err := fmt.Fprintf(out, "%s: %s\n", j.Name, color(output.Green, "the store is sound"))
	return err
}
