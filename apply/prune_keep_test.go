package apply_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"snapdiff/apply"
)

func TestKeepChoosesAsResticDoes(t *testing.T) {
	zone := time.FixedZone("", 3600)
	var points []apply.RestorePoint
	for i, day := range []string{"2024-12-31T12:00", "2025-12-28T23:30", "2025-12-29T22:00", "2025-12-29T23:30", "2025-12-31T08:00", "2026-01-01T08:00", "2026-01-01T20:00"} {
		date, err := time.Parse("2006-01-02T15:04", day)
		if err != nil {
			t.Fatal(err)
		}
		points = append(points, apply.RestorePoint{Run: int64(i + 1), Date: date})
	}
	for _, c := range []struct {
		keep apply.Keep
		want string
	}{
		{apply.Keep{}, "7:newest"},
		{apply.Keep{Last: 2}, "6:last 7:newest,last"},
		{apply.Keep{Hourly: 3}, "5:hourly 6:hourly 7:newest,hourly"},
		{apply.Keep{Hourly: 2, Daily: 2}, "5:daily 6:hourly 7:newest,hourly,daily"},
		{apply.Keep{Daily: 3}, "4:daily 5:daily 7:newest,daily"},
		// In that zone 2025-12-28T23:30Z is Monday the 29th, of the week that 2026 begins in.
		{apply.Keep{Weekly: 2}, "1:weekly 7:newest,weekly"},
		{apply.Keep{Monthly: 9}, "1:monthly 5:monthly 7:newest,monthly"},
		{apply.Keep{Yearly: 2, Last: 1}, "5:yearly 7:newest,last,yearly"},
	} {
		var got []string
		for _, choice := range c.keep.Choose(points, zone) {
			if choice.Keep {
				got = append(got, fmt.Sprintf("%d:%s", choice.Run, strings.Join(choice.Why, ",")))
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v keeps %s, want %s", c.keep, s, c.want)
		}
	}
}

// A day ends where the clocks of the zone say so, also where it has 23 or 25 hours, and the hour that comes twice belongs to one day.
func TestKeepOverSummerTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for begin, want := range map[string]string{
		"2026-10-24T00:30:00+02:00": "2026-10-24T23:30:00+02:00 2026-10-25T23:30:00+01:00 2026-10-26T23:30:00+01:00",
		"2026-03-28T00:30:00+01:00": "2026-03-28T23:30:00+01:00 2026-03-29T23:30:00+02:00 2026-03-30T23:30:00+02:00",
	} {
		first, err := time.Parse(time.RFC3339, begin)
		if err != nil {
			t.Fatal(err)
		}
		var points []apply.RestorePoint // one each hour
		for at := first; at.In(berlin).Format("01-02") <= want[len(want)-20:len(want)-15]; at = at.Add(time.Hour) {
			points = append(points, apply.RestorePoint{Run: int64(len(points) + 1), Date: at.UTC()})
		}
		var kept []string
		for _, c := range (apply.Keep{Daily: 3}).Choose(points, berlin) {
			if c.Keep && slices.Contains(c.Why, "daily") {
				kept = append(kept, c.Date.In(berlin).Format(time.RFC3339))
			}
		}
		if got := strings.Join(kept, " "); got != want {
			t.Errorf("of %d restore points from %s on are kept %s, want %s", len(points), begin, got, want)
		}
	}
}

// An hour is one of the clock, from :00 to :59, also where a zone is half an hour off, and the one that summer time's end repeats is two.
func TestKeepHours(t *testing.T) {
	for _, c := range []struct {
		zone, first, last string
		keep              int
		want              string
	}{
		{"UTC", "2026-05-01T22:10:00Z", "2026-05-02T01:20:00Z", 3, "05-01T23:50Z 05-02T00:50Z 05-02T01:20Z"},
		{"Asia/Kolkata", "2026-05-01T22:10:00+05:30", "2026-05-02T01:20:00+05:30", 3, "05-01T23:50+05:30 05-02T00:50+05:30 05-02T01:20+05:30"},
		{"Europe/Berlin", "2026-10-25T00:30:00+02:00", "2026-10-25T03:10:00+01:00", 4, "10-25T01:50+02:00 10-25T02:50+02:00 10-25T02:50+01:00 10-25T03:10+01:00"},
		{"Europe/Berlin", "2026-03-29T00:30:00+01:00", "2026-03-29T03:10:00+02:00", 2, "03-29T01:50+01:00 03-29T03:10+02:00"},
		{"UTC", "2026-05-01T22:10:00Z", "2026-05-01T22:50:00Z", 3, "05-01T22:10Z 05-01T22:50Z"}, // the oldest, as there are not enough
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		at, err := time.Parse(time.RFC3339, c.first)
		if err != nil {
			t.Fatal(err)
		}
		last, err := time.Parse(time.RFC3339, c.last)
		if err != nil {
			t.Fatal(err)
		}
		var points []apply.RestorePoint
		for ; !at.After(last); at = at.Add(10 * time.Minute) {
			points = append(points, apply.RestorePoint{Run: int64(len(points) + 1), Date: at.UTC()})
		}
		var kept []string
		for _, choice := range (apply.Keep{Hourly: c.keep}).Choose(points, zone) {
			if choice.Keep {
				kept = append(kept, choice.Date.In(zone).Format("01-02T15:04Z07:00"))
			}
		}
		if got := strings.Join(kept, " "); got != c.want {
			t.Errorf("%s: of %d restore points from %s on are kept %s, want %s", c.zone, len(points), c.first, got, c.want)
		}
	}
}

// A clock that was wrong for some runs costs no restore point of other days: a day that comes again is the same day.
func TestKeepWhenTheClockWasSetBack(t *testing.T) {
	day := func(d, hour int) time.Time { return time.Date(2026, 3, d, hour, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		dates []time.Time
		want  string
	}{
		{[]time.Time{day(1, 1), day(2, 1), day(3, 1), day(2, 2), day(3, 2)}, "2026-03-01:daily 2026-03-02:daily 2026-03-03:newest,daily"},
		{[]time.Time{day(1, 1), day(2, 1), day(3, 1), day(9, 1), day(3, 2)}, "2026-03-02:daily 2026-03-09:daily 2026-03-03:newest,daily"},
		{[]time.Time{day(3, 1), day(2, 1), day(3, 2)}, "2026-03-03:oldest daily 2026-03-02:daily 2026-03-03:newest,daily"},
	} {
		if got := strings.Join(keptDays(apply.Keep{Daily: 3}, c.dates), " "); got != c.want {
			t.Errorf("of %v are kept %s, want %s", c.dates, got, c.want)
		}
	}
}

// keptDays says which restore points a keep keeps and why, as "DAY:rule,rule".
func keptDays(keep apply.Keep, dates []time.Time) []string {
	return keptAs("2006-01-02", keep, dates)
}

// keptAs is keptDays with dates in a layout of the time package.
func keptAs(layout string, keep apply.Keep, dates []time.Time) []string {
	points := make([]apply.RestorePoint, len(dates))
	for i, d := range dates {
		points[i] = apply.RestorePoint{Run: int64(i + 1), Date: d}
	}
	var kept []string
	for _, c := range keep.Choose(points, time.UTC) {
		if c.Keep {
			kept = append(kept, c.Date.Format(layout)+":"+strings.Join(c.Why, ","))
		}
	}
	return kept
}

// every gives count moments that lie step days apart, the last of them at a moment.
func every(step, count int, last time.Time) []time.Time {
	dates := make([]time.Time, count)
	for i := range dates {
		dates[count-1-i] = last.AddDate(0, 0, -step*i)
	}
	return dates
}

// The examples in the manual of restic (Removing snapshots according to a policy) and of its forum, and what these keep there.
func TestKeepOfResticsManual(t *testing.T) {
	sundays := every(7, 12, time.Date(2019, 11, 17, 11, 0, 0, 0, time.UTC))
	fourDays := []time.Time{time.Date(2024, 1, 2, 13, 42, 44, 0, time.UTC), time.Date(2024, 1, 3, 1, 4, 38, 0, time.UTC),
		time.Date(2024, 1, 4, 20, 9, 54, 0, time.UTC), time.Date(2024, 1, 4, 20, 20, 32, 0, time.UTC)}
	for _, c := range []struct {
		keep  apply.Keep
		dates []time.Time
		want  string
	}{
		{apply.Keep{Daily: 4}, sundays, "2019-10-27:daily 2019-11-03:daily 2019-11-10:daily 2019-11-17:newest,daily"},
		{apply.Keep{Monthly: 4}, fourDays, "2024-01-02:oldest monthly 2024-01-04:newest,monthly"},
		{apply.Keep{Monthly: 1}, fourDays, "2024-01-04:newest,monthly"},
		{apply.Keep{Last: 9, Daily: 9}, fourDays, "2024-01-02:last,daily 2024-01-03:last,daily 2024-01-04:last 2024-01-04:newest,last,daily"},
		{apply.Keep{Daily: 2, Yearly: 2}, fourDays, "2024-01-02:oldest yearly 2024-01-03:daily 2024-01-04:newest,daily,yearly"},
	} {
		if got := strings.Join(keptDays(c.keep, c.dates), " "); got != c.want {
			t.Errorf("%+v keeps %s, want %s", c.keep, got, c.want)
		}
	}
	// One a day for 100 years: 7 days, 4 more ends of weeks, 12 or 11 ends of months, 75 or 74 of years.
	last := time.Date(2026, 11, 25, 1, 0, 0, 0, time.UTC) // a Wednesday: the 7 days have one Sunday
	kept := keptDays(apply.Keep{Daily: 7, Weekly: 5, Monthly: 12, Yearly: 75}, every(1, 36525, last))
	count := map[string]int{}
	for _, k := range kept {
		_, why, _ := strings.Cut(k, ":")
		count[why]++
	}
	want := map[string]int{"newest,daily,weekly,monthly,yearly": 1, "daily,weekly": 1, "daily": 5, "weekly": 3, "monthly": 10, "monthly,yearly": 1, "yearly": 73}
	if fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("of 100 years stay %v, want %v", count, want)
	}
}

// What is kept run after run, each prune seeing only what the one before left, is what is promised: so many hours and days, and from each
// year one. The oldest grows into the last of its year.
func TestKeepRunAfterRun(t *testing.T) {
	hours := make([]time.Time, 500)
	for i := range hours {
		hours[i] = time.Date(2026, 11, 5, 7, 30, 0, 0, time.UTC).Add(time.Duration(i-len(hours)+1) * time.Hour / 2)
	}
	for _, c := range []struct {
		keep   apply.Keep
		dates  []time.Time
		layout string
		want   string
	}{
		{apply.Keep{Daily: 3, Yearly: 3}, every(1, 1500, time.Date(2027, 2, 1, 1, 0, 0, 0, time.UTC)), "2006-01-02", // from 2022-12-25 on
			"2025-12-31:yearly 2026-12-31:yearly 2027-01-30:daily 2027-01-31:daily 2027-02-01:newest,daily,yearly"},
		{apply.Keep{Hourly: 3, Daily: 3}, hours, "02T15:04", "03T23:30:daily 04T23:30:daily 05T05:30:hourly 05T06:30:hourly 05T07:30:newest,hourly,daily"},
	} {
		var have []time.Time
		for _, date := range c.dates {
			have = append(have, date)
			var points []apply.RestorePoint
			for i, d := range have {
				points = append(points, apply.RestorePoint{Run: int64(i + 1), Date: d})
			}
			have = nil
			for _, choice := range c.keep.Choose(points, time.UTC) {
				if choice.Keep {
					have = append(have, choice.Date)
				}
			}
		}
		if got := strings.Join(keptAs(c.layout, c.keep, have), " "); got != c.want {
			t.Errorf("%+v: at the end are kept %s, want %s", c.keep, got, c.want)
		}
	}
}
