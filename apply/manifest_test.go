package apply_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The manifest names what went, came and was, escaped; it has no line for what stayed.
func TestManifest(t *testing.T) {
	r := newExt4Rig(t)
	r.mustRun(`mkdir d; echo a > d/a; printf 'nl' > $'new\nline, =\\'; echo stays > stays; ln d/a link; setfattr -n user.x -v 1 d/a; chown 3:4 d/a; touch -d @5.25 d/a; chmod 604 stays`)
	r.mustRun(`rm $'new\nline, =\\'; echo more >> d/a; mv d $'\xff'; mkfifo p; mv stays moved`)
	text, err := os.ReadFile(filepath.Join(r.store, "history/r2/manifest"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, want := range []string{
		`snapdiff manifest 1`, `run 2`, `- * f new\x0aline\x2c\x20\x3d\x5c`, `- * d d`, `+ * d \xff`, `+ new p p`, `- * f stays`, `+ * f moved`,
		`= * 100644 3 4 0 2 5.250000000 2 here user.x=MQ== d/a link`, `= * 100604 0 0 0 6 * 1 later - stays`,
		`= * 100644 0 0 0 2 * 1 here - new\x0aline\x2c\x20\x3d\x5c`,
	} {
		if !slices.ContainsFunc(lines, func(l string) bool { return matches(l, want) }) {
			t.Errorf("no line %q in\n%s", want, text)
		}
	}
	for _, line := range lines {
		if f := strings.Fields(line); f[0] == "=" && f[9] == "here" {
			if _, err := os.Lstat(filepath.Join(r.store, "history/r2", f[1])); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
	r.mustRun(``)
	if _, err := os.Lstat(filepath.Join(r.store, "history/r3")); err == nil {
		t.Error("a run in which nothing changed has a history")
	}
}

// matches compares words; * stands for any.
func matches(line, want string) bool {
	return slices.EqualFunc(strings.Fields(line), strings.Fields(want), func(a, b string) bool { return a == b || b == "*" })
}
