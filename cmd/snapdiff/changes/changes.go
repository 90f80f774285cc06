// Package changes writes what changed between two states of a tree: for people, as JSON, and as lists of paths that tar, rsync
// and other programs read. Paths are bytes; what a format cannot carry is said, never written wrongly.
package changes

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/diff"
)

// Format is how changes are written.
type Format string

const (
	Human   Format = "human"   // one line a change: + - M R, the path, and what differs
	JSON    Format = "json"    // one object a change and line
	Null    Format = "null"    // every path to copy, each ended by a NUL
	Lines   Format = "lines"   // the same, each ended by a newline; names with a control character go to Options.Rejects
	Rsync   Format = "rsync"   // the same, for rsync --from0 --files-from=-
	Tar     Format = "tar"     // the same and the directories that hold them, for tar --null --no-recursion -T -
	Deleted Format = "deleted" // every path that went, what is in a directory before it, each ended by a NUL
)

// Formats are all of them, in the order of the help text.
var Formats = []Format{Human, JSON, Null, Lines, Rsync, Tar, Deleted}

// ParseFormat reads a format's name.
func ParseFormat(name string) (Format, error) {
	names := make([]string, len(Formats))
	for i, f := range Formats {
		names[i] = string(f)
		if names[i] == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("no format %q; there are: %s", name, strings.Join(names, ", "))
}

// Paths are what is to be listed in the format.
func (f Format) Paths() apply.PathsOptions { return apply.PathsOptions{Dirs: f == Tar} }

// ListsPaths tells the formats that are lists of paths (Printer.Path); the others show changes (Printer.Change).
func (f Format) ListsPaths() bool { return f != Human && f != JSON }

// Options of a Printer.
type Options struct {
	Format Format
	// Prefix, when set, is the directory that every path is shown below; else paths are relative to the source.
	Prefix string
	// Rejects takes the names that Lines cannot carry, each ended by a NUL. Without it they make Close fail.
	Rejects io.Writer
}

// Printer writes changes in one format. Close it: what was written before is incomplete.
type Printer struct {
	o        Options
	w        *bufio.Writer
	rejected int
	first    string // of what was rejected
	root     bool   // Rsync: the top directory itself is still to be written
}

// New makes a printer.
func New(w io.Writer, o Options) *Printer {
	return &Printer{o: o, w: bufio.NewWriterSize(w, 64<<10)}
}

// PrintSet writes a change set that was not applied yet, as Human or JSON.
func PrintSet(w io.Writer, o Options, set *diff.ChangeSet) error {
	if o.Format.ListsPaths() {
		return fmt.Errorf("what is pending can be shown as %s and %s only: a list for other programs needs the restore point that the run will make", Human, JSON)
	}
	p := New(w, o)
	if err := apply.ChangesOf(set, p.Change); err != nil {
		return err
	}
	return p.Close()
}

// Change writes one change, in the formats Human and JSON.
func (p *Printer) Change(c apply.Change) error {
	if p.o.Format == JSON {
		return output.JSON(p.w, NewRecord(c, p.o.Prefix))
	}
	if c.Kind == apply.Modified && c.Why == apply.ReasonNames { // people see the names that came and went
		return nil
	}
	_, err := p.w.WriteString(Line(c, p.o.Prefix) + "\n")
	return err
}

// Line is a change for people: its kind, a blank, the path and what differs.
func Line(c apply.Change, prefix string) string {
	line := string(c.Kind) + " "
	if c.Kind == apply.Renamed {
		line += show(c.OldPath, prefix, c.Type) + " -> "
	}
	line += show(c.Path, prefix, c.Type)
	if why := reasons(c.Why &^ apply.ReasonNames); len(why) > 0 {
		line += " (" + strings.Join(why, ", ") + ")"
	}
	return line
}

// show is a path for people; directories end in a slash.
func show(path, prefix string, kind uint32) string {
	path = full(path, prefix)
	if kind == unix.S_IFDIR && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return output.Name(path)
}

// full is a path below a prefix, if there is one.
func full(path, prefix string) string {
	switch {
	case prefix == "" && path == "":
		return "."
	case prefix == "":
		return path
	case path == "":
		return prefix
	}
	return strings.TrimSuffix(prefix, "/") + "/" + path
}

// Record is a change in JSON. Keys stay.
type Record struct {
	Kind string `json:"kind"` // added, removed, modified, renamed; in logs also existed
	output.Path
	OldPath    string   `json:"old_path,omitempty"`
	OldPathB64 string   `json:"old_path_b64,omitempty"`
	Type       string   `json:"type"`
	Reasons    []string `json:"reasons"`
	Size       *int64   `json:"size,omitempty"`     // of regular files, where it is there now
	OldSize    *int64   `json:"old_size,omitempty"` // of regular files, where it was there before
}

var kinds = map[apply.ChangeKind]string{apply.Added: "added", apply.Removed: "removed", apply.Modified: "modified", apply.Renamed: "renamed", apply.Existed: "existed"}

// NewRecord makes a change ready for JSON, with paths below prefix if it is set.
func NewRecord(c apply.Change, prefix string) Record {
	r := Record{Kind: kinds[c.Kind], Path: output.NewPath(full(c.Path, prefix)), Type: TypeName(c.Type), Reasons: reasons(c.Why)}
	if c.OldPath != "" {
		old := output.NewPath(full(c.OldPath, prefix))
		r.OldPath, r.OldPathB64 = old.Path, old.B64
	}
	if c.Type == unix.S_IFREG {
		if c.Kind != apply.Removed {
			r.Size = &c.Size
		}
		if c.Kind != apply.Added && c.Kind != apply.Existed {
			r.OldSize = &c.OldSize
		}
	}
	return r
}

// TypeName is the type of an inode in words, by the S_IFMT part of its mode.
func TypeName(kind uint32) string {
	switch kind {
	case unix.S_IFREG:
		return "file"
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFLNK:
		return "symlink"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	case unix.S_IFBLK:
		return "block device"
	case unix.S_IFCHR:
		return "character device"
	}
	return "unknown"
}

// reasons are the words for what differs.
func reasons(why apply.Reason) []string {
	words := []string{}
	for _, r := range []struct {
		bit  apply.Reason
		word string
	}{
		{apply.ReasonReplaced, "replaced"}, {apply.ReasonData, "data"}, {apply.ReasonMetadata, "metadata"},
		{apply.ReasonXattrs, "xattrs"}, {apply.ReasonLink, "link"}, {apply.ReasonNames, "names"},
	} {
		if why&r.bit != 0 {
			words = append(words, r.word)
		}
	}
	return words
}

// Path writes one path, in the formats that list paths.
func (p *Printer) Path(path string) error {
	end := byte(0)
	switch p.o.Format {
	case Rsync:
		if path == "" { // named alone it would mean all that is in it; with any other path below ./ it comes by itself
			p.root = true
			return nil
		}
		if p.root = false; p.o.Prefix == "" {
			path = "./" + path // rsync takes # and ; at the beginning for a comment
		} else {
			path = full(path, p.o.Prefix)
		}
	case Lines:
		if path = full(path, p.o.Prefix); strings.ContainsFunc(path, isControl) {
			return p.reject(path)
		}
		end = '\n'
	default:
		path = full(path, p.o.Prefix)
	}
	p.w.WriteString(path)
	return p.w.WriteByte(end)
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

func (p *Printer) reject(path string) error {
	if p.rejected++; p.rejected == 1 {
		p.first = path
	}
	if p.o.Rejects == nil {
		return nil
	}
	_, err := io.WriteString(p.o.Rejects, path+"\x00")
	return err
}

// Format is how it writes.
func (p *Printer) Format() Format { return p.o.Format }

// Rejected is the number of names that the format could not carry.
func (p *Printer) Rejected() int { return p.rejected }

// Close writes what is left.
func (p *Printer) Close() error {
	if p.root {
		fmt.Fprintf(p.w, "%s/\x00", strings.TrimSuffix(full("", p.o.Prefix), "/"))
	}
	if err := p.w.Flush(); err != nil {
		return err
	}
	if p.rejected > 0 && p.o.Rejects == nil {
		return fmt.Errorf("%s paths cannot be written as lines and were left out, the first is %s: take the format null, or name a file for them with --rejects",
			output.Count(int64(p.rejected)), output.Name(p.first))
	}
	return nil
}
