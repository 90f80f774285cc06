package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/output"
)

// restoreOptions are the flags of restore.
type restoreOptions struct {
	job       string
	overwrite bool
	filesFrom string
	from0     bool
}

func newRestoreCommand(a *app) *cobra.Command {
	var o restoreOptions
	cmd := &cobra.Command{
		Use:         "restore DATE PATH [TO] | DATE --files-from FILE [TO]",
		Annotations: changing("what is there is complete, but directories may lack names; the same command with --overwrite does all of it"),
		Short:       "Bring back a file or directory as it was",
		Long: `Brings back the file or directory PATH, and all below it, as it was at DATE, with owner, mode, times, attributes, ACLs, hard links and holes.

PATH is the path in the source, or relative to it. TO is the new name, or an existing directory that takes it in; the current
directory when left out. Nothing that exists is overwritten, unless with --overwrite, and nothing is restored into a store.

With --files-from every path in FILE is brought below the directory TO, at its whole path; "-" reads standard input.`,
		Example: `  snapdiff restore yesterday /srv/mail/anna /tmp
  snapdiff restore '2026-11-20 14:00' anna/inbox/17 ./17.old
  snapdiff restore r17 --files-from list.txt /tmp/back`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.filesFrom != "" {
				return cobra.RangeArgs(1, 2)(cmd, args)
			}
			return cobra.RangeArgs(2, 3)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.restore(cmd, o, args)
		},
	}
	addJobOfPathFlag(cmd, &o.job)
	addProgressFlag(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.overwrite, "overwrite", false, "put it in the place of what is there; a directory takes it in and keeps its other names")
	flags.StringVar(&o.filesFrom, "files-from", "", "restore the paths in `FILE`, one a line")
	flags.BoolVarP(&o.from0, "from0", "0", false, "paths in the file end with a NUL, not with the line (as find -0 prints them)")
	return cmd
}

func (a *app) restore(cmd *cobra.Command, o restoreOptions, args []string) error {
	jobs, err := a.candidates(o.job)
	if err != nil {
		return err
	}
	date, args := args[0], args[1:]
	var paths []string
	if o.filesFrom != "" {
		paths, err = readPaths(cmd.InOrStdin(), o)
	} else {
		paths, args = args[:1], args[1:]
	}
	var j config.Job
	if err == nil {
		j, err = oneOf(jobs, paths)
	}
	for i := range paths {
		if err == nil {
			paths[i], err = sourcePath(j, paths[i])
		}
	}
	if err != nil {
		return err
	}
	to := "."
	if len(args) > 0 {
		to = args[0]
	}
	if err := a.restoresOutside(paths, to); err != nil {
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
	var done apply.Restored
	news, end := a.progress(cmd, "")
	opts := apply.RestoreOptions{Overwrite: o.overwrite, Progress: news}
	if o.filesFrom != "" {
		done, err = view.RestoreList(cmd.Context(), paths, to, opts)
	} else {
		done, err = view.RestoreWith(cmd.Context(), paths[0], to, opts)
	}
	end()
	return errors.Join(err, a.reportRestored(cmd.OutOrStdout(), run, done))
}

// restoresOutside refuses to restore into a store.
func (a *app) restoresOutside(paths []string, to string) error {
	st, err := os.Stat(to)
	if err != nil || !st.IsDir() {
		return a.outside(filepath.Dir(to)) // it is the new name
	}
	if err := a.outside(to); err != nil {
		return err
	}
	for _, path := range paths {
		if path != "" { // which a directory of this name takes in
			if err := a.outside(filepath.Join(to, filepath.Base(path))); err != nil {
				return err
			}
		}
	}
	return nil
}

// reportRestored says what is where now.
func (a *app) reportRestored(w io.Writer, run int64, done apply.Restored) error {
	if a.json {
		return output.JSON(w, map[string]any{"run": fmt.Sprintf("r%d", run), "restored": done.To, "names": done.Names, "bytes": done.Bytes})
	}
	if done.Names == 0 {
		return nil
	}
	_, err := fmt.Fprintln(w, output.Name(done.To))
	return err
}

// readPaths reads the file of --files-from.
func readPaths(stdin io.Reader, o restoreOptions) (paths []string, err error) {
	var data []byte
	if o.filesFrom == "-" {
		data, err = io.ReadAll(stdin)
	} else {
		data, err = os.ReadFile(o.filesFrom)
	}
	if err != nil {
		return nil, fmt.Errorf("read the paths to restore: %w", err)
	}
	end := "\n"
	if o.from0 {
		end = "\x00"
	}
	for path := range strings.SplitSeq(string(data), end) {
		if path != "" {
			paths = append(paths, path)
		}
	}
	return paths, nil
}
