package diff

import (
	"bytes"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// attrOf takes over what counts of a stat. names is how many names the inode has on its side.
func attrOf(st *unix.Stat_t, names int) Attr {
	a := Attr{Mode: st.Mode, UID: st.Uid, GID: st.Gid, MtimeSec: st.Mtim.Sec, MtimeNsec: int32(st.Mtim.Nsec), Nlink: uint32(names)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFLNK:
		a.Size = st.Size
	case unix.S_IFBLK, unix.S_IFCHR:
		a.Rdev = st.Rdev
	}
	return a
}

func metaDiffers(base, next Attr) What {
	if base.Mode != next.Mode && next.Type() != unix.S_IFLNK || base.UID != next.UID || base.GID != next.GID ||
		base.MtimeSec != next.MtimeSec || base.MtimeNsec != next.MtimeNsec {
		return Meta
	}
	return 0
}

// xattrsDiffer compares the extended attributes. What cannot be read counts as different. With none, the snapshot's
// count as none.
func (f *full) xattrsDiffer(path string, none bool) What {
	base, err := f.base.Xattrs(path)
	if err != nil {
		return Xattrs
	}
	var next []beneath.Xattr
	if !none {
		if next, err = f.next.Xattrs(path); err != nil {
			return Xattrs
		}
	}
	same := slices.EqualFunc(base, next, func(a, b beneath.Xattr) bool {
		return a.Name == b.Name && bytes.Equal(a.Value, b.Value)
	})
	if same {
		return 0
	}
	return Xattrs
}

// compareFile compares what is no directory at path on the given sides. Inodes with several names wait for the end.
func (f *full) compareFile(d *fullDir, path string, at sides) error {
	var st [2]unix.Stat_t
	several := false
	for i, side := range []sides{inBase, inNext} {
		if at&side == 0 {
			continue
		}
		var err error
		if st[i], err = f.root(side).Lstat(path); err != nil {
			return fmt.Errorf("compare in full: %w", err)
		}
		several = several || st[i].Nlink > 1
	}
	if several {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.links.add(path, at, &st, d)
		return nil
	}
	same := false
	if at == bothSides {
		var err error
		if same, err = f.sameOne(path, &st[0], &st[1]); err != nil {
			return err
		}
	}
	return f.noteFile(d, []string{path}, at, &st, same)
}

// sameOne tells whether the inodes at path can be the same one: what they are cannot change during an inode's life.
func (f *full) sameOne(path string, base, next *unix.Stat_t) (bool, error) {
	kind := base.Mode & unix.S_IFMT
	if kind != next.Mode&unix.S_IFMT {
		return false, nil
	}
	switch kind {
	case unix.S_IFBLK, unix.S_IFCHR:
		return base.Rdev == next.Rdev, nil
	case unix.S_IFLNK:
		a, err := f.base.Readlink(path)
		if err != nil {
			return false, fmt.Errorf("compare in full: %w", err)
		}
		b, err := f.next.Readlink(path)
		if err != nil {
			return false, fmt.Errorf("compare in full: %w", err)
		}
		return a == b, nil
	}
	return true, nil
}

// noteFile reports an inode with a single name, or one with several that all lie in d.
func (f *full) noteFile(d *fullDir, paths []string, at sides, st *[2]unix.Stat_t, same bool) error {
	attr := [2]Attr{attrOf(&st[0], len(paths)), attrOf(&st[1], len(paths))}
	if same {
		return f.noteSame(paths, &st[1], attr, f.differs(paths[0], st, attr))
	}
	var key Key
	if at&inNext != 0 {
		var err error
		if key, err = f.keyOf(paths[0], st[1].Ino); err != nil {
			return fmt.Errorf("compare in full: identify %q: %w", paths[0], err)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if at&inBase != 0 {
		f.went(d.key[0], Key{st[0].Ino, MirrorGen}, attr[0], paths)
	}
	if at&inNext != 0 {
		f.came(d.key[1], key, attr[1], paths)
	}
	return nil
}

// difference is how an inode changed.
type difference struct {
	what   What
	ranges []Range
}

// differs compares all that counts of two inodes of one type.
func (f *full) differs(path string, st *[2]unix.Stat_t, attr [2]Attr) difference {
	is := difference{what: metaDiffers(attr[0], attr[1]) | f.xattrsDiffer(path, false)}
	if !attr[1].IsRegular() {
		return is
	}
	ranges, equal, err := f.dataDiffers(path, st)
	switch {
	case err != nil: // applying meets the error again, or mends the mirror's file
		is.what |= Data
	case !equal:
		is.what |= Data
		is.ranges = ranges
	}
	return is
}

// noteSame reports an inode of both sides, if it differs.
func (f *full) noteSame(paths []string, next *unix.Stat_t, attr [2]Attr, is difference) error {
	if is.what == 0 {
		return nil
	}
	key, err := f.keyOf(paths[0], next.Ino)
	if err != nil {
		return fmt.Errorf("compare in full: identify %q: %w", paths[0], err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes.Inodes.ReplaceOrInsert(Inode{Key: key, What: is.what, Paths: paths, BasePaths: paths,
		Attr: attr[1], BaseAttr: attr[0], Ranges: is.ranges})
	return nil
}

// rekey tells the key that the change set gives to what is at a path of the mirror.
func (f *full) rekey(path string) (Key, error) {
	base, err := f.base.Lstat(path)
	if err != nil {
		return Key{}, err
	}
	own := Key{base.Ino, MirrorGen}
	next, err := f.next.Lstat(path)
	if gone(err) || f.opts.Exclude.Match(path) {
		return own, nil
	}
	if err != nil {
		return Key{}, err
	}
	same, known := f.links.same[base.Ino]
	if base.Mode&unix.S_IFMT == unix.S_IFDIR || !known {
		if same, err = f.sameOne(path, &base, &next); err != nil {
			return Key{}, err
		}
		same = same && (base.Mode&unix.S_IFMT == unix.S_IFDIR || next.Nlink == 1)
	}
	if !same {
		return own, nil
	}
	return f.keyOf(path, next.Ino)
}

const (
	compareBuffer = 256 << 10
	compareBlock  = 4096   // ranges are told in blocks of this size
	mostRanges    = 10_000 // of one file; beyond that it is copied whole
)

var compareBuffers = sync.Pool{New: func() any { return new([2 * compareBuffer]byte) }}

// dataDiffers compares contents, holes and sizes of the regular files at path.
func (f *full) dataDiffers(path string, st *[2]unix.Stat_t) (ranges []Range, equal bool, err error) {
	if st[0].Size == 0 && st[1].Size == 0 {
		return nil, true, nil
	}
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK
	base, err := f.base.Open(path, flags, 0)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(base)
	next, err := f.next.Open(path, flags, 0)
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(next)
	buf := compareBuffers.Get().(*[2 * compareBuffer]byte)
	defer compareBuffers.Put(buf)
	ask := sparse(base, &st[0]) || sparse(next, &st[1])
	if ask {
		// On XFS a write to a shared extent sets aside blocks around it, and a hole among them looks like data for as
		// long as pages of it are in memory: drop them, and do not read ahead. Advice only: no error matters.
		unix.Fadvise(base, 0, 0, unix.FADV_DONTNEED)
		unix.Fadvise(base, 0, 0, unix.FADV_RANDOM)
	}
	c := dataCompare{
		base: layout{base, st[0].Size, ask}, next: layout{next, st[1].Size, ask},
		bufs: [2][]byte{buf[:compareBuffer], buf[compareBuffer:]}, pace: f.opts.Pace,
		files: [2]gentle.File{f.readers[0].File(base, st[0].Size), f.readers[1].File(next, st[1].Size)},
	}
	defer c.files[0].Done()
	defer c.files[1].Done()
	if f.opts.Sum != nil {
		c.sum = contentSums.Get().(*ContentSum)
		defer contentSums.Put(c.sum)
		c.sum.Reset(st[0].Size)
	}
	if err := c.run(); err != nil {
		return nil, false, err
	}
	f.count(0, c.read)
	equal = len(c.ranges) == 0 && st[0].Size == st[1].Size
	if equal && c.sum != nil {
		f.opts.Sum(st[0].Ino, c.sum.Sum())
	}
	if len(c.ranges) > mostRanges {
		return nil, false, nil
	}
	return c.ranges, equal, nil
}

var contentSums = sync.Pool{New: func() any { return new(ContentSum) }}

// sparse tells whether a file may have holes. Blocks that are allocated and not written are holes too, and count in st_blocks.
func sparse(fd int, st *unix.Stat_t) bool {
	if st.Blocks*512 < st.Size {
		return true
	}
	hole, err := unix.Seek(fd, 0, unix.SEEK_HOLE)
	return err == nil && hole < st.Size
}

// layout tells where an open file has data.
type layout struct {
	fd   int
	size int64
	ask  bool // whether there can be holes
}

// at tells whether there is data at off, and up to where that is so.
func (l layout) at(off int64) (data bool, end int64, err error) {
	if !l.ask {
		return true, l.size, nil
	}
	start, err := unix.Seek(l.fd, off, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return false, l.size, nil
	}
	if err != nil || start > off {
		return false, start, err
	}
	end, err = unix.Seek(l.fd, off, unix.SEEK_HOLE)
	return true, end, err
}

// dataCompare compares two open files.
type dataCompare struct {
	base, next layout
	files      [2]gentle.File
	bufs       [2][]byte
	pace       *gentle.Pace
	ranges     []Range     // what differs, ascending; never nil after run
	read       int64       // bytes read on each side
	sum        *ContentSum // of the base; may be nil
}

func (c *dataCompare) run() error {
	c.ranges = []Range{}
	common := min(c.base.size, c.next.size)
	for off := int64(0); off < common; {
		inBase, baseEnd, err := c.base.at(off)
		if err != nil {
			return err
		}
		inNext, nextEnd, err := c.next.at(off)
		if err != nil {
			return err
		}
		end := min(baseEnd, nextEnd, common)
		switch {
		case !inBase && !inNext:
		case inBase != inNext && wholeBlocks(off, end, common): // less is how two filesystems round
			c.add(off, end)
		default:
			if err := c.compare(off, end); err != nil {
				return err
			}
		}
		off = end
	}
	c.add(common, c.next.size)
	return nil
}

// wholeBlocks tells a part that is made of whole blocks, the last of which may be cut by the end of the shorter file.
func wholeBlocks(off, end, common int64) bool {
	return off%compareBlock == 0 && (end%compareBlock == 0 || end == common)
}

// compare compares bytes.
func (c *dataCompare) compare(off, end int64) error {
	for off < end {
		n := min(end-off, compareBuffer)
		a, b := c.bufs[0][:n], c.bufs[1][:n]
		if err := c.pace.Wait(2 * n); err != nil {
			return err
		}
		if err := readFull(&c.files[0], a, off); err != nil {
			return err
		}
		if err := readFull(&c.files[1], b, off); err != nil {
			return err
		}
		c.read += n
		if c.sum != nil {
			c.sum.Add(off, a)
		}
		if !bytes.Equal(a, b) {
			c.addBlocks(a, b, off)
		}
		off += n
	}
	return nil
}

// addBlocks adds the blocks that differ. off is where a and b begin in the file.
func (c *dataCompare) addBlocks(a, b []byte, off int64) {
	for len(a) > 0 {
		n := min(compareBlock-int(off%compareBlock), len(a))
		if !bytes.Equal(a[:n], b[:n]) {
			c.add(off, off+int64(n))
		}
		a, b, off = a[n:], b[n:], off+int64(n)
	}
}

// add adds a range behind the others.
func (c *dataCompare) add(off, end int64) {
	if off >= end || len(c.ranges) > mostRanges {
		return
	}
	if n := len(c.ranges); n > 0 {
		if last := &c.ranges[n-1]; last.Off+last.Len == off {
			last.Len += end - off
			return
		}
	}
	c.ranges = append(c.ranges, Range{off, end - off})
}

func readFull(f *gentle.File, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := f.ReadAt(buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("the file is shorter than its size says")
		}
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}
