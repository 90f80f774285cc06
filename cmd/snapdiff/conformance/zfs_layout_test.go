package conformance

import (
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
)

// zfsLayouts are ways in which a dataset keeps its files, as options of zfs create. The driver's datasets are the opposite of the
// first; of the others some are tried each time, with SNAPDIFF_SOAK all.
func zfsLayouts(t *testing.T) (all []string) {
	const first, some = "xattr=dir recordsize=4k compression=off dnodesize=legacy", 2
	for _, xattr := range []string{"sa", "dir"} {
		for _, record := range []string{"4k", "16k", "128k", "1M"} {
			for _, rest := range []string{"compression=off dnodesize=legacy", "compression=lz4 dnodesize=auto", "compression=zstd dnodesize=auto"} {
				if layout := "xattr=" + xattr + " recordsize=" + record + " " + rest; layout != first {
					all = append(all, layout)
				}
			}
		}
	}
	if !Soak() {
		rand.New(rand.NewPCG(Seed(t), 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:some]
	}
	return append(all, first)
}

// TestZFSLayouts brings every operation from datasets of other kinds into a mirror on ZFS.
func TestZFSLayouts(t *testing.T) {
	for _, layout := range zfsLayouts(t) {
		t.Run("zfs "+layout, func(t *testing.T) {
			NeedZFS(t)
			pool, dir := ZFSPool(t)
			// Holes cannot be finer than records, and where it compresses, ZFS makes holes of zeros.
			Dataset(t, pool+"/mirror", "-o", "xattr=sa", "-o", "recordsize=4k", "-o", "compression=off")
			b := newBenchAt(t, driver{name: "zfs", lacks: zfsLacks, make: func(t testing.TB) origin {
				var options []string
				for o := range strings.FieldsSeq(layout) {
					options = append(options, "-o", o)
				}
				Dataset(t, pool+"/source", options...)
				return origin{source: pool + "/source", dir: filepath.Join(dir, "source")}
			}}, filepath.Join(dir, "mirror"))
			Begin(t, b.origin.dir, b.scenarios())
			b.run()
			Go(t, b.origin.dir, b.scenarios())
			b.native()
			End(t, b.origin.dir, b.scenarios())
			b.native()
		})
	}
}
