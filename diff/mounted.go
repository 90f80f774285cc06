package diff

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// Generation gives the generation of the inode at path of a mounted snapshot, whose stat is known.
type Generation func(path string, st *unix.Stat_t) (uint64, error)

// Mounted is a Tree of a mounted snapshot that goes by paths: it makes them of the names that it is told (see Linked, which
// gives it Names too). What does not fit together (a name that means another inode, a link count that is not the number of names)
// is ErrNotNative: the names are wrong then, and only a full comparison helps. Unlike other trees it may be used by several goroutines
// at once, as far as its names and generations may.
type Mounted struct {
	root  *beneath.Root
	gen   Generation
	names func(num uint64) ([]Ref, error)
	some  bool // names may lack excluded ones
	top   uint64

	mu     sync.Mutex        // for the maps; not held while the snapshot is asked
	dirs   map[uint64]string // paths of directories that were found to be there
	likely map[uint64]string // where others are if their names are right
	recent map[uint64]*found // most inodes are asked about several times
}

// found is an inode that was looked up by its path.
type found struct {
	path string
	st   unix.Stat_t
	gen  func() (uint64, error)
}

const mostRecent = 50_000 // some 20 MB

// NewMounted makes a Tree of the snapshot mounted at root. It is of use only with Linked.
func NewMounted(root *beneath.Root, gen Generation) (*Mounted, error) {
	st, err := root.Lstat("")
	if err != nil {
		return nil, err
	}
	return &Mounted{root: root, gen: gen, top: st.Ino, dirs: map[uint64]string{st.Ino: ""}, likely: map[uint64]string{}, recent: map[uint64]*found{}}, nil
}

// SetTop says what number the top directory has in the snapshot's own structures, where stat shows another one.
func (m *Mounted) SetTop(num uint64) { m.top, m.dirs = num, map[uint64]string{num: ""} }

// UseNames tells where to get names from. With some, an inode may have others that are excluded.
func (m *Mounted) UseNames(names func(num uint64) ([]Ref, error), some bool) {
	m.names, m.some = names, some
}

// Root implements Tree.
func (m *Mounted) Root() uint64 { return m.top }

// Names implements Tree.
func (m *Mounted) Names(num uint64) ([]Ref, error) { return m.names(num) }

// way is the directories whose paths are being made, from the one that was asked for upwards. Names that are half known may lead
// round in circles.
type way struct {
	num  uint64
	from *way
}

func (w *way) has(num uint64) bool {
	for ; w != nil; w = w.from {
		if w.num == num {
			return true
		}
	}
	return false
}

// dir gives a directory's path: sure, it has made sure of it; else it is where the names lead, and who looks for something in it finds out.
func (m *Mounted) dir(num uint64, from *way, sure bool) (string, error) {
	if path, ok := m.knownDir(num, sure); ok {
		return path, nil
	}
	refs, err := m.names(num)
	if err != nil {
		return "", err
	}
	if len(refs) != 1 || from.has(num) {
		return "", fmt.Errorf("directory %d has %d names: %w", num, len(refs), ErrElsewhere)
	}
	parent, err := m.dir(refs[0].Parent, &way{num, from}, sure)
	if err != nil {
		return "", err
	}
	path := join(parent, refs[0].Name)
	if TooDeep(path) { // the names of what is below are in no index; only a full comparison leaves it out
		return "", fmt.Errorf("directory %d: %w: %w", num, ErrTooDeep, ErrElsewhere)
	}
	if !sure {
		m.mu.Lock()
		m.likely[num] = path
		m.mu.Unlock()
		return path, nil
	}
	st, err := m.root.Lstat(path)
	if err != nil && !gone(err) {
		return "", err
	}
	if err != nil || st.Ino != num || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return "", fmt.Errorf("directory %d, %q: %w", num, path, ErrElsewhere)
	}
	m.keep(num, path, st)
	m.mu.Lock()
	m.dirs[num] = path
	m.mu.Unlock()
	return path, nil
}

// knownDir gives a directory's path if it was found before.
func (m *Mounted) knownDir(num uint64, sure bool) (path string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if path, ok = m.dirs[num]; ok {
		return path, true
	}
	if f := m.recent[num]; f != nil && f.st.Mode&unix.S_IFMT == unix.S_IFDIR {
		m.dirs[num] = f.path
		return f.path, true
	}
	if !sure {
		path, ok = m.likely[num]
	}
	return path, ok
}

// Path gives one path of an inode, and its stat; false when it has no name.
func (m *Mounted) Path(num uint64) (path string, st unix.Stat_t, ok bool, err error) {
	f, err := m.find(num)
	if f == nil {
		return "", st, false, err
	}
	return f.path, f.st, true, nil
}

// find is Path with memory; nil: there is none, or an error.
func (m *Mounted) find(num uint64) (*found, error) {
	m.mu.Lock()
	f := m.recent[num]
	m.mu.Unlock()
	if f != nil {
		return f, nil
	}
	path, st, ok, err := m.lookUp(num)
	if !ok {
		return nil, err
	}
	return m.keep(num, path, st), nil
}

// keep remembers an inode that was found.
func (m *Mounted) keep(num uint64, path string, st unix.Stat_t) *found {
	f := &found{path: path, st: st}
	f.gen = sync.OnceValues(func() (uint64, error) { return m.gen(f.path, &f.st) })
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.recent) >= mostRecent {
		clear(m.recent)
	}
	m.recent[num] = f
	return f
}

func (m *Mounted) lookUp(num uint64) (path string, st unix.Stat_t, ok bool, err error) {
	var refs []Ref
	if num != m.top {
		if refs, err = m.names(num); err != nil || len(refs) == 0 {
			return "", st, false, err
		}
		if path, st, ok = m.where(num, refs[0]); !ok {
			parent, err := m.dir(refs[0].Parent, nil, true)
			if err != nil {
				return "", st, false, err
			}
			path = join(parent, refs[0].Name)
		}
	}
	if !ok {
		st, err = m.root.Lstat(path)
	}
	switch {
	case err != nil && gone(err) || err == nil && st.Ino != num && num != m.top:
		err = fmt.Errorf("%q is not inode %d, as the link index says: %w", path, num, ErrNotNative)
	case err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR && !m.All(uint64(st.Nlink), len(refs)):
		err = fmt.Errorf("%q, inode %d, has %d links, and the link index knows %d: %w", path, num, st.Nlink, len(refs), ErrNotNative)
	}
	return path, st, err == nil, err
}

// where looks for an inode where its name leads. That it is there proves the name, whatever is known of the directories above.
func (m *Mounted) where(num uint64, ref Ref) (path string, st unix.Stat_t, ok bool) {
	parent, err := m.dir(ref.Parent, nil, false)
	if err == nil {
		path = join(parent, ref.Name)
		st, err = m.root.Lstat(path)
	}
	return path, st, err == nil && st.Ino == num
}

// All tells whether an inode of so many links can have just the names that are known, so many.
func (m *Mounted) All(links uint64, names int) bool {
	return links == uint64(names) || m.some && links > uint64(names)
}

// LookUp has so many goroutines find inodes that will be asked for: cold, each waits for the disk. What goes wrong is met by whoever asks.
func (m *Mounted) LookUp(list []Candidate, workers int) {
	if len(list) < 2 || len(list) > mostRecent/2 {
		return
	}
	var group sync.WaitGroup
	var taken atomic.Int64
	for range min(workers, len(list)) {
		group.Go(func() {
			for i := taken.Add(1) - 1; i < int64(len(list)); i = taken.Add(1) - 1 {
				_, _ = m.find(list[i].Num)
			}
		})
	}
	group.Wait()
}

// Inode implements Tree.
func (m *Mounted) Inode(num uint64) (Info, bool, error) {
	f, err := m.find(num)
	if f == nil {
		return Info{}, false, err
	}
	names := 1
	if f.st.Mode&unix.S_IFMT != unix.S_IFDIR {
		names = int(f.st.Nlink)
	}
	gen, err := f.gen()
	return Info{attrOf(&f.st, names), gen}, err == nil, err
}

// Entries implements Tree.
func (m *Mounted) Entries(num uint64, yield func(Entry) error) error {
	path, err := m.dir(num, nil, true)
	if err != nil {
		return err
	}
	return m.root.ReadDir(path, func(name string, dtype uint8, ino uint64) error {
		typ := uint32(dtype) << 12 // DTTOIF of dirent.h
		if dtype == unix.DT_UNKNOWN {
			st, err := m.root.Lstat(join(path, name))
			if err != nil {
				return err
			}
			typ = st.Mode & unix.S_IFMT
		}
		return yield(Entry{Name: name, Ino: ino, Type: typ})
	})
}

// Find makes sure that a directory is where its names lead; ErrElsewhere when it is not.
func (m *Mounted) Find(num uint64) error {
	_, err := m.dir(num, nil, true)
	return err
}

// Xattrs implements Tree.
func (m *Mounted) Xattrs(num uint64) (string, error) {
	path, _, ok, err := m.Path(num)
	if err != nil || !ok {
		return "", err
	}
	return xattrsAt(m.root, path)
}

// unreadable counts the times that attributes could not be read.
var unreadable atomic.Uint64

// xattrsAt is Tree.Xattrs by a path. Attributes that cannot be read (more than the kernel lists, or on a bad disk) are equal to no others: who copies the
// inode says so.
func xattrsAt(root *beneath.Root, path string) (string, error) {
	list, err := root.Xattrs(path)
	for _, own := range []unix.Errno{unix.E2BIG, unix.EIO, unix.EUCLEAN, unix.EBADMSG} {
		if errors.Is(err, own) {
			return fmt.Sprintf("unreadable %d", unreadable.Add(1)), nil
		}
	}
	if err != nil || len(list) == 0 {
		return "", err
	}
	var all strings.Builder
	for _, x := range list {
		fmt.Fprintf(&all, "%d:%s=%d:%s", len(x.Name), x.Name, len(x.Value), x.Value)
	}
	return all.String(), nil
}
