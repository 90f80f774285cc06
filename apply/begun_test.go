package apply_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// TestCatalogFromTheMiddleOfARun copies the catalog before a step of a run, and puts the copy back when the run has ended, or was cut off
// later. Where what the copy would have done again would do harm it is refused as an old copy, and doctor makes it anew; else the run is
// finished. The mirror and all restore points are right in the end.
func TestCatalogFromTheMiddleOfARun(t *testing.T) {
	NeedRoot(t)
	smallPatches(t)
	r := rand.New(rand.NewPCG(Seed(t), 13))
	every := 19
	if Soak() {
		every = 1
	}
	volume := Mount(t, Btrfs)
	refused, finished := 0, 0
	for i := r.IntN(every); ; i += every {
		apply.SetSmallPlan(t, i%2*1000)
		p := &pruneRig{newRig(t, Subvolume(t, filepath.Join(volume, fmt.Sprintf("src%d", i))), Ext4), map[int64]string{}}
		p.interrupted = true
		sh(t, p.source, strings.Replace(beginning, "seq 300", "seq 8", 1)+manyLinks)
		p.day(`true`)
		p.day(rounds[1].script + `echo older >> b; ln keep/k keep/k4; touch -d 2001-01-01 d swap1`)
		if r.IntN(4) == 0 { // a run that has no mark before its commit
			sh(t, p.source, `echo new > new; rm b; echo more >> c; echo more >> l/data; mkdir n; echo n > n/n; chmod 600 keep/k`)
		} else {
			sh(t, p.source, rounds[0].script+linksCut)
		}
		until := 1 << 30
		if r.IntN(2) == 0 {
			until = i + 1 + r.IntN(60)
		}
		steps := 0
		err := p.run(apply.Options{Step: func(string) error {
			if steps++; steps == i+1 {
				sh(t, p.store, `mkdir ../copy; cp catalog.db* ../copy`)
			}
			if steps > until {
				return errCut
			}
			return nil
		}})
		if err != nil && !errors.Is(err, errCut) {
			t.Fatal(err)
		}
		if steps <= i {
			break
		}
		sh(t, p.store, `rm catalog.db*; mv ../copy/* .; rmdir ../copy`)
		s, openErr := apply.Open(p.store)
		switch {
		case openErr == nil:
			finished++
			must(t, errors.Join(s.Close(), p.resume(apply.Options{})))
		case !apply.IsDamage(openErr) || !strings.Contains(openErr.Error(), "r3"):
			t.Fatal(openErr)
		default:
			refused++
			if found, err := apply.Examine(t.Context(), p.store, apply.DoctorOptions{Repair: true}); err != nil || len(found) == 0 || !found[0].Catalog || !found[0].Mended {
				t.Fatalf("doctor: %+v, %v", found, err)
			}
			p.compare("rebuilt")
			p.fullDay(false)
		}
		p.judge()
		p.judgeRuns(map[int64]string{1: p.taken[0].Path, 2: p.taken[1].Path, int64(len(p.taken)): p.last.Path})
		if t.Failed() {
			t.Fatalf("copied before step %d, cut off after %d (%v)", i+1, until, err)
		}
	}
	if Soak() && (refused == 0 || finished == 0) { // of a few copies all may be of one kind
		t.Errorf("%d copies were refused, %d runs finished", refused, finished)
	}
}
