package inodefeed

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	a "snapdiff/apply/applytest"
	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/lvm"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// feature is a form of a filesystem, as options of its mkfs.
type feature struct {
	name    string
	options []string
}

// What the tests go through.
var (
	kinds      = []a.Kind{a.Ext4, a.XFS}
	features   = map[a.Kind][]feature{a.Ext4: ext4Features, a.XFS: xfsFeatures}
	volumeSize = map[a.Kind]int64{a.Ext4: ext4Size, a.XFS: 768 << 20}
)

// sample gives some forms of a filesystem, other ones in each run, and all of them in a soak.
func sample(t testing.TB, kind a.Kind, count int) []feature {
	t.Helper()
	all := slices.Clone(features[kind])
	if a.Soak() {
		return all
	}
	r := rand.New(rand.NewPCG(a.Seed(t), 0))
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:count]
}

// volume is a filesystem on a block device of which snapshots are taken: the device is copied while the filesystem is
// frozen, as lvcreate does.
type volume struct {
	testing.TB
	kind       a.Kind
	dir, image string
	store      string // memory for the copies
	taken      int
}

// newVolume makes an empty filesystem of size bytes.
func newVolume(t testing.TB, kind a.Kind, size int64, options ...string) *volume {
	t.Helper()
	dir := a.MountSized(t, kind, size, options...)
	store := t.TempDir()
	must(t, unix.Mount("snapdiff-test", store, "tmpfs", 0, "mode=0700"))
	t.Cleanup(func() { must(t, unix.Unmount(store, 0)) })
	return &volume{TB: t, kind: kind, dir: dir, image: filepath.Join(filepath.Dir(dir), "image"), store: store}
}

// chunk is how large the blocks of a device are that are compared, as in a thin pool.
const chunk = 64 << 10

const (
	fiFreeze = 0xC0045877 // FIFREEZE, linux/fs.h: _IOWR('X', 119, int)
	fiThaw   = 0xC0045878 // FITHAW
)

// frozen does something while nothing can be written.
func (v *volume) frozen(do func()) {
	v.Helper()
	fd, err := unix.Open(v.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(v, err)
	defer unix.Close(fd)
	must(v, unix.IoctlSetInt(fd, fiFreeze, 0))
	defer func() { must(v, unix.IoctlSetInt(fd, fiThaw, 0)) }()
	do()
}

// snap is a snapshot of a volume.
type snap struct {
	Side
	dir  string // where it is mounted
	file *os.File
}

// snapshot takes one and mounts it, both until the end of the test or drop.
func (v *volume) snapshot() *snap {
	v.Helper()
	taken := time.Now()
	var image string
	v.frozen(func() { image = v.copy() })
	return v.open(image, taken)
}

// copy copies the device as it is.
func (v *volume) copy() string {
	v.Helper()
	v.taken++
	image := filepath.Join(v.store, fmt.Sprint(v.taken))
	command(v, "cp", "--sparse=always", v.image, image)
	return image
}

func command(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// roOptions mount a snapshot so that nothing of it is written.
var roOptions = map[a.Kind]string{a.Ext4: "loop,ro,noload", a.XFS: "loop,ro,norecovery,nouuid"}

// open mounts a copy of the device.
func (v *volume) open(image string, taken time.Time) *snap {
	v.Helper()
	s := &snap{dir: image + ".mnt", Side: Side{Taken: taken, Boot: "this one"}}
	must(v, os.Mkdir(s.dir, 0o700))
	command(v, "mount", "-o", roOptions[v.kind], image, s.dir)
	v.Cleanup(func() { s.drop() })
	var err error
	s.file, err = os.Open(image)
	must(v, err)
	st, err := s.file.Stat()
	must(v, err)
	s.Device, s.Size = s.file, st.Size()
	s.Root, err = beneath.Open(s.dir)
	must(v, err)
	return s
}

// unmount closes a snapshot; its device stays.
func (s *snap) unmount() {
	if s.file == nil {
		return
	}
	s.Root.Close()
	s.file.Close()
	s.file = nil
	if err := unix.Unmount(s.dir, 0); err != nil {
		panic(err)
	}
	os.Remove(s.dir)
}

// drop gives up a snapshot and its memory. It may be called again.
func (s *snap) drop() {
	s.unmount()
	os.Remove(strings.TrimSuffix(s.dir, ".mnt"))
}

// changed compares two snapshots chunk by chunk, as thin_delta does.
func changed(t testing.TB, base, next *snap) lvm.Blocks {
	t.Helper()
	size := min(base.Size, next.Size)
	var out []lvm.Block
	b, n := make([]byte, chunk), make([]byte, chunk)
	for off := int64(0); off < size; off += chunk {
		skip := min(nextData(t, base.file, off), nextData(t, next.file, off))
		if off = max(off, skip/chunk*chunk); off >= size {
			break
		}
		length := min(chunk, size-off)
		_, err := base.file.ReadAt(b[:length], off)
		must(t, err)
		_, err = next.file.ReadAt(n[:length], off)
		must(t, err)
		if !bytes.Equal(b[:length], n[:length]) {
			out = append(out, lvm.Block{Off: off, Len: length})
		}
	}
	return lvm.NewBlocks(out, size)
}

// nextData is where the next data lies at or behind off.
func nextData(t testing.TB, f *os.File, off int64) int64 {
	t.Helper()
	at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 1 << 62
	}
	must(t, err)
	return at
}

// names is a link index made by walking.
type names map[uint64][]diff.Ref

func (n names) Names(num uint64) ([]diff.Ref, error) { return n[num], nil }

// walk calls visit for every path of a snapshot.
func walk(t testing.TB, r *beneath.Root, visit func(path string, parent uint64, st unix.Stat_t)) {
	t.Helper()
	var dir func(path string, num uint64)
	dir = func(path string, num uint64) {
		var below []string
		must(t, r.ReadDir(path, func(name string, _ uint8, _ uint64) error {
			below = append(below, name)
			return nil
		}))
		for _, name := range below {
			p := name
			if path != "" {
				p = path + "/" + name
			}
			st, err := r.Lstat(p)
			must(t, err)
			visit(p, num, st)
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				dir(p, st.Ino)
			}
		}
	}
	st, err := r.Lstat("")
	must(t, err)
	visit("", 0, st)
	dir("", st.Ino)
}

// index walks a snapshot for its names.
func index(t testing.TB, s *snap) names {
	t.Helper()
	out := names{}
	walk(t, s.Root, func(path string, parent uint64, st unix.Stat_t) {
		if path != "" {
			out[st.Ino] = append(out[st.Ino], diff.Ref{Parent: parent, Name: filepath.Base(path)})
		}
	})
	return out
}

// compare gives the change set between two snapshots.
func compare(t testing.TB, base, next *snap, opts diff.Options) *diff.ChangeSet {
	t.Helper()
	set, _, err := Diff(t.Context(), base.Side, next.Side, changed(t, base, next), index(t, base), opts)
	must(t, err)
	return set
}
