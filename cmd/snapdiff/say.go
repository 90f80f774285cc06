package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/logging"
	"snapdiff/cmd/snapdiff/output"
)

// changing marks a command that changes or checks something, most often unattended: it is logged. left says what is to be done after a
// signal stopped it.
func changing(left string) map[string]string {
	return map[string]string{isLogged: "yes", leftBehind: left}
}

// isLogged is the annotation of a command that is logged.
const isLogged = "logged"

// openLog opens the log that the configuration and the flags ask for, once.
func (a *app) openLog(c config.Log, stderr io.Writer) error {
	if a.logger != nil {
		return nil
	}
	if !a.logged {
		c = config.Log{}
	}
	c, err := c.With(a.logTo, a.logFormat)
	if err != nil {
		return usageError{err}
	}
	l, err := logging.Open(c, stderr, a.verbose)
	if err == nil {
		a.logger = l
	}
	return err
}

// note writes what happened to a job into the log; nothing is said to people. run is "" where it is about none.
func (a *app) note(level slog.Level, job, run, text string, attrs ...any) {
	if a.logger == nil {
		return
	}
	about := []any{"job", job}
	if run != "" {
		about, text = append(about, "run", run), run+": "+text
	}
	a.logger.Log(context.Background(), level, job+": "+text, append(about, attrs...)...)
}

// tell tells people on w and the log.
func (a *app) tell(w io.Writer, level slog.Level, job, run, text string, attrs ...any) {
	a.note(level, job, run, text, attrs...)
	if a.logger != nil && a.logger.Replaces {
		return
	}
	if run != "" {
		text = run + ": " + text
	}
	a.bar.Clear()
	fmt.Fprintf(w, "%s: %s\n", job, output.Text(text))
}

// sayer says what is being done: to people where they want it, and to the log where that is to be verbose.
func (a *app) sayer(w io.Writer, j config.Job) func(string, ...any) {
	return func(format string, args ...any) {
		if a.verbose {
			a.tell(w, slog.LevelDebug, j.Name, "", fmt.Sprintf(format, args...))
		}
	}
}

// noteReport writes what a run did into the log.
func (a *app) noteReport(r *job.Report) {
	attrs := []any{"how", r.How, "added", r.Added, "removed", r.Removed, "modified", r.Modified, "meta", r.Meta, "files", r.Files, "bytes", r.Bytes,
		"seconds", r.Seconds, "incomplete", r.Failed}
	if r.Reason != "" {
		attrs = append(attrs, "reason", r.Reason)
	}
	if d := r.Directories; d != nil {
		attrs = append(attrs, "dirs_changed", d.Changed, "dirs_read_whole", d.Whole)
	}
	a.note(slog.LevelInfo, r.Job, r.Run, strings.TrimPrefix(r.Sentence(), r.Job+": "+r.Run+" "), attrs...)
}

// failed says what went wrong, one line an error and below it what to do next, and gives the exit status.
func (a *app) failed(ctx context.Context, cmd *cobra.Command, err error) int {
	stderr := cmd.ErrOrStderr()
	if !a.started {
		err = usageError{spelling(cmd, err)}
	}
	if a.logger == nil { // the configuration could not be read, or was not needed
		if lerr := a.openLog(config.Log{}, stderr); lerr != nil {
			a.logger = logging.None()
		}
	}
	all := a.failures(ctx, cmd, err)
	for i, one := range all {
		text, next := one.text, one.next
		attrs := []any{"status", exitStatus(ctx, one.err)}
		var f jobFailed
		if errors.As(one.err, &f) {
			attrs = append(attrs, "job", f.job)
		}
		if next != "" {
			attrs = append(attrs, "next", next)
		}
		a.logger.Error(text, attrs...)
		if a.logger.Replaces {
			continue
		}
		fmt.Fprintf(stderr, "snapdiff: %s\n", output.Text(text))
		if next != "" && (i+1 == len(all) || all[i+1].next != next) { // once, below the last of many files
			fmt.Fprintf(stderr, "  next: %s\n", output.Text(next))
		}
	}
	return exitStatus(ctx, err)
}

// exitStatus is the status of the table, but for signals.
func exitStatus(ctx context.Context, err error) int {
	status := statusOf(err)
	if status == statusStopped {
		status = 128 + int(signalOf(ctx))
	}
	return status
}

// failing is one of several errors, with what is said of it.
type failing struct {
	err        error
	text, next string
}

// failures gives what went wrong one by one. What several parts say that a signal stopped is there once.
func (a *app) failures(ctx context.Context, cmd *cobra.Command, err error) (all []failing) {
	for _, e := range each(err) {
		text, next := a.failure(ctx, cmd, e)
		if len(all) == 0 || all[len(all)-1].text != text {
			all = append(all, failing{e, text, next})
		}
	}
	return all
}

// failure is what is said of one error, on one line, and what to do next.
func (a *app) failure(ctx context.Context, cmd *cobra.Command, err error) (text, next string) {
	text, next = strings.ReplaceAll(err.Error(), "\n", "; "), hint.Of(err)
	switch {
	case stopped(ctx, err):
		name := ""
		var f jobFailed
		if errors.As(err, &f) {
			name = f.job + ": "
		}
		text, next = name+"stopped by "+signalName(ctx), cmd.Annotations[leftBehind]
	case next != "":
	case apply.IsDamage(err):
		next = (&apply.DamagedCatalog{}).Hint()
	case !a.started:
		next = "see " + cmd.CommandPath() + " --help"
	case notInPoint(err):
		next = "snapdiff find GLOB and snapdiff log PATH tell which restore points have what"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		next = "run snapdiff as root"
	}
	return text, next
}

// notInPoint tells that a restore point has not what was asked for.
func notInPoint(err error) bool {
	return is[*apply.NotInPoint](err) || errors.Is(err, apply.ErrNowhere)
}

// each gives what went wrong one by one: the errors of several jobs, and several of one job.
func each(err error) (all []error) {
	switch e := err.(type) {
	case jobFailed:
		for _, one := range each(e.error) {
			all = append(all, jobFailed{e.job, one})
		}
	case *apply.Unrestored:
		all = e.Errs
		if more := e.Names - int64(len(e.Errs)); more > 0 {
			all = append(all, fmt.Errorf("and %s others", output.Count(more)))
		}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, each(one)...)
		}
	default:
		all = []error{err}
	}
	return all
}
