package apply_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapdiff/apply"
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
		`snapdiff manifest 3`, `- 1 new\x0aline\x2c\x20\x3d\x5c *`, `- 1 d *`, `+ 1 \xff`, `+ 1 p`, `- 1 stays *`, `+ 1 moved`, `@ * d 0 1 \xff`, `@ * f 0 1 link * a`,
		`@ * f 0 1 moved`, `@ * f 0 -`, `= * 100644 3 4 0 2 5.250000000 2 here user.x=MQ==`, `= * 100604 0 0 0 6 * 1 later -`, `= * 100644 0 0 0 2 * 1 here -`,
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
	left, err := os.ReadDir(filepath.Join(r.store, "history/r3"))
	if err != nil || len(left) != 1 {
		t.Errorf("a run in which nothing changed has a history of more than its manifest: %v, %v", left, err)
	}
}

// A run in which nothing changed, and that is cut off at any step, leaves nothing that looks like a catalog that is too old; the next one
// completes it.
func TestEmptyRunCutOff(t *testing.T) {
	r := newExt4Rig(t)
	r.mustRun(`echo a > a`)
	r.mustRun(`echo b > a`)
	r.interrupted = true
	for i := 0; ; i++ {
		steps := 0
		err := r.run(cutAfter(i, &steps))
		if err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		store, openErr := apply.Open(r.store) // every run begins with this
		must(t, openErr)
		must(t, errors.Join(store.CompleteManifests(t.Context()), store.Close()))
		r.mustRun(``)
		healthy(t, r.store, fmt.Sprintf("cut before step %d", i+1))
		if err == nil {
			if i < 2 {
				t.Errorf("a run has %d steps only", i)
			}
			break
		}
	}
	for run := range int(sqlCount(t, r.store, "runs")) {
		if _, err := os.Stat(filepath.Join(r.store, fmt.Sprintf("history/r%d/manifest", run+1))); err != nil {
			t.Error(err)
		}
	}
}

// matches compares words; * stands for any.
func matches(line, want string) bool {
	return slices.EqualFunc(strings.Fields(line), strings.Fields(want), func(a, b string) bool { return a == b || b == "*" })
}
