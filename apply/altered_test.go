package apply_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
)

// What somebody does to the mirror between two runs, and what happens in the source meanwhile.
var alterations = []struct{ name, theirs, ours string }{
	{"moved directory removed", `rm -r d`, `mv d moved; echo more >> moved/a`},
	{"moved directory replaced by a file", `rm -r d; echo theirs > d`, `mv d moved`},
	{"moved directory replaced by a symlink", `rm -r d; ln -s /etc d`, `mv d moved; echo more >> moved/a`},
	{"deleted directory removed", `rm -r d`, `rm -r d`},
	{"deleted file removed", `rm d/a`, `rm d/a`},
	{"moved file removed", `rm d/a`, `mv d/a a`},
	{"changed file removed", `rm d/a`, `echo more >> d/a`},
	{"changed and moved file removed", `rm d/a`, `echo more >> d/a; mv d/a a`},
	{"changed file replaced by a directory", `rm d/a; mkdir d/a; echo x > d/a/x`, `echo more >> d/a`},
	{"file with other metadata removed", `rm d/a`, `chmod 600 d/a`},
	{"linked file removed", `rm d/a`, `ln d/a d/a2`},
	{"directory of a new file removed", `rm -r d`, `echo new > d/e/new`},
	{"directory of a new directory removed", `rm -r d`, `mkdir -p d/e/new/new; echo new > d/e/new/new/new`},
	{"directory replaced by a symlink", `rm -r d; ln -s /etc d`, `echo new > d/e/new; echo more >> d/a; chmod 600 d/b; rm d/e/c; mkdir d/dir`},
	{"directory with other metadata replaced by a symlink", `rm -r d; ln -s /etc d`, `chmod 700 d`},
	{"directory replaced by a fifo", `rm -r d; mkfifo d`, `echo new > d/e/new; echo more >> d/a`},
	{"all removed", `rm -r *`, `echo more >> d/e/c; mv d/b b; mv d/e e`},
	{"in the way of new things", `mkdir new; echo x > new/x; echo x > newdir; ln -s /etc newlink`, `echo new > new; mkdir newdir; ln d/a newlink`},
	{"in the way of a moved directory", `mkdir moved; echo x > moved/x`, `mv d moved`},
}

const unaltered = `mkdir -p d/e keep; echo a > d/a; echo b > d/b; echo c > d/e/c; echo keep > keep/k`

// Whatever somebody does to the mirror, no run stops, each says so, and a full comparison makes all good. Nothing outside of
// the mirror is touched.
func TestAlteredMirrors(t *testing.T) {
	etc := stat(t, "/etc")
	r := newExt4Rig(t)
	r.day(unaltered, false, 0)
	for _, a := range alterations {
		sh(t, filepath.Join(r.store, "tree"), a.theirs)
		sh(t, r.source, a.ours)
		r.mustSay(a.name, r.bringAgain(r.snapshot(), false, apply.Options{}))
		r.mend(a.name)
		r.day(`rm -r *; `+unaltered, false, 0)
	}
	if now := stat(t, "/etc"); now.Ctim != etc.Ctim || now.Mode != etc.Mode {
		t.Error("/etc was touched through a symlink in the mirror")
	}
}

// mustSay: the result and the store say that somebody altered the mirror, and it is no incomplete run.
func (r *rig) mustSay(name string, res *apply.Result) {
	r.t.Helper()
	if !strings.HasPrefix(res.Altered, "the mirror was altered: ") || len(res.Warnings) == 0 || len(res.Incomplete) > 0 {
		r.t.Errorf("%s: altered %q, warnings %q, incomplete %v", name, res.Altered, res.Warnings, res.Incomplete)
	}
	if reason := r.needsFull(); reason != res.Altered {
		r.t.Errorf("%s: the store remembers %q, the run said %q", name, reason, res.Altered)
	}
}

func (r *rig) needsFull() string {
	r.t.Helper()
	s, err := apply.Open(r.store)
	if err != nil {
		r.t.Fatal(err)
	}
	defer s.Close()
	reason, err := s.NeedsFull()
	if err != nil {
		r.t.Fatal(err)
	}
	return reason
}

// mend compares in full, after which the mirror equals its snapshot and a native diff will do again.
func (r *rig) mend(name string) {
	r.t.Helper()
	res := r.bringAgain(r.snapshot(), true, apply.Options{})
	if res.Altered != "" || r.needsFull() != "" {
		r.t.Errorf("%s: after the full comparison: %q", name, res.Altered)
	}
	r.judge()
	if r.t.Failed() {
		r.t.Fatalf("after: %s", name)
	}
}

// A run that met an altered mirror and is cut off has not forgotten that when it is finished.
func TestAlteredMirrorAndCut(t *testing.T) {
	r := newExt4Rig(t)
	r.interrupted = true
	sh(t, r.source, unaltered)
	if err := r.run(apply.Options{}); err != nil {
		t.Fatal(err)
	}
	for after := 0; ; after++ {
		apply.SetSmallPlan(t, after%2*1000)
		sh(t, r.source, `echo more >> d/a; echo more >> d/b; mv d/e e; mv keep moved; rm d/b; echo new > e/new`)
		sh(t, filepath.Join(r.store, "tree"), `rm -r keep d/a d/e`)
		n := 0
		err := r.run(apply.Options{Step: func(string) error {
			if n++; n > after {
				return errCut
			}
			return nil
		}})
		if errors.Is(err, errCut) {
			if err := r.resume(apply.Options{}); err != nil {
				t.Fatalf("cut after %d steps: %v", after, err)
			}
		}
		if r.needsFull() == "" {
			t.Fatalf("cut after %d steps: the store does not know that its mirror was altered", after)
		}
		r.mend("")
		if !errors.Is(err, errCut) {
			break
		}
		sh(t, r.source, `rm -r *; `+unaltered)
		r.day(``, false, 0)
		r.judge()
	}
	if _, err := os.Lstat(filepath.Join(r.store, "tree/moved/k")); err != nil {
		t.Error(err)
	}
}
