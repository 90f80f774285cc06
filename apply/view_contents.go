package apply

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// Contents is an open regular file of a view. What it reads stays what the restore point had, whatever runs and prunes do
// meanwhile. It may be used by any number of goroutines.
//
// A file that nobody ever writes to is one open file. A large one in a mirror that is patched in place is put together of the
// ranges that later runs saved and of the file in the mirror: before such a patch begins its rows are committed, so whoever
// looks at the catalog after he has read, and finds it as it was before, has read what was there before the patch. Otherwise he
// puts it together anew and reads again.
type Contents struct {
	view *View
	file ViewFile

	mu  sync.RWMutex
	now *layers
}

// layers is how a file is put together in one epoch.
type layers struct {
	epoch epoch
	size  int64
	fixed bool // base is all of it, and nobody ever writes to it
	lseek seeker
	base  *descriptor // nil: all of it was saved, and there is no other any more
	saved []savedRange
	open  map[int64]*descriptor // objects that saved speaks of, by run
}

// descriptor is an open regular file. An *os.File makes ten system calls to learn that it is one, which is more than all else that
// opening a small file costs. Contents.mu sees to it that nobody reads one that is closed.
type descriptor int

// ReadAt is pread(2), up to the end of the file.
func (d descriptor) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) {
		got, err := unix.Pread(int(d), p[n:], off+int64(n))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return n, err
		case got == 0:
			return n, io.EOF
		default:
			n += got
		}
	}
	return n, nil
}

func (l *layers) close() {
	if l.base != nil {
		unix.Close(int(*l.base))
	}
	for _, f := range l.open {
		unix.Close(int(*f))
	}
}

// Open opens a regular file for reading.
func (v *View) Open(f ViewFile) (*Contents, error) {
	if f.Type != unix.S_IFREG {
		return nil, v.failed("open", f, errors.New("it is no regular file"))
	}
	c := &Contents{view: v, file: f}
	err := v.settled(func(e epoch) error { _, err := c.in(e); return err })
	if err != nil {
		return nil, errors.Join(v.failed("open", f, err), c.Close())
	}
	return c, nil
}

// open is Open inside of settled.
func (v *View) open(e epoch, f ViewFile) (*Contents, error) {
	l, err := v.layers(e, f)
	return &Contents{view: v, file: f, now: l}, err
}

// in makes sure that the layers are those of an epoch. They are good until the next call.
func (c *Contents) in(e epoch) (*layers, error) {
	if c.now != nil && (c.now.fixed || c.now.epoch == e) {
		return c.now, nil
	}
	l, err := c.view.layers(e, c.file)
	if err != nil {
		return nil, err
	}
	if c.now != nil {
		c.now.close()
	}
	c.now = l
	return l, nil
}

// use calls do with the layers until no run has come between.
func (c *Contents) use(do func(l *layers) error) error {
	c.mu.RLock()
	if l := c.now; l.fixed {
		defer c.mu.RUnlock()
		return do(l)
	}
	c.mu.RUnlock()
	err := c.view.settled(func(e epoch) error {
		c.mu.RLock()
		if l := c.now; l.epoch == e {
			defer c.mu.RUnlock()
			return do(l)
		}
		c.mu.RUnlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		l, err := c.in(e)
		if err != nil {
			return err
		}
		return do(l)
	})
	return err
}

// ReadAt implements io.ReaderAt.
func (c *Contents) ReadAt(p []byte, off int64) (n int, err error) {
	err = c.use(func(l *layers) error { n, err = l.readAt(p, off); return err })
	if err != nil && err != io.EOF {
		err = c.view.failed("read", c.file, err)
	}
	return n, err
}

// Size is the number of bytes.
func (c *Contents) Size() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.now.size
}

// Data gives the parts that are no holes, ascending.
func (c *Contents) Data() (parts []diff.Range, err error) {
	err = c.use(func(l *layers) error { parts, err = l.data(0, l.size); return err })
	if err != nil {
		err = c.view.failed("look for holes in", c.file, err)
	}
	return parts, err
}

// Lseek finds data and holes as lseek(2) does: whence is SEEK_DATA or SEEK_HOLE.
func (c *Contents) Lseek(off int64, whence int) (at int64, err error) {
	err = c.use(func(l *layers) error { at, err = l.seek(off, whence); return err })
	return at, err
}

// Fixed gives the descriptor of a file that nobody ever writes to: it may be read without asking here. false where there is none.
func (c *Contents) Fixed() (fd int, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if !c.now.fixed {
		return -1, false
	}
	return int(*c.now.base), true
}

// Close closes it.
func (c *Contents) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != nil {
		c.now.close()
		c.now = nil
	}
	return nil
}

// layers finds out how a file is put together. It is to be called inside of settled.
func (v *View) layers(e epoch, f ViewFile) (*layers, error) {
	f, err := v.refresh(e, f)
	if err != nil {
		return nil, err
	}
	l := &layers{epoch: e, lseek: v.lseek, open: map[int64]*descriptor{}}
	where, err := v.where(f.node)
	if err != nil {
		return nil, err
	}
	if err := l.openBase(v, e, f, where); err != nil {
		l.close()
		return nil, err
	}
	if where.saved {
		l.fixed = false
		if l.size, l.saved, err = v.savedOf(f.node, where.run); err == nil {
			err = l.openObjects(v, f.node)
		}
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// openBase opens what the ranges that were saved lie on.
func (l *layers) openBase(v *View, e epoch, f ViewFile, where contentPlace) error {
	var st unix.Stat_t
	err := v.withContentAt(e, f, where, func(dir *beneath.Root, name string) error {
		if l.base != nil {
			unix.Close(int(*l.base))
			l.base = nil
		}
		fd, err := dir.Open(name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		l.base = (*descriptor)(&fd)
		return unix.Fstat(fd, &st)
	})
	if errors.Is(err, errNoBase) {
		return nil
	}
	l.size = st.Size
	// What a run that is on replaces it may yet decide to patch.
	l.fixed = where.run != 0 && !(e.running() && where.run == e.run) || !v.patched || !mayBePatched(&st)
	return err
}

func (l *layers) openObjects(v *View, node int64) error {
	for _, r := range l.saved {
		if l.open[r.object] != nil {
			continue
		}
		fd, err := v.root.Open(savedPath(r.object, node), unix.O_RDONLY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return missingObject(savedPath(r.object, node), err)
		}
		l.open[r.object] = (*descriptor)(&fd)
	}
	return nil
}

// savedOf gives the size of the contents that a node had, and what of them later runs saved before the run until, which keeps
// the whole (0: none does).
func (v *View) savedOf(node, until int64) (size int64, all []savedRange, err error) {
	var runs []int64
	err = v.query(`SELECT run, size FROM versions WHERE node = ? AND run > ? AND content = 2 AND (?3 = 0 OR run < ?3) ORDER BY run`, func(row *sqlite.Stmt) error {
		if len(runs) == 0 {
			size = row.ColumnInt64(1)
		}
		runs = append(runs, row.ColumnInt64(0))
		return nil
	}, node, v.run, until)
	for _, run := range runs {
		if err != nil {
			break
		}
		var list []savedRange
		list, err = readSaved(v.query, node, run)
		all = lay(all, list)
	}
	return size, cutAt(all, size), err
}

// piece is the part of the file from an offset on that lies in one file.
func (l *layers) piece(off int64) (in *descriptor, end int64, err error) {
	i, _ := slices.BinarySearchFunc(l.saved, off, func(r savedRange, off int64) int {
		if r.end() <= off {
			return -1
		}
		return 1
	})
	if i < len(l.saved) && l.saved[i].Off <= off {
		return l.open[l.saved[i].object], l.saved[i].end(), nil
	}
	end = l.size
	if i < len(l.saved) {
		end = l.saved[i].Off
	}
	if l.base == nil {
		return nil, 0, fmt.Errorf("nothing in history has the bytes from %d on", off)
	}
	return l.base, end, nil
}

func (l *layers) readAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, unix.EINVAL
	}
	short := int64(len(p)) > l.size-off
	for n < len(p) && off < l.size {
		in, end, err := l.piece(off)
		if err != nil {
			return n, err
		}
		got, err := in.ReadAt(p[n:min(int64(len(p)), int64(n)+end-off)], off)
		n, off = n+got, off+int64(got)
		if err == io.EOF {
			err = errShort
		}
		if err != nil {
			return n, err
		}
	}
	if short {
		return n, io.EOF
	}
	return n, nil
}

// data are the parts of [off, end) that are no holes. Those that touch are one.
func (l *layers) data(off, end int64) (parts []diff.Range, err error) {
	for off < end {
		in, stop, err := l.piece(off)
		if err != nil {
			return nil, err
		}
		stop = min(stop, end)
		some, err := dataPartsBy(l.lseek, int(*in), off, stop)
		if err != nil {
			return nil, err
		}
		for _, p := range some {
			if n := len(parts) - 1; n >= 0 && parts[n].Off+parts[n].Len == p.Off {
				parts[n].Len += p.Len
			} else {
				parts = append(parts, p)
			}
		}
		off = stop
	}
	return parts, nil
}

func (l *layers) seek(off int64, whence int) (int64, error) {
	if off < 0 || off >= l.size {
		return 0, unix.ENXIO
	}
	for off < l.size {
		in, end, err := l.piece(off)
		if err != nil {
			return 0, err
		}
		at, err := l.lseek(int(*in), off, whence)
		if err == nil && at < end {
			return at, nil
		}
		if err != nil && err != unix.ENXIO {
			return 0, err
		}
		off = end
	}
	if whence == unix.SEEK_HOLE {
		return l.size, nil
	}
	return 0, unix.ENXIO
}
