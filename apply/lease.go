package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// A lease keeps a restore point from being dropped while somebody looks at it: a shared lock (flock) on in-use/rRUN, which
// whoever drops it locks alone. A process that dies gives it back. Who can make no file there, because he sees the store through
// a mount that cannot be written or the disk is full, locks the store's directory itself, and so all restore points.
const leaseDir = "in-use"

// errInUse says that a lease cannot be had, now.
var errInUse = errors.New("it is in use")

// takeLease locks a restore point.
func takeLease(store *beneath.Root, run int64, how int) (*os.File, error) {
	err := store.Mkdir(leaseDir, 0o700)
	if cannotLease(err, how) {
		return lockAll(store, how)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	name := leaseDir + "/r" + strconv.FormatInt(run, 10)
	for {
		fd, err := store.Open(name, unix.O_RDWR|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
		if cannotLease(err, how) {
			return lockAll(store, how)
		}
		if err != nil {
			return nil, err
		}
		lease := os.NewFile(uintptr(fd), name)
		err = unix.Flock(fd, how|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errInUse
		}
		var st unix.Stat_t
		if err = errors.Join(err, unix.Fstat(fd, &st)); err == nil && st.Nlink > 0 {
			return lease, nil
		}
		lease.Close()
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
	}
}

// cannotLease tells that no file can be made. Who drops restore points has the store's directory locked already.
func cannotLease(err error, how int) bool {
	return errors.Is(err, unix.EROFS) || how == unix.LOCK_SH && (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT))
}

// lockAll locks the store's directory. Whoever drops restore points has it alone for the moment in which he does; one who looks
// waits for that.
func lockAll(store *beneath.Root, how int) (*os.File, error) {
	fd, err := store.Open("", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	if how == unix.LOCK_EX {
		how |= unix.LOCK_NB
	}
	for err = unix.Flock(fd, how); errors.Is(err, unix.EINTR); {
		err = unix.Flock(fd, how)
	}
	if err == nil {
		return os.NewFile(uintptr(fd), leaseDir), nil
	}
	unix.Close(fd)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errInUse
	}
	return nil, fmt.Errorf("lock the directory of the store: %w", err)
}

// removeLease removes the file that leases of a restore point lock, when nobody can open that any more.
func (s *Store) removeLease(run int64) error {
	return ignoreMissing(s.top.Unlink(leaseDir + "/r" + strconv.FormatInt(run, 10)))
}

// giveBack ends a lease. A child that was forked just now may hold the descriptor too: closing alone would not unlock.
func giveBack(lease *os.File) error {
	if lease == nil {
		return nil
	}
	return errors.Join(unix.Flock(int(lease.Fd()), unix.LOCK_UN), lease.Close())
}
