package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// hookBench is a job whose hooks write what they are told into a file.
func newHookBench(t *testing.T, before string) (*jobBench, func() string) {
	b := newJobBench(t, "")
	log := filepath.Join(filepath.Dir(b.config), "log")
	script := filepath.Join(filepath.Dir(b.config), "hook")
	text := "#!/bin/sh\necho \"$SNAPDIFF_HOOK $SNAPDIFF_JOB $SNAPDIFF_RUN$SNAPDIFF_STATUS $1\" >> " + log + "\n" + before
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	settings := "[jobs.mail.hooks]\ntimeout = \"1s\"\n"
	for _, name := range []string{"before_snapshot", "after_snapshot", "after_run", "on_failure"} {
		settings += name + " = [\"" + script + "\", \"an argument\"]\n"
	}
	b.configure(settings)
	b.snapdiff(0, "init")
	return b, func() string {
		out, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
}

func TestHooks(t *testing.T) {
	b, log := newHookBench(t, "")
	b.write("a")
	b.silent("run")
	want := "before_snapshot mail  an argument\nafter_snapshot mail taken an argument\nafter_run mail r1 an argument\n"
	if got := log(); got != want {
		t.Errorf("the hooks were told:\n%swant:\n%s", got, want)
	}
}

// When the first hook fails or hangs, no snapshot is taken, what it stopped is started again, and the failure is reported.
func TestHooksThatFail(t *testing.T) {
	for name, c := range map[string]struct{ script, says string }{
		"fails": {`[ "$SNAPDIFF_HOOK" != before_snapshot ] || { echo no database; exit 3; }`, "exit status 3; it says: no database"},
		"hangs": {`[ "$SNAPDIFF_HOOK" != before_snapshot ] || sleep 100`, "longer than 1s"},
	} {
		t.Run(name, func(t *testing.T) {
			b, log := newHookBench(t, c.script)
			b.write("a")
			b.refused(1, c.says, "run")
			want := "before_snapshot mail  an argument\nafter_snapshot mail failed an argument\non_failure mail  an argument\n"
			if got := log(); got != want {
				t.Errorf("the hooks were told:\n%swant:\n%s", got, want)
			}
			if _, err := os.Lstat(filepath.Join(b.store, "tree/a")); err == nil {
				t.Error("the run was made all the same")
			}
		})
	}
}

// A hook after the snapshot that fails leaves no snapshot behind.
func TestHookAfterTheSnapshotFails(t *testing.T) {
	b, _ := newHookBench(t, `[ "$SNAPDIFF_HOOK" != after_snapshot ] || exit 1`)
	b.write("a")
	b.refused(1, "after_snapshot", "run")
	if n := b.snapshots(); n != 0 {
		t.Errorf("%d snapshots are left", n)
	}
	b.configure("[jobs.mail.hooks]\nafter_run = [\"relative\"]\n")
	if out := b.snapdiff(2, "run"); !strings.Contains(out, "absolute path") {
		t.Errorf("a relative program is not refused:\n%s", out)
	}
}

// A hook after a run that fails is a failure that somebody hears of, and the run is done all the same.
func TestHookAfterTheRunFails(t *testing.T) {
	b, log := newHookBench(t, `[ "$SNAPDIFF_HOOK" != after_run ] || { echo sorry; exit 3; }
[ "$SNAPDIFF_HOOK" != on_failure ] || echo "$SNAPDIFF_ERROR" > "$0.error"`)
	b.write("a")
	says := "r1 is done, but hook after_run (" + filepath.Join(filepath.Dir(b.config), "hook") + "): exit status 3; it says: sorry"
	b.refused(1, "snapdiff: mail: "+says+"\n  next: the mirror is right; ", "run")
	want := "before_snapshot mail  an argument\nafter_snapshot mail taken an argument\nafter_run mail r1 an argument\non_failure mail r1 an argument\n"
	if got := log(); got != want {
		t.Errorf("the hooks were told:\n%swant:\n%s", got, want)
	}
	if told, err := os.ReadFile(filepath.Join(filepath.Dir(b.config), "hook.error")); err != nil || string(told) != says+"\n" {
		t.Errorf("on_failure was told %q (%v), want %q", told, err, says)
	}
	b.equal()
	b.wantSnapshots(1, "the base")
}
