package diff

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// Exclude are the patterns of what stays out of the mirror, as rsync and git know them: a pattern without a slash means a name
// at any depth, one with a slash a path from the top ("/cache/*" or "cache/*"). *, ? and [...] match within one name. What
// lies below a directory that is left out is left out too. nil excludes nothing.
type Exclude struct {
	names []string   // patterns of a name at any depth
	paths [][]string // patterns of a path from the top, by elements
}

// ParseExclude reads patterns.
func ParseExclude(patterns []string) (*Exclude, error) {
	e := &Exclude{}
	for _, p := range patterns {
		clean := strings.TrimSuffix(p, "/")
		elements := strings.Split(strings.TrimPrefix(clean, "/"), "/")
		if err := checkPattern(elements); err != nil {
			return nil, fmt.Errorf("exclude pattern %q: %w", p, err)
		}
		if strings.Contains(clean, "/") {
			e.paths = append(e.paths, elements)
		} else {
			e.names = append(e.names, clean)
		}
	}
	return e, nil
}

func checkPattern(elements []string) error {
	for _, x := range elements {
		switch {
		case x == "" || x == "." || x == "..":
			return errors.New("it has an empty element, . or ..")
		case strings.Contains(x, "**"):
			return errors.New("** is not known; a name without a slash is excluded at any depth")
		}
		if _, err := path.Match(x, ""); err != nil {
			return err
		}
	}
	return nil
}

// None tells that nothing is excluded.
func (e *Exclude) None() bool { return e == nil || len(e.names)+len(e.paths) == 0 }

// Match tells whether a path, or a directory above it, is left out. The top directory, "", never is.
func (e *Exclude) Match(name string) bool {
	if name == "" || e.None() {
		return false
	}
	elements := strings.Split(name, "/")
	for _, x := range elements {
		for _, p := range e.names {
			if matches(p, x) {
				return true
			}
		}
	}
	for _, p := range e.paths {
		if len(p) <= len(elements) && matchAll(p, elements[:len(p)]) {
			return true
		}
	}
	return false
}

// dependsOn tells whether a pattern may leave out something below a directory because of the directory's path: to move it is
// to exclude other things, which no native diff shows.
func (e *Exclude) dependsOn(dir string) bool {
	if e == nil {
		return false
	}
	elements := strings.Split(dir, "/")
	for _, p := range e.paths {
		if len(p) > len(elements) && matchAll(p[:len(elements)], elements) {
			return true
		}
	}
	return false
}

func matchAll(patterns, elements []string) bool {
	for i, p := range patterns {
		if !matches(p, elements[i]) {
			return false
		}
	}
	return true
}

// matches is path.Match for a pattern that ParseExclude has checked. Names are bytes: what is no valid UTF-8 matches by bytes.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}

// EscapePattern gives the pattern that matches one path alone.
func EscapePattern(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// MustExclude is ParseExclude for patterns that the program itself has.
func MustExclude(patterns ...string) *Exclude {
	e, err := ParseExclude(patterns)
	if err != nil {
		panic(err)
	}
	return e
}
