package apply

import (
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// A large file of which little changes is patched in place where the mirror's filesystem cannot clone (ext4), and of its old contents
// only what the patch overwrites is kept: saved ranges. Of a version with contentSaved
//
//   - each row of the table saved says that a range of it is in the object history/rOBJECT/NODE.saved, at the same place: a
//     sparse file in which a hole is what was one;
//   - the rest is what the next later version of the node has there that has contents, else the mirror. A range that was not
//     saved lies below the sizes of both and is equal in both, holes too;
//   - its size is that of the row in versions.
//
// Each part of an object belongs to at most one row. Rows of one version do not overlap.
//
// Which files may be patched is a matter of the inode's size and the filesystem alone (see mayBePatched), so a view knows which
// of the files that it has open may change under its hands.
var minPatched int64 = 8 << 20

const (
	// mostSaved is how many ranges of one file are kept for one run; with more it is copied whole.
	mostSaved = 100_000
)

// savedRange is a part of a version that is in an object.
type savedRange struct {
	diff.Range
	object int64 // run of the object
}

func (r savedRange) end() int64 { return r.Off + r.Len }

// savedPath is where the saved ranges of a node are, below the store.
func savedPath(run, node int64) string { return historyPath(run, node) + savedSuffix }

const savedSuffix = ".saved"

// savedName is savedPath below history.
func savedName(run, node int64) string {
	return "r" + strconv.FormatInt(run, 10) + "/" + nodeName(node) + savedSuffix
}

// patchesInPlace tells a filesystem on which files may be patched in place. ext4 cannot clone, and knows holes.
func patchesInPlace(mirror *beneath.Root) (bool, error) { return isExt4(mirror) }

// mayBePatched tells whether an inode of the mirror may ever be written to in place as long as it has this size: whoever has it
// open must then not rely on what he reads (see Contents). An inode that is smaller is replaced, never patched.
func mayBePatched(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size >= minPatched
}

// readSaved gives the rows of one version, ascending. It is for a store and for a view.
func readSaved(query func(sql string, row func(*sqlite.Stmt) error, args ...any) error, node, run int64) (list []savedRange, err error) {
	err = query(`SELECT off, len, object FROM saved WHERE node = ? AND run = ? ORDER BY off`, func(row *sqlite.Stmt) error {
		list = append(list, savedRange{diff.Range{Off: row.ColumnInt64(0), Len: row.ColumnInt64(1)}, row.ColumnInt64(2)})
		return nil
	}, node, run)
	return list, err
}

// lay puts ranges below others: where both have something the upper ones win. Both and the result are ascending.
func lay(upper, lower []savedRange) []savedRange {
	if len(upper) == 0 {
		return lower
	}
	out := append(slices.Clone(upper), uncovered(upper, lower)...)
	slices.SortFunc(out, func(a, b savedRange) int {
		if a.Off < b.Off {
			return -1
		}
		return 1
	})
	return out
}

// uncovered gives the parts of lower that upper has not.
func uncovered(upper, lower []savedRange) (out []savedRange) {
	for _, r := range lower {
		off, end := r.Off, r.end()
		i, _ := slices.BinarySearchFunc(upper, off, func(u savedRange, off int64) int {
			if u.end() <= off {
				return -1
			}
			return 1
		})
		for ; off < end; i++ {
			until := end
			if i < len(upper) {
				until = min(until, upper[i].Off)
			}
			if off < until {
				out = append(out, savedRange{diff.Range{Off: off, Len: until - off}, r.object})
			}
			if i == len(upper) {
				break
			}
			off = upper[i].end()
		}
	}
	return out
}

// cutAt leaves out what lies behind a size.
func cutAt(list []savedRange, size int64) (out []savedRange) {
	for _, r := range list {
		if r.Off < size {
			r.Len = min(r.Len, size-r.Off)
			out = append(out, r)
		}
	}
	return out
}
