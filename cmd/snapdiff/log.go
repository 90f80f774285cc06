package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/changes"
	"snapdiff/cmd/snapdiff/output"
)

func newLogCommand(a *app) *cobra.Command {
	var job string
	cmd := &cobra.Command{
		Use:   "log PATH",
		Short: "Show every version of a file or directory",
		Long: `Shows what became of all that ever was at PATH, oldest first: the restore point that first shows it, its size there, and what happened:

  = is in the oldest restore point   + came   M changed   R got another name   - went

A file or directory is followed through its names before and after it was at PATH. Of a directory its own moves, owner and mode are shown, not what
came and went in it: see snapdiff diff. PATH is the path in the source, or relative to it; it need not exist any more.`,
		Example: "  snapdiff log /srv/mail/anna/17\n  snapdiff log anna/17 --json",
		Args:    cobra.ExactArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.log(cmd, job, args[0]) },
	}
	addJobOfPathFlag(cmd, &job)
	return cmd
}

// logRecord is one entry in JSON.
type logRecord struct {
	Run  string    `json:"run"`
	Date time.Time `json:"date"`
	changes.Record
	Mtime *time.Time `json:"mtime,omitempty"` // of what is there; none where it went
}

func (a *app) log(cmd *cobra.Command, job, path string) error {
	j, err := a.job(job, path)
	if err != nil {
		return err
	}
	if path, err = sourcePath(j, path); err != nil {
		return err
	}
	entries, err := apply.Log(j.Store, j.Catalog, path)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	var rows [][]string
	for _, e := range entries {
		if !a.json {
			rows = append(rows, logCells(e))
			continue
		}
		r := logRecord{Run: fmt.Sprintf("r%d", e.Point.Run), Date: e.Point.Date.Local(), Record: changes.NewRecord(e.Change, "")}
		if !e.Mtime.IsZero() {
			r.Mtime = &e.Mtime
		}
		if err := output.JSON(out, r); err != nil {
			return err
		}
	}
	if a.json {
		return nil
	}
	return output.Table(out, a.aligned || output.IsTerminal(out), []string{"RUN", "TIME", "SIZE", "", "PATH"}, rows)
}

func logCells(e apply.LogEntry) []string {
	size := ""
	if e.Type == unix.S_IFREG && e.Kind != apply.Removed {
		size = output.Size(e.Size)
	}
	kind, what, _ := strings.Cut(changes.Line(e.Change, ""), " ")
	return []string{fmt.Sprintf("r%d", e.Point.Run), e.Point.Date.Local().Format(listTime), size, kind, what}
}

// listTime is how the times of restore points are written in tables.
const listTime = "2006-01-02 15:04:05"
