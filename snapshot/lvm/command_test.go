package lvm

import (
	"errors"
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
)

// TestScript: several commands are one process, up to the first that fails.
func TestScript(t *testing.T) {
	v := NewVolume(t, Classic, 8<<20)
	tag := func(name string) []string { return []string{"lvchange", "-q", "--addtag", name, v.Name} }
	must(t, changeAll(t.Context(), tag("one"), tag("two")))
	err := changeAll(t.Context(), tag("three"), []string{"lvchange", "-q", "--addtag", "x", v.Name + "-none"}, tag("four"))
	var failed *CommandError
	if !errors.As(err, &failed) || !strings.Contains(failed.Text, "-none") {
		t.Errorf("a command in the middle fails: %v", err)
	}
	must(t, changeAll(t.Context(), tag("five"), tag(strings.Repeat("long", 60)), tag("six"))) // more than a line takes
	got := strings.TrimSpace(sh(t, "lvs --noheadings -o tags "+v.Name))
	if want := "five," + strings.Repeat("long", 60) + ",one,six,three,two"; got != want {
		t.Errorf("the tags are %s, want %s", got, want)
	}
}

// TestScriptOf: what a script cannot say is not said in one.
func TestScriptOf(t *testing.T) {
	for word, want := range map[string]bool{"vg/a-b_c.d+e": true, "lv_uuid=abc": true, "20%ORIGIN": true, "": false, "a b": false, "a#b": false, `a"b`: false, "a\nb": false,
		strings.Repeat("x", 300): false} {
		if script, ok := scriptOf([][]string{{"lvs", word}}); ok != want || ok && script != "#!lvm\nlvs "+word+"\n" {
			t.Errorf("%q: %q, %v", word, script, ok)
		}
	}
}
