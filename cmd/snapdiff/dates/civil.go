package dates

import (
	"errors"
	"slices"
	"time"
)

// firstYear is the first year that a date may have: no restore point is older than time in Unix is.
const firstYear = 1970

// civil is a day of the calendar, in no time zone.
type civil struct {
	year  int
	month time.Month
	day   int
}

// clock is what a clock shows, in no time zone.
type clock struct{ hour, min, sec int }

// civilOf is the day that t has in its own time zone.
func civilOf(t time.Time) civil {
	year, month, day := t.Date()
	return civil{year, month, day}
}

// parseCivil takes year, month and day as digits. A day that its month does not have is refused.
func parseCivil(digits []string) (civil, error) {
	c := civil{number(digits[0]), time.Month(number(digits[1])), number(digits[2])}
	if c.year < firstYear || c != c.add(0) {
		return civil{}, errors.New("there is no such day")
	}
	return c, nil
}

// add goes n days on.
func (c civil) add(n int) civil {
	return civilOf(time.Date(c.year, c.month, c.day+n, 0, 0, 0, 0, time.UTC))
}

// addMonths goes n months on, to the last day of a month that is too short.
func (c civil) addMonths(n int) civil {
	first := time.Date(c.year, c.month+time.Month(n), 1, 0, 0, 0, 0, time.UTC)
	last := first.AddDate(0, 1, -1).Day()
	return civil{first.Year(), first.Month(), min(c.day, last)}
}

func at(day civil, c clock, loc *time.Location) time.Time {
	return time.Date(day.year, day.month, day.day, c.hour, c.min, c.sec, 0, loc)
}

// instants are the moments, ascending, at which clocks in loc show day and c: one as a rule, none where summer time
// skips it, two where the clocks are put back. time.Date would silently choose.
func instants(day civil, c clock, loc *time.Location) []time.Time {
	wall := at(day, c, time.UTC)
	var found []time.Time
	// No zone is further than 15 hours from UTC, so its offset at the moment meant is among those of the hours around.
	for hours := -16; hours <= 16; hours++ {
		_, offset := wall.Add(time.Duration(hours) * time.Hour).In(loc).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(loc)
		if civilOf(t) != day || t.Hour() != c.hour || t.Minute() != c.min || t.Second() != c.sec {
			continue
		}
		if !slices.ContainsFunc(found, t.Equal) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, time.Time.Compare)
	return found
}

// afterGap is the first moment after the gap in which the local time day and c falls.
func afterGap(day civil, c clock, loc *time.Location) time.Time {
	wall := at(day, c, time.UTC)
	_, before := wall.Add(-24 * time.Hour).In(loc).Zone()
	start, _ := wall.Add(-time.Duration(before) * time.Second).In(loc).ZoneBounds()
	return start
}

// endOfDay is the last nanosecond of day in loc, also where the clocks change at midnight.
func endOfDay(day civil, loc *time.Location) time.Time {
	next := day.add(1)
	if found := instants(next, clock{}, loc); len(found) > 0 {
		return found[0].Add(-1)
	}
	return afterGap(next, clock{}, loc).Add(-1)
}
