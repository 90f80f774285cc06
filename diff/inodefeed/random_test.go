package inodefeed

import (
	"math/rand/v2"
	"testing"

	a "snapdiff/apply/applytest"
)

// TestRandomRounds does random changes between snapshots of a filesystem of some form.
func TestRandomRounds(t *testing.T) {
	r := rand.New(rand.NewPCG(a.Seed(t), 0))
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			rounds, forms := 6, 1
			if a.Soak() {
				rounds, forms = 100, len(features[kind])
			}
			for range forms {
				f := features[kind][r.IntN(len(features[kind]))]
				t.Run(f.name, func(t *testing.T) { randomRounds(newVolume(t, kind, volumeSize[kind], f.options...), r, rounds) })
			}
		})
	}
}

func randomRounds(v *volume, r *rand.Rand, rounds int) {
	m := newMirror(v)
	m.run()
	for round := range rounds {
		var done []a.Change
		for range 200 {
			if c := a.RandomChange(r); c.Apply(v.dir) == nil {
				done = append(done, c)
			}
		}
		func() {
			defer func() {
				if v.Failed() {
					v.Logf("round %d:\n%s", round, a.Script(done))
				}
			}()
			m.run()
		}()
	}
}
