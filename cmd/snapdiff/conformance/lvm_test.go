package conformance

import (
	"testing"

	. "snapdiff/apply/applytest"
)

// lvmDriver makes logical volumes. One kind of mirror is enough: what it is on has nothing to do with the source.
func lvmDriver(kind VolumeKind, fs Kind) driver {
	lacks := []Feature{NeedsSubvolumes}
	if fs == Ext4 {
		lacks = append(lacks, NeedsReflink)
	}
	return driver{"lvm-" + string(kind) + "-" + string(fs), lacks, []Kind{Ext4}, func(t testing.TB) origin {
		v := MountVolume(t, kind, fs)
		return origin{source: v.Name, dir: v.Dir, settings: `snapshot_size = "30%"`}
	}}
}
