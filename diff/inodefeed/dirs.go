package inodefeed

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"snapdiff/diff"
)

// To read a directory whole costs what it holds, not what changed in it. But where its blocks lie is told by its inode, and which blocks of
// the device may differ is known: a block of a directory that lies at the same place in both snapshots, where nothing changed, holds the
// same names of the same inodes. The other blocks of both are read from the devices, and what stands in those of one side only went or
// came; a name that only got into another block (of a block that was split, of a directory that outgrew its inode) is found on both
// sides.
//
// These are all the names that differ, if the map of the directory is all of it and what is read is what should lie there. So
// the map must have no gap that its filesystem does not make, all checksums, owners and addresses that the blocks have must be right,
// names must use up each block to the last byte, and as many directories must have come and gone as the link counts say, with XFS
// as many names as its index says. Whatever else is found, or is not known here, has the directory read whole, as the kernel shows it.

// nextTree is the tree of the new snapshot for diff.Linked.
type nextTree struct {
	*tree
	feed *feed
}

// Unlike gives the names that went from and came into a directory of both snapshots.
func (t nextTree) Unlike(dir uint64) (went, came []diff.Entry, ok bool, err error) {
	return t.feed.unlike(dir)
}

// names is diff.Reader.Names.
func (f *feed) names(dir uint64) (went, came []diff.Entry, whole bool, err error) {
	went, came, ok, err := f.unlike(dir)
	if err != nil || ok {
		return went, came, false, err
	}
	if err := f.base.Entries(dir, func(e diff.Entry) error { went = append(went, e); return nil }); err != nil {
		return nil, nil, false, err
	}
	return went, came, true, f.next.Entries(dir, func(e diff.Entry) error { came = append(came, e); return nil })
}

// named keeps what was told of directories: each is asked for twice.
type named struct {
	dirs  map[uint64]unlikeNames
	count int
}

// unlikeNames are the names that went from and came into a directory.
type unlikeNames struct{ went, came []diff.Entry }

const mostNamed = 200_000 // names, some 20 MB

// unlike gives the names that went from and came into a directory; not ok: it has to be read whole.
func (f *feed) unlike(dir uint64) (went, came []diff.Entry, ok bool, err error) {
	if u, ok := f.named.dirs[dir]; ok {
		return u.went, u.came, true, nil
	}
	if err := f.next.Find(dir); err != nil {
		return nil, nil, false, err
	}
	b, inBase, err := f.base.inode(dir)
	if err != nil || !inBase || !b.IsDir() {
		return nil, nil, false, err
	}
	n, inNext, err := f.next.inode(dir)
	if err != nil || !inNext || !n.IsDir() || b.Gen != n.Gen {
		return nil, nil, false, err
	}
	if err := f.base.Find(dir); err != nil {
		return nil, nil, false, err
	}
	u, err := f.narrow(dir)
	if err != nil {
		return nil, nil, false, nil // whoever reads it whole finds out more, or meets the same error
	}
	if f.named.count += len(u.went) + len(u.came); f.named.count <= mostNamed {
		f.named.dirs[dir] = u
	}
	return u.went, u.came, true, nil
}

// narrow compares a directory by its blocks. Any error is a reason to read it whole.
func (f *feed) narrow(dir uint64) (u unlikeNames, err error) {
	if len(f.reused) > mostReused {
		return u, errors.New("too many numbers of inodes were given away again")
	}
	b, err := f.base.directory(dir)
	if err != nil {
		return u, fmt.Errorf("in the base: %w", err)
	}
	n, err := f.next.directory(dir)
	if err != nil {
		return u, err
	}
	places := unlikePlaces(b.extents, n.extents, f.changed, n.block)
	c := canceler{went: map[string]diff.Entry{}, came: map[string]diff.Entry{}}
	if err := f.base.blocks.open(b, places); err != nil {
		return u, fmt.Errorf("in the base: %w", err)
	}
	if err := f.next.blocks.open(n, places); err != nil {
		return u, err
	}
	spare := 0 // as directory.names has it: the same for all blocks of both together
	each(b.inside, c.lose)
	each(n.inside, c.gain)
	for _, at := range places {
		more, err := f.unlikeBlock(at, &c)
		if err != nil {
			return u, err
		}
		spare += more
	}
	if spare != 0 {
		return u, fmt.Errorf("it changed by %d names more than its index", spare)
	}
	for _, n := range f.standing[dir] {
		if err := c.addAgain(n); err != nil {
			return u, err
		}
	}
	return unlikeNames{slices.Collect(maps.Values(c.went)), slices.Collect(maps.Values(c.came))}, c.proveLinks(b.links, n.links)
}

// unlikeBlock compares a block of the directory that is open. spare is how much more the new one has of it, as directory.parse tells it.
func (f *feed) unlikeBlock(at int64, c *canceler) (spare int, err error) {
	b, err := f.base.blocks.read(at)
	if err != nil {
		return 0, fmt.Errorf("in the base: %w", err)
	}
	n, err := f.next.blocks.read(at)
	if err != nil || bytes.Equal(b, n) { // what may differ is much larger than a block
		return 0, err
	}
	before, err := f.base.blocks.names(at, b, c.lose)
	if err != nil {
		return 0, fmt.Errorf("in the base: %w", err)
	}
	after, err := f.next.blocks.names(at, n, c.gain)
	return after - before, err
}

func each(list []diff.Entry, do func(diff.Entry)) {
	for _, e := range list {
		do(e)
	}
}

// canceler collects names that went and came, less those that did both.
type canceler struct {
	went, came map[string]diff.Entry
}

func (c *canceler) lose(e diff.Entry) { c.put(c.went, c.came, e) }
func (c *canceler) gain(e diff.Entry) { c.put(c.came, c.went, e) }

// put adds a name to one side, or takes it from the other where it means the same inode.
func (c *canceler) put(own, other map[string]diff.Entry, e diff.Entry) {
	if o, ok := other[e.Name]; ok && o == e {
		delete(other, e.Name)
		return
	}
	own[e.Name] = e
}

// addAgain adds a name that is what it was, letter by letter, and means another inode of the same number.
func (c *canceler) addAgain(n againName) error {
	if _, ok := c.went[n.name]; ok {
		return nil
	}
	if _, ok := c.came[n.name]; ok {
		return fmt.Errorf("name %q came, and had not gone", n.name)
	}
	c.went[n.name] = diff.Entry{Name: n.name, Ino: n.ino, Type: n.before}
	c.came[n.name] = diff.Entry{Name: n.name, Ino: n.ino, Type: n.after}
	return nil
}

// proveLinks makes sure that as many directories went and came as the link counts say.
func (c *canceler) proveLinks(base, next uint32) error {
	if base == 0 || next == 0 {
		return nil
	}
	count := func(names map[string]diff.Entry) (dirs int64) {
		for _, e := range names {
			if e.Type == unix.S_IFDIR {
				dirs++
			}
		}
		return dirs
	}
	if came := count(c.came) - count(c.went); came != int64(next)-int64(base) {
		return fmt.Errorf("its link count went from %d to %d, and %d directories more came than went", base, next, came)
	}
	return nil
}

// reusedNumber are the types of the two inodes, one after the other, that had one number.
type reusedNumber struct{ before, after uint32 }

// againName is a name in the base of an inode whose number means another one in the new snapshot.
type againName struct {
	name          string
	ino           uint64
	before, after uint32
}

const mostReused = 100_000 // numbers

// findStanding looks up where the base has names of inodes whose numbers mean others now. Such a name may be the same byte by byte: the file was
// removed and another one made under its name.
func (f *feed) findStanding(links diff.LinkIndex) error {
	if len(f.reused) > mostReused {
		return nil
	}
	for num, r := range f.reused {
		refs, err := links.Names(num)
		if err != nil {
			return err
		}
		for _, ref := range refs {
			f.standing[ref.Parent] = append(f.standing[ref.Parent], againName{ref.Name, num, r.before, r.after})
		}
	}
	return nil
}
