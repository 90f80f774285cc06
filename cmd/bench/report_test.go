package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReport makes tables and plots of figures of which it knows what has to come out.
func TestReport(t *testing.T) {
	dir := t.TempDir()
	o := options{save: filepath.Join(dir, "figures")}
	o.append(saved{About: &about{2, 24 << 30, "6.1", map[string]string{"rsync": "3.2.7"}}})
	against := saved{Files: 1_000_000, Folders: 2000, Bytes: 6000, Changes: 10_000, Mirror: "ext4"}
	for _, f := range []struct {
		what, who, command string
		seconds            []float64
	}{
		{"first copy, cold", "snapdiff run", "snapdiff run", []float64{80}},
		{"first copy, cold", "rsync -aHAX --delete", "rsync SNAPSHOT-0/ TARGET/tree/", []float64{200}},
		{"incremental run, warm", "snapdiff run", "snapdiff run", []float64{3, 1, 2}},
		{"incremental run, warm", "bare system calls", "", []float64{1.6}},
		{"incremental run, warm", "bare system calls: search", "", []float64{0.4}},
		{"incremental run, warm", "btrfs send | receive", "btrfs send | btrfs receive", []float64{6, 8}},
	} {
		for _, s := range f.seconds {
			against.What, against.Who, against.Command, against.Seconds, against.Peak = f.what, f.who, f.command, s, 50<<20
			o.append(against)
		}
	}
	smaller := against
	smaller.Files, smaller.Who, smaller.Seconds = 1000, "snapdiff run", 0.25
	o.append(smaller)
	for _, f := range []saved{
		{Case: "100k", Files: 100_000, What: "10,000 in 200 folders, cold", Seconds: 2, Peak: 30 << 20},
		{Case: "1m", What: "", Who: "catalog", Room: 100_000},
		{Case: "1m", What: "first copy, cold", Seconds: 60, Peak: 40 << 20},
		{Case: "1m", What: "first copy", Who: "catalog", Room: 20_100_000},
		{Case: "1m", What: "10,000 in 200 folders, cold", Seconds: 2.5, Peak: 31 << 20},
		{Case: "1m", What: "10,000 in all folders, cold", Seconds: 6.1, Peak: 31 << 20},
		{Case: "1m", What: "1,000,000 in all folders, cold", Seconds: 200, Peak: 700 << 20},
		{Case: "1m", What: "1,000,000 in all folders", Who: "catalog", Room: 220_100_000},
		{Case: "mail1k", Files: 1_000_000, What: "a message in each", Seconds: 1.25},
	} {
		if f.Who == "" {
			f.Who = "snapdiff run"
		}
		if f.Case == "1m" {
			f.Files, f.Folders = 1_000_000, 2000
		}
		o.append(f)
	}
	if err := writeReport(o.save, dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bench.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 processors, 24 GB of memory, Linux 6.1", "rsync 3.2.7",
		"1,000,000 files of 200 to 6,000 bytes in 2,000 folders, 10,000 changes, mirror on ext4", "(bench.svg)", "(bench-1000-10000-ext4.svg)", "(growth.svg)",
		"| rsync -aHAX --delete | 200.00 | 2.50 |  | 50 MB |", "- rsync -aHAX --delete: `rsync SNAPSHOT-0/ TARGET/tree/`",
		"| snapdiff run | 2.00 (1.00 to 3.00) |  | 1.25 | 50 MB |", "| bare system calls | 1.60 | 0.80 |  | 50 MB |", "| - of that, search | 0.40 |",
		`| btrfs send \| receive | 7.00 (6.00 to 8.00) | 3.50 | 4.38 |`,
		"| 10,000 in 200 folders, cold | 2.00, 30 MB | 2.50, 31 MB (1.25) |", "| 1,000,000 | 200.00 | 200 | 700 MB | 734 |", "| mail1k | 1,000,000 | 1,000 | a message in each | 1.25 |",
		"| 1m | first copy | catalog | 20,100,000 | 20 |", "| 1m | 1,000,000 in all folders | catalog | 220,100,000 | 200 |",
		"100,000,000 × 60 µs = 100 minutes", "(200,000 - 2,000) × 2.0 ms = 396 s", "200 s + 396 s = 10 minutes", "100,000,000 × 20 = 2.0 GB", "1,000,000 × 200 = 0.20 GB",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("bench.md lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
	for _, name := range []string{"bench.svg", "bench-1000-10000-ext4.svg", "growth.svg"} {
		svg, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for d := xml.NewDecoder(bytes.NewReader(svg)); err == nil; _, err = d.Token() {
		}
		if err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
}
