package apply

import (
	"errors"
	"io/fs"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// SQLite shares the index of its WAL between processes as a mapped file, catalog.db-shm. Where the disk has no room for a page of it, or
// fails, the kernel answers a write to it with SIGBUS, which ends a program without a word. Two things keep that from happening:
//
//   - SQLite allocates each page before it maps it. That is enough but on btrfs, which wants new room for every page that is written
//     again; there the file is made without copy on write (steadySharedMemory), so that its pages stay where they are.
//   - What is left (no room for btrfs's own metadata, a disk that fails) becomes ErrFault: every use of a connection is within a
//     faultGuard, in whatever goroutine it is.

// ErrFault says that the catalog's shared memory could not be written or read. Its connection is of no use any more.
var ErrFault = errors.New("the catalog's shared memory cannot be used: its disk is full or failing")

// faultGuard makes ErrFault of faults in mapped memory. The zero value is ready.
type faultGuard struct{ met atomic.Bool }

// do calls what uses the connection. After a fault nothing does any more: SQLite may hold locks of its own for ever.
func (g *faultGuard) do(use func() error) (err error) {
	if g.met.Load() {
		return ErrFault
	}
	return g.attempt(use)
}

func (g *faultGuard) attempt(use func() error) (err error) {
	before := debug.SetPanicOnFault(true) // of this goroutine
	defer func() {
		debug.SetPanicOnFault(before)
		switch met := recover().(type) {
		case nil:
		case interface {
			error
			Addr() uintptr // what faults in mapped memory have, and other runtime errors have not
		}:
			g.met.Store(true)
			err = ErrFault
		default:
			panic(met)
		}
	}()
	return use()
}

// transaction does something whole or not at all.
func (g *faultGuard) transaction(conn *sqlite.Conn, f func() error) error {
	return g.do(func() (err error) {
		end, err := sqlitex.ImmediateTransaction(conn)
		if err != nil {
			return err
		}
		err = f()
		if g.met.Load() {
			return err // what was begun is as good as taken back: nobody commits it
		}
		end(&err)
		return err
	})
}

// close closes a connection. After a fault that may fail again or wait for ever: then the end of the program closes it.
func (g *faultGuard) close(conn *sqlite.Conn) error {
	if !g.met.Load() {
		return g.do(conn.Close)
	}
	closed := make(chan error, 1)
	go func() { closed <- g.attempt(conn.Close) }()
	select {
	case <-closed:
	case <-time.After(time.Second):
	}
	return nil
}

// flagNoCOW is FS_NOCOW_FL of linux/fs.h: a file whose blocks are written in place.
const flagNoCOW = 0x00800000

// steadySharedMemory makes the shared memory of a catalog on btrfs without copy on write, if it is not there yet. It is an empty file
// then, which SQLite takes for its own. That it cannot be done is no error: it is done again with each opening.
func steadySharedMemory(catalog string) {
	var st unix.Statfs_t
	if unix.Statfs(catalog, &st) != nil || st.Type != unix.BTRFS_SUPER_MAGIC {
		return
	}
	f, err := os.OpenFile(catalog+"-shm", os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, fs.FileMode(0o600))
	if err != nil {
		return
	}
	defer f.Close()
	var flags int64 // FS_IOC_GETFLAGS takes a pointer to a long and writes an int
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_GETFLAGS, uintptr(unsafe.Pointer(&flags))); e == 0 {
		flags |= flagNoCOW
		unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_SETFLAGS, uintptr(unsafe.Pointer(&flags)))
	}
}
