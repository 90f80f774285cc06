package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/changes"
	"snapdiff/cmd/snapdiff/output"
)

// findFlags are the flags of find.
type findFlags struct {
	job           string
	deleted, null bool
}

func newFindCommand(a *app) *cobra.Command {
	var o findFlags
	cmd := &cobra.Command{
		Use:   "find GLOB",
		Short: "Find names, now and in the past",
		Long: `Shows every path that any restore point has and that matches GLOB, with the first and the last restore point that have it ("now" where that is the
newest). What is there now comes first, together with paths that it had before its directory was renamed. A path that was there twice comes twice.

GLOB is as in find -name: * is any characters, ? one, [a-z] one of a set; names that begin with a dot match too. With a slash in it the whole path,
relative to the source, has to match, as in find -path, and * also stands for slashes. Quote it.

All directories of the mirror are read; with --deleted only those below directories that moved.`,
		Example: `  snapdiff find '*.docx'
  snapdiff find --deleted 'report*'
  snapdiff find 'anna/*/17'
  snapdiff find --deleted -0 '*.key' | xargs -0 -n1 snapdiff log`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.find(cmd, o, args[0]) },
	}
	addJobOfPathFlag(cmd, &o.job)
	cmd.Flags().BoolVar(&o.deleted, "deleted", false, "only paths that are not there any more")
	cmd.Flags().BoolVarP(&o.null, "null", "0", false, "print paths only, each ended by a NUL")
	return cmd
}

// foundRecord is a path in JSON.
type foundRecord struct {
	output.Path
	Type     string    `json:"type"`
	From     string    `json:"from"` // first restore point that has it
	FromDate time.Time `json:"from_date"`
	To       string    `json:"to"` // last restore point that has it
	ToDate   time.Time `json:"to_date"`
	Still    bool      `json:"still"` // and that is the newest
}

func (a *app) find(cmd *cobra.Command, o findFlags, pattern string) error {
	if o.null && a.json {
		return usageError{errors.New("-0 and --json exclude each other")}
	}
	j, err := a.job(o.job, pattern)
	if err != nil {
		return err
	}
	if strings.HasPrefix(j.Source, "/") { // else it is the name of a dataset or volume
		pattern = strings.TrimPrefix(pattern, strings.TrimSuffix(j.Source, "/")+"/")
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	write := foundLine(a.aligned || output.IsTerminal(cmd.OutOrStdout()))
	switch {
	case o.null:
		write = func(w io.Writer, f apply.Found) error { _, err := io.WriteString(w, f.Path+"\x00"); return err }
	case a.json:
		write = func(w io.Writer, f apply.Found) error {
			return output.JSON(w, foundRecord{output.NewPath(f.Path), changes.TypeName(f.Type), fmt.Sprintf("r%d", f.From.Run), f.From.Date.Local(),
				fmt.Sprintf("r%d", f.To.Run), f.To.Date.Local(), f.Still})
		}
	}
	err = apply.Find(cmd.Context(), j.Store, j.Catalog, pattern, apply.FindOptions{Gone: o.deleted}, func(f apply.Found) error { return write(out, f) })
	return errors.Join(err, out.Flush())
}

// foundLine writes a path for people: columns of one width on a terminal, with tabs between them elsewhere. Nothing waits for
// the last one.
func foundLine(aligned bool) func(io.Writer, apply.Found) error {
	form := "%s\t%s\t%s\t%s\t%s\n"
	if aligned {
		form = "%-5s %s  %-5s %-19s  %s\n"
	}
	return func(w io.Writer, f apply.Found) error {
		to, date := fmt.Sprintf("r%d", f.To.Run), f.To.Date.Local().Format(listTime)
		if f.Still {
			to, date = "now", ""
		}
		path := output.Name(f.Path)
		if f.Type == unix.S_IFDIR {
			path += "/"
		}
		_, err := fmt.Fprintf(w, form, fmt.Sprintf("r%d", f.From.Run), f.From.Date.Local().Format(listTime), to, date, path)
		return err
	}
}
