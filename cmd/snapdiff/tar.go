package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
)

// tarOptions are the flags of tar.
type tarOptions struct {
	job, since, deleted string
}

func newTarCommand(a *app) *cobra.Command {
	var o tarOptions
	cmd := &cobra.Command{
		Use:         "tar DATE [PATH]",
		Annotations: map[string]string{leftBehind: "the archive is not complete: begin it again"},
		Short:       "Write a tar archive of a restore point to standard output",
		Long: `Writes the whole tree, or the file or directory PATH and all below it, as it was at DATE, as a tar archive to standard output: with owner, mode,
times to the nanosecond, extended attributes, ACLs, hard links and holes (pax format, read by GNU tar, bsdtar and star). Names are relative to the
source. A tar archive cannot hold sockets: they are named and left out.

With --since only what changed from that date to DATE is written, with the directories that hold it; --deleted writes what went to a file: every
path, each ended by a NUL, what is in a directory first. Extract an archive of changes after removing what went.`,
		Example: `  snapdiff tar yesterday | zstd > mail.tar.zst
  snapdiff tar 2026-11-20 anna | tar -x -p --numeric-owner --acls --xattrs --xattrs-include='*' -C /tmp/anna
  snapdiff tar latest --since r17 --deleted went.list > changes.tar
  xargs -0 -r rm -rf -- < went.list; tar -x -p --numeric-owner --acls --xattrs --xattrs-include='*' -f changes.tar`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.tar(cmd, o, args) },
	}
	addJobOfPathFlag(cmd, &o.job)
	addProgressFlag(cmd)
	cmd.Flags().StringVar(&o.since, "since", "", "only what changed since `DATE`")
	cmd.Flags().StringVar(&o.deleted, "deleted", "", "with --since: the `FILE` for what went, each path ended by a NUL")
	return cmd
}

func (a *app) tar(cmd *cobra.Command, o tarOptions, args []string) error {
	out := cmd.OutOrStdout()
	switch {
	case output.IsTerminal(out):
		return usageError{errors.New("an archive is not written to a terminal: send it to a file or a program")}
	case o.deleted != "" && o.since == "":
		return usageError{errors.New("--deleted goes with --since: it says since when")}
	case a.json:
		return usageError{errors.New("an archive has no JSON form: snapdiff diff --json lists changes")}
	}
	j, err := a.job(o.job, args[1:]...)
	if err != nil {
		return err
	}
	if err := a.archivesOutside(out, o); err != nil {
		return err
	}
	path := ""
	if len(args) == 2 {
		if path, err = sourcePath(j, args[1]); err != nil {
			return err
		}
	}
	news, end := a.progress(cmd, "")
	defer end()
	opts := apply.TarOptions{
		Progress: news,
		Skipped: func(path string) {
			a.bar.Clear()
			fmt.Fprintf(cmd.ErrOrStderr(), "left out: %s is a socket\n", output.Name(path))
		},
		Searching: sayLinkSearch(cmd.ErrOrStderr()),
	}
	if o.since != "" {
		return tarSince(cmd, o, j, args[0], path, opts)
	}
	run, err := chooseRun(cmd.ErrOrStderr(), j, args[0])
	if err != nil {
		return err
	}
	view, err := apply.OpenView(j.Store, j.Catalog, run)
	if err != nil {
		return err
	}
	defer view.Close()
	return view.Tar(cmd.Context(), out, path, opts)
}

// archivesOutside refuses to write into a store, also where the shell has opened the file there.
func (a *app) archivesOutside(out io.Writer, o tarOptions) error {
	if o.deleted != "" {
		if err := a.outside(o.deleted); err != nil {
			return err
		}
	}
	f, ok := out.(*os.File)
	if !ok {
		return nil
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	at, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil
	}
	return hint.With(a.outside(at), "remove it, and write the archive to a place outside of the store")
}

// tarSince writes an archive of changes.
func tarSince(cmd *cobra.Command, o tarOptions, j config.Job, date, path string, opts apply.TarOptions) error {
	from, to, err := chooseTwo(cmd.ErrOrStderr(), j, []string{o.since, date})
	if err != nil {
		return err
	}
	c, err := apply.Compare(cmd.Context(), j.Store, j.Catalog, from, to)
	if err != nil {
		return err
	}
	defer c.Close()
	if o.deleted != "" {
		if err := writeDeleted(cmd.Context(), c, path, o.deleted); err != nil {
			return err
		}
	}
	return c.Tar(cmd.Context(), cmd.OutOrStdout(), path, opts)
}

// writeDeleted writes to file what went at path and below.
func writeDeleted(ctx context.Context, c *apply.Comparison, path, file string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	err = c.Deleted(ctx, func(gone string) error {
		if !apply.IsBelow(gone, path) {
			return nil
		}
		_, err := io.WriteString(w, gone+"\x00")
		return err
	})
	return errors.Join(err, w.Flush())
}
