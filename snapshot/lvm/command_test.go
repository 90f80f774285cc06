package lvm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	. "snapdiff/apply/applytest"
)

// TestCommands: several commands are one process, up to the first that fails; another takes the next.
func TestCommands(t *testing.T) {
	v := NewVolume(t, Classic, 8<<20)
	vg, _, _ := strings.Cut(v.Name, "/")
	var c commands
	defer c.end()
	tag := func(name string) []string { return []string{"lvchange", "-q", "--addtag", name, v.Name} }
	must(t, c.change(t.Context(), tag("one"), tag("two")))
	first := c.on
	all, err := c.volumes(t.Context(), vg)
	must(t, err)
	alone, err := ask(t.Context(), "lvs", "-a", "--config", `report/time_format="%s"`, "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields, vg)
	must(t, err)
	if want, err := parseVolumes(alone, vg); err != nil || !slices.Equal(all, want) || len(all) == 0 {
		t.Errorf("there are %+v, %v, and in a script %+v", want, err, all)
	}
	if c.on != first || first == nil {
		t.Error("the report took another process")
	}
	sh(t, "lvchange -q --addtag other "+v.Name) // by somebody else in between
	must(t, c.change(t.Context(), tag("more")))
	err = c.change(t.Context(), tag("three"), []string{"lvchange", "-q", "--addtag", "x", v.Name + "-none"}, tag("four"))
	var failed *CommandError
	if !errors.As(err, &failed) || !strings.Contains(failed.Text, "-none") || !strings.HasPrefix(failed.Command, "lvchange -q --addtag x ") {
		t.Errorf("a command in the middle fails: %v", err)
	}
	if strings.Contains(failed.Text, v.Name+" changed") || c.on != nil {
		t.Errorf("it said %q", failed.Text)
	}
	must(t, c.change(t.Context(), tag("five"), tag(strings.Repeat("long", 60)), tag("six"))) // more than a line takes
	got := strings.TrimSpace(sh(t, "lvs --noheadings -o tags "+v.Name))
	if want := "five," + strings.Repeat("long", 60) + ",more,one,other,six,three,two"; got != want {
		t.Errorf("the tags are %s, want %s", got, want)
	}
	process := c.on.cmd.Process
	c.end()
	if err := process.Signal(syscall.Signal(0)); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("its process is still there: %v", err)
	}
}

// TestCommandsEnd: what has ended begins no command that changes something, and gets no report.
func TestCommandsEnd(t *testing.T) {
	v := NewVolume(t, Classic, 8<<20)
	vg, _, _ := strings.Cut(v.Name, "/")
	var c commands
	defer c.end()
	ctx, cancel := context.WithCancel(t.Context())
	must(t, c.change(ctx, []string{"lvchange", "-q", "--addtag", "one", v.Name}))
	cancel()
	if err := c.change(ctx, []string{"lvchange", "-q", "--addtag", "two", v.Name}); !errors.Is(err, context.Canceled) {
		t.Errorf("a change: %v", err)
	}
	if _, err := c.volumes(ctx, vg); !errors.Is(err, context.Canceled) {
		t.Errorf("a report: %v", err)
	}
	c.on.cmd.Process.Kill() // as the kernel does that is short of memory
	if _, err := c.volumes(t.Context(), vg); err == nil {
		t.Error("a process that was killed has told something")
	}
	if all, err := c.volumes(t.Context(), vg); err != nil || len(all) == 0 {
		t.Errorf("the next one tells %v, %v", all, err)
	}
	if got := strings.TrimSpace(sh(t, "lvs --noheadings -o tags "+v.Name)); got != "one" {
		t.Errorf("the tags are %s", got)
	}
}

// TestScriptLine: what a script cannot say is not said in one.
func TestScriptLine(t *testing.T) {
	for word, want := range map[string]bool{"vg/a-b_c.d+e": true, "lv_uuid=abc": true, "20%ORIGIN": true, `a="b"`: true, "": false, "a b": false, "a#b": false, `"ab"`: false, "a\nb": false,
		"a'b": false, "a\\b": false, strings.Repeat("x", 300): false} {
		if line, ok := scriptLine([]string{"lvs", word}); ok != want || ok && line != "lvs "+word {
			t.Errorf("%q: %q, %v", word, line, ok)
		}
	}
}

// TestWrongDelta: the versions of thin_delta that do not tell all that changed are not believed, however they print what they are.
func TestWrongDelta(t *testing.T) {
	for said, want := range map[string]string{
		"0.9.0\n": "", "0.7.6": "", "thin_delta 1.0.6\n": "", "1.0.12": "", "1.1.0": "", "": "", "no version": "", "2.0.1": "", "11.0.1": "", "1.10": "",
		"thin_delta 1.0.5\n": "1.0.5", "1.0.0": "1.0.0", "1.0": "1.0", "thin-provisioning-tools 1.0.3-rc": "1.0.3",
	} {
		if got := wrongDelta(said); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "thin_delta"), []byte("#!/bin/sh\necho thin_delta 1.0.4\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	if err := checkDelta(t.Context()); !errors.Is(err, errWrongDelta) || !strings.Contains(err.Error(), "1.0.4") {
		t.Error(err)
	}
}
