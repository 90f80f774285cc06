package apply

import "sync"

// linkGroups are the inodes with several names that the first copy has met: one of the names is copied, the others are
// linked to it. A group is dropped with its last name, so only the groups whose names lie far apart are held.
type linkGroups struct {
	mu     sync.Mutex
	groups map[linkIno]*linkGroup
}

// linkIno tells inodes apart, also where a snapshot is of several filesystems.
type linkIno struct{ dev, ino uint64 }

type linkGroup struct {
	ready chan struct{} // closed when the inode is made, or cannot be
	path  string        // the name that was made first
	err   error         // why it could not be
	left  uint32        // names that have not been met yet
}

// claim gives the group of an inode. true: this is the first name, the caller must make it and say so to settle. Otherwise
// the caller waits for ready, which comes soon: the maker of an inode waits for nobody.
func (l *linkGroups) claim(ino linkIno, names uint32, path string) (*linkGroup, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.groups[ino]
	if g == nil {
		if l.groups == nil {
			l.groups = make(map[linkIno]*linkGroup)
		}
		g = &linkGroup{ready: make(chan struct{}), path: path, left: names - 1}
		l.groups[ino] = g
		return g, true
	}
	if g.left--; g.left == 0 {
		delete(l.groups, ino)
	}
	return g, false
}

// settle tells the waiting ones how the making went.
func (g *linkGroup) settle(err error) {
	g.err = err
	close(g.ready)
}
