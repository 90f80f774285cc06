package config

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// checkOwner refuses a configuration that others can write: it names programs that root runs. What cannot be looked at is for the reading
// to say.
func checkOwner(path string) error {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	switch {
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return &Error{Path: path, Text: fmt.Sprintf("belongs to user %d, who could have it run anything", st.Uid), Next: "chown root: " + path}
	case st.Mode&unix.S_IWOTH != 0, st.Mode&unix.S_IWGRP != 0 && st.Gid != 0:
		return &Error{Path: path, Text: fmt.Sprintf("can be written by others (mode %04o), who could have it run anything", st.Mode&0o7777), Next: "chmod go-w " + path}
	}
	return nil
}
