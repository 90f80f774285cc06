package dates

import (
	"errors"
	"fmt"
	"time"
)

// ErrNone says that no restore point is meant by a date.
var ErrNone = errors.New("no such restore point")

// Point is a restore point: a finished run and the moment its snapshot was taken.
type Point struct {
	Run  int64
	Date time.Time
}

// Format is how dates of restore points are written everywhere; Parse reads it.
const Format = "2006-01-02 15:04:05 -07:00"

// String is what is said of a restore point that was chosen. The date is in its own location.
func (p Point) String() string { return fmt.Sprintf("r%d of %s", p.Run, p.Date.Format("Mon "+Format)) }

// Pick finds the restore point that d means among points, in any order: the newest not later. The error wraps ErrNone and
// says what there is.
func (d Date) Pick(points []Point) (Point, error) {
	if len(points) == 0 {
		return Point{}, fmt.Errorf("%w: there is none yet: snapdiff run makes the first", ErrNone)
	}
	var best, oldest, newest Point
	for i, p := range points {
		if d.means(p) && (best.Run == 0 || d.newer(p, best)) {
			best = p
		}
		if i == 0 || p.Date.Before(oldest.Date) {
			oldest = p
		}
		if p.Run > newest.Run {
			newest = p
		}
	}
	switch {
	case best.Run != 0:
		return best, nil
	case d.run != 0:
		return Point{}, fmt.Errorf("%w: %s was not finished, was dropped or never was; the newest is %s (snapdiff list shows all)", ErrNone, d.text, newest)
	default:
		return Point{}, fmt.Errorf("%w: none is as old as %s; the oldest is %s", ErrNone, d.until.Format(Format), oldest)
	}
}

// means tells whether p satisfies d.
func (d Date) means(p Point) bool {
	switch {
	case d.latest:
		return true
	case d.run != 0:
		return p.Run == d.run
	default:
		return !p.Date.After(d.until)
	}
}

// newer orders candidates. The latest is the one that the mirror equals, whatever the clock said when it was taken.
func (d Date) newer(a, b Point) bool {
	if d.latest || a.Date.Equal(b.Date) {
		return a.Run > b.Run
	}
	return a.Date.After(b.Date)
}
