package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// row is all repetitions of one measurement.
type row struct {
	what, who       string
	command         string
	seconds         float64 // median
	lowest, highest float64
	peak            int64 // highest
	samples         int
}

// rowsOf puts repetitions together; rows come in the order in which they were first measured.
func rowsOf(all []saved) (rows []row) {
	byKey := map[[2]string][]figure{}
	var keys [][2]string
	for _, f := range all {
		k := [2]string{f.What, f.Who}
		if byKey[k] == nil {
			keys = append(keys, k)
		}
		byKey[k] = append(byKey[k], figure{what: f.What, who: f.Who, command: f.Command, seconds: f.Seconds, peak: f.Peak})
	}
	for _, k := range keys {
		r := row{what: k[0], who: k[1], command: byKey[k][0].command, samples: len(byKey[k]), lowest: byKey[k][0].seconds}
		r.seconds, r.peak = median(byKey[k])
		for _, f := range byKey[k] {
			r.lowest, r.highest = min(r.lowest, f.seconds), max(r.highest, f.seconds)
		}
		rows = append(rows, r)
	}
	return rows
}

// writeTable writes what was measured just now.
func (b *bench) writeTable(out io.Writer) {
	fmt.Fprintf(out, "%d files in %d folders, %d changes, mirror on %s, median of %d\n", b.files, b.tree.dirs, b.changes, b.mirror, b.repeat)
	var all []saved
	for _, f := range b.figures {
		all = append(all, saved{What: f.what, Who: f.who, Seconds: f.seconds, Peak: f.peak})
	}
	writeRows(out, inOrder(rowsOf(all)))
}

// kinds are what is measured against others, in the order in which it is shown.
var kinds = []string{"first copy, cold", "incremental run, warm", "incremental run, cold", "nothing changed, warm",
	"finding the changes, warm", "finding the changes, cold", "finding the changes, nothing changed"}

// inOrder puts the rows of one kind together.
func inOrder(rows []row) []row {
	slices.SortStableFunc(rows, func(a, b row) int { return slices.Index(kinds, a.what) - slices.Index(kinds, b.what) })
	return rows
}

// writeRows writes a table for each kind of measurement: how long each took, and how many times as long as snapdiff and as the floor.
func writeRows(out io.Writer, rows []row) {
	what := ""
	for _, r := range rows {
		if r.what != what {
			what = r.what
			fmt.Fprintf(out, "\n**%s**\n\n| | seconds | against snapdiff | against bare system calls | peak memory |\n| --- | ---: | ---: | ---: | ---: |\n", upper(what))
		}
		floor := (&bare{}).name()
		name := strings.ReplaceAll(r.who, "|", `\|`)
		if part, ok := strings.CutPrefix(name, floor+": "); ok {
			name = "- of that, " + part
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", name, r.time(), against(rows, r, (&snapdiff{}).name()), against(rows, r, floor), memory(r.peak))
	}
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// time is the median and, of several samples, the lowest and the highest.
func (r row) time() string {
	if r.samples < 2 {
		return fmt.Sprintf("%.2f", r.seconds)
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", r.seconds, r.lowest, r.highest)
}

// against is how many times as long a row took as somebody's of the same kind, "" where there is none, or it is that row.
func against(rows []row, r row, who string) string {
	i := slices.IndexFunc(rows, func(o row) bool { return o.what == r.what && o.who == who })
	if i < 0 || rows[i].seconds == 0 || r.who == who {
		return ""
	}
	return fmt.Sprintf("%.2f", r.seconds/rows[i].seconds)
}

func memory(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("%d MB", bytes>>20)
}

// median gives the middle time, and the highest peak.
func median(figures []figure) (seconds float64, peak int64) {
	var all []float64
	for _, f := range figures {
		all = append(all, f.seconds)
		peak = max(peak, f.peak)
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2, peak
}
