package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/job"
)

func TestExitStatuses(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"version"}, 0, ""},
		{[]string{"version", "x"}, 2, "see snapdiff version --help"},
		{[]string{"--nonsense"}, 2, "unknown flag"},
		{[]string{"nonsense"}, 2, "unknown command"},
		{[]string{"rnu"}, 2, "next: did you mean run?"},
		{[]string{"run", "--fulll"}, 2, "unknown flag: --fulll\n  next: did you mean --full? All are in snapdiff run --help"},
		{[]string{"run", "--jsn"}, 2, "did you mean --json?"},
		{[]string{"restore"}, 2, "usage: snapdiff restore DATE PATH [TO]"},
		{[]string{"log", "a", "b"}, 2, "(arguments given: 2)\n  next: see snapdiff log --help"},
	} {
		var out, errs bytes.Buffer
		if got := execute(c.args, &out, &errs); got != c.status || !strings.Contains(errs.String(), c.stderr) {
			t.Errorf("%q: status %d, want %d; stderr %q", c.args, got, c.status, errs.String())
		}
	}
}

func TestStatusOfSeveralJobs(t *testing.T) {
	incomplete, locked, failed := fmt.Errorf("a: %w", &job.Incomplete{Files: 1}), fmt.Errorf("b: %w", apply.ErrLocked), errors.New("c: failed")
	for _, c := range []struct {
		errs []error
		want int
	}{
		{nil, 0}, {[]error{incomplete}, 3}, {[]error{incomplete, locked}, 4}, {[]error{locked, failed}, 4}, {[]error{failed, locked}, 1},
		{[]error{incomplete, incomplete}, 3}, {[]error{fmt.Errorf("d: %w", errors.Join(&job.RunHeld{}, failed)), locked}, 5},
	} {
		if got := statusOf(errors.Join(c.errs...)); got != c.want {
			t.Errorf("%v: status %d, want %d", c.errs, got, c.want)
		}
	}
}

func TestEveryHelpTextShowsTheExitStatuses(t *testing.T) {
	texts := [][]string{{"--help"}}
	for _, cmd := range newRootCommand(&app{}).Commands() {
		if cmd.Runnable() {
			texts = append(texts, []string{cmd.Name(), "--help"})
		}
	}
	if len(texts) < 20 {
		t.Errorf("there are only %d help texts: %q", len(texts), texts)
	}
	for _, args := range texts {
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
