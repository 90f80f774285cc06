package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
)

// eraseOptions are the flags of erase.
type eraseOptions struct {
	job string
	yes bool
	dry bool
}

func newEraseCommand(a *app) *cobra.Command {
	var o eraseOptions
	cmd := &cobra.Command{
		Use:         "erase PATH",
		Annotations: changing("the same command again finishes what was begun"),
		Short:       "Remove a path from all restore points, for good",
		Long: `Removes PATH and all below it from every restore point, with contents and attributes, as a legal request may want it. It says
what goes and asks first. The mirror follows the source: what the newest restore point still has must be deleted in the
source first, and a run made. A file that also has a name elsewhere, or was moved, stays under its other names: it lists them, erase these too.`,
		Example: "  snapdiff erase /srv/mail/anna --dry-run\n  snapdiff erase -j mail anna/letter.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.erase(cmd, o, args[0])
		},
	}
	addJobOfPathFlag(cmd, &o.job)
	addProgressFlag(cmd)
	cmd.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	cmd.Flags().BoolVarP(&o.dry, "dry-run", "n", false, "only say what would go")
	return cmd
}

func (a *app) erase(cmd *cobra.Command, o eraseOptions, path string) (err error) {
	j, err := a.job(o.job, path)
	if err != nil {
		return err
	}
	path, err = sourcePath(j, path)
	if err != nil {
		return err
	}
	store, err := apply.Open(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	plan, err := store.Erase(cmd.Context(), path, true, apply.Options{})
	if err != nil && (o.dry || !errors.Is(err, apply.ErrNowhere)) {
		return err
	}
	if err == nil { // else there may be one that was cut off, to be finished
		if err := a.reportErased(cmd.OutOrStdout(), j, path, plan, o.dry); err != nil || o.dry {
			return err
		}
	}
	if !o.yes && err == nil {
		if err := confirm(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout()); err != nil {
			return err
		}
	}
	news, end := a.progress(cmd, "")
	defer end()
	_, err = store.Erase(cmd.Context(), path, false, apply.Options{Progress: news})
	return err
}

// eraseRecord is what goes, in JSON.
type eraseRecord struct {
	Job string `json:"job"`
	output.Path
	Runs   []string `json:"runs"`
	Files  int64    `json:"files"`
	Bytes  int64    `json:"bytes"`
	DryRun bool     `json:"dry_run"`
	// Elsewhere are other paths at which some of it stays.
	Elsewhere []elsewhereRecord `json:"elsewhere,omitempty"`
	More      bool              `json:"more_elsewhere,omitempty"`
}

type elsewhereRecord struct {
	output.Path
	Points string `json:"restore_points"`
}

// reportErased says what goes.
func (a *app) reportErased(w io.Writer, j config.Job, path string, e apply.Erased, dry bool) error {
	runs := make([]string, len(e.Points))
	for i, run := range e.Points {
		runs[i] = fmt.Sprintf("r%d", run)
	}
	if a.json {
		record := eraseRecord{Job: j.Name, Path: output.NewPath(path), Runs: runs, Files: e.Files, Bytes: e.Bytes, DryRun: dry, More: e.More}
		for _, stays := range e.Elsewhere {
			record.Elsewhere = append(record.Elsewhere, elsewhereRecord{output.NewPath(stays.Path), apply.PointsText(stays.Points)})
		}
		return output.JSON(w, record)
	}
	_, err := fmt.Fprintf(w, "%s is in %d restore points: %s\n%s changed or deleted files and directories, %s of history, go for good\n",
		output.Name(path), len(runs), strings.Join(runs, ", "), output.Count(e.Files), output.Size(e.Bytes))
	if err != nil || len(e.Elsewhere) == 0 {
		return err
	}
	if _, err := fmt.Fprintln(w, "under other names it stays; erase these too:"); err != nil {
		return err
	}
	for _, stays := range e.Elsewhere {
		if _, err := fmt.Fprintf(w, "  %s (%s)\n", output.Name(stays.Path), apply.PointsText(stays.Points)); err != nil {
			return err
		}
	}
	if e.More {
		_, err = fmt.Fprintln(w, "  and more")
	}
	return err
}

// confirm asks.
func confirm(ctx context.Context, in io.Reader, out io.Writer) error {
	if _, err := fmt.Fprint(out, `This cannot be undone. Type "yes" to go on: `); err != nil {
		return err
	}
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out)
		return ctx.Err()
	case line := <-answer:
		if strings.TrimSpace(line) != "yes" {
			return errors.New("nothing was erased")
		}
		return nil
	}
}
