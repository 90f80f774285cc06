package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// Hooks are programs that a run calls, each as an array of program and arguments; none where empty.
type Hooks struct {
	// BeforeSnapshot may quiesce a database; when it fails the run is not made. AfterSnapshot is called as soon as the snapshot
	// is there or has failed, and whenever BeforeSnapshot was called.
	BeforeSnapshot, AfterSnapshot []string
	// AfterRun is called after a run that was finished, OnFailure after one that was not, and when AfterRun failed.
	AfterRun, OnFailure []string
	// Timeout is how long each may take.
	Timeout time.Duration
}

// defaultHookTimeout is long enough to quiesce a database and short enough that nobody waits for one that hangs.
const defaultHookTimeout = 5 * time.Minute

type fileHooks struct {
	BeforeSnapshot []string `toml:"before_snapshot" like:"before_snapshot = [\"/usr/local/sbin/quiesce\", \"start\"]"`
	AfterSnapshot  []string `toml:"after_snapshot" like:"after_snapshot = [\"/usr/local/sbin/quiesce\", \"stop\"]"`
	AfterRun       []string `toml:"after_run" like:"after_run = [\"/usr/local/sbin/mirror-done\"]"`
	OnFailure      []string `toml:"on_failure" like:"on_failure = [\"/usr/local/sbin/tell-somebody\"]"`
	Timeout        string   `toml:"timeout" like:"timeout = \"5m\""`
}

// Hook is one of the programs, with its key in the configuration.
type Hook struct {
	Name string
	Argv []string
}

// Called are the programs that are set, in the order in which a run calls them.
func (h Hooks) Called() []Hook {
	all := []Hook{{"before_snapshot", h.BeforeSnapshot}, {"after_snapshot", h.AfterSnapshot}, {"after_run", h.AfterRun}, {"on_failure", h.OnFailure}}
	return slices.DeleteFunc(all, func(h Hook) bool { return len(h.Argv) == 0 })
}

func (f fileHooks) check() (Hooks, *problem) {
	h := Hooks{f.BeforeSnapshot, f.AfterSnapshot, f.AfterRun, f.OnFailure, defaultHookTimeout}
	for _, hook := range h.Called() {
		if filepath.IsAbs(hook.Argv[0]) {
			continue
		}
		more := ""
		if len(hook.Argv) > 1 {
			more = ", ..."
		}
		return h, &problem{hook.Name, fmt.Sprintf("%s = [%q%s]: the program needs an absolute path: cron has another PATH than you", hook.Name, hook.Argv[0], more)}
	}
	if f.Timeout != "" {
		t, err := time.ParseDuration(f.Timeout)
		if err != nil || t <= 0 {
			return h, &problem{"timeout", fmt.Sprintf("timeout = %q: it is a time such as \"30s\" or \"5m\"", f.Timeout)}
		}
		h.Timeout = t
	}
	return h, nil
}
