package dates

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

const stamp = "2006-01-02T15:04:05.999999999-07:00"

func TestParse(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 30, 0, 500, zone(t, "Europe/Berlin")) // a Wednesday
	for text, want := range map[string]string{
		"2026-11-20":                 "2026-11-20T23:59:59.999999999+01:00",
		"2024-02-29":                 "2024-02-29T23:59:59.999999999+01:00",
		"2026-07-01":                 "2026-07-01T23:59:59.999999999+02:00",
		"2026-11-20 14:00":           "2026-11-20T14:00:59.999999999+01:00",
		"2026-11-20T14:00":           "2026-11-20T14:00:59.999999999+01:00",
		"2026-11-20T14:00:05":        "2026-11-20T14:00:05.999999999+01:00",
		"2026-07-01 14:00:05":        "2026-07-01T14:00:05.999999999+02:00",
		"2026-11-20T14:00Z":          "2026-11-20T15:00:59.999999999+01:00",
		"2026-11-20 14:00-0530":      "2026-11-20T20:30:59.999999999+01:00",
		"2026-11-20 14:00:05 +14:00": "2026-11-20T01:00:05.999999999+01:00",
		"today":                      "2026-11-25T23:59:59.999999999+01:00",
		"yesterday":                  "2026-11-24T23:59:59.999999999+01:00",
		"Yesterday":                  "2026-11-24T23:59:59.999999999+01:00",
		"monday":                     "2026-11-23T23:59:59.999999999+01:00",
		"thursday":                   "2026-11-19T23:59:59.999999999+01:00",
		"1 day ago":                  "2026-11-24T23:59:59.999999999+01:00",
		"3 days ago":                 "2026-11-22T23:59:59.999999999+01:00",
		"2 weeks ago":                "2026-11-11T23:59:59.999999999+01:00",
		"1 month ago":                "2026-10-25T23:59:59.999999999+01:00",
		"9 months ago":               "2026-02-25T23:59:59.999999999+01:00",
		"2 years ago":                "2024-11-25T23:59:59.999999999+01:00",
		"90 minutes ago":             "2026-11-25T09:00:00.0000005+01:00",
		"48 hours ago":               "2026-11-23T10:30:00.0000005+01:00",
		"now":                        "2026-11-25T10:30:00.0000005+01:00",
		"@1795600298":                "2026-11-25T10:51:38.999999999+01:00",
		"@0":                         "1970-01-01T01:00:00.999999999+01:00",
	} {
		d, err := Parse(text, now)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := d.Until().Format(stamp); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// What lies ahead is told from the day or minute that is on.
func TestFuture(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 30, 30, 0, zone(t, "Europe/Berlin"))
	for text, want := range map[string]bool{
		"today": false, "2026-11-25": false, "yesterday": false, "now": false, "2026-11-25 10:30": false, "2026-11-25T09:30:30Z": false, "latest": false, "r9": false,
		"1 hour ago": false, "@1795599030": false, "monday": false,
		"2026-11-26": true, "2026-11-25 10:32": true, "2026-11-25T10:30Z": true, "2027-01-01 00:00": true, "@1795685430": true, "9999-12-31": true,
	} {
		if d, err := Parse(text, now); err != nil || d.Future() != want {
			t.Errorf("%s: %v %v, want %v", text, d.Future(), err, want)
		}
	}
}

func TestParseLatestAndRuns(t *testing.T) {
	if d, err := Parse("latest", time.Now()); err != nil || !d.Latest() {
		t.Errorf("latest: %v %v", d, err)
	}
	d, err := Parse("r17", time.Now())
	if run, ok := d.Run(); err != nil || !ok || run != 17 {
		t.Errorf("r17: %v %v", d, err)
	}
}

func TestParseRefuses(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 30, 0, 0, time.UTC) // a Wednesday
	for text, why := range map[string]string{
		"":                        "empty",
		"14:00":                   "needs its day",
		"20.11.2026":              "YEAR-MONTH-DAY",
		"11/20/2026":              "YEAR-MONTH-DAY",
		"26-11-20":                "YEAR-MONTH-DAY",
		"2026-11":                 "YEAR-MONTH-DAY",
		"2026-1-2":                "YEAR-MONTH-DAY",
		"2026-11-20 2pm":          "YEAR-MONTH-DAY",
		"2026-11-20  14:00":       "YEAR-MONTH-DAY",
		"2026-11-20 9:00":         "YEAR-MONTH-DAY",
		"2026-11-20Z":             "YEAR-MONTH-DAY",
		"2026-11-20 14:00 CET":    "YEAR-MONTH-DAY",
		"2026-11-20 14:00:00.5":   "YEAR-MONTH-DAY",
		"2026-02-30":              "no such day",
		"2025-02-29":              "no such day",
		"2026-13-01":              "no such day",
		"2026-00-10":              "no such day",
		"0000-01-01":              "no such day",
		"2026-11-20 24:00":        "no such time",
		"2026-11-20 14:60":        "no such time",
		"2026-11-20 14:00:60":     "no such time",
		"2026-11-20 14:00+15:00":  "no time zone",
		"2026-11-20 14:00 +01:75": "no time zone",
		"wednesday":               "write today or '7 days ago'",
		"99999 days ago":          "before 1970",
		"0 days ago":              "no such form",
		"03 days ago":             "no such form",
		"-1 days ago":             "no such form",
		"three days ago":          "no such form",
		"last monday":             "no such form",
		"mon":                     "no such form",
		"tomorrow":                "no such form",
		"@":                       "no such form",
		"@-1":                     "no such form",
		"@1795600298.5":           "no such form",
		"@999999999999":           "after 9999",
		"r0":                      "no such form",
		"r017":                    "no such form",
		"17":                      "no such form",
		"r99999999999999999999":   "no such form",
		" latest":                 "no such form",
		"latest\n":                "no such form",
	} {
		_, err := Parse(text, now)
		if !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v, want a refusal", text, err)
			continue
		}
		if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), "2026-11-20T14:00+01:00") {
			t.Errorf("%q: %v, want it to say %q and give examples", text, err, why)
		}
	}
}

func TestSummerTime(t *testing.T) {
	berlin := time.Date(2026, 11, 25, 10, 30, 0, 0, zone(t, "Europe/Berlin"))
	for text, why := range map[string]string{
		"2026-03-29 02:30":    "went from 01:59:59 +01:00 to 03:00:00 +02:00",
		"2026-03-29T02:00:00": "skipped",
		"2026-10-25 02:30":    "write 2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00",
		"2026-10-25 02:00":    "twice",
	} {
		if _, err := Parse(text, berlin); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
	for text, want := range map[string]string{
		"2026-03-29 01:59":       "2026-03-29T01:59:59.999999999+01:00",
		"2026-03-29 03:00":       "2026-03-29T03:00:59.999999999+02:00",
		"2026-10-25 02:30+02:00": "2026-10-25T02:30:59.999999999+02:00",
		"2026-10-25 02:30+01:00": "2026-10-25T02:30:59.999999999+01:00",
		"2026-10-25 03:00":       "2026-10-25T03:00:59.999999999+01:00",
		"2026-10-25":             "2026-10-25T23:59:59.999999999+01:00",
	} {
		if d, err := Parse(text, berlin); err != nil || d.Until().Format(stamp) != want {
			t.Errorf("%s: %v %v, want %s", text, d.Until().Format(stamp), err, want)
		}
	}
}

// Where the clocks change at midnight, a day still ends where the next begins.
func TestEndOfDayAtMidnightChange(t *testing.T) {
	for _, c := range []struct{ zone, day, want string }{
		{"America/Sao_Paulo", "2018-11-03", "2018-11-03T23:59:59.999999999-03:00"}, // then 01:00
		{"America/Sao_Paulo", "2018-02-17", "2018-02-17T23:59:59.999999999-03:00"}, // its 23:00 came twice
		{"America/Havana", "2025-11-01", "2025-11-01T23:59:59.999999999-04:00"},    // 00:00 of the next came twice
		{"Pacific/Apia", "2011-12-29", "2011-12-29T23:59:59.999999999-10:00"},      // the 30th was left out
	} {
		now := time.Date(2026, 11, 25, 0, 0, 0, 0, zone(t, c.zone))
		d, err := Parse(c.day, now)
		if got := d.Until().Format(stamp); err != nil || got != c.want {
			t.Errorf("%s %s: %s %v, want %s", c.zone, c.day, got, err, c.want)
		}
	}
}

func TestMonthsAgoInShortMonth(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	d, err := Parse("1 month ago", now)
	if want := "2026-02-28T23:59:59.999999999+00:00"; err != nil || d.Until().Format(stamp) != want {
		t.Errorf("%s %v, want %s", d.Until().Format(stamp), err, want)
	}
}

func TestPick(t *testing.T) {
	now := time.Date(2026, 11, 25, 10, 30, 0, 0, time.UTC)
	day := func(d, h int) time.Time { return time.Date(2026, 11, d, h, 0, 30, 77, time.UTC) }
	points := []Point{{3, day(20, 3)}, {4, day(21, 3)}, {7, day(23, 3)}, {8, day(23, 14)}, {9, day(23, 14)}, {10, day(22, 1)}}
	for text, want := range map[string]int64{
		"latest": 10, "r7": 7, "2026-11-20": 3, "2026-11-22": 10, "2026-11-23": 9, "today": 9,
		"2026-11-23 14:00": 9, "2026-11-23 14:00:29": 7, "2026-11-23 13:59": 7, "2027-01-01": 9,
	} {
		d, err := Parse(text, now)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := d.Pick(points); err != nil || got.Run != want {
			t.Errorf("%s: %v %v, want r%d", text, got, err, want)
		}
	}
	for text, why := range map[string]string{"2026-11-19": "the oldest is r3", "r5": "newest is r10"} {
		d, _ := Parse(text, now)
		if _, err := d.Pick(points); !errors.Is(err, ErrNone) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", text, err, why)
		}
	}
	if _, err := (Date{latest: true}).Pick(nil); !errors.Is(err, ErrNone) {
		t.Errorf("no points: %v", err)
	}
}

// What is said of a restore point can be given back as a date.
func TestSaidDateFindsItsPoint(t *testing.T) {
	p := Point{17, time.Date(2026, 10, 25, 2, 30, 5, 123456789, zone(t, "Europe/Berlin"))}
	if got, want := p.String(), "r17 of Sun 2026-10-25 02:30:05 +01:00"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	d, err := Parse(p.Date.Format(Format), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Pick([]Point{p}); err != nil || got.Run != 17 {
		t.Errorf("%v %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"2026-11-20", "2026-03-29 02:30", "2026-10-25T02:30:05+01:00", "3 days ago", "monday", "latest", "r17", "9999-12-31", "now", "@1795600298", "@253402214400"} {
		f.Add(seed, int64(1763980000))
	}
	loc := zone(f, "Europe/Berlin")
	f.Fuzz(func(t *testing.T, text string, unix int64) {
		now := time.Unix(unix%4e9, 0).In(loc)
		d, err := Parse(text, now)
		if err != nil {
			if !errors.Is(err, ErrSyntax) {
				t.Fatalf("%q: %v is no refusal", text, err)
			}
			return
		}
		_, isRun := d.Run()
		if d.Latest() || isRun {
			return
		}
		again, err := Parse(d.Until().Format("2006-01-02T15:04:05-07:00"), now)
		if err != nil || again.Until().Before(d.Until()) || again.Until().Sub(d.Until()) >= time.Second {
			t.Fatalf("%q is %v, which reads as %v, %v", text, d.Until(), again.Until(), err)
		}
	})
}
