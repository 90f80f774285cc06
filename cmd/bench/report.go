package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// saved is a figure as a line of the file that -save names.
type saved struct {
	Case    string  `json:"case"` // of -growth; "" for the comparison with others
	Files   int     `json:"files"`
	Changes int     `json:"changes"`
	Mirror  string  `json:"mirror"`
	What    string  `json:"what"`
	Who     string  `json:"who"`
	Seconds float64 `json:"seconds"`
	Peak    int64   `json:"peak"`
}

// keep adds a figure to the file.
func (b *bench) keep(f figure) {
	if b.save == "" {
		return
	}
	line, err := json.Marshal(saved{b.title, b.files, b.changes, b.mirror, f.what, f.who, f.seconds, f.peak})
	if err == nil {
		var out *os.File
		if out, err = os.OpenFile(b.save, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644); err == nil {
			_, err = out.Write(append(line, '\n'))
			err = errors.Join(err, out.Close())
		}
	}
	if err != nil {
		say("the figure is not saved: %v", err)
	}
}

// readSaved reads them all.
func readSaved(path string) (all []saved, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		var f saved
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, f)
	}
	return all, lines.Err()
}

// row is all repetitions of one measurement.
type row struct {
	what, who       string
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
		byKey[k] = append(byKey[k], figure{f.What, f.Who, f.Seconds, f.Peak})
	}
	for _, k := range keys {
		r := row{what: k[0], who: k[1], samples: len(byKey[k]), lowest: byKey[k][0].seconds}
		r.seconds, r.peak = median(byKey[k])
		for _, f := range byKey[k] {
			r.lowest, r.highest = min(r.lowest, f.seconds), max(r.highest, f.seconds)
		}
		rows = append(rows, r)
	}
	return rows
}

// writeReport makes tables and plots of what was saved.
func writeReport(from, folder string) error {
	all, err := readSaved(from)
	if err != nil {
		return err
	}
	var peers []saved
	cases := map[string][]saved{}
	var names []string
	for _, f := range all {
		switch {
		case f.Case == "":
			peers = append(peers, f)
		default:
			if cases[f.Case] == nil {
				names = append(names, f.Case)
			}
			cases[f.Case] = append(cases[f.Case], f)
		}
	}
	var text strings.Builder
	fmt.Fprintln(&text, "# Figures of the benchmark\n\nMade by `make bench-docs`; what they mean and on what machine they were made is in [performance.md](performance.md).")
	if len(peers) > 0 {
		rows := rowsOf(peers)
		slices.SortStableFunc(rows, func(a, b row) int { return order(a.what) - order(b.what) })
		fmt.Fprintf(&text, "\n## Against others\n\n%d files, %d changes, mirror on %s. Seconds: median, and lowest to highest of several.\n\n![Seconds of each program](bench.svg)\n\n",
			peers[0].Files, peers[0].Changes, peers[0].Mirror)
		writeRows(&text, rows)
		if err := os.WriteFile(filepath.Join(folder, "bench.svg"), plot(rows), 0o644); err != nil {
			return err
		}
	}
	for i, name := range names {
		if i == 0 {
			fmt.Fprint(&text, "\n## Growth\n\nsnapdiff alone, files of up to 300 bytes.\n")
		}
		fmt.Fprintf(&text, "\n### %s: %d files\n\n", name, cases[name][0].Files)
		writeRows(&text, rowsOf(cases[name]))
	}
	return os.WriteFile(filepath.Join(folder, "bench.md"), []byte(text.String()), 0o644)
}

func writeRows(out *strings.Builder, rows []row) {
	own := map[string]float64{}
	others := false
	for _, r := range rows {
		if r.who == (&snapdiff{}).name() {
			own[r.what] = r.seconds
		} else {
			others = true
		}
	}
	head, line := "| what | with | seconds | peak memory |", "| --- | --- | ---: | ---: |"
	if others {
		head, line = "| what | with | seconds | against snapdiff | peak memory |", "| --- | --- | ---: | ---: | ---: |"
	}
	fmt.Fprintln(out, head+"\n"+line)
	for _, r := range rows {
		seconds, peak := fmt.Sprintf("%.2f", r.seconds), ""
		if r.samples > 1 {
			seconds += fmt.Sprintf(" (%.2f–%.2f)", r.lowest, r.highest)
		}
		if r.peak > 0 {
			peak = fmt.Sprintf("%d MB", r.peak>>20)
		}
		ratio := ""
		if others {
			ratio = " |"
			if base := own[r.what]; base > 0 {
				ratio = fmt.Sprintf("%.2f |", r.seconds/base)
			}
			ratio = " " + strings.TrimLeft(ratio, " ")
		}
		fmt.Fprintf(out, "| %s | %s | %s |%s %s |\n", r.what, r.who, seconds, ratio, peak)
	}
}
