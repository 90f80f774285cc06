// Package dates reads the dates by which people name restore points: one argument, strictly, nothing guessed.
//
//	latest                       the newest restore point
//	r17                          the restore point of run 17
//	2026-11-20                   a day: its end is meant, in the local time zone
//	2026-11-20 14:00             a time, local; with T instead of the blank, and with seconds, too
//	2026-11-20T14:00:05+01:00    the same with a zone: Z, +01:00 or +0100
//	today, yesterday, monday     days; a weekday is the last one before today
//	3 days ago                   a day (days, weeks, months, years)
//	2 hours ago                  a moment (hours, minutes)
//	now                          this moment
//	@1795600298                  a second, counted from 1970 in UTC, as date +%s prints it
//
// What is meant is always the newest restore point that is not later. Each form means the end of the smallest unit
// written: a day its last nanosecond, 14:00 all of that minute. So a date that was copied from a listing finds the restore
// point that it was copied from.
package dates

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // what TZ names is understood where the system has no zones too
)

// ErrSyntax is wrapped by every refusal of Parse.
var ErrSyntax = errors.New("not a date")

// examples ends every refusal, so that nobody has to look the grammar up.
const examples = `write for example 2026-11-20, '2026-11-20 14:00', 2026-11-20T14:00+01:00, yesterday, '3 days ago', monday, latest or r17`

// Date is what was asked for: the newest restore point, that of one run, or the newest not later than a moment.
type Date struct {
	text   string
	latest bool
	run    int64     // 0: not a run
	until  time.Time // inclusive
	future bool
}

// Run gives the run's number when a run was named.
func (d Date) Run() (int64, bool) { return d.run, d.run != 0 }

// Latest tells that the newest restore point was asked for.
func (d Date) Latest() bool { return d.latest }

// Until is the last moment that the restore point may have; zero for a run and for latest.
func (d Date) Until() time.Time { return d.until }

// Future tells that what was written had not begun when it was read, so that no restore point should be as late.
func (d Date) Future() bool { return d.future }

// String is the date as it was written.
func (d Date) String() string { return d.text }

var (
	runForm   = regexp.MustCompile(`^r([1-9][0-9]{0,17})$`)
	dayForm   = regexp.MustCompile(`^([0-9]{4})-([0-9]{2})-([0-9]{2})$`)
	timeForm  = regexp.MustCompile(`^([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?(?: ?(Z|[+-][0-9]{2}:?[0-9]{2}))?$`)
	epochForm = regexp.MustCompile(`^@([0-9]{1,12})$`)
	agoForm   = regexp.MustCompile(`^([1-9][0-9]{0,4}) (minute|hour|day|week|month|year)s? ago$`)
	looksLike = regexp.MustCompile(`^[0-9]{1,4}[./-][0-9]{1,2}([./-][0-9]{1,4})?`)
	clockOnly = regexp.MustCompile(`^[0-9]{1,2}:[0-9]{2}`)
)

// Parse reads a date as written by a person. now gives the present and the local time zone. Every error wraps ErrSyntax
// and shows how dates are written.
func Parse(text string, now time.Time) (Date, error) {
	word := strings.ToLower(text)
	if word == "latest" {
		return Date{text: text, latest: true}, nil
	}
	if m := runForm.FindStringSubmatch(word); m != nil {
		run, err := strconv.ParseInt(m[1], 10, 64)
		return Date{text: text, run: run}, err
	}
	until, err := parseUntil(text, word, now)
	if err != nil {
		return Date{}, fmt.Errorf("%w: %q: %s; %s", ErrSyntax, text, err.Error(), examples)
	}
	// A day is no future while it is on, nor is the minute in which a time was written.
	future := until.After(endOfDay(civilOf(now), now.Location())) || !dayForm.MatchString(text) && word != "today" && until.After(now.Add(time.Minute))
	return Date{text: text, until: until, future: future}, nil
}

// parseUntil reads the forms that mean a moment.
func parseUntil(text, word string, now time.Time) (time.Time, error) {
	if m := dayForm.FindStringSubmatch(text); m != nil {
		return parseDay(m, now.Location())
	}
	if m := timeForm.FindStringSubmatch(text); m != nil {
		return parseTime(m, now.Location())
	}
	if m := epochForm.FindStringSubmatch(text); m != nil {
		return parseEpoch(m[1], now.Location())
	}
	if m := agoForm.FindStringSubmatch(word); m != nil {
		return parseAgo(m, now)
	}
	switch word {
	case "now":
		return now, nil
	case "today":
		return endOfDay(civilOf(now), now.Location()), nil
	case "yesterday":
		return endOfDay(civilOf(now).add(-1), now.Location()), nil
	}
	if day, ok := weekdays[word]; ok {
		return parseWeekday(day, now)
	}
	return time.Time{}, whyNot(text)
}

// whyNot names the likely misunderstanding behind a text that has none of the forms.
func whyNot(text string) error {
	switch {
	case text == "":
		return errors.New("it is empty")
	case clockOnly.MatchString(text):
		return errors.New("a time needs its day")
	case looksLike.MatchString(text):
		return errors.New("days are written YEAR-MONTH-DAY with 4, 2 and 2 digits, times HH:MM or HH:MM:SS, since anything else is ambiguous")
	}
	return errors.New("there is no such form")
}

func parseDay(m []string, loc *time.Location) (time.Time, error) {
	day, err := parseCivil(m[1:4])
	if err != nil {
		return time.Time{}, err
	}
	return endOfDay(day, loc), nil
}

// parseTime reads a day with a clock time and perhaps a zone.
func parseTime(m []string, loc *time.Location) (time.Time, error) {
	day, err := parseCivil(m[1:4])
	if err != nil {
		return time.Time{}, err
	}
	clock := clock{hour: number(m[4]), min: number(m[5])}
	unit := time.Minute
	if m[6] != "" {
		clock.sec, unit = number(m[6]), time.Second
	}
	if clock.hour > 23 || clock.min > 59 || clock.sec > 59 {
		return time.Time{}, errors.New("there is no such time of day")
	}
	start, err := moment(day, clock, m[7], loc)
	if err != nil {
		return time.Time{}, err
	}
	return start.Add(unit - 1), nil
}

// moment finds the instant at which clocks show day and clock. A local time that summer time skips or shows twice is
// refused, with the two ways to write what may have been meant.
func moment(day civil, clock clock, zone string, loc *time.Location) (time.Time, error) {
	if zone != "" {
		offset, err := parseZone(zone)
		if err != nil {
			return time.Time{}, err
		}
		return at(day, clock, time.UTC).Add(-offset).In(loc), nil
	}
	switch found := instants(day, clock, loc); len(found) {
	case 1:
		return found[0], nil
	case 0:
		next := afterGap(day, clock, loc)
		return time.Time{}, fmt.Errorf("local clocks skipped that time: they went from %s to %s",
			next.Add(-time.Second).Format("15:04:05 -07:00"), next.Format("15:04:05 -07:00"))
	default:
		return time.Time{}, fmt.Errorf("local clocks showed that time twice: write %s or %s",
			found[0].Format("2006-01-02T15:04:05-07:00"), found[len(found)-1].Format("2006-01-02T15:04:05-07:00"))
	}
}

// parseZone reads Z, +01:00 or +0100.
func parseZone(zone string) (time.Duration, error) {
	if zone == "Z" {
		return 0, nil
	}
	digits := strings.Replace(zone[1:], ":", "", 1)
	hours, minutes := number(digits[:2]), number(digits[2:])
	if hours > 14 || minutes > 59 {
		return 0, fmt.Errorf("there is no time zone %s", zone)
	}
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if zone[0] == '-' {
		offset = -offset
	}
	return offset, nil
}

// parseEpoch reads seconds since 1970.
func parseEpoch(digits string, loc *time.Location) (time.Time, error) {
	const last = 253402214400 // a day before the year 10000, which the other forms cannot write
	seconds, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || seconds > last {
		return time.Time{}, errors.New("that is after 9999")
	}
	return time.Unix(seconds+1, -1).In(loc), nil
}

// parseAgo reads "3 days ago". Days and longer are days of the calendar, so that summer time does not shift them; the
// 31st of a shorter month is that month's last day.
func parseAgo(m []string, now time.Time) (time.Time, error) {
	n, today := number(m[1]), civilOf(now)
	var day civil
	switch m[2] {
	case "minute":
		return now.Add(-time.Duration(n) * time.Minute), nil
	case "hour":
		return now.Add(-time.Duration(n) * time.Hour), nil
	case "day":
		day = today.add(-n)
	case "week":
		day = today.add(-7 * n)
	case "month":
		day = today.addMonths(-n)
	case "year":
		day = today.addMonths(-12 * n)
	}
	if day.year < firstYear {
		return time.Time{}, fmt.Errorf("that is before %d", firstYear)
	}
	return endOfDay(day, now.Location()), nil
}

var weekdays = map[string]time.Weekday{
	"sunday": time.Sunday, "monday": time.Monday, "tuesday": time.Tuesday, "wednesday": time.Wednesday,
	"thursday": time.Thursday, "friday": time.Friday, "saturday": time.Saturday,
}

// parseWeekday finds the last such day before today. On that very day people mean either: refused.
func parseWeekday(day time.Weekday, now time.Time) (time.Time, error) {
	back := (int(now.Weekday()) - int(day) + 7) % 7
	if back == 0 {
		return time.Time{}, fmt.Errorf("today is a %s: write today or '7 days ago'", day)
	}
	return endOfDay(civilOf(now).add(-back), now.Location()), nil
}

// number reads digits that a pattern has already checked.
func number(digits string) int {
	n, _ := strconv.Atoi(digits)
	return n
}
