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
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
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
	if _, err := a.job(""); statusOf(err) != 2 || hint.Of(err) != "say which with -j JOB; there are: a, b" {
		t.Errorf("two jobs and none named: %v (%s)", err, hint.Of(err))
	}
	if _, err := a.jobs([]string{"c"}); statusOf(err) != 2 || !strings.Contains(err.Error(), "a, b") {
		t.Errorf("unknown job: %v", err)
	}
}

// Where no job is named, the path tells which is meant, if it does.
func TestJobOfAPath(t *testing.T) {
	var jobs []config.Job
	for _, j := range strings.Fields("home:/home mail:/srv/mail anna:/srv/mail/anna copy1:/data copy2:/data tank:tank/srv") {
		name, source, _ := strings.Cut(j, ":")
		jobs = append(jobs, config.Job{Name: name, Source: source})
	}
	all := "; there are: home, mail, anna, copy1, copy2, tank"
	for paths, want := range map[string]string{
		"/home": "home", "/home/": "home", "/home/x/../y": "home", "/home/../srv/mail/b": "mail", "/srv/mail/b": "mail", "/srv/mail/anna": "anna",
		"/srv/mail/anna/17": "anna", "/srv/mail/anna2": "mail", "/home/a /home/b c": "home",
		"":                   "the configuration has more than one job" + all,
		"home":               "the configuration has more than one job" + all,
		"/homework":          "no job has a source that is known to hold /homework" + all,
		"/tank/srv/x":        "no job has a source that is known to hold /tank/srv/x" + all,
		"/home/a /srv/mail/": "no job has a source that holds all the paths" + all,
		"/data/x":            "/data/x is in the source of more than one job; there are: copy1, copy2",
	} {
		got, err := oneOf(jobs, strings.Fields(paths))
		said := got.Name
		if err != nil {
			if statusOf(err) != 2 {
				t.Errorf("%q: %v means status %d, want 2", paths, err, statusOf(err))
			}
			said = err.Error() + strings.TrimPrefix(hint.Of(err), "say which with -j JOB")
		}
		if said != want {
			t.Errorf("%q: %s, want %s", paths, said, want)
		}
	}
	if j, err := oneOf(append(jobs, config.Job{Name: "root", Source: "/"}), []string{"/etc"}); err != nil || j.Name != "root" {
		t.Errorf("below a source /: %v %v", j.Name, err)
	}
}

// The commands that take a path of a source need no -j beside other jobs.
func TestCommandsKnowTheJobOfAPath(t *testing.T) {
	b := newJobBench(t, "")
	b.write("anna/17")
	b.snapdiff(0, "init")
	b.silent("run")
	b.configure("[jobs.other]\nsource = \"/nowhere\"\nstore = \"/nowhere/else\"\n")
	path := filepath.Join(b.source, "anna/17")
	to := filepath.Join(t.TempDir(), "back")
	list := filepath.Join(t.TempDir(), "list")
	b.allRight(os.WriteFile(list, []byte(path+"\n"), 0o600))
	for _, args := range [][]string{{"log", path}, {"find", filepath.Dir(path) + "/*"}, {"restore", "r1", path, to}, {"restore", "r1", "--files-from", list, t.TempDir()},
		{"tar", "r1", path}, {"erase", path, "--dry-run"}} {
		if status, out := b.any(args...); strings.Contains(out, "more than one job") || status != 0 && !strings.Contains(out, "delete") {
			t.Errorf("snapdiff %q: status %d\n%s", args, status, out)
		}
	}
	b.refused(2, "snapdiff: the configuration has more than one job\n  next: say which with -j JOB; there are: mail, other", "log", "anna/17")
	b.refused(2, "snapdiff: no job has a source that is known to hold /elsewhere/x\n  next: say which with -j JOB; there are: mail, other", "erase", "/elsewhere/x")
}
