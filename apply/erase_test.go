package apply_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// erase opens the store and erases.
func (p *pruneRig) erase(path string, dry bool, step func(string) error) (apply.Erased, error) {
	p.t.Helper()
	s, err := apply.Open(p.store)
	if err != nil {
		p.t.Fatal(err)
	}
	defer s.Close()
	return s.Erase(context.Background(), path, dry, apply.Options{Step: step})
}

// without makes the portraits as they are to be without some names: a link count and times of directories stay as they were.
func without(portrait string, paths ...string) string {
	var lines []string
	for _, line := range strings.Split(portrait, "\n") {
		gone := false
		for _, path := range paths {
			gone = gone || strings.HasPrefix(line, `"/`+path+`" `) || strings.HasPrefix(line, `"/`+path+"/")
		}
		if !gone {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// What is erased is nowhere any more, in no restore point and in no file of the store; all else is as it was, also what had been
// in the erased directory, or the erased file itself, under other names.
func TestErase(t *testing.T) {
	p := newPruneRig(t, Ext4)
	p.day("mkdir -p secret/deep other; echo SECRET-1 > secret/f; echo SECRET-2 > secret/deep/g; echo moved > secret/m; echo linked > secret/l; ln secret/l other/l; echo o > other/o")
	p.day("echo SECRET-3 > secret/f; setfattr -n user.SECRET-4 -v SECRET-5 secret/f; echo SECRET-6 > secret/tmp; mv secret/m other/m; echo x >> other/o")
	p.day("rm secret/tmp; echo SECRET-7 > secret/deep/h; chmod 600 secret/f; chmod 600 other/m")
	if _, err := p.erase("secret", true, nil); !errors.Is(err, apply.ErrStillThere) {
		t.Errorf("it is still in the source: %v", err)
	}
	p.day("rm -r secret; echo y >> other/m")
	for run, text := range p.want {
		p.want[run] = without(text, "secret")
	}
	foretold, err := p.erase("secret", true, nil)
	if err != nil || len(foretold.Points) != 3 || foretold.Files < 5 || foretold.Bytes == 0 {
		t.Fatalf("%+v %v", foretold, err)
	}
	if got := fmt.Sprint(foretold.Elsewhere); got != "[{other/l [1 2 3 4]} {other/m [2 3 4]}]" || foretold.More {
		t.Errorf("it stays as %s, %v", got, foretold.More)
	}
	for steps := 0; ; steps++ { // killed before each step
		left := steps
		_, err = p.erase("secret", false, func(string) error {
			if left--; left < 0 {
				return errKilled
			}
			return nil
		})
		if !errors.Is(err, errKilled) {
			break
		}
	}
	if err != nil && !errors.Is(err, apply.ErrNowhere) {
		t.Fatal(err)
	}
	for run, want := range p.want { // the groups of links are numbered as they are met
		if got := p.portrait(run); noGroups(got) != noGroups(want) {
			t.Errorf("r%d: %s", run, firstDifference(noGroups(want), noGroups(got)))
		}
	}
	p.judge()
	if out, err := exec.Command("grep", "-rlaiE", "SECRET", p.store).CombinedOutput(); err == nil {
		t.Errorf("these still have something of it:\n%s", out)
	}
	if _, err := p.erase("secret", false, nil); !errors.Is(err, apply.ErrNowhere) {
		t.Errorf("erased twice: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(p.store, "history/*/manifest.new")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	p.want = map[int64]string{4: p.want[4]}
	if _, err := p.prune(nil, 1, 2, 3); err != nil {
		t.Fatal(err)
	}
	p.nothingLeft()
}

// noGroups takes the number of the link group out of a portrait.
func noGroups(portrait string) string {
	lines := strings.Split(portrait, "\n")
	for i, line := range lines {
		if head, tail, ok := strings.Cut(line, "} "); ok {
			_, tail, _ = strings.Cut(tail, " ")
			lines[i] = head + "} " + tail
		}
	}
	return strings.Join(lines, "\n")
}
