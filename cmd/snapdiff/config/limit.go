package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Limit is a number of files, or a share of all files of the mirror.
type Limit struct {
	// Percent is a share of the mirror's files, when IsPercent.
	Percent float64
	// Count is a number of files, when not IsPercent.
	Count     int64
	IsPercent bool
}

// DefaultLimit holds a run that deletes a quarter of the mirror.
var DefaultLimit = Limit{Percent: 25, IsPercent: true}

// FewFiles is the number of files below which a percentage does not hold a run: in a small tree an ordinary day may delete
// a quarter.
const FewFiles = 1000

// Exceeded tells whether deleting so many of so many files is more than the limit allows.
func (l Limit) Exceeded(deleted, files int64) bool {
	if !l.IsPercent {
		return deleted > l.Count
	}
	return files >= FewFiles && float64(deleted)*100 > l.Percent*float64(files)
}

// String is the limit as it is written in the configuration.
func (l Limit) String() string {
	if l.IsPercent {
		return strconv.FormatFloat(l.Percent, 'f', -1, 64) + "%"
	}
	return strconv.FormatInt(l.Count, 10)
}

// parseLimit takes what TOML gave: an integer, or a string with a percentage or a number.
func parseLimit(v any) (Limit, error) {
	bad := func() (Limit, error) {
		return Limit{}, fmt.Errorf(`max_deleted = %#v: a percentage ("25%%") or a number of files (500) is needed`, v)
	}
	switch x := v.(type) {
	case int64:
		if x < 0 {
			return bad()
		}
		return Limit{Count: x}, nil
	case string:
		number, isPercent := strings.CutSuffix(strings.TrimSpace(x), "%")
		f, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if !isPercent {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil || n < 0 {
				return bad()
			}
			return Limit{Count: n}, nil
		}
		if err != nil || !(f >= 0 && f <= 100) {
			return bad()
		}
		return Limit{Percent: f, IsPercent: true}, nil
	}
	return bad()
}
