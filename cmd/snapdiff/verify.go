package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/changes"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

func newVerifyCommand(a *app) *cobra.Command {
	var opts job.VerifyOptions
	var share string
	var limit bwLimitFlag
	var sums sumFlags
	cmd := &cobra.Command{
		Use:         "verify [JOB...]",
		Annotations: changing("begin it again; what --repair has begun the next run finishes"),
		Short:       "Compare the mirror with its snapshot, or the store with its checksums",
		Long: `Compares every name, every attribute and every byte of the mirror with the snapshot that the last run kept, and says
what differs: + is missing from the mirror, - is in it and should not be, M differs. Silent when all is well.

A share reads a part of the files only: --share 3/30 the third of thirty, --share 1/30 with --nightly another one each
night, so that thirty nights read everything. All names and directories are always compared. --newest compares only what the newest
run wrote.

--repair brings back from the snapshot what differs. History does not change by it: restore points that have the same contents as
the mirror have the right ones again. Files that should not be in the mirror are kept in history as foreign-N.

--checksums reads the mirror alone and compares it with the checksums that were taken when it was copied: for when the source or its
snapshot is not there. --history does the same with all that history has, --at DATE with what one restore point has there, and both
name the paths and restore points that are concerned.`,
		Example: `  snapdiff verify
  snapdiff verify mail --share 1/30 --nightly
  snapdiff verify mail --repair
  snapdiff verify mail --at 2026-03-01`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := parseShare(share, &opts, cmd.Flags().Changed("nightly"), time.Now()); err != nil {
				return usageError{err}
			}
			if err := sums.check(opts); err != nil {
				return usageError{err}
			}
			return a.eachJob(args, func(j config.Job) error {
				if sums.any() {
					return a.verifySums(cmd, j, opts, sums)
				}
				return a.verifyJob(cmd, limit.on(j), opts)
			})
		},
	}
	limit.add(cmd)
	cmd.Flags().BoolVar(&opts.Newest, "newest", false, "compare only what the newest run wrote")
	cmd.Flags().BoolVar(&sums.mirror, "checksums", false, "compare the mirror with the checksums taken when it was copied; needs no source")
	cmd.Flags().BoolVar(&sums.history, "history", false, "compare all of history with its checksums")
	cmd.Flags().StringVar(&sums.at, "at", "", "compare what the restore point of a `DATE` has in history with its checksums")
	cmd.Flags().StringVar(&share, "share", "", "read one share of the files only: `N/OF`")
	cmd.Flags().Bool("nightly", false, "with --share: go on to the next share each night")
	cmd.Flags().BoolVar(&opts.Repair, "repair", false, "bring back from the snapshot what differs")
	addProgressFlag(cmd)
	cmd.Flags().BoolVarP(&a.verbose, "verbose", "v", false, "say also that all is well, and what is done")
	return cmd
}

// parseShare reads "3/30". nightly moves on by one share for each day of the calendar.
func parseShare(text string, opts *job.VerifyOptions, nightly bool, now time.Time) error {
	if text == "" {
		if nightly {
			return fmt.Errorf("--nightly goes with --share")
		}
		return nil
	}
	part, of, found := strings.Cut(text, "/")
	p, err1 := strconv.Atoi(part)
	n, err2 := strconv.Atoi(of)
	if !found || err1 != nil || err2 != nil || n < 1 || p < 1 || p > n {
		return fmt.Errorf("--share %q: it is N/OF, such as 1/30", text)
	}
	if nightly {
		_, offset := now.Zone()
		days := (now.Unix() + int64(offset)) / (24 * 60 * 60)
		p = int((int64(p-1)+days)%int64(n)) + 1
	}
	opts.Part, opts.Of = p, n
	return nil
}

// verifyJob verifies one job's mirror and says what differs.
func (a *app) verifyJob(cmd *cobra.Command, j config.Job, opts job.VerifyOptions) error {
	stderr := cmd.ErrOrStderr()
	news, end := a.progress(cmd, j.Name+": ")
	opts.Progress = news
	v, err := job.Verify(cmd.Context(), j, opts, a.sayer(stderr, j))
	end()
	if v == nil {
		return err
	}
	a.note(slog.LevelInfo, j.Name, "", verifiedSentence(v), "compared_with", v.Run, "names", v.Names, "bytes", v.Bytes, "differences", v.Differences, "seconds", v.Seconds)
	out := cmd.OutOrStdout()
	if a.json {
		if werr := output.JSON(out, v); werr != nil {
			return werr
		}
	}
	format := changes.Human
	if a.json {
		format = changes.JSON
	}
	p := changes.New(out, changes.Options{Format: format})
	for _, c := range v.Found {
		if werr := p.Change(c); werr != nil {
			return werr
		}
	}
	if werr := p.Close(); werr != nil {
		return werr
	}
	if v.Repaired && !a.json {
		a.tell(stderr, slog.LevelWarn, j.Name, "", "the mirror was brought back to "+v.Run)
		for _, kept := range v.Kept {
			a.tell(stderr, slog.LevelWarn, j.Name, "", kept)
		}
	}
	if a.verbose && err == nil {
		fmt.Fprintf(stderr, "%s: %s\n", j.Name, verifiedSentence(v))
	}
	return err
}

// verifiedSentence is a verification for people.
func verifiedSentence(v *job.Verification) string {
	return fmt.Sprintf("%s names compared with the snapshot of %s, %s read on each side, in %s: %s differences, %d files that could not be copied",
		output.Count(v.Names), v.Run, output.Size(v.Bytes), output.Duration(time.Duration(v.Seconds*float64(time.Second))), output.Count(int64(v.Differences)), len(v.Known))
}
