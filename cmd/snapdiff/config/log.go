package config

import (
	"fmt"
	"path/filepath"
)

// Where a log can go that is no file.
const (
	LogJournal = "journal"
	LogStderr  = "stderr"
)

// Formats of a log.
const (
	LogText = "text"
	LogJSON = "json"
)

// Log says where commands that change or check something log what they do, besides what they say to people.
type Log struct {
	// To is "" (nowhere), LogJournal, LogStderr or the absolute path of a file that is appended to.
	To string
	// Format is LogText or LogJSON; the journal has fields of its own.
	Format string
}

type fileLog struct {
	To     string `toml:"to" like:"to = \"journal\""`
	Format string `toml:"format" like:"format = \"json\""`
}

func (f fileLog) check() (Log, *problem) {
	l := Log{f.To, f.Format}
	if l.Format == "" {
		l.Format = LogText
	}
	return l, l.check()
}

// check tells what is wrong with a log's settings.
func (l Log) check() *problem {
	switch {
	case l.Format != LogText && l.Format != LogJSON:
		return &problem{"format", fmt.Sprintf("format = %q: it is %q or %q", l.Format, LogText, LogJSON)}
	case l.To != "" && l.To != LogJournal && l.To != LogStderr && !filepath.IsAbs(l.To):
		return &problem{"to", fmt.Sprintf("to = %q: it is %q, %q or the absolute path of a file", l.To, LogJournal, LogStderr)}
	}
	return nil
}

// With gives the settings with those that the command line has instead; "" leaves one as it is. A format alone logs to
// stderr where nothing else is set.
func (l Log) With(to, format string) (Log, error) {
	if to != "" {
		l.To = to
	}
	if format != "" {
		l.Format = format
		if l.To == "" {
			l.To = LogStderr
		}
	}
	if l.Format == "" {
		l.Format = LogText
	}
	if p := l.check(); p != nil {
		flag := map[string]string{"to": "--log", "format": "--log-format"}[p.key]
		return l, fmt.Errorf("%s: %s", flag, p.text)
	}
	return l, nil
}
