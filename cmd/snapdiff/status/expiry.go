package status

import (
	"fmt"
	"sort"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
)

// lookAhead is how many days the next expiry is looked for.
const lookAhead = 366

// nextExpiry finds which restore point goes next, and when, if from now on a run is made each day at the time of the newest one.
func (s *Job) nextExpiry(keep *config.Keep, runs []apply.RunInfo) {
	if keep == nil {
		return
	}
	var points []apply.RestorePoint
	for _, r := range runs {
		if r.State == apply.Done {
			points = append(points, apply.RestorePoint{Run: r.ID, Date: r.Date})
		}
	}
	if len(points) == 0 {
		return
	}
	newest := points[len(points)-1]
	// gone is the first of the restore points that is gone after so many more runs.
	gone := func(days int) *apply.RestorePoint {
		then := points[:len(points):len(points)]
		for d := 1; d <= days; d++ {
			then = append(then, apply.RestorePoint{Run: newest.Run + int64(d), Date: newest.Date.AddDate(0, 0, d)})
		}
		for _, c := range apply.Keep(*keep).Choose(then, time.Local)[:len(points)] {
			if !c.Keep {
				return &c.RestorePoint
			}
		}
		return nil
	}
	// What is gone stays gone: a later run never brings a restore point back.
	days := 1 + sort.Search(lookAhead, func(i int) bool { return gone(i+1) != nil })
	if days > lookAhead {
		return
	}
	at := newest.Date.AddDate(0, 0, days)
	s.Expires, s.ExpiresAt = fmt.Sprintf("r%d", gone(days).Run), &at
}
