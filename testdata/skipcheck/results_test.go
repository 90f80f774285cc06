package main

import (
	"io"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const passed = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n"
	const skipped = `{"Action":"output","Package":"p","Test":"TestB","Output":"needs root\n"}
{"Action":"skip","Package":"p","Test":"TestB"}` + "\n"
	for _, c := range []struct {
		name, mode, events string
		good               bool
	}{
		{"passed", "root", passed, true},
		{"nothing ran", "root", "", false},
		{"failed", "root", passed + `{"Action":"fail","Package":"p","Test":"TestB"}`, false},
		{"passed once, failed once", "root", passed + `{"Action":"fail","Package":"p","Test":"TestA"}`, false},
		{"died while running", "root", passed + `{"Action":"run","Package":"p","Test":"TestB"}`, false},
		{"package failed", "root", passed + `{"Action":"fail","Package":"p"}`, false},
		{"skipped with leave", "user", passed + skipped, true},
		{"skipped in another mode", "root", passed + skipped, false},
		{"skipped for another reason", "user", passed + strings.Replace(skipped, "needs root", "is slow", 1), false},
		{"skipped here, passed in the test machine", "root", skipped + strings.ReplaceAll(passed, "TestA", "TestB"), true},
		{"package without tests", "root", passed + `{"Action":"skip","Package":"q"}`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var reasons []string
			if c.mode == "user" {
				reasons = []string{"needs ZFS", "needs root"}
			}
			res := newResults()
			if err := readEvents(strings.NewReader(c.events), res.add); err != nil {
				t.Fatal(err)
			}
			if err := res.judge(reasons, io.Discard); (err == nil) != c.good {
				t.Errorf("verdict %v, want good = %v", err, c.good)
			}
		})
	}
}

func TestShowProgress(t *testing.T) {
	var out strings.Builder
	err := showProgress(strings.NewReader(`{"Action":"output","Package":"p","Test":"TestA","Output":"no good\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":1.5}
{"Action":"pass","Package":"q","Elapsed":2}
go: something is wrong
`), &out)
	want := "FAIL  p TestA 1.5s\nno good\nok    q 2.0s\ngo: something is wrong\n"
	if err != nil || out.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, out.String(), want)
	}
}
