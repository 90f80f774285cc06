package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExitStatuses(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"version", "x"}, 2, "see snapdiff --help"},
		{[]string{"--nonsense"}, 2, "unknown flag"},
		{[]string{"nonsense"}, 2, "unknown command"},
	} {
		var out, errs bytes.Buffer
		if got := execute(c.args, &out, &errs); got != c.status || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: status %d, want %d; stderr %q", c.args, got, c.status, errs.String())
		}
	}
}

func TestEveryHelpTextShowsTheExitStatuses(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"version", "--help"}} {
		var out bytes.Buffer
		execute(args, &out, &out)
		if !strings.Contains(out.String(), exitTable()) {
			t.Errorf("%q lacks the table of exit statuses:\n%s", args, out.String())
		}
	}
}

func TestJobsOfTheConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.toml")
	text := "[jobs.a]\nsource = \"/s\"\nstore = \"/t\"\n[jobs.b]\nsource = \"/s\"\nstore = \"/u\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &app{configPath: path}
	if jobs, err := a.jobs(nil); err != nil || len(jobs) != 2 {
		t.Errorf("all jobs: %v %v", jobs, err)
	}
	if _, err := a.job(""); statusOf(err) != 2 {
		t.Errorf("two jobs and none named: %v", err)
	}
	if _, err := a.jobs([]string{"c"}); statusOf(err) != 2 || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("unknown job: %v", err)
	}
}
