package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Neighbour says how much of the machine a job takes.
type Neighbour struct {
	// Workers is how many files are worked on at once; 0 is a number that suits the machine.
	Workers int
	// BwLimit is how many bytes of file data are moved in a second at most; 0: as many as can be.
	BwLimit int64
	// Nice is the nice value of all that a run does, from -20 to 19; nil leaves it as it is.
	Nice *int
	// IONice is the I/O scheduling class and level of all that a run does, as ioprio_set(2) takes it; nil leaves it as it is.
	IONice *int
}

// fileNeighbour is the form of it in the file.
type fileNeighbour struct {
	Workers *int    `toml:"workers" like:"workers = 4"`
	BwLimit *any    `toml:"bwlimit"`
	Nice    *int    `toml:"nice" like:"nice = 10"`
	IONice  *string `toml:"ionice" like:"ionice = \"idle\""`
}

const mostWorkers = 256

func (f fileNeighbour) check() (n Neighbour, p *problem) {
	if f.Workers != nil {
		if n.Workers = *f.Workers; n.Workers < 1 || n.Workers > mostWorkers {
			return n, &problem{"workers", fmt.Sprintf("workers = %d: it is a number from 1 to %d; leave it out for one that suits the machine", n.Workers, mostWorkers)}
		}
	}
	if n.Nice = f.Nice; n.Nice != nil && (*n.Nice < -20 || *n.Nice > 19) {
		return n, &problem{"nice", fmt.Sprintf("nice = %d: it is a number from -20 to 19; 19 is nicest to others", *n.Nice)}
	}
	var err error
	if f.BwLimit != nil {
		if n.BwLimit, err = ParseBwLimit(strings.Trim(fmt.Sprint(*f.BwLimit), " ")); err != nil {
			return n, &problem{"bwlimit", "bwlimit = " + err.Error()}
		}
	}
	if f.IONice != nil {
		class, err := parseIONice(*f.IONice)
		if err != nil {
			return n, &problem{"ionice", err.Error()}
		}
		n.IONice = &class
	}
	return n, nil
}

var bwLimit = regexp.MustCompile(`^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([A-Za-z]*)$`)

// ParseBwLimit reads a rate in bytes a second as rsync does: a number counts in KiB; K, M, G and T (or KiB and so on) are powers of
// 1,024, KB, MB, GB and TB powers of 1,000, and B is bytes. 0 is no limit.
func ParseBwLimit(text string) (int64, error) {
	bad := fmt.Errorf(`%q: a number of KiB in a second is needed, or one with a suffix: "20M" (20 MiB in a second), "1.5m", "800KB"; 0 is no limit`, text)
	m := bwLimit.FindStringSubmatch(text)
	if m == nil {
		return 0, bad
	}
	number, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, bad
	}
	unit := 1024.0
	suffix := strings.ToLower(m[2])
	switch {
	case suffix == "":
	case suffix == "b":
		unit = 1
	default:
		power := strings.IndexByte("kmgt", suffix[0]) + 1
		base := map[string]float64{"": 1024, "ib": 1024, "b": 1000}[suffix[1:]]
		if power == 0 || base == 0 {
			return 0, bad
		}
		unit = math.Pow(base, float64(power))
	}
	rate := number * unit
	if number > 0 && rate < 512 || rate > 1<<50 { // rsync's least, too
		return 0, fmt.Errorf("%q is %.0f bytes in a second: from 512 bytes to 1024T it may be", text, rate)
	}
	return int64(rate), nil
}

// parseIONice reads a class of ionice(1), with its level where it has one, into the value of ioprio_set(2): the class in the bits from 13
// on, 2 for best-effort, 3 for idle.
func parseIONice(text string) (int, error) {
	class, level, hasLevel := strings.Cut(text, ":")
	n, err := 4, error(nil) // ionice's default
	if hasLevel {
		n, err = strconv.Atoi(level)
	}
	switch {
	case class == "idle" && !hasLevel:
		return 3 << 13, nil
	case class == "best-effort" && err == nil && n >= 0 && n <= 7:
		return 2<<13 | n, nil
	}
	return 0, fmt.Errorf(`ionice = %q: it is "idle", or "best-effort:N" with N from 0 (first) to 7 (last)`, text)
}
