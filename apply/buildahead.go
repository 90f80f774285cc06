package apply

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

const (
	aheadFile  = copyBuffer // bytes; a larger file would hold up whoever ends building ahead
	aheadTotal = 64 << 20   // bytes that are built ahead, at most: a run that cannot be recorded leaves them until the next one

	// aheadWorkers build at once where nobody has said how many are to. They wait for the source's disk most of the time: what is read of a
	// new snapshot is in no cache, and each small file is one read.
	aheadWorkers = 16
)

// buildAhead makes new contents in stage before Attach wants them: while the run is recorded, which is one processor's work and leaves
// the disk of the source idle, and up to Attach. Until the run is recorded nothing knows of them: the next run removes what it finds.
// A run that goes on after a cut builds all again.
type buildAhead struct {
	build *builder
	built builtFiles
	stop  func() // ends it and waits; nil: nothing is under way

	mu    sync.Mutex
	ready map[diff.Key]bool
	// signatures are those of what was built, as the snapshot has it (see diff.Signature), of so many as a small plan has.
	signatures map[diff.Key]uint64
}

func newBuildAhead(opts Options) *buildAhead {
	a := &buildAhead{build: newBuilder(opts.Pace), ready: map[diff.Key]bool{}, signatures: map[diff.Key]uint64{}}
	a.built.paths, a.build.built, a.build.inStage = opts.ReadBack, a.built.add, true
	return a
}

// start begins to build what the plan wants. What fails Attach will meet, and tell.
func (a *buildAhead) start(ctx context.Context, s *Store, next *beneath.Root, p *plan, opts Options) error {
	if err := s.emptyStage(); err != nil {
		return fmt.Errorf("clearing what a run left that was cut off: %w", err)
	}
	var files []*diff.Inode
	total := int64(0)
	for i := range p.Inodes {
		if in := &p.Inodes[i]; builtAhead(in) {
			if total += in.Attr.Size; total > aheadTotal {
				break
			}
			files = append(files, in)
		}
	}
	until, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = inChunks(until, cmp.Or(opts.Workers, aheadWorkers), len(files), func(i int) error {
			if until.Err() != nil {
				return until.Err()
			}
			key := files[i].Key
			err := a.make(files[i], next, s.stage, nil)
			if err == nil {
				a.mu.Lock()
				a.ready[key] = true
				a.mu.Unlock()
			}
			if IsBadFile(err) {
				return nil
			}
			return err
		})
	}()
	a.stop = func() {
		if opts.Step == nil { // tests see the same each time
			cancel()
		}
		<-ended
		cancel()
		a.stop = nil
	}
	return nil
}

// make builds one inode in stage. old is what it may be a clone of, nil: it is copied whole.
func (a *buildAhead) make(in *diff.Inode, next, stage *beneath.Root, old *place) error {
	st, err := a.build.build(place{next, in.Paths[0]}, place{stage, newName(in.Key)}, in.Attr.Type(), old, in.Ranges)
	if _, ino := diff.SplitIno(in.Key.Ino); err == nil && st.Ino == ino {
		sig := diff.Signature(&st, in.Key.Gen)
		a.mu.Lock()
		if len(a.signatures) < smallPlan {
			a.signatures[in.Key] = sig
		}
		a.mu.Unlock()
	}
	return err
}

// end waits until nothing is built ahead any more.
func (a *buildAhead) end() {
	if a.stop != nil {
		a.stop()
	}
}

// builtAhead tells the files whose contents are certain to be copied whole, and that are small.
func builtAhead(in *diff.Inode) bool {
	whole := in.What&diff.New != 0 || in.What&diff.Data != 0 && (in.Ranges == nil || in.Attr.Size < minClone)
	return whole && in.Attr.IsRegular() && in.Attr.Size <= aheadFile && !largeChange(in)
}

// emptyStage removes what was being built.
func (s *Store) emptyStage() error {
	var built []string
	err := s.stage.ReadDir("", func(name string, _ uint8, _ uint64) error {
		if isBuilt(name) {
			built = append(built, name)
		}
		return nil
	})
	for _, name := range built {
		if err == nil {
			err = s.stage.Unlink(name)
		}
	}
	return err
}

// isBuilt tells a name in stage of what was being built from that of what was taken out of the mirror.
func isBuilt(name string) bool { return strings.HasPrefix(name, "n-") }
