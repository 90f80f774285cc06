package apply

import (
	"fmt"
	"slices"
	"time"
)

// Keep says which restore points stay, as restic's forget has it: the Last newest; and of each of the newest Hourly hours, Daily days,
// Weekly weeks, Monthly months and Yearly years that have any, the newest one. Each rule counts by itself, and one that any of
// them keeps stays. A rule that there are not enough for keeps the oldest too, so that there is one to become last week's, last
// month's or last year's. (borg does the same, but what a finer rule keeps does not count for a coarser one there.)
type Keep struct{ Last, Hourly, Daily, Weekly, Monthly, Yearly int }

// Choice is what becomes of one restore point.
type Choice struct {
	RestorePoint
	Keep bool
	Why  []string // what keeps it: "newest", "last", "daily"...
}

// rule keeps the newest of each of count units of time.
type rule struct {
	name  string
	count int
	unit  func(RestorePoint) string
}

func (k Keep) rules(zone *time.Location) []rule {
	format := func(layout string) func(RestorePoint) string {
		return func(p RestorePoint) string { return p.Date.In(zone).Format(layout) }
	}
	week := func(p RestorePoint) string {
		year, week := p.Date.In(zone).ISOWeek()
		return fmt.Sprintf("%d-%d", year, week)
	}
	return []rule{
		{"last", k.Last, func(p RestorePoint) string { return fmt.Sprint(p.Run) }},
		{"hourly", k.Hourly, format("2006-01-02 15 -0700")}, // with the offset: an hour that the end of summer time repeats is two
		{"daily", k.Daily, format("2006-01-02")},
		{"weekly", k.Weekly, week},
		{"monthly", k.Monthly, format("2006-01")},
		{"yearly", k.Yearly, format("2006")},
	}
}

// Choose says of each restore point whether it stays; days and so on are those of the time zone zone. points and choices
// are in the order of runs. The newest always stays.
func (k Keep) Choose(points []RestorePoint, zone *time.Location) []Choice {
	choices := make([]Choice, len(points))
	for i, p := range points {
		choices[i].RestorePoint = p
	}
	if len(points) == 0 {
		return nil
	}
	choices[len(points)-1].Why = []string{"newest"}
	for _, r := range k.rules(zone) {
		had := map[string]bool{} // a clock that was set back may have a unit come twice
		for i := range slices.Backward(choices) {
			unit := r.unit(choices[i].RestorePoint)
			switch {
			case r.count == 0:
			case !had[unit]:
				r.count--
				choices[i].Why = append(choices[i].Why, r.name)
			case i == 0:
				choices[i].Why = append(choices[i].Why, "oldest "+r.name)
			}
			had[unit] = true
		}
	}
	for i := range choices {
		choices[i].Keep = len(choices[i].Why) > 0
	}
	return choices
}
