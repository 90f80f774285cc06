package apply

import "sync"

// copyDir is a directory of the snapshot on its way into the mirror. It exists in the mirror (its parent is complete), and
// whatever it should hold does not.
type copyDir struct {
	path   string
	name   string
	node   int64 // its number in the catalog
	parent int64 // its parent's
	dirty  bool  // a copy that was cut off may have left something in it
}

// copyFrame holds the subdirectories of one complete directory that no worker has begun: names only, so that a directory
// with a million of them costs little.
type copyFrame struct {
	path  string
	node  int64
	names []string // in the order in which they are to be copied
	dirty bool     // see copyDir
}

// copyTask is what a worker does next: a directory, or a part of the entries of a large one.
type copyTask struct {
	dir     *copyDir
	entries []copyEntry
	of      *openCopy
}

// copyQueue hands out the work: parts of directories that are being copied first, then directories, the deepest first. So
// what waits is never more than the siblings along the way to a few directories, whatever the size of the tree.
type copyQueue struct {
	mu     sync.Mutex
	wake   *sync.Cond
	parts  []copyTask
	frames []*copyFrame
	busy   int // tasks handed out and not done
	closed bool
	nodes  int64 // last node number that was handed out
}

func newCopyQueue() *copyQueue {
	q := &copyQueue{}
	q.wake = sync.NewCond(&q.mu)
	return q
}

// next waits for work. false: there is none any more, or the copy was stopped. Each task must be ended by done.
func (q *copyQueue) next() (copyTask, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for {
		if q.closed {
			return copyTask{}, false
		}
		if n := len(q.parts); n > 0 {
			t := q.parts[n-1]
			q.parts = q.parts[:n-1]
			q.busy++
			return t, true
		}
		if d := q.nextDir(); d != nil {
			q.busy++
			return copyTask{dir: d}, true
		}
		if q.busy == 0 {
			q.closed = true
			q.wake.Broadcast()
			return copyTask{}, false
		}
		q.wake.Wait()
	}
}

// nextDir takes the next directory of the deepest frame.
func (q *copyQueue) nextDir() *copyDir {
	for len(q.frames) > 0 {
		f := q.frames[len(q.frames)-1]
		if len(f.names) == 0 {
			q.frames = q.frames[:len(q.frames)-1]
			continue
		}
		name := f.names[0]
		f.names = f.names[1:]
		q.nodes++
		return &copyDir{path: join(f.path, name), name: name, node: q.nodes, parent: f.node, dirty: f.dirty}
	}
	return nil
}

func (q *copyQueue) done() {
	q.mu.Lock()
	q.busy--
	q.mu.Unlock()
	q.wake.Broadcast()
}

// stop makes every worker leave after its present entry.
func (q *copyQueue) stop() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.wake.Broadcast()
}

// addDirs queues the subdirectories of a complete directory.
func (q *copyQueue) addDirs(f *copyFrame) {
	if len(f.names) == 0 {
		return
	}
	q.mu.Lock()
	q.frames = append(q.frames, f)
	q.mu.Unlock()
	q.wake.Broadcast()
}

// offer queues a part of a directory unless enough of them wait: then the caller does it itself.
func (q *copyQueue) offer(t copyTask, most int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.parts) >= most || q.closed {
		return false
	}
	q.parts = append(q.parts, t)
	q.wake.Signal()
	return true
}

// drain gives back the parts that nobody took before the copy was stopped.
func (q *copyQueue) drain(each func(copyTask)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, t := range q.parts {
		if t.of != nil {
			each(t)
		}
	}
	q.parts = nil
}

// join puts a name below a directory; "" is the top.
func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
