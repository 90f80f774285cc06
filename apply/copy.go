package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
	"snapdiff/snapshot/gentle"
)

// How the first copy works, and what a cut leaves behind:
//
//  1. The top directory is done first. Several workers take directories, the deepest first.
//  2. A directory is listed; its files are made in the order of their inode numbers, its subdirectories are made empty. Large
//     directories are shared out among the workers.
//  3. When all names of a directory are there it gets its owner, mode, attributes and times, and is *complete*: nothing
//     touches it any more. Only then its subdirectories are queued.
//  4. Every few seconds the mirror's filesystem is synced, and then the directories that were complete before are *marked*
//     in the catalog, in one transaction with their nodes. A marked directory's parent is always marked.
//
// After a cut, what is marked is on the disk. The next attempt first goes through the marked directories (to find the
// inodes that other names are to be linked to), empties each subdirectory of theirs that is not marked and copies it anew.

// firstCopy copies a whole snapshot into an empty mirror.
type firstCopy struct {
	next, mirror *beneath.Root
	keys         func(path string, ino uint64) (diff.Key, error)
	exclude      *diff.Exclude
	marks        copyMarks
	index, sign  bool // names are put into the link index, with signatures
	workers      int
	pace         *gentle.Pace
	step         func(name string) error
	progress     func(Progress)
	batchFiles   int64         // a batch is closed after so many files
	batchBytes   int64         // or so many bytes
	batchTime    time.Duration // or so long
	mostWaiting  int64         // files that no batch has yet; who wants to copy more waits

	build  *builder
	built  builtFiles // since the last batch
	noSums bool
	queue  *copyQueue
	links  linkGroups
	bad    map[string]bool // what the marked directories lack
	cancel context.CancelFunc

	counts copyCounts

	mu     sync.Mutex
	batch  copyBatch   // complete, not marked
	taken  int64       // counts.Files when the last batch was closed
	room   *sync.Cond  // taken has grown, or the copy is stopped
	err    error       // the first error that stops the copy
	killed atomic.Bool // step said stop: do nothing any more
}

// copyCounts is how much was copied, former attempts included.
type copyCounts struct {
	Files, Dirs atomic.Int64 // names of files; directories
	Bytes       atomic.Int64 // sizes of regular files, each inode once
}

// copyBatch is what one transaction of the catalog takes in.
type copyBatch struct {
	dirs []markedDir
	bad  []badEntry
	sums []fileSum // perhaps of files in directories that are not complete, too
}

// markedDir is a complete directory.
type markedDir struct {
	copyDir
	key   diff.Key
	names []linkName // for the link index
	sig   uint64     // of the directory itself; 0: not known
}

// signatures are those of the directory and of what has names in it.
func (d *markedDir) signatures() []inodeSignature {
	var list []inodeSignature
	if d.sig != 0 {
		list = append(list, inodeSignature{d.key.Ino, d.sig})
	}
	for _, n := range d.names {
		if n.sig != 0 {
			list = append(list, inodeSignature{n.key.Ino, n.sig})
		}
	}
	return list
}

// badEntry is a name that the mirror lacks, or has not with all its attributes.
type badEntry struct {
	path string
	key  diff.Key
	err  error
}

// copyMarks is where the first copy remembers what is done: the catalog.
type copyMarks interface {
	// lastNode is the highest number of a node.
	lastNode() (int64, error)
	// marked gives the node of a directory that is complete and synced, or false.
	marked(d *copyDir) (int64, bool, error)
	// pending are the paths that marked directories lack.
	pending() (map[string]bool, error)
	// mark stores a batch in one transaction.
	mark(batch copyBatch) error
}

const (
	partEntries       = 1000 // entries of a directory that one worker does in one go
	defaultBatchBytes = 2 << 30
	defaultBatchTime  = 5 * time.Second
	progressTime      = 200 * time.Millisecond

	// defaultWaiting keeps what is noted of files below some 10 MB: to write a batch to a slow disk, while others are copied, takes minutes.
	defaultWaiting = 100_000

	rootNode = 1
)

var defaultBatchFiles int64 = 20_000

// errStopped is what workers say when another one has failed.
var errStopped = errors.New("stopped")

// defaultWorkers keeps a disk's queue filled without making it jump about.
func defaultWorkers() int { return min(max(4, 2*runtime.NumCPU()), 16) }

// copyWorkers are more: what is copied first is in no cache, and each small file is one read that a worker waits for.
func copyWorkers() int { return min(4*runtime.NumCPU(), 16) }

// moreProcessors lets so many goroutines be in system calls that take long without being noticed: Go's scheduler gives the place of one that waits for
// the disk to another only when its monitor has seen it waiting, and a copy waits for most files. The result sets it back. One processor is better off
// with few; what the environment says stands.
func moreProcessors(workers int) (back func()) {
	before := runtime.GOMAXPROCS(0)
	if runtime.NumCPU() == 1 || workers <= before || os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	runtime.GOMAXPROCS(workers)
	return func() { runtime.GOMAXPROCS(before) }
}

func (f *firstCopy) defaults() {
	f.build, f.queue = newBuilder(f.pace), newCopyQueue()
	if !f.noSums || f.built.paths {
		f.build.built = f.built.add
	}
	if f.workers <= 0 {
		f.workers = copyWorkers()
	}
	if f.step == nil {
		f.step = func(string) error { return nil }
	}
	if f.progress == nil {
		f.progress = func(Progress) {}
	}
	if f.mostWaiting == 0 {
		f.mostWaiting = defaultWaiting
	}
	f.room = sync.NewCond(&f.mu)
	if f.batchFiles == 0 {
		f.batchFiles, f.batchBytes, f.batchTime = defaultBatchFiles, defaultBatchBytes, defaultBatchTime
	}
}

// run copies until all is marked. Cancelled or failed, it marks what is complete.
func (f *firstCopy) run(ctx context.Context) error {
	f.defaults()
	ctx, f.cancel = context.WithCancel(ctx)
	defer f.cancel()
	if err := f.resume(ctx); err != nil {
		if errors.Is(err, errStopped) {
			return context.Cause(ctx)
		}
		return err
	}
	f.taken = f.counts.Files.Load()
	stop := context.AfterFunc(ctx, f.queue.stop)
	defer stop()
	wake := context.AfterFunc(ctx, f.wake)
	defer wake()
	marked := make(chan error, 1)
	ended := make(chan struct{})
	go func() { marked <- f.markAll(ended) }()
	f.work(ctx)
	f.queue.drain(func(t copyTask) { f.partDone(t.of, errStopped) })
	close(ended)
	err := <-marked
	if f.err != nil {
		return f.err
	}
	if err != nil {
		return err
	}
	return context.Cause(ctx)
}

// work runs the workers until the queue is empty or the copy is stopped.
func (f *firstCopy) work(ctx context.Context) {
	defer moreProcessors(f.workers)()
	var all sync.WaitGroup
	for range f.workers {
		all.Go(func() {
			for {
				t, ok := f.queue.next()
				if !ok {
					return
				}
				f.fail(f.do(ctx, t))
				f.queue.done()
			}
		})
	}
	all.Wait()
}

func (f *firstCopy) do(ctx context.Context, t copyTask) error {
	if t.of != nil {
		return f.copyPart(ctx, t.of, t.entries)
	}
	return f.copyDir(ctx, t.dir)
}

// fail stops the copy; the first error is kept.
func (f *firstCopy) fail(err error) {
	if err == nil || errors.Is(err, errStopped) {
		return
	}
	f.mu.Lock()
	if f.err == nil {
		f.err = err
	}
	f.mu.Unlock()
	f.queue.stop()
	f.cancel()
}

// at is called before every single change of the mirror or the catalog.
func (f *firstCopy) at(name string) error {
	if f.killed.Load() {
		return errStopped
	}
	err := f.step(name)
	if err != nil {
		f.killed.Store(true)
	}
	return err
}

// wait waits until there are not too many files that no batch has.
func (f *firstCopy) wait(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.counts.Files.Load()-f.taken >= f.mostWaiting && ctx.Err() == nil {
		f.room.Wait()
	}
}

// wake lets those go on that wait.
func (f *firstCopy) wake() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room.Broadcast()
}

// complete puts a directory into the present batch.
func (f *firstCopy) complete(d markedDir, bad []badEntry) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.batch.dirs = append(f.batch.dirs, d)
	f.batch.bad = append(f.batch.bad, bad...)
}

// markAll closes batch after batch until ended, and then the last one. An error of it stops the copy.
func (f *firstCopy) markAll(ended <-chan struct{}) error {
	tick := time.NewTicker(progressTime)
	defer tick.Stop()
	last, files, bytes := time.Now(), f.counts.Files.Load(), f.counts.Bytes.Load()
	for {
		over := false
		select {
		case <-ended:
			over = true
		case <-tick.C:
		}
		nowFiles, nowBytes := f.counts.Files.Load(), f.counts.Bytes.Load()
		f.progress(Progress{Doing: "copying", Names: nowFiles, Bytes: nowBytes})
		if !over && time.Since(last) < f.batchTime && nowFiles-files < f.batchFiles && nowBytes-bytes < f.batchBytes {
			continue
		}
		err := f.markBatch()
		if err != nil {
			f.fail(err)
			return err
		}
		if over {
			return nil
		}
		last, files, bytes = time.Now(), nowFiles, nowBytes
	}
}

// markBatch makes durable what is complete. The workers go on meanwhile.
func (f *firstCopy) markBatch() error {
	f.mu.Lock()
	batch := f.batch
	f.batch = copyBatch{}
	built := f.built.take() // all files of the batch are among them
	f.taken = f.counts.Files.Load()
	f.room.Broadcast()
	f.mu.Unlock()
	if f.killed.Load() || len(batch.dirs)+len(built) == 0 {
		return nil
	}
	if err := f.at("sync"); err != nil {
		return err
	}
	if err := f.mirror.SyncFS(); err != nil {
		return fmt.Errorf("write the mirror to its disk: %w", err)
	}
	if f.built.paths {
		each := func(n int, do func(int) error) error { return inChunks(context.Background(), f.workers, n, do) }
		if err := readBack(f.mirror, f.next, built, f.at, each); err != nil {
			return err
		}
	}
	if !f.noSums {
		batch.sums = sumsOf(built)
	}
	if err := f.at("mark"); err != nil {
		return err
	}
	return f.marks.mark(batch)
}
