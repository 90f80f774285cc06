package config

import (
	"fmt"
	"path/filepath"
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
	BeforeSnapshot []string `toml:"before_snapshot"`
	AfterSnapshot  []string `toml:"after_snapshot"`
	AfterRun       []string `toml:"after_run"`
	OnFailure      []string `toml:"on_failure"`
	Timeout        string   `toml:"timeout"`
}

func (f fileHooks) check() (Hooks, *problem) {
	h := Hooks{f.BeforeSnapshot, f.AfterSnapshot, f.AfterRun, f.OnFailure, defaultHookTimeout}
	for key, argv := range map[string][]string{"before_snapshot": h.BeforeSnapshot, "after_snapshot": h.AfterSnapshot, "after_run": h.AfterRun, "on_failure": h.OnFailure} {
		if len(argv) > 0 && !filepath.IsAbs(argv[0]) {
			return h, &problem{key, fmt.Sprintf("%s = [%q, ...]: the program needs an absolute path: cron has another PATH than you", key, argv[0])}
		}
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
