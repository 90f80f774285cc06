package zfsfeed

import (
	"cmp"
	"slices"

	"snapdiff/diff"
)

// Object types (dmu_object_type_t, include/sys/dmu.h).
const (
	typeZnode       = 17 // DMU_OT_ZNODE: the bonus of files in very old filesystems
	typeFile        = 19 // DMU_OT_PLAIN_FILE_CONTENTS
	typeDirectory   = 20 // DMU_OT_DIRECTORY_CONTENTS
	typeSystemAttrs = 44 // DMU_OT_SA
)

// objects is what a send stream tells of the files and directories in it.
//
// A record OBJECT comes for every object in a touched block of 32 dnodes, changed or not: it only says that the object may be new or
// have other metadata. What was written is exact. What was freed may be a hole that was one before: a FREE to the end follows
// each OBJECT, and holes without a birth time are always sent. Those behind the end of the file say nothing.
type objects struct {
	all  []candidate // ascending when sorted
	data map[uint64]*extents
	// known, if set, tells of some objects which are as they were. It is asked while the stream is read, so that the many that did
	// not change take no memory.
	known func([]candidate) ([]bool, error)
	left  int // how many of all it has been asked about, and are not known
}

const (
	// mostAsked is how many objects known is asked about at once, and some more to the end of their block.
	mostAsked = 1024
	// blockObjects is how many numbers a block of dnodes has (DNODES_PER_BLOCK, include/sys/dnode.h).
	blockObjects = 32
)

// candidate is an object with an OBJECT record.
type candidate struct {
	num  uint64
	tail uint64 // where the FREE to the end begins, noTail if there was none
	dir  bool
	fields
}

const noTail = ^uint64(0)

// extents are the parts of an object that were written or freed.
type extents struct{ written, freed []diff.Range }

// note takes in one record.
func (o *objects) note(r *record) error {
	switch r.kind {
	case object:
		// A block's objects come before what was written to any of them, and that before the next block.
		if n := len(o.all); n-o.left >= mostAsked && o.all[n-1].num/blockObjects != r.object/blockObjects {
			if err := o.dropKnown(); err != nil {
				return err
			}
		}
		if (r.objType == typeFile || r.objType == typeDirectory) && (r.bonus == typeSystemAttrs || r.bonus == typeZnode) {
			c := candidate{num: r.object, tail: noTail, dir: r.objType == typeDirectory}
			if r.bonus == typeSystemAttrs {
				c.fields = bonusFields(r.object, r.payload)
			}
			o.all = append(o.all, c)
		}
	case write, writeEmbedded:
		x := o.extents(r.object)
		x.written = addRange(x.written, r.off, r.len)
	case free:
		if toEnd := r.off+r.len >= 1<<63 || r.off+r.len < r.off; toEnd {
			o.tail(r.object, r.off)
			return nil
		}
		x := o.extents(r.object)
		x.freed = addRange(x.freed, r.off, r.len)
	}
	return nil // objects that were freed are found by their names; a spill block's object has its own OBJECT record
}

// dropKnown takes out the candidates that are as they were. If anything of one comes later all the same, data has it again.
func (o *objects) dropKnown() error {
	asked := o.all[o.left:]
	if o.known == nil || len(asked) == 0 {
		return nil
	}
	known, err := o.known(asked)
	if err != nil {
		return err
	}
	rest := o.all[:o.left]
	for i, c := range asked {
		if known[i] && !o.wrote(c.num) {
			delete(o.data, c.num)
			continue
		}
		rest = append(rest, c)
	}
	o.all, o.left = rest, len(rest)
	return nil
}

// writtenDirs are all that may be directories to which something was written. Of what is no candidate it is not known what it is: an object of ZFS's own, or one
// that was dropped before that came.
func (o *objects) writtenDirs() (dirs []uint64) {
	for num := range o.data {
		if c, ok := o.find(num); (c.dir || !ok) && o.wrote(num) {
			dirs = append(dirs, num)
		}
	}
	slices.Sort(dirs)
	return dirs
}

// owners are the inodes of which extended attributes were written that are files (xattr=dir). Their own objects may say nothing of it: the kernel sets the time of last
// change in another transaction, which the snapshot need not have, nor a crash leave behind. An attribute is in a directory, and that belongs to the inode; one
// whose directory is not in the stream belongs to an inode that is not known here.
func (o *objects) owners() (nums []uint64) {
	for _, c := range o.all {
		if c.owner == 0 || !o.wrote(c.num) {
			continue
		}
		owner := c.owner
		if !c.dir {
			dir, _ := o.find(owner)
			owner = dir.owner
		}
		if owner != 0 {
			nums = append(nums, owner)
		}
	}
	slices.Sort(nums)
	return slices.Compact(nums)
}

// wrote tells whether anything was written to an object.
func (o *objects) wrote(num uint64) bool {
	x := o.data[num]
	return x != nil && len(x.written) > 0
}

func (o *objects) extents(num uint64) *extents {
	x := o.data[num]
	if x == nil {
		x = &extents{}
		o.data[num] = x
	}
	return x
}

// tail keeps where a FREE to the end begins. Several may come for one object; the first byte of all counts.
func (o *objects) tail(num, off uint64) {
	if n := len(o.all) - 1; n >= 0 && o.all[n].num == num {
		o.all[n].tail = min(o.all[n].tail, off)
		return
	}
	x := o.extents(num)
	x.freed = addRange(x.freed, off, 1<<63-1-min(off, 1<<63-1))
}

// sort puts the candidates in order.
func (o *objects) sort() {
	slices.SortFunc(o.all, func(a, b candidate) int { return cmp.Compare(a.num, b.num) })
}

// find gives an object's candidate.
func (o *objects) find(num uint64) (candidate, bool) {
	i, ok := slices.BinarySearchFunc(o.all, num, func(c candidate, num uint64) int { return cmp.Compare(c.num, num) })
	if !ok {
		return candidate{num: num, tail: noTail}, false
	}
	return o.all[i], true
}

// ranges are the parts of a file that may differ, ascending, cut to its new size; written tells whether any of it was written.
func (o *objects) ranges(num uint64, baseSize, size int64) (list []diff.Range, written bool) {
	c, _ := o.find(num)
	return o.rangesOf(c, baseSize, size)
}

func (o *objects) rangesOf(c candidate, baseSize, size int64) (list []diff.Range, written bool) {
	list = []diff.Range{} // nil would mean: not known
	if x := o.data[c.num]; x != nil {
		list = append(append(list, x.written...), x.freed...)
		written = len(x.written) > 0
	}
	if c.tail < uint64(size) {
		list = append(list, diff.Range{Off: int64(c.tail), Len: size - int64(c.tail)})
	}
	if baseSize < size {
		list = append(list, diff.Range{Off: baseSize, Len: size - baseSize})
	}
	return merge(list, size), written
}

// merge puts ranges in order, joins those that touch and cuts them to size.
func merge(list []diff.Range, size int64) []diff.Range {
	slices.SortFunc(list, func(a, b diff.Range) int { return cmp.Compare(a.Off, b.Off) })
	out := list[:0]
	for _, r := range list {
		end := min(r.Off+r.Len, size)
		if r.Off >= end {
			continue
		}
		if n := len(out) - 1; n >= 0 && out[n].Off+out[n].Len >= r.Off {
			out[n].Len = max(out[n].Len, end-out[n].Off)
			continue
		}
		out = append(out, diff.Range{Off: r.Off, Len: end - r.Off})
	}
	return out
}

// addRange adds a range, joined to the last one where it follows that. What no file can hold is cut.
func addRange(list []diff.Range, off, size uint64) []diff.Range {
	const most = 1<<63 - 1
	if off >= most || size == 0 {
		return list
	}
	size = min(size, most-off)
	if n := len(list) - 1; n >= 0 && uint64(list[n].Off+list[n].Len) == off {
		list[n].Len += int64(size)
		return list
	}
	return append(list, diff.Range{Off: int64(off), Len: int64(size)})
}
