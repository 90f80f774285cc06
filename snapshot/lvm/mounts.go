package lvm

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mountPoint is one line of mountinfo, proc_pid_mountinfo(5).
type mountPoint struct {
	dev     uint64
	root    string // what of the filesystem is mounted: "/" is all of it
	path    string
	kind    string
	options string // of the filesystem
}

// mountPoints are the mounts that a process sees, in the order in which they cover each other.
func mountPoints(pid string) ([]mountPoint, error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f)
}

func parseMounts(r io.Reader) (all []mountPoint, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
		front, back, ok := strings.Cut(lines.Text(), " - ")
		f, b := strings.Fields(front), strings.Fields(back)
		if !ok || len(f) < 6 || len(b) < 3 {
			return nil, fmt.Errorf("mountinfo has the line %q", lines.Text())
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(f[2], "%d:%d", &major, &minor); err != nil {
			return nil, fmt.Errorf("mountinfo has the line %q", lines.Text())
		}
		all = append(all, mountPoint{unix.Mkdev(major, minor), unescape(f[3]), unescape(f[4]), b[0], b[2]})
	}
	return all, lines.Err()
}

// unescape takes back that mountinfo writes space, tab, newline and backslash as a backslash and three octal digits.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountedAt is the mount that one sees at a path; false when nothing is mounted there.
func mountedAt(all []mountPoint, path string) (m mountPoint, ok bool) {
	for _, each := range all {
		if each.path == path {
			m, ok = each, true
		}
	}
	return m, ok
}

// placeOf tells where all of the filesystem on a device is mounted; "" when it is not. We may live in a mount namespace of
// our own: then the system's is looked at too.
func placeOf(dev uint64) (string, error) {
	for _, pid := range []string{"self", "1"} {
		all, err := mountPoints(pid)
		if pid == "1" && (errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, m := range all {
			if m.dev == dev && m.root == "/" && !strings.Contains(m.options, "norecovery") && !strings.Contains(m.options, "noload") {
				return m.path, nil
			}
		}
	}
	return "", nil
}
