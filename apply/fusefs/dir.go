package fusefs

import (
	"context"
	"syscall"

	gofs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
)

// OpendirHandle opens a directory. The kernel may keep the list, so it is read when it is asked for.
func (n *node) OpendirHandle(context.Context, uint32) (gofs.FileHandle, uint32, syscall.Errno) {
	return &dirHandle{node: n}, fuse.FOPEN_CACHE_DIR | fuse.FOPEN_KEEP_CACHE, 0
}

// dirHandle is an open directory: the offset of an entry is its number, from 1. go-fuse does not use it from several sides at once.
//
// A program that lists a directory mostly wants to know more of each name at once, and each question is a call to another process. So
// the kernel is given the attributes along with the names (READDIRPLUS): of so many names as do not fill its memory and ours.
type dirHandle struct {
	node  *node
	list  *apply.Listing
	next  int
	ahead []apply.FileAttr // of the names from number first on
	first int
}

const (
	// maxWithAttrs is how many names of one directory are listed with their attributes.
	maxWithAttrs = 10_000
	// lookAhead is for how many names attributes are read at once.
	lookAhead = 64
)

var (
	_ gofs.FileReaddirenter = (*dirHandle)(nil)
	_ gofs.FileSeekdirer    = (*dirHandle)(nil)
	_ gofs.FileLookuper     = (*dirHandle)(nil)
)

// read reads the list when it is first needed.
func (d *dirHandle) read() error {
	if d.list != nil {
		return nil
	}
	view, done, err := d.node.point.use()
	if err != nil {
		return err
	}
	defer done()
	d.list, err = view.List(d.node.file)
	return err
}

// Readdirent gives the next entry, nil at the end.
func (d *dirHandle) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if err := d.read(); err != nil {
		return nil, errno(err)
	}
	if d.next >= d.list.Len() {
		return nil, 0
	}
	name, kind := d.list.At(d.next)
	d.next++
	return &fuse.DirEntry{Name: name, Mode: kind, Off: uint64(d.next)}, 0
}

// Seekdir goes to where an entry ended.
func (d *dirHandle) Seekdir(_ context.Context, off uint64) syscall.Errno {
	if err := d.read(); err != nil {
		return errno(err)
	}
	d.next = int(min(off, uint64(d.list.Len())))
	return 0
}

// Lookup gives the attributes of the entry that Readdirent has just given. On an error the kernel gets the name alone and asks
// when it needs more.
func (d *dirHandle) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*gofs.Inode, syscall.Errno) {
	at := d.next - 1
	if at < 0 || at >= min(d.list.Len(), maxWithAttrs) {
		return nil, unix.ENOENT
	}
	if at < d.first || at >= d.first+len(d.ahead) {
		if err := d.lookAhead(at); err != nil {
			return nil, errno(err)
		}
	}
	found := &d.ahead[at-d.first]
	if found.Err != nil {
		return nil, errno(found.Err)
	}
	if found.Name != name { // an entry that the kernel asks for a second time
		return d.node.Lookup(ctx, name, out)
	}
	return d.node.child(ctx, found.ViewFile, found.ViewAttr, out), 0
}

// lookAhead reads the attributes of the entries from number at on.
func (d *dirHandle) lookAhead(at int) error {
	view, done, err := d.node.point.use()
	if err != nil {
		return err
	}
	defer done()
	names := make([]string, 0, lookAhead)
	for i := at; i < min(at+lookAhead, d.list.Len(), maxWithAttrs); i++ {
		name, _ := d.list.At(i)
		names = append(names, name)
	}
	d.ahead, d.first = view.ChildAttrs(d.node.file, names), at
	return nil
}
