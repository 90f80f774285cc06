package snapshot

import (
	"os"
	"slices"
	"strings"
)

// searchPath is where programs are looked for, whatever the caller's PATH is: they run as root.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"

// inherited are the variables of our own environment that programs get too. All others may change what they do: ZFS_DIFF_NO_MANGLE,
// LVM_SYSTEM_DIR, LD_PRELOAD, BASH_ENV, IFS.
var inherited = []string{"HOME", "USER", "LOGNAME", "SHELL", "TERM", "TZ", "NO_COLOR", "JOURNAL_STREAM", "NOTIFY_SOCKET", "INVOCATION_ID", "GOMEMLIMIT", "GOMAXPROCS"}

// Environ is the environment in which other programs are called, hooks too: a fixed PATH, messages in English, and little else.
func Environ(more ...string) []string {
	env := []string{"PATH=" + searchPath, "LC_ALL=C"}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); slices.Contains(inherited, name) {
			env = append(env, v)
		}
	}
	return append(env, more...)
}
