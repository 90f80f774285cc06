package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// writeReport makes tables and plots of what was saved: bench.md, and an SVG for each corpus and for growth.
func writeReport(from, folder string) error {
	all, by, err := readSaved(from)
	if err != nil {
		return err
	}
	peers, cases := map[corpus][]saved{}, map[string][]saved{}
	for _, f := range all {
		if f.Case == "" {
			c := corpus{f.Files, f.Folders, f.Bytes, f.Changes, f.Mirror}
			peers[c] = append(peers[c], f)
		} else {
			cases[f.Case] = append(cases[f.Case], f)
		}
	}
	r := report{folder: folder}
	r.printf(`# Figures of the benchmark

Made by %s; what is measured, and how, is told in [performance.md](performance.md).
`, "`make bench-docs`")
	if by != nil {
		r.printf("All of it on one machine: %s; filesystems in loop files with direct I/O.\n", by)
	}
	if err := r.against(peers); err != nil {
		return err
	}
	if err := r.growth(cases); err != nil {
		return err
	}
	if by != nil {
		r.versions(by)
	}
	return os.WriteFile(filepath.Join(folder, "bench.md"), []byte(r.text.String()), 0o644)
}

// report is bench.md.
type report struct {
	folder string
	text   strings.Builder
}

func (r *report) printf(format string, args ...any) { fmt.Fprintf(&r.text, format, args...) }

// corpus is what contestants are compared on.
type corpus struct {
	files, folders, bytes, changes int
	mirror                         string
}

// String is for people.
func (c corpus) String() string {
	s := number(c.files) + " files"
	if c.bytes > 0 {
		s += fmt.Sprintf(" of %s to %s bytes", number(c.bytes/30), number(c.bytes))
	}
	if c.folders > 0 {
		s += fmt.Sprintf(" in %s folders", number(c.folders))
	}
	return s + fmt.Sprintf(", %s changes, mirror on %s", number(c.changes), c.mirror)
}

// against writes a section for each corpus, the largest first.
func (r *report) against(peers map[corpus][]saved) error {
	corpora := slices.SortedFunc(maps.Keys(peers), func(a, b corpus) int {
		return cmp.Or(cmp.Compare(b.files, a.files), cmp.Compare(b.changes, a.changes), strings.Compare(a.mirror, b.mirror))
	})
	for i, c := range corpora {
		name := "bench.svg"
		if i > 0 {
			name = fmt.Sprintf("bench-%d-%d-%s.svg", c.files, c.changes, c.mirror)
		}
		rows := inOrder(rowsOf(peers[c]))
		r.printf(`
## Against others: %s

Seconds are medians, with the lowest and the highest of several samples in brackets; memory is the peak of the largest single process. *Bare system calls* is the
floor: what the same change costs without catalog, checks and a way back. snapdiff, the floor and the parallel copies end when all is on the disk (%s); the others
leave that to the kernel.

![Seconds of each program](%s)
`, c, "`sync -f`", name)
		writeRows(&r.text, rows)
		r.commands(rows)
		if err := os.WriteFile(filepath.Join(r.folder, name), plot(c.String(), withoutParts(rows)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withoutParts leaves out the parts of the floor.
func withoutParts(rows []row) []row {
	return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return strings.Contains(r.who, ": ") })
}

// commands says what was run.
func (r *report) commands(rows []row) {
	if !slices.ContainsFunc(rows, func(r row) bool { return r.command != "" }) {
		return
	}
	r.printf("\nThe commands, of the first copy and of the first run after it:\n\n")
	for _, first := range rows {
		if first.what != kinds[0] || first.command == "" {
			continue
		}
		r.printf("- %s: `%s`", first.who, first.command)
		for _, later := range rows {
			if later.who == first.who && strings.HasPrefix(later.what, "incremental") && later.command != first.command {
				r.printf(", then `%s`", later.command)
				break
			}
		}
		r.printf("\n")
	}
}

func (r *report) versions(by *about) {
	r.printf("\n## Versions\n\n")
	for i, name := range slices.Sorted(maps.Keys(by.Versions)) {
		if i > 0 {
			r.printf(", ")
		}
		r.printf("%s %s", name, by.Versions[name])
	}
	r.printf(".\n")
}

// number writes thousands apart.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// tableHead begins a table of which the first column is text.
func tableHead(out io.Writer, columns ...string) {
	fmt.Fprintf(out, "\n| %s |\n| --- |%s\n", strings.Join(columns, " | "), strings.Repeat(" ---: |", len(columns)-1))
}
