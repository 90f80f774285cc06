package main

import (
	"fmt"
	"io"
	"slices"
)

// writeTable writes the medians, and beside each how many times as long as snapdiff it took.
func (b *bench) writeTable(out io.Writer) {
	fmt.Fprintf(out, "%d files in %d folders, %d changes, mirror on %s, median of %d\n\n", b.files, b.tree.dirs, b.changes, b.mirror, b.repeat)
	fmt.Fprintln(out, "| what | with | seconds | against snapdiff | peak memory |\n| --- | --- | ---: | ---: | ---: |")
	type row struct{ what, who string }
	var rows []row
	byRow := map[row][]figure{}
	for _, f := range b.figures {
		r := row{f.what, f.who}
		if byRow[r] == nil {
			rows = append(rows, r)
		}
		byRow[r] = append(byRow[r], f)
	}
	slices.SortStableFunc(rows, func(a, b row) int { return order(a.what) - order(b.what) })
	for _, r := range rows {
		seconds, peak := median(byRow[r])
		ratio := ""
		own := byRow[row{r.what, (&snapdiff{}).name()}]
		if own == nil {
			own = byRow[row{r.what, (&finder{}).name()}]
		}
		if own != nil {
			base, _ := median(own)
			ratio = fmt.Sprintf("%.2f", seconds/base)
		}
		fmt.Fprintf(out, "| %s | %s | %.2f | %s | %d MB |\n", r.what, r.who, seconds, ratio, peak>>20)
	}
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
