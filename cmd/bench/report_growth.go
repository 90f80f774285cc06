package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// bySize are the cases that differ in the number of files alone.
var bySize = []string{"100k", "1m", "4m"}

// growth writes how time, memory and room grow with the tree and with the changes.
func (r *report) growth(cases map[string][]saved) error {
	if len(cases) == 0 {
		return nil
	}
	r.printf(`
## Growth

snapdiff alone; files of up to 300 bytes, in mail10k empty. *Cold* is without any caches, *warm* with what the run before left in them. Memory is that of the run.

![Seconds by the size of the tree and by the number of changes](growth.svg)
`)
	rows := r.trees(cases)
	rows = append(rows, r.changes(cases)...)
	r.shapes(cases)
	r.room(cases)
	r.scale(cases)
	return os.WriteFile(filepath.Join(r.folder, "growth.svg"), plot("Growth", rows), 0o644)
}

// trees compares the same changes in trees of several sizes. It gives the rows of the plot.
func (r *report) trees(cases map[string][]saved) (drawn []row) {
	var names []string
	for _, name := range bySize {
		if cases[name] != nil {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	columns := []string{"seconds, memory, and how many times the seconds of the smallest"}
	for _, name := range names {
		columns = append(columns, number(cases[name][0].Files)+" files")
	}
	r.printf("\n### The same changes in larger trees\n")
	tableHead(&r.text, columns...)
	for _, first := range timesOf(cases[names[0]]) {
		r.printf("| %s |", upper(first.what))
		for _, name := range names {
			now, ok := find(timesOf(cases[name]), first.what)
			if !ok {
				r.printf(" |")
				continue
			}
			r.printf(" %s, %s", now.time(), memory(now.peak))
			if name != names[0] && first.seconds > 0 {
				r.printf(" (%.2f)", now.seconds/first.seconds)
			}
			r.printf(" |")
			if strings.HasSuffix(first.what, ", cold") {
				drawn = append(drawn, row{what: strings.Replace(first.what, " in ", " changes in ", 1), who: number(cases[name][0].Files) + " files", seconds: now.seconds, peak: now.peak})
			}
		}
		r.printf("\n")
	}
	return inGroups(drawn)
}

// changes compares different numbers of changes in one tree.
func (r *report) changes(cases map[string][]saved) (drawn []row) {
	all := cases["1m"]
	if all == nil {
		return nil
	}
	type step struct {
		row
		changes int
	}
	var steps []step
	for _, now := range timesOf(all) {
		if text, ok := strings.CutSuffix(now.what, " in all folders, cold"); ok {
			if n, err := strconv.Atoi(strings.ReplaceAll(text, ",", "")); err == nil {
				steps = append(steps, step{now, n})
			}
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return a.changes - b.changes })
	title := fmt.Sprintf("changes in one tree of %s files, in all folders, cold", number(all[0].Files))
	r.printf("\n### %s\n", upper(title))
	tableHead(&r.text, "changes", "seconds", "microseconds a change", "memory", "bytes of memory a change")
	for _, s := range steps {
		r.printf("| %s | %s | %.0f | %s | %s |\n", number(s.changes), s.time(), s.seconds*1e6/float64(s.changes), memory(s.peak), number(int(s.peak)/s.changes))
		drawn = append(drawn, row{what: title, who: number(s.changes) + " changes", seconds: s.seconds, peak: s.peak})
	}
	return drawn
}

// shapes are the other cases: wide and deep directories, mail.
func (r *report) shapes(cases map[string][]saved) {
	r.printf("\n### Wide and deep directories, and mail\n")
	tableHead(&r.text, "case", "files", "folders", "what", "seconds", "memory")
	for _, c := range growthCases() {
		if slices.Contains(bySize, c.name) || cases[c.name] == nil {
			continue
		}
		for _, now := range timesOf(cases[c.name]) {
			r.printf("| %s | %s | %s | %s | %s | %s |\n", c.name, number(c.files), number(max(c.files/c.perDir, 1)), now.what, now.time(), memory(now.peak))
		}
	}
}

// room is what catalog, mirror and source take on their disks.
func (r *report) room(cases map[string][]saved) {
	head := false
	for _, c := range growthCases() {
		last, told := map[string]int64{}, map[string]bool{}
		for _, f := range cases[c.name] {
			if f.Room == 0 {
				continue
			}
			if !head {
				head = true
				r.printf("\n### Room\n\nBytes after each step, and how many more they are than before it for each file (of the source and the first copy) or change; of several samples the first. Of the mirror\nwithout the tables of inodes, which ext4 makes with the filesystem: 256 bytes for each inode.\n")
				tableHead(&r.text, "case", "after", "of", "bytes", "more for each")
			}
			count := c.files
			for _, step := range c.steps {
				if f.What == step.what {
					count = step.changes
				}
			}
			again := told[f.What+"\x00"+f.Who] // of several samples the first is told
			told[f.What+"\x00"+f.Who] = true
			more := ""
			if d := f.Room - last[f.Who]; d > 0 && (f.What != emptyStore || f.Who == sourceRoom) {
				more = fmt.Sprintf("%.0f", float64(d)/float64(count))
			}
			last[f.Who] = f.Room
			if again {
				continue
			}
			r.printf("| %s | %s | %s | %s | %s |\n", c.name, f.What, f.Who, number(int(f.Room)), more)
		}
	}
}

// timesOf are the rows of what was timed.
func timesOf(all []saved) []row {
	return rowsOf(slices.DeleteFunc(slices.Clone(all), func(f saved) bool { return f.Room != 0 }))
}

func find(rows []row, what string) (row, bool) {
	i := slices.IndexFunc(rows, func(r row) bool { return r.what == what })
	if i < 0 {
		return row{}, false
	}
	return rows[i], true
}

// inGroups puts rows of one kind together, in the order in which kinds first come.
func inGroups(rows []row) []row {
	var order []string
	for _, r := range rows {
		if !slices.Contains(order, r.what) {
			order = append(order, r.what)
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int { return slices.Index(order, a.what) - slices.Index(order, b.what) })
	return rows
}
