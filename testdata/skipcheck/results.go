package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of `go test -json`, see `go doc test2json`. Build failures carry ImportPath instead of Package.
type event struct {
	Action     string
	Package    string
	Test       string
	Output     string
	ImportPath string
	Elapsed    float64
}

// readEvents calls each for every line; a line that is no JSON (go's own complaints) becomes an event "raw".
func readEvents(r io.Reader, each func(event)) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 64<<20)
	for in.Scan() {
		var e event
		if line := in.Bytes(); !bytes.HasPrefix(line, []byte("{")) || json.Unmarshal(line, &e) != nil {
			e = event{Action: "raw", Output: string(line) + "\n"}
		}
		each(e)
	}
	return in.Err()
}

// outcome is what became of one test over all result files.
type outcome struct {
	passed, failed, skipped bool
	seconds                 float64
	output                  strings.Builder // kept for tests that have not passed
}

type testName struct{ pkg, test string } // test "" is the package as a whole

// results of one or several `go test` runs. A test may have run more than once (host and test machine).
type results struct {
	tests map[testName]*outcome
	raw   strings.Builder // lines that are no events, and build output
}

func newResults() *results { return &results{tests: map[testName]*outcome{}} }

func (r *results) add(e event) {
	switch {
	case e.Action == "raw" || e.Action == "build-output":
		r.raw.WriteString(e.Output)
		return
	case e.Package == "":
		return
	}
	name := testName{e.Package, e.Test}
	o := r.tests[name]
	if o == nil {
		o = &outcome{}
		r.tests[name] = o
	}
	switch e.Action {
	case "output":
		o.output.WriteString(e.Output)
	case "pass":
		o.passed = true
	case "fail":
		o.failed = true
	case "skip":
		o.skipped = true
	}
	o.seconds += e.Elapsed
}

// judge writes times and troubles, and returns an error if there are troubles.
func (r *results) judge(reasons []string, out io.Writer) error {
	names := make([]testName, 0, len(r.tests))
	for n := range r.tests {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b testName) int {
		return strings.Compare(a.pkg+"\x00"+a.test, b.pkg+"\x00"+b.test)
	})
	var failed, skipped, passed, allowed int
	for _, n := range names {
		o := r.tests[n]
		switch {
		case o.failed || (!o.passed && !o.skipped): // neither: it was running when its package died
			failed++
			fmt.Fprintf(out, "FAIL  %s %s\n", n.pkg, n.test)
		case o.passed:
			if n.test != "" {
				passed++
			}
		case n.test == "": // a package without tests
		case o.gives(reasons):
			allowed++
		default:
			skipped++
			fmt.Fprintf(out, "SKIP  %s %s without leave:\n%s", n.pkg, n.test, o.output.String())
		}
	}
	r.times(names, out)
	fmt.Fprintf(out, "%d tests passed, %d failed, %d skipped as allowed, %d skipped without leave\n", passed, failed, allowed, skipped)
	switch {
	case failed > 0 || skipped > 0:
		return fmt.Errorf("%d failed, %d skipped without leave", failed, skipped)
	case passed == 0:
		return errors.New("no test ran:\n" + r.raw.String())
	}
	return nil
}

// gives tells that a skipped test printed one of the reasons.
func (o *outcome) gives(reasons []string) bool {
	return slices.ContainsFunc(reasons, func(r string) bool { return strings.Contains(o.output.String(), r) })
}

// times writes the packages and the slowest tests, slowest first.
func (r *results) times(names []testName, out io.Writer) {
	slowest := slices.Clone(names)
	slices.SortStableFunc(slowest, func(a, b testName) int {
		return int(1000 * (r.tests[b].seconds - r.tests[a].seconds))
	})
	fmt.Fprintln(out, "seconds per package:")
	var total float64
	for _, n := range slowest {
		if n.test == "" {
			total += r.tests[n].seconds
			fmt.Fprintf(out, "%8.1f  %s\n", r.tests[n].seconds, n.pkg)
		}
	}
	fmt.Fprintf(out, "%8.1f  all\nslowest tests:\n", total)
	count := 0
	for _, n := range slowest {
		if n.test != "" && !strings.Contains(n.test, "/") && count < 15 {
			count++
			fmt.Fprintf(out, "%8.1f  %s %s\n", r.tests[n].seconds, n.pkg, n.test)
		}
	}
}

// showProgress copies to out a line for every finished package and all that failed tests printed.
func showProgress(in io.Reader, out io.Writer) error {
	res := newResults()
	return readEvents(in, func(e event) {
		res.add(e)
		switch {
		case e.Action == "raw" || e.Action == "build-output":
			fmt.Fprint(out, e.Output)
		case e.Package == "":
		case e.Action == "fail":
			fmt.Fprintf(out, "FAIL  %s %s %.1fs\n%s", e.Package, e.Test, e.Elapsed, res.tests[testName{e.Package, e.Test}].output.String())
		case e.Test == "" && (e.Action == "pass" || e.Action == "skip"):
			fmt.Fprintf(out, "%-5s %s %.1fs\n", map[string]string{"pass": "ok", "skip": "none"}[e.Action], e.Package, e.Elapsed)
		}
	})
}
