package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// What a job does when a change set looks like the work of ransomware.
const (
	// RansomwareHold holds the run.
	RansomwareHold = "hold"
	// RansomwareOff does not look.
	RansomwareOff = "off"
)

// checkGate reads what holds a run, and what our snapshots may cost.
func (f fileJob) checkGate(j *Job) *problem {
	for _, l := range []struct {
		key   string
		value *any
		to    *Limit
	}{{"max_deleted", f.MaxDeleted, &j.MaxDeleted}, {"max_changed", f.MaxChanged, &j.MaxChanged}} {
		if l.value == nil {
			continue
		}
		limit, err := parseLimit(l.key, *l.value)
		if err != nil {
			return &problem{l.key, err.Error()}
		}
		*l.to = limit
	}
	switch f.Ransomware {
	case "", RansomwareHold:
		j.Ransomware = RansomwareHold
	case RansomwareOff:
		j.Ransomware = RansomwareOff
	default:
		return &problem{"ransomware", fmt.Sprintf("ransomware = %q: it is %q or %q", f.Ransomware, RansomwareHold, RansomwareOff)}
	}
	var err error
	if j.MaxPinned, err = parsePinned(f.MaxPinned); err != nil {
		return &problem{"max_pinned", err.Error()}
	}
	return nil
}

// Pinned is a limit for our snapshots on the source; the zero value is none.
type Pinned struct {
	Bytes int64         // 0: no such limit
	Age   time.Duration // 0: no such limit
}

// units of max_pinned; sizes are powers of 1,000, as everywhere here.
var (
	ageUnits  = []string{"s", "h", "d", "w"}
	ages      = map[string]time.Duration{"s": time.Second, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour}
	sizeUnits = []string{"KB", "MB", "GB", "TB"}
	sizes     = map[string]int64{"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
)

// ParseAge reads an age in whole seconds, hours, days or weeks: "48h", "14d".
func ParseAge(text string) (time.Duration, bool) {
	p, err := parsePinned(text)
	return p.Age, err == nil && p.Age > 0
}

// parsePinned reads a size or an age.
func parsePinned(text string) (p Pinned, err error) {
	if text == "" {
		return p, nil
	}
	for _, unit := range append(ageUnits, sizeUnits...) {
		number, ok := strings.CutSuffix(strings.TrimSpace(text), unit)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n <= 0 || n > 100_000 {
			break
		}
		return Pinned{Bytes: n * sizes[unit], Age: time.Duration(n) * ages[unit]}, nil
	}
	return p, fmt.Errorf(`max_pinned = %q: an age ("14d", "48h", "3w") or a size ("200GB", "2TB") is needed`, text)
}
