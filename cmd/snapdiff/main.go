// Command snapdiff keeps an exact mirror of a filesystem from the changes between its native snapshots.
package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"snapdiff/snapshot"
)

// memoryLimit is where Go begins to tidy up more often: a run with a million changes needs some 600 MB and would otherwise
// take twice as much. GOMEMLIMIT sets another one.
const memoryLimit = 700 << 20

// On a machine with one processor Go would give its only slot away at every system call that takes more than some
// microseconds, and wait for it afterwards. A second slot, which stands empty, ends that.
func main() {
	environment := snapshot.Environ() // for libraries that call programs with ours
	os.Clearenv()
	for _, v := range environment {
		name, value, _ := strings.Cut(v, "=")
		os.Setenv(name, value)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
	os.Exit((&app{destroy: leaveToDestroy}).execute(os.Args[1:], os.Stdout, os.Stderr))
}
