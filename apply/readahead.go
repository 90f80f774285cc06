package apply

import (
	"context"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

const (
	aheadFile  = 256 << 10 // bytes; larger files are read fast enough when their turn comes
	aheadTotal = 64 << 20  // bytes that wait in the page cache for Attach, at most
)

// readAhead asks the kernel for the contents that Attach will copy. It goes on while the run is recorded, which is one processor's work
// and leaves the disk of the source idle. It is only a hint: what cannot be opened Attach will meet. The result ends it.
func readAhead(ctx context.Context, next *beneath.Root, p *plan) (enough func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(aheadWorkers)
		defer group.Wait()
		total := int64(0)
		for i := range p.Inodes {
			in := &p.Inodes[i]
			if in.What&(diff.New|diff.Data) == 0 || !in.Attr.IsRegular() || in.Attr.Size == 0 || in.Attr.Size > aheadFile {
				continue
			}
			if total += in.Attr.Size; total > aheadTotal || ctx.Err() != nil {
				return
			}
			group.Go(func() error {
				if ctx.Err() == nil {
					willNeed(next, in.Paths[0], in.Attr.Size)
				}
				return nil
			})
		}
	}()
	return func() { cancel(); <-ended }
}

// aheadWorkers is how many files are asked for at once: opening them is what waits for a cold disk.
const aheadWorkers = 4

func willNeed(root *beneath.Root, path string, size int64) {
	at, release, err := place{root, path}.open()
	if err != nil {
		return
	}
	defer release()
	fd, err := openQuiet(at, unix.O_RDONLY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	// What was allocated and never written is a hole only as long as no page of it is in memory, see copier.segments.
	if hole, err := unix.Seek(fd, 0, unix.SEEK_HOLE); err == nil && hole >= size {
		_ = unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED)
	}
}

// catalogAhead is how many bytes of a catalog are asked for when a store is opened for writing: a run looks up rows all over it, one
// after the other, each of which would wait for a cold disk.
const catalogAhead = 64 << 20

// readCatalogAhead is a hint too: what is wrong with the catalog is told by who opens it.
func readCatalogAhead(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, catalogAhead, unix.FADV_WILLNEED)
}
