package apply

import (
	"context"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

const (
	aheadFile  = 1 << 20   // bytes; larger files are read fast enough when their turn comes
	aheadTotal = 256 << 20 // bytes that wait in the page cache for Attach, at most
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
					willNeed(next, in.Paths[0])
				}
				return nil
			})
		}
	}()
	return func() { cancel(); <-ended }
}

// aheadWorkers is how many files are asked for at once: opening them is what waits for a cold disk.
const aheadWorkers = 4

func willNeed(root *beneath.Root, path string) {
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
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_WILLNEED)
}
