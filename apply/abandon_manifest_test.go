package apply_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
)

// TestAbandonAfterTheManifest cuts a run off when its manifest says already that it is done, and gives it up, which is cut off before its steps in turn: the
// catalog is not taken for an old copy then, and when it is lost nobody takes the run for done.
func TestAbandonAfterTheManifest(t *testing.T) {
	r, every := rand.New(rand.NewPCG(Seed(t), 15)), 9
	if Soak() {
		every = 1
	}
	p := newPruneRig(t, Ext4)
	p.interrupted = true
	p.day(`mkdir d; echo 1 > d/one; echo 2 > two; echo 3 > three`)
	for _, change := range []string{
		`mkdir dd; mv d dd/e%[1]d; mv two dd/t; mkdir d; mv dd/t two; mv dd/e%[1]d/one d; echo more >> d/one; mv dd/e%[1]d .; rmdir dd`,
		`mv three new%d; echo more >> two; ln two three`, // apart
	} {
		for after := r.IntN(every); ; after += every {
			p.day(`rm -f new* three; echo 3 > three`)
			sh(t, p.source, fmt.Sprintf(change, after))
			wrote, steps := false, 0
			err := p.run(apply.Options{Step: func(step string) error {
				wrote = wrote || step == "manifest"
				if wrote && step == "sync" {
					return errCut
				}
				return nil
			}})
			if !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			err = p.abandon(cutAfter(after, &steps)) // opens the store
			if err != nil && !errors.Is(err, errCut) {
				t.Fatal(err)
			}
			s, openErr := apply.Open(p.store)
			if openErr != nil {
				t.Fatalf("cut off after %d steps: %v", after, openErr)
			}
			must(t, s.Close())
			if after > 0 { // else nothing has begun
				sh(t, p.store, `rm catalog.db*`)
				if done := p.rebuild(); done.Newest == int64(len(p.taken)) {
					t.Fatalf("given up and cut off after %d steps, r%d is taken for done", after, done.Newest)
				}
			} else {
				must(t, p.abandon(apply.Options{}))
			}
			p.compare("given up")
			p.fullDay(false)
			p.mustFit("%s, cut off after %d steps", change, after)
			if err == nil {
				break
			}
		}
	}
}
