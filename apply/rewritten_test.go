package apply_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// copyBefore copies the catalog before the step at (from 1) and ends everything before the step until. begun, if not nil, is set if a prune or
// erase has committed its begin by then.
func (p *pruneRig) copyBefore(at, until int, begun *bool) apply.Options {
	steps, noting := 0, false
	return apply.Options{Step: func(name string) error {
		noting = noting || name == "prune: note"
		if steps++; steps == at {
			sh(p.t, p.store, `mkdir ../copy; cp catalog.db* ../copy`)
			if begun != nil {
				*begun = noting
			}
		}
		if steps == until {
			return errKilled
		}
		return nil
	}}
}

// giveUpCopied begins a run, whose catalog is copied and which is cut off, and gives it up: by its plan, or with the catalog lost. false: there was nothing
// to give up.
func (p *pruneRig) giveUpCopied(at, until int, lost bool) bool {
	p.t.Helper()
	switch err := p.run(p.copyBefore(at, until, nil)); {
	case err == nil:
		p.committed()
		return false
	case !errors.Is(err, errKilled):
		p.t.Fatal(err)
	}
	if !lost {
		must(p.t, p.abandon(apply.Options{}))
		return true
	}
	sh(p.t, p.store, `rm catalog.db*`)
	done := p.rebuild()
	if run := int64(len(p.taken)); done.Newest == run {
		p.committed()
	}
	return done.Cut != 0
}

// TestOldCatalogAfterAPrune copies the catalog before a step of a prune, an erase, or a run that is given up then, and puts it back when that has
// ended. Where the copy is from before its begin, or from anywhere in a prune, it is refused, by everybody, and doctor makes it anew; else what it says is ended once more. All
// restore points are right then, and after the next run and prune.
func TestOldCatalogAfterAPrune(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 14))
	p := newPruneRig(t, MirrorKinds[r.IntN(len(MirrorKinds))])
	p.interrupted = true
	rounds, each := 8, 30
	if Soak() {
		rounds, each = 400, 200
	}
	more := func(script string) {
		for range each {
			_ = RandomChange(r).Apply(p.source)
		}
		sh(t, p.source, script)
	}
	p.day("mkdir own own/d; echo 1 > own/one; echo 2 > own/two; echo 1 > own/d/1")
	p.day("echo more >> own/one")
	for i := range rounds {
		gone := fmt.Sprintf("gone%d", i)
		more("mkdir " + gone + "; echo it > " + gone + "/it; chmod 640 own/two")
		p.day("true")
		more("rm -r " + gone + "; mv own/one own/o; mv own/two own/one; mv own/o own/two; echo and more >> own/one; chmod 600 own/two")
		kept := p.kept()
		kind, at := i%4, 1+r.IntN(2)*r.IntN(25) // half of them before anything is done
		begun := false
		switch kind {
		case 0:
			p.day("true")
			_, err := p.prune(p.copyBefore(at, 0, nil).Step, kept[1])
			must(t, err)
			p.dropped(kept[1])
		case 1:
			p.day("true")
			_, err := p.erase(gone, false, p.copyBefore(at, 0, &begun).Step)
			must(t, err)
			for run, text := range p.want {
				now := p.portrait(run)
				if want := noGroups(without(text, gone)); noGroups(now) != want {
					t.Errorf("r%d: %s", run, firstDifference(want, noGroups(now)))
				}
				p.want[run] = now
			}
		default:
			if !p.giveUpCopied(at, at+1+r.IntN(40), kind == 3) {
				sh(t, p.store, `rm -rf ../copy`)
				p.fullDay(false)
				continue
			}
		}
		if _, err := os.Lstat(filepath.Join(p.store, "../copy")); err != nil {
			continue // it had fewer steps
		}
		sh(t, p.store, `rm catalog.db*; mv ../copy/* .; rmdir ../copy`)
		p.putBack(!begun, kept[0])
		p.mustFit("kind %d, copied before step %d", kind, at)
	}
}

// putBack is what follows when an old catalog was put back.
func (p *pruneRig) putBack(refused bool, drop int64) {
	p.t.Helper()
	s, err := apply.Open(p.store)
	if err == nil {
		err = s.Close()
	}
	_, viewErr := apply.RestorePoints(p.store, "")
	if refused != apply.IsDamage(err) || refused != apply.IsDamage(viewErr) || !refused && (err != nil || viewErr != nil) {
		p.t.Fatalf("refused must be %v: %v, %v", refused, err, viewErr)
	}
	if refused {
		found, err := apply.Examine(p.t.Context(), p.store, apply.DoctorOptions{Repair: true})
		if err != nil || len(found) == 0 || !found[0].Catalog || !found[0].Mended {
			p.t.Fatalf("doctor: %+v, %v", found, err)
		}
	}
	p.compare("put back")
	if refused {
		p.fullDay(false)
	} else {
		p.day("true")
	}
	p.drop(drop)
}
