package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/changes"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/dates"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
)

// exportCommands are the commands that say what the store knows.
func (a *app) exportCommands() []*cobra.Command {
	return []*cobra.Command{newDiffCommand(a), newTarCommand(a), newLogCommand(a), newFindCommand(a)}
}

// diffOptions are the flags of diff.
type diffOptions struct {
	job, format, absolute, rejects string
}

// sourceItself is the value of --absolute without one.
const sourceItself = "SOURCE"

func newDiffCommand(a *app) *cobra.Command {
	var o diffOptions
	cmd := &cobra.Command{
		Use:   "diff [FROM [TO]]",
		Short: "Show what changed between two restore points",
		Long: `Shows what changed from the restore point FROM to the restore point TO: the newest when TO is left out, and when FROM is left out too, the newest
compared with the one before it. FROM is the older one. It is read from the store; the source is not needed.

  + came   - went   M differs   R has another name; in brackets what differs: data, metadata (owner, mode, mtime), xattrs (also ACLs), link (a hard
  link came or went), replaced (another file has the name, its contents were not compared)

Formats:
  human    for people (the default)
  json     one object a line, as with --json: kind, path, old_path, type, reasons, size, old_size; names that are no UTF-8 have path_b64
  null     every path that a copy of FROM needs to become TO, each ended by a NUL: also all below a moved directory, all names of a file with
           several, and directories that names came to or went from
  lines    the same, each ended by a newline; names with control characters go to the file that --rejects names
  rsync    the same, for rsync --from0 --files-from=-
  tar      the same and the directories that hold them, for tar --null --no-recursion -T -
  deleted  every path that went, also below removed directories and former names of moved ones, what is in a directory first, each ended by a NUL`,
		Example: `  snapdiff diff
  snapdiff diff 2026-11-01 yesterday
  snapdiff diff r17 --format=json

  # bring a second copy, which is as r17 was, up to date from the mirror: first what went, then the rest
  snapdiff diff r17 --format=deleted | (cd /copy && xargs -0 -r rm -rf --)
  snapdiff diff r17 --format=rsync | rsync -aHAX --ignore-times --modify-window=-1 --from0 --files-from=- /backup/mail/tree/ /copy/
  snapdiff diff --format=tar | tar -C /backup/mail/tree -c --null --no-recursion -T - | ssh host tar -x`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error { return a.diff(cmd, o, args) },
	}
	addJobFlag(cmd, &o.job)
	cmd.Flags().StringVar(&o.format, "format", string(changes.Human), "how it is written: `FORMAT` is one of those above")
	cmd.Flags().StringVar(&o.absolute, "absolute", "", "show paths below `DIR`; without =DIR below the source")
	cmd.Flags().Lookup("absolute").NoOptDefVal = sourceItself
	cmd.Flags().StringVar(&o.rejects, "rejects", "", "the `FILE` for names that the format lines cannot carry, each ended by a NUL")
	return cmd
}

func (a *app) diff(cmd *cobra.Command, o diffOptions, args []string) (err error) {
	j, err := a.job(o.job)
	if err != nil {
		return err
	}
	p, done, err := a.printer(cmd, o, j)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	from, to, err := chooseTwo(cmd.ErrOrStderr(), j, args)
	if err != nil {
		return err
	}
	c, err := apply.Compare(cmd.Context(), j.Store, j.Catalog, from, to)
	if err != nil {
		return err
	}
	defer c.Close()
	switch format := p.Format(); {
	case format == changes.Deleted:
		err = c.Deleted(cmd.Context(), p.Path)
	case format.ListsPaths():
		paths := format.Paths()
		paths.Searching = sayLinkSearch(cmd.ErrOrStderr())
		err = c.Paths(cmd.Context(), paths, p.Path)
	default:
		err = c.Changes(p.Change)
	}
	return errors.Join(err, p.Close())
}

// sayLinkSearch says that more is read than the rows of the changes.
func sayLinkSearch(w io.Writer) func(int) {
	return func(files int) {
		fmt.Fprintf(w, "searching the mirror for other names of %s hard-linked files below moved directories\n", output.Count(int64(files)))
	}
}

// printer makes what writes the changes as it is asked for. done is to be called at the end.
func (a *app) printer(cmd *cobra.Command, o diffOptions, j config.Job) (p *changes.Printer, done func() error, err error) {
	done = func() error { return nil }
	if a.json && !cmd.Flags().Changed("format") {
		o.format = string(changes.JSON)
	}
	format, err := changes.ParseFormat(o.format)
	if err == nil && a.json && format != changes.JSON {
		err = fmt.Errorf("--json and --format=%s exclude each other", format)
	}
	if err == nil && o.rejects != "" && format != changes.Lines {
		err = errors.New("--rejects goes with --format=lines: every other format carries all names")
	}
	if err == nil && o.absolute != "" && o.absolute != sourceItself && !strings.HasPrefix(o.absolute, "/") {
		err = fmt.Errorf("--absolute=%s is no absolute path", o.absolute)
	}
	if err != nil {
		return nil, done, usageError{err}
	}
	opts := changes.Options{Format: format, Prefix: o.absolute}
	if o.absolute == sourceItself {
		if opts.Prefix = j.Source; !strings.HasPrefix(j.Source, "/") {
			return nil, done, usageError{fmt.Errorf("the source of job %s is no path: say with --absolute=DIR where it is mounted", j.Name)}
		}
	}
	if o.rejects != "" {
		if err := a.outside(o.rejects); err != nil {
			return nil, done, err
		}
		file, err := os.OpenFile(o.rejects, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return nil, done, err
		}
		opts.Rejects, done = file, file.Close
	}
	return changes.New(cmd.OutOrStdout(), opts), done, nil
}

// chooseTwo finds the two restore points that are meant and says on w which they are.
func chooseTwo(w io.Writer, j config.Job, args []string) (from, to int64, err error) {
	found, err := apply.RestorePoints(j.Store, j.Catalog)
	if err != nil {
		return 0, 0, err
	}
	points := make([]dates.Point, len(found))
	for i, p := range found {
		points[i] = dates.Point{Run: p.Run, Date: p.Date.Local()}
	}
	chosen := [2]dates.Point{}
	for i, text := range []string{argument(args, 0), argument(args, 1)} {
		switch {
		case text != "":
			chosen[i], err = pickDate(w, text, points)
		case i == 1:
			chosen[i], err = pickDate(w, "latest", points)
		case len(points) < 2:
			err = hint.With(errors.New("there are fewer than two restore points: nothing to compare"),
				"what the next run would do: snapdiff run %s --dry-run", j.Name)
		default:
			chosen[i] = points[len(points)-2]
		}
		if err != nil {
			return 0, 0, fmt.Errorf("job %s: %w", j.Name, err)
		}
	}
	if chosen[0].Run > chosen[1].Run {
		return 0, 0, hint.With(usageError{fmt.Errorf("%s is newer than %s: %w", chosen[0], chosen[1], apply.ErrOrder)}, "give the two the other way round")
	}
	_, err = fmt.Fprintf(w, "from %s to %s\n", chosen[0], chosen[1])
	return chosen[0].Run, chosen[1].Run, err
}

func argument(args []string, i int) string {
	if i < len(args) {
		return args[i]
	}
	return ""
}

func pickDate(w io.Writer, text string, points []dates.Point) (dates.Point, error) {
	d, err := dates.Parse(text, time.Now())
	if err != nil {
		return dates.Point{}, usageError{err}
	}
	point, err := d.Pick(points)
	if err == nil {
		sayFuture(w, d, point)
	}
	return point, err
}
