package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Working is the process that has the store at path locked at this moment, 0 when none has. It asks /proc (proc_locks(5)),
// because to try the lock could get in the way of a run that begins just then.
func Working(path string) (pid int, err error) {
	lock, err := filepath.EvalSymlinks(filepath.Join(path, "lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	var st unix.Stat_t
	if err == nil {
		err = unix.Stat(lock, &st)
	}
	var locks []byte
	if err == nil {
		locks, err = os.ReadFile("/proc/locks")
	}
	if err != nil {
		return 0, fmt.Errorf("find out who works on %s: %w", path, err)
	}
	for line := range strings.Lines(string(locks)) {
		// 3: FLOCK  ADVISORY  WRITE 1234 fe:01:262145 0 EOF. The device is of no use: btrfs shows another one than stat(2).
		var id, kind, mode, access, where string
		if n, _ := fmt.Sscan(line, &id, &kind, &mode, &access, &pid, &where); n < 6 || kind != "FLOCK" {
			continue
		}
		if strings.HasSuffix(where, fmt.Sprintf(":%d", st.Ino)) && holds(pid, lock) {
			return pid, nil
		}
	}
	return 0, nil
}

// locked is ErrLocked, with the process where that can be told: it may have ended by now.
func locked(path string) error {
	who := ""
	if pid, err := Working(path); err == nil && pid != 0 {
		who = fmt.Sprintf(" (process %d)", pid)
	}
	return fmt.Errorf("%s: %w%s: wait until it has ended", path, ErrLocked, who)
}

// holds tells whether a process has a file open.
func holds(pid int, path string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && to == path {
			return true
		}
	}
	return false
}
