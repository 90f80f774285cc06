package conformance

import (
	"path/filepath"
	"testing"

	. "snapdiff/apply/applytest"
)

// zfsLacks is what ZFS on Linux cannot do.
var zfsLacks = []Feature{NeedsSubvolumes, NeedsReflink, NeedsCollapse, NeedsZeroRange, NeedsPrealloc}

// zfsOrigin makes a dataset, with options of zfs create.
func zfsOrigin(t testing.TB, options ...string) origin {
	t.Helper()
	pool, dir := ZFSPool(t)
	Dataset(t, pool+"/source", options...)
	return origin{source: pool + "/source", dir: filepath.Join(dir, "source"), live: true}
}
