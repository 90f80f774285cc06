package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
)

func TestStatus(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1", "a/2")
	wants := func(out string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("does not say %q:\n%s", w, out)
			}
		}
	}
	wants(b.snapdiff(0, "status"), "critical", "is not a snapdiff store")
	b.snapdiff(0, "init")
	wants(b.snapdiff(2, "status", "--nagios"), "SNAPDIFF CRITICAL - mail: no run has ever been finished\n")
	b.silent("run")
	b.write("a/3")
	b.silent("run")
	wants(b.snapdiff(0, "status"), "ok\tr2", "native")
	wants(b.snapdiff(0, "status", "--nagios", "--warning", "26h"), "SNAPDIFF OK - all is well, jobs: 1\n")
	wants(b.snapdiff(1, "status", "--nagios", "--warning", "1ns"), "SNAPDIFF WARNING - mail: the newest restore point is old")
	wants(b.snapdiff(2, "status", "--nagios", "--warning", "1ns", "--critical", "2ns"), "too old")
	wants(b.snapdiff(0, "status", "--nagios", "--warning=2d", "--critical", "90m"), "SNAPDIFF OK")
	for _, bad := range []string{"2x", "-1h", "", "20GB", "0"} {
		wants(b.snapdiff(2, "status", "--nagios", "--warning", bad), "an age is needed")
	}
	wants(b.snapdiff(0, "status", "--json"), `"job":"mail"`, `"state":"ok"`, `"restore_points":2`, `"added":1`)

	file := filepath.Join(t.TempDir(), "snapdiff.prom")
	b.silent("status", "--metrics", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wants(string(text), "# TYPE snapdiff_state gauge\n", `snapdiff_restore_points{snapdiff_job="mail"} 2`, `snapdiff_last_run_added{snapdiff_job="mail"} 1`)
	if out := b.snapdiff(0, "status", "--metrics", "-"); !strings.HasPrefix(out, "# HELP snapdiff_state ") {
		t.Errorf("on standard output:\n%s", out)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(file), ".snapdiff-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}

// A clock that was wrong when the newest restore point was made must not hide that runs have stopped.
func TestStatusOfARestorePointInTheFuture(t *testing.T) {
	b := newJobBench(t, "")
	b.snapdiff(0, "init")
	at := func(ahead time.Duration) string { return time.Now().Add(ahead).Format(time.RFC3339) }
	b.dated(at(-time.Hour), at(40*time.Second))
	b.refused(0, "ok\tr2\t0 s\t", "status")

	b = newJobBench(t, "")
	b.snapdiff(0, "init")
	b.dated(at(-time.Hour), at(48*time.Hour))
	b.refused(0, "warning\tr2\tin the future\t", "status")
	const words = "the newest restore point, r2, is dated in the future (20"
	b.refused(0, "mail: "+words, "status")
	b.refused(1, "SNAPDIFF WARNING - mail: "+words, "status", "--nagios", "--warning", "26h")
	b.refused(0, `snapdiff_state{snapdiff_job="mail"} 1`, "status", "--metrics", "-")
	if out := b.snapdiff(0, "status", "--json"); !strings.Contains(out, `"age_seconds":-172`) || !strings.Contains(out, `"state":"warning"`) {
		t.Errorf("status --json:\n%s", out)
	}
}

// A run that failed is told of, also where it failed before it had recorded anything, until one is done or held.
func TestStatusOfAFailedRun(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1", "a/2")
	b.snapdiff(0, "init")
	b.silent("run")
	fine := func(when string) {
		t.Helper()
		if out := b.snapdiff(0, "status", "--json"); strings.Contains(out, "failed") || strings.Contains(out, "problems") {
			t.Errorf("%s:\n%s", when, out)
		}
		b.refused(0, "snapdiff_failed_timestamp_seconds{snapdiff_job=\"mail\"} 0\n", "status", "--metrics", "-")
	}
	fails := func(words string) {
		t.Helper()
		b.refused(1, words, "run")
		b.refused(0, "mail: the last run failed 0 s ago (exit status 1): "+words, "status")
		b.refused(1, "SNAPDIFF WARNING - mail: the last run failed 0 s ago (exit status 1): "+words, "status", "--nagios")
		b.refused(0, `"failed":{"time":"20`, "status", "--json")
		b.refused(0, `"status":1,"error":"`+words, "status", "--json")
		if out := b.snapdiff(0, "status", "--metrics", "-"); strings.Contains(out, "snapdiff_failed_timestamp_seconds{snapdiff_job=\"mail\"} 0") || !strings.Contains(out, `snapdiff_state{snapdiff_job="mail"} 1`) {
			t.Errorf("status --metrics:\n%s", out)
		}
	}
	fine("after a run")
	b.configure("[jobs.mail.hooks]\nbefore_snapshot = [\"/bin/false\"]")
	b.snapdiff(1, "run", "--dry-run")
	fine("after a dry run that failed")
	fails("hook before_snapshot (/bin/false)")
	b.configure("")
	b.silent("run")
	fine("after a run that is done")

	b.sh("mv $S $S.away; btrfs -q subvolume create $S")
	fails(b.source + " is another source")
	b.sh("btrfs -q subvolume delete $S")
	fails("source")
	b.sh("mv $S.away $S; rm -r $S/a")
	b.configure("max_deleted = 1")
	b.snapdiff(5, "run")
	if out := b.snapdiff(0, "status", "--json"); strings.Contains(out, `"failed"`) || !strings.Contains(out, "is held") {
		t.Errorf("a run that is held has not failed:\n%s", out)
	}
	b.configure("")
	b.silent("run")
	store, err := apply.Open(b.store)
	b.must(err)
	b.snapdiff(4, "run")
	b.must(store.Close())
	fine("after a run that found another at work")
}

// A store that a run works on is no trouble, and can be looked at.
func TestStatusWhileARunIsOn(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1")
	b.snapdiff(0, "init")
	b.silent("run")
	b.write("a/2")
	store, err := apply.Open(b.store)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if out := b.snapdiff(0, "status"); !strings.Contains(out, "ok\tr1") {
		t.Errorf("a store in use is no trouble:\n%s", out)
	}
}

func TestCompletion(t *testing.T) {
	b := newJobBench(t, "")
	b.write("a/1")
	b.snapdiff(0, "init")
	b.silent("run")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"run", ""}, "mail\n"},
		{[]string{"status", "ma"}, "mail\n"},
		{[]string{"mount", ""}, "r1\t" + time.Now().Format("Monday 2006-01-02")},
		{[]string{"restore", "-j", ""}, "mail\n"},
	} {
		if out := b.snapdiff(0, append([]string{"__complete"}, c.args...)...); !strings.Contains(out, c.want) {
			t.Errorf("%q offers:\n%s", c.args, out)
		}
	}
	if out := b.snapdiff(0, "__complete", "run", "mail", ""); strings.HasPrefix(out, "mail") {
		t.Errorf("a job is offered twice:\n%s", out)
	}
}

func TestManPages(t *testing.T) {
	b := newJobBench(t, "")
	dir := t.TempDir()
	b.silent("man", dir)
	for _, name := range []string{"snapdiff.8", "snapdiff-run.8", "snapdiff.bash", "_snapdiff", "snapdiff.fish"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() < 200 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
