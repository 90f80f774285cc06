package btrfsfeed

import (
	"bytes"
	"fmt"

	"snapdiff/diff"
	"snapdiff/snapshot/btrfs"
)

// names gives the names that went from and came into a directory. It is diff.Reader.Names.
//
// A name's item tells when it was put there, and btrfs keeps twice the sum of the lengths of a directory's names as its size. So the
// leaves that are newer than the base tell what came, and the sizes then how long the names that went were: mostly nothing, and
// else it is known when all of them have been found, which mostly lay in these leaves too.
//
// A size that was wrong in the base already does no harm: only by how much it changed counts. But the log that is replayed after a crash, and
// btrfs check --repair, alter sizes apart from names ("dir isize wrong"), so after a mount they prove nothing.
func (r *reader) names(dir uint64) (went, came []diff.Entry, whole bool, err error) {
	if !r.remounted {
		went, came, ok, err := r.narrow(dir)
		if err != nil || ok {
			return went, came, false, err
		}
	}
	went, came, err = r.unlike(dir)
	return went, came, true, err
}

// narrow is names without reading what did not change. Not ok: it cannot be proved that these are all.
func (r *reader) narrow(dir uint64) (went, came []diff.Entry, ok bool, err error) {
	base, err := r.base.inode(dir)
	if err != nil {
		return nil, nil, false, err
	}
	next, err := r.next.inode(dir)
	if err != nil {
		return nil, nil, false, err
	}
	lost := base.item.Size - next.item.Size // modulo 2^64
	if err := r.readNewer(dir); err != nil {
		return nil, nil, false, err
	}
	n := &r.newer
	lost += n.grown
	switch {
	case n.beside || lost > 0 && n.cut:
		return nil, nil, false, nil
	case lost == 0:
		return nil, n.came, true, nil
	}
	went, found, err := r.wentFrom(dir)
	return went, n.came, found == lost, err
}

// newNames are the names in the leaves of one directory that are as new as the base or newer.
type newNames struct {
	list   []nameItem   // ascending
	came   []diff.Entry // those that were put there after the base was taken
	grown  uint64       // by how many bytes they make the directory larger
	beside bool         // there is one that putBeside tells: the sizes prove nothing
	cut    bool         // there are too many to be kept: list lacks some
	data   []byte       // of all items in list
}

// nameItem is a DirIndexKey item.
type nameItem struct {
	offset   uint64
	from, to int // in newNames.data
}

// mostNewNames is how many bytes of items are kept of one directory.
const mostNewNames = 4 << 20

// readNewer reads r.newer.
func (r *reader) readNewer(dir uint64) error {
	n := &r.newer
	*n = newNames{list: n.list[:0], data: n.data[:0]}
	key := btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey)
	key.MinTransid = r.bound
	r.next.apart.Seek(key, 0)
	for {
		it, ok, err := r.next.apart.Next()
		if err == nil && ok {
			err = n.add(it, r.bound)
		}
		if err != nil {
			return fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
		if !ok {
			return nil
		}
	}
}

func (n *newNames) add(it btrfs.Item, bound uint64) (err error) {
	n.came, err = appendEntries(n.came, it, func(d btrfs.DirItem) bool {
		n.beside = n.beside || putBeside(d, bound)
		if d.Transid > bound {
			n.grown += sizeOf(d)
		}
		return d.Transid > bound
	})
	if n.cut = n.cut || len(n.data)+len(it.Data) > mostNewNames; n.cut {
		return err
	}
	from := len(n.data)
	n.data = append(n.data, it.Data...)
	n.list = append(n.list, nameItem{it.Offset, from, len(n.data)})
	return err
}

// sizeOf is what a name is in its directory's size.
func sizeOf(d btrfs.DirItem) uint64 { return 2 * uint64(len(d.Name)) }

// wentFrom finds names that went: those of the base that are not in r.newer, nor in an older leaf. Of the base it reads what lies
// between names of r.newer, and passes over what an older leaf holds. So it finds no name that is still there, but it may miss some
// that went: found is how much the directory shrank by those that it gives.
func (r *reader) wentFrom(dir uint64) (went []diff.Entry, found uint64, err error) {
	n, b := &r.newer, r.base.apart
	following, err := r.following(dir, 0) // the first name in next that is not before the place that was asked for last
	if err != nil {
		return nil, 0, err
	}
	key := btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey)
	if len(n.list) > 0 && following < n.list[0].offset {
		key.MinOffset = n.list[0].offset
	}
	const some = 16 // names that may have gone
	b.Seek(key, len(n.list)+some)
	for at := 0; ; {
		it, ok, err := b.Peek()
		if err != nil || !ok {
			return went, found, explainNames(dir, err)
		}
		for at < len(n.list) && n.list[at].offset < it.Offset {
			at++
		}
		still := at < len(n.list) && n.list[at].offset == it.Offset && bytes.Equal(n.data[n.list[at].from:n.list[at].to], it.Data)
		if !still && it.Offset >= following {
			if following, err = r.following(dir, it.Offset); err != nil {
				return nil, 0, err
			}
			if following == it.Offset && (at == len(n.list) || n.list[at].offset > it.Offset) { // in an older leaf
				if at == len(n.list) {
					return went, found, nil
				}
				key.MinOffset = n.list[at].offset
				b.Seek(key, len(n.list)-at+some)
				continue
			}
		}
		if !still {
			went, err = appendEntries(went, it, func(d btrfs.DirItem) bool { found += sizeOf(d); return true })
		}
		if err == nil {
			_, _, err = b.Next()
		}
		if err != nil {
			return nil, 0, explainNames(dir, err)
		}
	}
}

// following is the place of the first name of a directory in next that is not before a place; maxU64 if there is none.
func (r *reader) following(dir, place uint64) (uint64, error) {
	key := btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey)
	key.MinOffset = place
	r.next.apart.Seek(key, 1)
	it, ok, err := r.next.apart.Peek()
	if err != nil {
		return 0, explainNames(dir, err)
	}
	if !ok {
		return maxU64, nil
	}
	return it.Offset, nil
}

func explainNames(dir uint64, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("reading directory %d by tree search: %w", dir, err)
}

// putBeside tells the name of a snapshot that was taken in the same transaction as the base. Nothing else that carries the bound
// is not in the base: to take a snapshot puts its name into a directory after the tree was copied.
func putBeside(d btrfs.DirItem, bound uint64) bool {
	return d.Transid == bound && d.Location.Type == btrfs.RootItemKey
}

// unlike reads a directory whole on both sides. An item that is there on both is the same name of the same inode: it has
// its place in the directory and its transaction in it.
func (r *reader) unlike(dir uint64) (went, came []diff.Entry, err error) {
	key := btrfs.Of(dir, btrfs.DirIndexKey, btrfs.DirIndexKey)
	b, n := r.base.apart, r.next.apart
	b.Seek(key, 0)
	n.Seek(key, 0)
	every := func(btrfs.DirItem) bool { return true }
	for {
		bi, inBase, err := b.Peek()
		if err != nil {
			return nil, nil, fmt.Errorf("reading directory %d of the base by tree search: %w", dir, err)
		}
		ni, inNext, err := n.Peek()
		if err != nil {
			return nil, nil, fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
		if !inBase && !inNext {
			return went, came, nil
		}
		// Of two the one that comes first; both where they have one place.
		inBase, inNext = inBase && (!inNext || bi.Offset <= ni.Offset), inNext && (!inBase || ni.Offset <= bi.Offset)
		same := inBase && inNext && bytes.Equal(bi.Data, ni.Data)
		if inBase && !same {
			went, err = appendEntries(went, bi, every)
		}
		if inNext && !same && err == nil {
			came, err = appendEntries(came, ni, every)
		}
		if inBase && err == nil {
			_, _, err = b.Next()
		}
		if inNext && err == nil {
			_, _, err = n.Next()
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading directory %d by tree search: %w", dir, err)
		}
	}
}
