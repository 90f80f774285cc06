package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/logging"
)

// records reads a log of JSON lines.
func records(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		r := map[string]any{}
		if err := json.Unmarshal(in.Bytes(), &r); err != nil {
			t.Fatalf("%q: %v", in.Text(), err)
		}
		all = append(all, r)
	}
	return all
}

// What a run does is in the log with fields, and nothing of it on the terminal.
func TestLogToAFile(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a", "b")
	b.snapdiff(0, "init")
	file := filepath.Join(t.TempDir(), "log")
	b.configure("[log]\nto = \"" + file + "\"\nformat = \"json\"\n")
	b.silent("run")
	b.silent("status", "--metrics", filepath.Join(t.TempDir(), "m"))
	b.snapdiff(2, "mount", "no date") // looking is not logged
	os.Rename(b.store, b.store+".away")
	out := b.snapdiff(1, "run")
	got := records(t, file)
	if len(got) != 4 {
		t.Fatalf("%d records: %v", len(got), got)
	}
	for i, want := range []map[string]any{
		{"level": "INFO", "msg": "mail: run begins", "job": "mail", "source": b.source},
		{"level": "INFO", "job": "mail", "run": "r1", "how": "first", "files": 2.0, "incomplete": 0.0},
		{"level": "INFO", "msg": "mail: run begins"},
		{"level": "ERROR", "status": 1.0},
	} {
		for key, value := range want {
			if got[i][key] != value {
				t.Errorf("record %d: %s is %v, want %v", i+1, key, got[i][key], value)
			}
		}
	}
	if msg, _ := got[1]["msg"].(string); !strings.HasPrefix(msg, "mail: r1: done: 2 files and 1 directories copied") {
		t.Errorf("the run is told as %q", msg)
	}
	if msg, _ := got[3]["msg"].(string); out != "snapdiff: "+msg+"\n" {
		t.Errorf("the failure is %q in the log, and on the terminal:\n%s", msg, out)
	}
}

// On stderr the log is instead of what people read.
func TestLogToStderr(t *testing.T) {
	b := newJobBench(t, "")
	b.store = filepath.Join(applytest.Mount(t, applytest.XFS), "store") // where init has nothing to warn of
	b.configure("")
	b.write("a")
	out := b.snapdiff(0, "init", "--log-format", "json")
	r := map[string]any{}
	if err := json.Unmarshal([]byte(out), &r); err != nil || r["job"] != "mail" {
		t.Fatalf("init logs %v\n%s", err, out)
	}
	if out := b.snapdiff(0, "run", "--log", "stderr"); strings.Count(out, "\n") != 2 || !strings.Contains(out, ` level=INFO msg="mail: r1: done: 1 files`) {
		t.Errorf("run logs:\n%s", out)
	}
	out = b.snapdiff(2, "run", "mial", "--log-format=json")
	if err := json.Unmarshal([]byte(out), &r); err != nil || r["next"] != "did you mean mail?" || r["level"] != "ERROR" {
		t.Errorf("a job that is not there: %v\n%s", err, out)
	}
	b.refused(2, `--log-format: format = "xml": it is "text" or "json"`, "run", "--log-format", "xml")
	b.refused(2, `--log: to = "relative"`, "run", "--log", "relative")
	b.refused(1, "open the log: open /nowhere/log", "run", "--log", "/nowhere/log")
}

// Each failure is one line, whatever its error is made of.
func TestOneLineAFailure(t *testing.T) {
	b := newJobBench(t, "")
	b.configure("[jobs.other]\nsource = \"/nowhere\"\nstore = \"/nowhere/else\"\n[jobs.mail.hooks]\non_failure = [\"/bin/false\"]\n")
	out := b.snapdiff(1, "run")
	for _, line := range strings.Split(strings.TrimSuffix(out, "\n"), "\n") {
		if !strings.HasPrefix(line, "snapdiff: mail: ") && !strings.HasPrefix(line, "snapdiff: other: ") && !strings.HasPrefix(line, "  next: ") {
			t.Errorf("a line that is neither a failure nor what to do next: %q", line)
		}
	}
	if !strings.Contains(out, "snapdiff: mail: hook on_failure (/bin/false): exit status 1\n") {
		t.Errorf("the hook of a job whose store is not there was not called:\n%s", out)
	}
}

// What is to be done about several failures in a row is said once, below the last of them, and names in it do nothing to the terminal.
func TestNextIsSaidOnce(t *testing.T) {
	a := &app{started: true, logger: logging.None()}
	cmd := newRootCommand(a)
	var out bytes.Buffer
	cmd.SetErr(&out)
	of := func(text string) error { return hint.With(errors.New(text), "look at \x1b[1m") }
	a.failed(t.Context(), cmd, errors.Join(of("one"), of("two"), of("two"), errors.New("three"), of("four")))
	if want := "snapdiff: one\nsnapdiff: two\n  next: look at \\x1b[1m\nsnapdiff: three\nsnapdiff: four\n  next: look at \\x1b[1m\n"; out.String() != want {
		t.Errorf("it says\n%swant\n%s", out.String(), want)
	}
}
