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

// NoLimit lets everything through.
var NoLimit = Limit{Percent: 100, IsPercent: true}

// Exceeded tells whether so many of so many files are more than the limit allows.
func (l Limit) Exceeded(n, files int64) bool {
	if !l.IsPercent {
		return n > l.Count
	}
	return files >= FewFiles && l != NoLimit && float64(n)*100 > l.Percent*float64(files)
}

// String is the limit as it is written in the configuration.
func (l Limit) String() string {
	if l.IsPercent {
		return strconv.FormatFloat(l.Percent, 'f', -1, 64) + "%"
	}
	return strconv.FormatInt(l.Count, 10)
}

// parseLimit takes what TOML gave: an integer, or a string with a percentage or a number.
func parseLimit(key string, v any) (Limit, error) {
	bad := func() (Limit, error) {
		if text, ok := v.(string); ok {
			v = strconv.Quote(text)
		}
		return Limit{}, fmt.Errorf(`%s = %v: a percentage ("25%%") or a number of files (500) is needed`, key, v)
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
