package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
)

// usageError is a command line that makes no sense.
type usageError struct{ error }

// Unwrap gives the error that cobra or the command had.
func (u usageError) Unwrap() error { return u.error }

// exit is one row of the table of exit statuses.
type exit struct {
	status int
	text   string
	// is tells whether an error means this status; nil for those that are not found by their error.
	is func(error) bool
}

// exits is the one table from error to exit status. It is shown in every help text. The first row whose test holds counts.
var exits = []exit{
	{0, "done", nil},
	{2, "usage or configuration error", isUsage},
	{statusIncomplete, "incomplete: some files could not be copied, all else is done", is[*job.Incomplete]},
	{4, "another snapdiff works on this store", func(err error) bool { return errors.Is(err, apply.ErrLocked) }},
	{5, "held: more files would be deleted or changed than allowed, or it looks like ransomware", isHeld},
	{6, "verify or doctor found something wrong", func(err error) bool { return is[*job.Differs](err) || is[*job.Rotten](err) || is[*job.Unsound](err) }},
	{7, "no room on the store's filesystem, or for a snapshot on the source's", func(err error) bool { return is[*job.NoSpace](err) || is[*job.SourceFull](err) }},
	{9, "the catalog is damaged or lost: see snapdiff doctor", apply.IsDamage},
	{8, "a disk, the store's or the source's, fails or is read-only", is[*job.DiskFails]},
	{statusStopped, "stopped by SIGINT (129: by SIGHUP, 143: by SIGTERM)", func(err error) bool { return errors.Is(err, context.Canceled) }},
	{1, "failed", func(error) bool { return true }},
}

// is tells an error by its type.
func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

func isHeld(err error) bool { return is[*job.RunHeld](err) || is[*job.NothingDropped](err) }

func isUsage(err error) bool {
	var usage usageError
	var conf *config.Error
	return errors.As(err, &usage) || errors.As(err, &conf)
}

// statusStopped is the exit status after SIGINT; as in shells that of another signal is 128 and its number.
const statusStopped = 130

// statusIncomplete is the exit status of a run that did all but some files.
const statusIncomplete = 3

// statusOf is the exit status that an error means. Of several jobs' errors the first counts that is more than incomplete.
func statusOf(err error) int {
	if err == nil {
		return 0
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		status := 0
		for _, e := range many.Unwrap() {
			if s := statusOf(e); status == 0 || status == statusIncomplete {
				status = s
			}
		}
		return status
	}
	for _, e := range exits {
		if e.is != nil && e.is(err) {
			return e.status
		}
	}
	return 1
}

// exitTable is the table as the help texts show it.
func exitTable() string {
	var b strings.Builder
	b.WriteString("\nExit status:\n")
	rows := slices.Clone(exits)
	slices.SortFunc(rows, func(x, y exit) int { return cmp.Compare(x.status, y.status) })
	for _, e := range rows {
		fmt.Fprintf(&b, "  %3d  %s\n", e.status, e.text)
	}
	return b.String()
}
