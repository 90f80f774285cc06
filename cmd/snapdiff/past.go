package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/dates"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

// pastCommands are the commands that look at restore points.
func (a *app) pastCommands() []*cobra.Command {
	return append([]*cobra.Command{newMountCommand(a), newUmountCommand(), newRestoreCommand(a), newPruneCommand(a), newEraseCommand(a)}, a.exportCommands()...)
}

// chooseRun finds the restore point that a date means and says on w which one it is.
func chooseRun(w io.Writer, j config.Job, date string) (int64, error) {
	d, err := dates.Parse(date, time.Now())
	if err != nil {
		return 0, usageError{err}
	}
	found, err := apply.RestorePoints(j.Store, j.Catalog)
	if err != nil {
		return 0, err
	}
	points := make([]dates.Point, len(found))
	for i, p := range found {
		points[i] = dates.Point{Run: p.Run, Date: p.Date.Local()}
	}
	point, err := d.Pick(points)
	if err != nil {
		return 0, fmt.Errorf("job %s: %w", j.Name, err)
	}
	sayFuture(w, d, point)
	_, err = fmt.Fprintf(w, "restore point %s\n", point)
	return point.Run, err
}

// sayFuture says that a date lies ahead: it finds a restore point all the same, which may not be what was meant.
func sayFuture(w io.Writer, d dates.Date, found dates.Point) {
	if d.Future() {
		fmt.Fprintf(w, "%s is in the future: the newest restore point that is not later is r%d\n", d, found.Run)
	}
}

// outside refuses to write at a path that is in a store of the configuration.
func (a *app) outside(path string) error {
	jobs, err := a.jobs(nil)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := job.CheckOutside(jobs, path); err != nil {
		return usageError{err}
	}
	return nil
}

// wholeSource is how the whole tree is written.
func wholeSource(j config.Job) string {
	if filepath.IsAbs(j.Source) {
		return `"." or ` + j.Source
	}
	return `"."`
}

// sourcePath takes a path as people give it, the source's absolute one or one relative to the source, and makes it
// relative to the tree; "" is the whole tree.
func sourcePath(j config.Job, path string) (string, error) {
	clean := filepath.Clean(path)
	if filepath.IsAbs(clean) {
		rel, err := filepath.Rel(j.Source, clean)
		if err != nil {
			return "", usageError{fmt.Errorf("%s: the source of job %s, %s, is no path: give one relative to it", output.Name(path), j.Name, j.Source)}
		}
		clean = rel
	}
	if path == "" {
		return "", hint.With(usageError{errors.New("PATH is empty")}, "all of the source is %s", wholeSource(j))
	}
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return "", hint.With(usageError{fmt.Errorf("%s is not in the source %s of job %s", output.Name(path), j.Source, j.Name)},
			"give a path below it, or one relative to it; all of it is %s", wholeSource(j))
	}
	if clean == "." {
		return "", nil
	}
	return clean, nil
}
