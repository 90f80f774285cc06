package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// columns gives chosen columns of a table.
func columns(table string, which ...int) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for _, i := range which {
			b.WriteString(cells[i] + " ")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestLogCommand(t *testing.T) {
	b := newJobBench(t, "")
	b.write("anna/17", "other")
	b.snapdiff(0, "init")
	b.snapdiff(0, "run")
	for _, script := range []string{
		"echo more > anna/17",
		"mv anna bert; chmod 600 bert/17",
		"setfattr -n user.x -v y bert/17; ln bert/17 second",
		"mv bert/17 gone; rm second; mkdir anna; echo again > anna/17",
		"rm gone; echo edited > anna/new; mv anna/new anna/17",
	} {
		b.sh("cd $S; " + script)
		b.silent("run")
	}
	want := `r1 7 B = anna/17 
r2 5 B M anna/17 (data) 
r3 5 B R anna/17 -> bert/17 (metadata) 
r4 5 B M bert/17 (xattrs, link) 
r5 5 B R bert/17 -> gone (link) 
r5 6 B + anna/17 
r6  - gone 
r6 7 B M anna/17 (replaced, data) 
`
	for _, path := range []string{"anna/17", filepath.Join(b.source, "anna/17")} {
		if got := columns(b.stdout(0, "log", path), 0, 2, 3, 4); got != want {
			t.Errorf("log %s:\n%swant:\n%s", path, got, want)
		}
	}
	if got, want := columns(b.stdout(0, "log", "anna"), 0, 2, 3, 4), "r1  = anna/ \nr3  R anna/ -> bert/ \nr5  + anna/ \n"; got != want {
		t.Errorf("log of a directory:\n%swant:\n%s", got, want)
	}
	got := b.stdout(0, "log", "bert/17", "--json")
	for _, words := range []string{`{"run":"r1","date":"20`, `"kind":"existed","path":"anna/17","type":"file","reasons":[],"size":7,"mtime":"20`,
		`"kind":"renamed","path":"bert/17","old_path":"anna/17"`, `"kind":"removed","path":"gone","type":"file","reasons":[],"old_size":5}`} {
		if !strings.Contains(got, words) {
			t.Errorf("JSON lacks %s:\n%s", words, got)
		}
	}
	b.refused(1, "no restore point has it\n  next: snapdiff find GLOB", "log", "never/was")
	b.refused(2, "is not in the source", "log", "/etc")
}
