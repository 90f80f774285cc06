package main

import "fmt"

// What is planned for, and how its files are taken to lie; see docs/scale.md.
const (
	planFiles   = 100_000_000
	planChanges = planFiles / 100
	planFolders = planFiles / filesPerDir
)

// scale multiplies what growth has measured: the arithmetic of docs/scale.md.
func (r *report) scale(cases map[string][]saved) {
	all := cases["1m"]
	times := timesOf(all)
	first, have := find(times, "first copy, cold")
	few, haveFew := find(times, "10,000 in 200 folders, cold")
	some, haveSome := find(times, "10,000 in all folders, cold")
	many, haveMany := find(times, "1,000,000 in all folders, cold")
	if !have || !haveFew || !haveSome || !haveMany {
		return
	}
	files, folders := float64(all[0].Files), float64(max(all[0].Folders, all[0].Files/filesPerDir))
	r.printf("\n### %s files, %s changes a day\n\nOn paper: what is measured above at %s files, multiplied. What it means is told in [scale.md](scale.md).\n",
		number(planFiles), number(planChanges), number(all[0].Files))
	tableHead(&r.text, "what", "measured", "for "+number(planFiles)+" files in "+number(planFolders)+" folders")
	line := func(what, measured, result string, args ...any) {
		r.printf("| %s | %s | %s |\n", what, measured, fmt.Sprintf(result, args...))
	}
	line("first copy, time", fmt.Sprintf("%.0f s, %.0f µs a file", first.seconds, first.seconds*1e6/files), "%s × %.0f µs = %s, plus the bytes at the disk's rate",
		number(planFiles), first.seconds*1e6/files, long(first.seconds*planFiles/files))
	line("first copy, memory", memory(first.peak), "does not grow with the tree: see the cases of 100,000 to 4,000,000 files")
	perFolder := max((some.seconds-few.seconds)/(folders-200), 0)
	line("daily run, changes", fmt.Sprintf("%s changes: %.0f s", number(planChanges), many.seconds), "%.0f s", many.seconds)
	more := perFolder * (planFolders - folders)
	line("daily run, folders", fmt.Sprintf("10,000 changes in %s folders instead of 200: %.1f s instead of %.1f s, %.1f ms for each more", number(int(folders)), some.seconds, few.seconds, perFolder*1000),
		"(%s - %s) × %.1f ms = %.0f s", number(planFolders), number(int(folders)), perFolder*1000, more)
	line("daily run, together", "", "%.0f s + %.0f s = %s", many.seconds, more, long(many.seconds+more))
	line("daily run, memory", memory(many.peak)+" for 1,000,000 changes", "%s, and some 100 bytes for each further folder: %d MB", memory(many.peak), planFolders*100>>20)
	r.scaleRoom(all, line, files)
}

// scaleRoom is how much room it takes.
func (r *report) scaleRoom(all []saved, line func(what, measured, result string, args ...any), files float64) {
	room := map[string]map[string]float64{}
	last := map[string]float64{}
	for _, f := range all {
		if f.Room == 0 {
			continue
		}
		if room[f.Who] == nil {
			room[f.Who] = map[string]float64{}
		}
		room[f.Who][f.What] = float64(f.Room) - last[f.Who]
		last[f.Who] = float64(f.Room)
	}
	const step = "1,000,000 in all folders"
	for _, who := range []string{"catalog", "mirror and history", sourceRoom} {
		of := room[who]
		if of == nil {
			continue
		}
		perFile, perChange := of["first copy"]/files, of[step]/1e6
		if who != sourceRoom {
			line(who+", after the first copy", fmt.Sprintf("%.0f bytes a file", perFile), "%s × %.0f = %.1f GB", number(planFiles), perFile, perFile*planFiles/1e9)
		}
		line(who+", more each day", fmt.Sprintf("%.0f bytes a change", perChange), "%s × %.0f = %.2f GB", number(planChanges), perChange, perChange*planChanges/1e9)
	}
}

// long is a time for people.
func long(seconds float64) string {
	switch {
	case seconds < 120:
		return fmt.Sprintf("%.0f s", seconds)
	case seconds < 7200:
		return fmt.Sprintf("%.0f minutes", seconds/60)
	}
	return fmt.Sprintf("%.1f hours", seconds/3600)
}
