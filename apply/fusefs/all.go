package fusefs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
)

// Source is where a mount of all restore points has them from.
type Source struct {
	Name string // of the mount, in the list of mounts
	// Points lists the restore points, oldest first.
	Points func() ([]apply.RestorePoint, error)
	// Open opens one of them.
	Open func(run int64) (*apply.View, error)
}

const (
	// fresh is how long the kernel may keep what changes with the next run or prune.
	fresh = time.Second
	// idle is how long a restore point stays open, and so in use, after somebody looked into it.
	idle = 5 * time.Minute

	readmeName, latestName = "README", "latest"
	readmeIno, latestIno   = 2, 1 << 32
)

const readmeText = `Each directory here is one restore point of a snapdiff store, named by when its snapshot was taken (local time).
latest is the newest of them. Everything is read-only. New restore points appear by themselves.

Copy what you need with any tool:  cp -a 2026-11-20T01:00:07/home/anna/letter.txt /tmp/

A restore point that somebody looked into within the last minutes is not dropped by snapdiff prune; others may disappear.
`

// All is a mount of all restore points.
type All struct {
	*fuse.Server
	root *allNode
	stop chan struct{}
}

// MountAll shows every restore point at the directory dir, which must exist: one directory each, a link "latest" and a
// README. It returns when the mount can be used.
func MountAll(src Source, dir string, opts Options) (*All, error) {
	root := &allNode{src: src, points: map[int64]*point{}, forget: newForgetter(), opened: newHandles()}
	if _, err := root.names(); err != nil {
		return nil, err
	}
	server, err := mount(root, dir, src.Name, gofs.StableAttr{Ino: 1, Mode: unix.S_IFDIR}, opts)
	if err != nil {
		return nil, fmt.Errorf("mount the restore points at %s: %w", dir, err)
	}
	a := &All{server, root, make(chan struct{})}
	go a.closeIdle()
	return a, nil
}

// Wait returns when it has been unmounted.
func (a *All) Wait() error {
	a.Server.Wait()
	a.root.opened.closeAll()
	close(a.stop)
	return a.root.closeIdle(time.Now())
}

// closeIdle lets restore points go that nobody uses any more.
func (a *All) closeIdle() {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			_ = a.root.closeIdle(now.Add(-idle)) // what was only read has nothing to lose
		case <-a.stop:
			return
		}
	}
}

// allNode is the top directory.
type allNode struct {
	gofs.Inode
	src    Source
	forget *forgetter
	opened *handles

	mu     sync.Mutex
	points map[int64]*point // those that were looked at
}

var (
	_ gofs.NodeLookuper       = (*allNode)(nil)
	_ gofs.NodeOpendirHandler = (*allNode)(nil)
	_ gofs.NodeGetattrer      = (*allNode)(nil)
	_ gofs.FileLookuper       = (*dateHandle)(nil)
)

// date is a restore point with the name of its directory.
type date struct {
	name string
	apply.RestorePoint
}

// names are the directories, oldest first. Of two with the same second each has its run in the name.
func (n *allNode) names() ([]date, error) {
	points, err := n.src.Points()
	if err != nil {
		return nil, err
	}
	dates := make([]date, len(points))
	count := map[string]int{}
	for i, p := range points {
		dates[i] = date{p.Date.Local().Format("2006-01-02T15:04:05"), p}
		count[dates[i].name]++
	}
	for i, d := range dates {
		if count[d.name] > 1 {
			dates[i].name = fmt.Sprintf("%s-r%d", d.name, d.Run)
		}
	}
	return dates, nil
}

// point gives the one shared by all who look at a run.
func (n *allNode) point(run int64) *point {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.points[run] == nil {
		const golden = 0x9e3779b97f4a7c15 // 2^64 by the golden ratio: neighbours become numbers far apart
		n.points[run] = &point{run: run, mask: uint64(run) * golden >> 2, open: func() (*apply.View, error) { return n.src.Open(run) }}
	}
	return n.points[run]
}

func (n *allNode) closeIdle(since time.Time) (err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.points {
		err = errors.Join(err, p.closeIdle(since))
	}
	return err
}

// Getattr describes the top directory.
func (n *allNode) Getattr(_ context.Context, _ gofs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Ino, out.Mode, out.Nlink = 1, unix.S_IFDIR|0o555, 1
	out.SetTimeout(fresh)
	return 0
}

// Lookup finds a date.
func (n *allNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	out.SetEntryTimeout(fresh)
	out.SetAttrTimeout(fresh)
	if name == readmeName {
		child := &gofs.MemRegularFile{Data: []byte(readmeText), Attr: fuse.Attr{Mode: 0o444}}
		out.Mode, out.Ino, out.Size, out.Nlink = unix.S_IFREG|0o444, readmeIno, uint64(len(readmeText)), 1
		return n.NewInode(ctx, child, gofs.StableAttr{Mode: unix.S_IFREG, Ino: readmeIno}), 0
	}
	dates, err := n.names()
	if err != nil {
		return nil, errno(err)
	}
	if name == latestName && len(dates) > 0 {
		newest := dates[len(dates)-1]
		ino := uint64(latestIno + newest.Run) // another link each time, for the kernel may keep where one leads to
		out.Mode, out.Ino, out.Size, out.Nlink = unix.S_IFLNK|0o777, ino, uint64(len(newest.name)), 1
		return n.NewInode(ctx, &gofs.MemSymlink{Data: []byte(newest.name)}, gofs.StableAttr{Mode: unix.S_IFLNK, Ino: ino}), 0
	}
	i := slices.IndexFunc(dates, func(d date) bool { return d.name == name })
	if i < 0 {
		return nil, unix.ENOENT
	}
	return n.lookupPoint(ctx, n.point(dates[i].Run), out)
}

// lookupPoint gives the top directory of a restore point.
func (n *allNode) lookupPoint(ctx context.Context, p *point, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	view, done, err := p.use()
	if err != nil {
		return nil, errno(err)
	}
	defer done()
	top := view.Root()
	attr, err := view.Lstat(top)
	if err != nil {
		return nil, errno(err)
	}
	p.setAttr(&out.Attr, attr)
	return n.NewInode(ctx, &node{point: p, file: top, forget: n.forget, opened: n.opened}, gofs.StableAttr{Ino: out.Ino, Mode: unix.S_IFDIR}), 0
}

// OpendirHandle lists the dates.
func (n *allNode) OpendirHandle(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	dates, err := n.names()
	if err != nil {
		return nil, 0, errno(err)
	}
	entries := []fuse.DirEntry{{Name: readmeName, Mode: unix.S_IFREG}}
	for _, d := range dates {
		entries = append(entries, fuse.DirEntry{Name: d.name, Mode: unix.S_IFDIR})
	}
	if len(dates) > 0 {
		entries = append(entries, fuse.DirEntry{Name: latestName, Mode: unix.S_IFLNK})
	}
	return &dateHandle{entries: entries}, 0, 0
}

// dateHandle is the open top directory.
type dateHandle struct {
	entries []fuse.DirEntry
	next    int
}

// Readdirent gives the next entry, nil at the end.
func (d *dateHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if d.next >= len(d.entries) {
		return nil, 0
	}
	e := d.entries[d.next]
	d.next++
	e.Off = uint64(d.next)
	return &e, 0
}

// Lookup says nothing of an entry: to list the dates is not to look into them, which keeps them from being dropped.
func (d *dateHandle) Lookup(context.Context, string, *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	return nil, unix.ENOENT
}

// Seekdir goes to where an entry ended.
func (d *dateHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	d.next = int(min(off, uint64(len(d.entries))))
	return 0
}
