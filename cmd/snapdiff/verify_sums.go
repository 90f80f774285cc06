package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

// sumFlags choose what is compared with checksums instead of a snapshot.
type sumFlags struct {
	mirror, history bool
	at              string
}

func (f sumFlags) any() bool { return f.mirror || f.history || f.at != "" }

// check refuses what does not go together.
func (f sumFlags) check(opts job.VerifyOptions) error {
	n := 0
	for _, set := range []bool{f.mirror, f.history, f.at != "", opts.Newest} {
		if set {
			n++
		}
	}
	switch {
	case n > 1:
		return errors.New("--newest, --checksums, --history and --at are four different things: choose one")
	case f.any() && opts.Repair:
		return errors.New("--repair takes the right contents from the snapshot: leave out --checksums, --history and --at")
	case (f.history || f.at != "" || opts.Newest) && opts.Of > 1:
		return errors.New("--share is for the whole mirror")
	}
	return nil
}

// verifySums compares the store of one job with its checksums and says what is not as it was copied.
func (a *app) verifySums(cmd *cobra.Command, j config.Job, opts job.VerifyOptions, f sumFlags) error {
	stderr, out := cmd.ErrOrStderr(), cmd.OutOrStdout()
	point := int64(-1)
	switch {
	case f.history:
		point = 0
	case f.at != "":
		var err error
		if point, err = chooseRun(stderr, j, f.at); err != nil {
			return err
		}
	}
	v, err := job.VerifySums(cmd.Context(), j, point, opts)
	if v == nil {
		return err
	}
	text := fmt.Sprintf("%s files of the %s compared with their checksums, %s read, in %s: %d rotten or missing, %s without a checksum", output.Count(v.Files), v.What,
		output.Size(v.Bytes), output.Duration(time.Duration(v.Seconds*float64(time.Second))), len(v.Rotten)+len(v.Lost), output.Count(v.Unknown))
	a.note(slog.LevelInfo, j.Name, "", text, "files", v.Files, "bytes", v.Bytes, "rotten", len(v.Rotten), "lost", len(v.Lost), "unknown", v.Unknown, "seconds", v.Seconds)
	if a.json {
		if werr := output.JSON(out, v); werr != nil {
			return werr
		}
		return err
	}
	for _, name := range v.Names {
		fmt.Fprintf(out, "M %s (rotten)\n", output.Name(name))
	}
	for _, l := range v.Lost {
		fmt.Fprintf(out, "%s: %s (%s)\n", l.Points, output.Name(l.Name), l.Object)
	}
	for _, text := range v.Altered {
		fmt.Fprintf(out, "%s\n", text)
	}
	if a.verbose || v.Unknown > 0 && err == nil {
		fmt.Fprintf(stderr, "%s: %s\n", j.Name, text)
	}
	return err
}
