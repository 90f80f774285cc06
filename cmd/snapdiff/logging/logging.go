// Package logging opens the log that commands write besides what they say to people: log/slog to the systemd journal, to a file
// or to stderr.
package logging

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	slogjournal "github.com/systemd/slog-journal"
	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
)

// Log is an open log.
type Log struct {
	*slog.Logger
	// Replaces tells that what goes to the log need not be said on stderr too: it would be there twice.
	Replaces bool

	file *os.File
}

// None is a log that keeps nothing.
func None() *Log { return &Log{Logger: slog.New(slog.DiscardHandler)} }

// Open opens a log. verbose: with records of the level debug.
func Open(c config.Log, stderr io.Writer, verbose bool) (*Log, error) {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	switch c.To {
	case "":
		return None(), nil
	case config.LogJournal:
		h, err := slogjournal.NewHandler(&slogjournal.Options{Level: level, ReplaceAttr: journalField})
		if err != nil {
			return nil, fmt.Errorf("open the log: the journal cannot be reached: %w", err)
		}
		return &Log{Logger: slog.New(h), Replaces: isJournal(stderr)}, nil
	case config.LogStderr:
		return &Log{Logger: slog.New(handler(c.Format, stderr, level)), Replaces: true}, nil
	}
	f, err := os.OpenFile(c.To, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, noFile(c.To, err)
	}
	return &Log{Logger: slog.New(handler(c.Format, f, level)), file: f}, nil
}

// Look tells why a log could not be opened for a command that is logged; nil where it could. It makes no file.
func Look(c config.Log) error {
	if c.To == "" || c.To == config.LogJournal || c.To == config.LogStderr {
		l, err := Open(c, io.Discard, false)
		if err != nil {
			return err
		}
		return l.Close()
	}
	err := unix.Access(c.To, unix.W_OK)
	if errors.Is(err, fs.ErrNotExist) { // it would be made
		err = unix.Access(filepath.Dir(c.To), unix.W_OK|unix.X_OK)
	} else if st, serr := os.Stat(c.To); serr == nil && st.IsDir() {
		err = unix.EISDIR
	}
	if err != nil {
		return noFile(c.To, &fs.PathError{Op: "open", Path: c.To, Err: err})
	}
	return nil
}

// noFile says that a log cannot be opened at path.
func noFile(path string, err error) error {
	next := "name another file: to in [log] of the configuration, or --log"
	if errors.Is(err, fs.ErrNotExist) {
		next = "mkdir -p " + filepath.Dir(path) + ", or " + next
	}
	return hint.With(fmt.Errorf("open the log: %w", err), "%s", next)
}

// Close closes a file.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}

func handler(format string, w io.Writer, level slog.Level) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// journalField names fields as the journal takes them: journalctl SNAPDIFF_JOB=mail.
func journalField(_ []string, a slog.Attr) slog.Attr {
	a.Key = "SNAPDIFF_" + strings.ToUpper(a.Key)
	return a
}

// isJournal tells that w leads to the journal already, as in a unit of systemd (systemd.exec(5), JOURNAL_STREAM).
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}
