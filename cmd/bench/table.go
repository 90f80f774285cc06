package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// writeTable writes the medians, and beside each how many times as long as snapdiff it took.
func (b *bench) writeTable(out io.Writer) {
	fmt.Fprintf(out, "%d files in %d folders, %d changes, mirror on %s, median of %d\n\n", b.files, b.tree.dirs, b.changes, b.mirror, b.repeat)
	var all []saved
	for _, f := range b.figures {
		all = append(all, saved{What: f.what, Who: f.who, Seconds: f.seconds, Peak: f.peak})
	}
	rows := rowsOf(all)
	slices.SortStableFunc(rows, func(a, b row) int { return order(a.what) - order(b.what) })
	var text strings.Builder
	writeRows(&text, rows)
	fmt.Fprint(out, text.String())
}

// order puts the rows of one kind of measurement together.
func order(what string) int {
	return slices.Index([]string{"first copy, cold", "finding the changes, warm", "finding the changes, cold", "finding the changes, nothing changed",
		"incremental run, warm", "incremental run, cold", "nothing changed, warm"}, what)
}

// median gives the middle time, and the highest peak.
func median(figures []figure) (seconds float64, peak int64) {
	var all []float64
	for _, f := range figures {
		all = append(all, f.seconds)
		peak = max(peak, f.peak)
	}
	slices.Sort(all)
	return all[len(all)/2], peak
}
