package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/status"
)

func newStatusCommand(a *app) *cobra.Command {
	var nagios bool
	var metrics string
	var limits status.Limits
	cmd := &cobra.Command{
		Use:   "status [JOB...]",
		Short: "Show how the jobs are doing",
		Long: `Shows for each job the newest restore point, its age, how the changes were found, what changed, and what is wrong. It
reads the stores and works while a run is on. BASE is the age of the oldest of our snapshots on the source and, where that can be
told, the space that they pin there; a source that cannot be asked is passed over. Where the base has a hold (ZFS), it says how to give that up.

--nagios prints one line and exits with 0 (ok), 1 (warning) or 2 (critical), as monitoring plugins do. --metrics writes
a file for the textfile collector of Prometheus's node_exporter; "-" is standard output. Of a symlink the file that it leads to is replaced,
and what is no file, such as a device, is written to.`,
		Example: `  snapdiff status
  snapdiff status --nagios --warning 26h --critical 50h
  snapdiff status --metrics /var/lib/prometheus/node-exporter/snapdiff.prom`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var all []*status.Job
			now := time.Now()
			err := a.eachJob(args, func(j config.Job) error {
				all = append(all, status.Of(j, now, limits))
				return nil
			})
			switch {
			case err != nil:
				return err
			case metrics == "-":
				return status.Metrics(cmd.OutOrStdout(), all)
			case metrics != "":
				if err := a.outside(metrics); err != nil {
					return err
				}
				return status.WriteMetrics(metrics, all)
			case nagios:
				return printNagios(cmd.OutOrStdout(), all)
			}
			return a.printStatus(cmd.OutOrStdout(), all)
		},
	}
	cmd.Flags().BoolVar(&nagios, "nagios", false, "one line, and the exit status of a monitoring plugin")
	cmd.Flags().StringVar(&metrics, "metrics", "", "write Prometheus metrics to `FILE`, whole or not at all")
	cmd.Flags().Var(ageFlag{&limits.Warning}, "warning", "`AGE` of the newest restore point that is a warning, such as 26h")
	cmd.Flags().Var(ageFlag{&limits.Critical}, "critical", "`AGE` of the newest restore point that is critical, such as 50h")
	cmd.MarkFlagsMutuallyExclusive("nagios", "metrics")
	return cmd
}

var statusHeadings = []string{"JOB", "STATE", "NEWEST", "AGE", "HOW", "CHANGED", "TOOK", "VERIFIED", "POINTS", "EXPIRES", "HISTORY", "FREE", "BASE"}

// printStatus prints a table and below it what is wrong, or one JSON object a line.
func (a *app) printStatus(w io.Writer, all []*status.Job) error {
	var rows [][]string
	color := output.Colored(w)
	for _, j := range all {
		if a.json {
			if err := output.JSON(w, j); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, statusCells(j, color))
	}
	if a.json {
		return nil
	}
	if err := output.Table(w, a.aligned || output.IsTerminal(w), statusHeadings, rows); err != nil {
		return err
	}
	for _, j := range all {
		for _, p := range j.Problems {
			if _, err := fmt.Fprintf(w, "%s: %s\n", j.Name, color(levelColor[j.State], p)); err != nil {
				return err
			}
		}
		if j.Hold != "" {
			if _, err := fmt.Fprintf(w, "%s: %s; %s\n", j.Name, j.Hold, j.GiveUp); err != nil {
				return err
			}
		}
	}
	return nil
}

// levelColor is the colour of a state.
var levelColor = map[string]output.Color{"ok": output.Green, "warning": output.Yellow, "critical": output.Red}

// statusCells are a job as a row of the table.
func statusCells(j *status.Job, color func(output.Color, string) string) []string {
	row := []string{j.Name, color(levelColor[j.State], j.State), "never", "", "", "", "", "never"}
	if j.Time != nil {
		changed := j.Added + j.Removed + j.Modified + j.Meta + j.Files
		age := output.Age(time.Duration(j.Age) * time.Second)
		if j.InFuture() {
			age = "in the future"
		}
		row = []string{j.Name, row[1], j.Run, age, j.How, output.Count(changed),
			output.Duration(time.Duration(j.Seconds * float64(time.Second))), verifiedText(j)}
	}
	expires := "never"
	if j.ExpiresAt != nil {
		expires = j.Expires + " " + j.ExpiresAt.Local().Format("2006-01-02")
	}
	return append(row, fmt.Sprint(j.Points), expires, output.Size(j.History), output.Size(j.Free), baseText(j))
}

// verifiedText is how long ago the mirror was verified.
func verifiedText(j *status.Job) string {
	if j.Verified == nil {
		return "never"
	}
	return output.Age(time.Since(*j.Verified)) + " ago"
}

// baseText is how old our snapshots on the source are and, where that is known, what they cost there.
func baseText(j *status.Job) string {
	if j.Base == nil {
		return ""
	}
	text := output.Age(time.Since(*j.Base))
	if j.BaseBytes != nil {
		text += ", " + output.Size(*j.BaseBytes)
	}
	if j.BaseFull != nil {
		text += fmt.Sprintf(", %.0f%% full", *j.BaseFull)
	}
	return text
}

// monitored is not an error: it carries the exit status of a monitoring plugin, whose line has been printed.
type monitored struct{ status.Level }

// Error says the level in words.
func (m monitored) Error() string { return m.String() }

// printNagios prints the one line that monitoring plugins print (https://www.monitoring-plugins.org/doc/guidelines.html).
func printNagios(w io.Writer, all []*status.Job) error {
	worst := status.OK
	var said []string
	for _, j := range all {
		worst = max(worst, j.Level())
		for _, p := range j.Problems {
			said = append(said, j.Name+": "+strings.NewReplacer("|", "/", "\n", " ").Replace(p))
		}
	}
	if len(said) == 0 {
		said = []string{fmt.Sprintf("all is well, jobs: %d", len(all))}
	}
	if _, err := fmt.Fprintf(w, "SNAPDIFF %s - %s\n", strings.ToUpper(worst.String()), strings.Join(said, "; ")); err != nil {
		return err
	}
	if worst != status.OK {
		return monitored{worst}
	}
	return nil
}
