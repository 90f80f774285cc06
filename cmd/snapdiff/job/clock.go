package job

import (
	"fmt"
	"time"

	"snapdiff/apply"
	"snapdiff/snapshot"
)

// noteClock tells of a snapshot that is older than the restore point before it: the clock was set back, or was ahead. Runs are in the order
// in which they were made all the same, and nothing but what dates mean rests on the clock.
func (r *runner) noteClock(last *apply.RunInfo, mark snapshot.Mark) {
	const rounded = 2 * time.Second // where a filesystem has whole seconds
	if last == nil || !mark.Taken.Before(last.Mark.Taken.Add(-rounded)) {
		return
	}
	r.clock = fmt.Sprintf("the clock was set back: this run's snapshot is of %s, the one before, r%d, of %s; name restore points of this time by their numbers",
		mark.Taken.Local().Format(time.DateTime), last.ID, last.Mark.Taken.Local().Format(time.DateTime))
}
