package conformance

import (
	"path/filepath"
	"strings"
	"testing"

	. "snapdiff/apply/applytest"
)

// zfsLayouts are ways in which a dataset keeps its files, as options of zfs create. The driver's datasets are the opposite of the
// first; with SNAPDIFF_SOAK all are tried.
func zfsLayouts() (all []string) {
	all = []string{"xattr=dir recordsize=4k compression=off dnodesize=legacy"}
	if !Soak() {
		return all
	}
	for _, xattr := range []string{"sa", "dir"} {
		for _, record := range []string{"4k", "16k", "128k", "1M"} {
			for _, rest := range []string{"compression=off dnodesize=legacy", "compression=lz4 dnodesize=auto", "compression=zstd dnodesize=auto"} {
				all = append(all, "xattr="+xattr+" recordsize="+record+" "+rest)
			}
		}
	}
	return all
}

// TestZFSLayouts brings every operation from datasets of other kinds into a mirror on ZFS.
func TestZFSLayouts(t *testing.T) {
	for _, layout := range zfsLayouts() {
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
