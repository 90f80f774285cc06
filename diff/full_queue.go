package diff

import (
	"context"
	"runtime"
	"sync"
)

// fullFrame is work that is still to be done in one directory: subdirectories to compare, as bare names, or a part of the other
// names, if there are many.
type fullFrame struct {
	dir   *fullDir // of files
	files []fullFile

	top    bool // the name is that of the top directory
	path   string
	sides  sides
	names  []string
	parent [2]Key // of the directory in the mirror and in the snapshot
}

// filesAtOnce is how many names of one directory a goroutine compares before others may join in.
const filesAtOnce = 512

func (f *full) walk(ctx context.Context) error {
	workers := f.opts.Workers
	if workers <= 0 {
		workers = min(max(4, 2*runtime.NumCPU()), 16)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() {
		f.queueMu.Lock()
		f.closed = true
		f.queueMu.Unlock()
		f.wake.Broadcast()
	})
	defer stop()
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for d, files := f.nextWork(); d != nil; d, files = f.nextWork() {
				if err := f.do(ctx, d, files); err != nil {
					cancel(err)
				}
				f.workDone()
			}
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// do compares a directory, or only files of it.
func (f *full) do(ctx context.Context, d *fullDir, files []fullFile) error {
	if files != nil {
		return f.compareFiles(ctx, d, files)
	}
	return f.compareDir(ctx, d)
}

// nextWork waits for a directory to compare, or some files of one, the deepest first; nil: there is none any more.
func (f *full) nextWork() (*fullDir, []fullFile) {
	f.queueMu.Lock()
	defer f.queueMu.Unlock()
	for !f.closed {
		if d, files := f.takeWork(); d != nil {
			f.busy++
			return d, files
		}
		if f.busy == 0 {
			f.closed = true
			f.wake.Broadcast()
			break
		}
		f.wake.Wait()
	}
	return nil, nil
}

func (f *full) takeWork() (*fullDir, []fullFile) {
	for len(f.frames) > 0 {
		at := f.frames[len(f.frames)-1]
		if at.dir != nil {
			f.frames = f.frames[:len(f.frames)-1]
			return at.dir, at.files
		}
		if len(at.names) == 0 {
			f.frames = f.frames[:len(f.frames)-1]
			continue
		}
		name := at.names[0]
		at.names = at.names[1:]
		return &fullDir{path: join(at.path, name), sides: at.sides, parent: at.parent}, nil
	}
	return nil, nil
}

func (f *full) workDone() {
	f.queueMu.Lock()
	f.busy--
	f.queueMu.Unlock()
	f.wake.Broadcast()
}

func (f *full) push(frames ...*fullFrame) {
	f.queueMu.Lock()
	for _, at := range frames {
		if len(at.names) > 0 || at.dir != nil {
			f.frames = append(f.frames, at)
		}
	}
	f.queueMu.Unlock()
	f.wake.Broadcast()
}
