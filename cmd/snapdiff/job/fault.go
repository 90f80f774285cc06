package job

import (
	"fmt"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
)

// GuardFaults makes of a fault in mapped memory an error that says why: use it as `defer GuardFaults(store, &err)()`. SQLite
// shares the index of its WAL as a mapped file. Where there is no room for a page of it (btrfs wants room for every page that
// is written, also where one was before), or the disk fails, the kernel answers a write with SIGBUS, which would end the program
// without a word. The connection is of no use afterwards. Only the calling goroutine is guarded.
func GuardFaults(store string, err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		met := recover()
		if met == nil {
			return
		}
		fault, ok := met.(interface {
			error
			Addr() uintptr // what faults in mapped memory have, and other runtime errors have not
		})
		if !ok {
			panic(met)
		}
		*err = &NoSpace{store, fmt.Errorf("the catalog's shared memory cannot be written, the disk is full or failing (fault at %#x)", fault.Addr())}
	}
}

// leastRoom is what the catalog needs to be opened for writing: its WAL and shared memory.
const leastRoom = 1 << 20

// checkLeastRoom refuses to open a catalog on a disk that has no room at all.
func checkLeastRoom(j config.Job) error {
	at := j.Store
	if j.Catalog != "" {
		at = filepath.Dir(j.Catalog)
	}
	var st unix.Statfs_t
	if unix.Statfs(at, &st) == nil && int64(st.Bavail)*st.Bsize < leastRoom {
		return &NoSpace{at, fmt.Errorf("only %d KB are free, not enough to begin anything", int64(st.Bavail)*st.Bsize>>10)}
	}
	return nil
}
