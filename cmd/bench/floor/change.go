package floor

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Catalog is how often a run writes something small and waits until it is on the disk, as a run of snapdiff's does with its
// catalog: recorded, done. The mirror's filesystem is synced once, at the end.
const Catalog = 2

// chunk is how many neighbours one worker takes, as snapdiff's do.
const chunk = 32

// change is one run: a snapshot of the source, and the copy with its history.
type change struct {
	source, tree, history, stage int // descriptors
	journal                      *os.File
	workers                      int
	numbers                      atomic.Int64
	buffers                      sync.Pool
}

// Prepare makes the directories that Change and Copy work in, below target.
func Prepare(target string) error {
	for _, dir := range []string{"tree", "history", "stage"} {
		if err := os.Mkdir(filepath.Join(target, dir), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Change does what the plan says: from the snapshot into target/tree, what is replaced into target/history.
func Change(plan, snapshot, target string, workers int) error {
	steps, err := read(plan)
	if err != nil {
		return err
	}
	unix.Umask(0)
	c := &change{workers: workers, buffers: sync.Pool{New: func() any { b := make([]byte, 1<<20); return &b }}}
	if err := c.open(snapshot, target); err != nil {
		return err
	}
	return c.run(steps)
}

func (c *change) open(snapshot, target string) (err error) {
	for _, d := range []struct {
		fd   *int
		path string
	}{{&c.source, snapshot}, {&c.tree, filepath.Join(target, "tree")}, {&c.stage, filepath.Join(target, "stage")}, {&c.history, filepath.Join(target, "history")}} {
		if *d.fd, err = unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
	}
	c.journal, err = os.OpenFile(filepath.Join(target, "journal"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	// What an earlier round left in the history keeps its names.
	c.numbers.Store(int64(os.Getpid()) << 32)
	return err
}

func (c *change) run(steps map[byte][]step) error {
	phases := []func() error{
		c.note,
		func() error { return c.each(steps[gone], c.bury) },
		func() error { return c.each(steps[move], c.move) },
		func() error { return c.each(steps[fresh], c.build) },
		func() error { return c.each(steps[anew], c.replace) },
		func() error { return c.each(append(steps[meta], steps[times]...), c.attributes) },
		func() error { return unix.Syncfs(c.tree) },
		c.note,
	}
	if Catalog != 2 {
		panic("one note for each")
	}
	for _, phase := range phases {
		if err := phase(); err != nil {
			return err
		}
	}
	return nil
}

// note writes something small and waits for the disk.
func (c *change) note() error {
	if _, err := c.journal.Write(make([]byte, 4096)); err != nil {
		return err
	}
	return unix.Fdatasync(int(c.journal.Fd()))
}

// each does the steps on all workers, neighbours on one.
func (c *change) each(steps []step, do func(step) error) error {
	var g errgroup.Group
	g.SetLimit(c.workers)
	for from := 0; from < len(steps); from += chunk {
		g.Go(func() error {
			for _, s := range steps[from:min(from+chunk, len(steps))] {
				if err := do(s); err != nil {
					return &os.PathError{Op: "floor, step " + string(rune(s.kind)), Path: s.path, Err: err}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func (c *change) fresh() string { return strconv.FormatInt(c.numbers.Add(1), 10) }

func (c *change) bury(s step) error { return unix.Renameat(c.tree, s.path, c.history, c.fresh()) }
func (c *change) move(s step) error { return unix.Renameat(c.tree, s.path, c.tree, s.to) }

// build makes a file in stage and renames it to its place, which is free.
func (c *change) build(s step) error {
	name := c.fresh()
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	if err := copyFile(c.source, s.path, c.stage, name, *buf); err != nil {
		return err
	}
	return unix.Renameat(c.stage, name, c.tree, s.path)
}

func (c *change) replace(s step) error {
	if err := c.bury(s); err != nil {
		return err
	}
	return c.build(s)
}

// attributes sets what a chmod and a touch would set.
func (c *change) attributes(s step) error {
	var st unix.Stat_t
	if err := unix.Fstatat(c.source, s.path, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if s.kind == meta {
		if err := unix.Fchmodat(c.tree, s.path, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	return unix.UtimesNanoAt(c.tree, s.path, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}, 0)
}
