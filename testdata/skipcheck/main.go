// Command skipcheck judges the results of `go test -json`: everything must have passed, and no test may have skipped itself
// unless the reason that it gave is one that is fine where it ran. A skipped test looks like a passed one otherwise.
// (testdata/may-skip.txt is the other half: which functions may call Skip at all.)
//
//	go test -json ./... | tee results.json | skipcheck -follow     a line per package, output of failed tests
//	skipcheck [-allow REASON]... results.json...                   the verdict
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	follow := flag.Bool("follow", false, "read results from standard input and show progress; judge nothing")
	var reasons []string
	flag.Func("allow", "a `reason` to skip, part of what the test prints; can be given more than once", func(s string) error {
		reasons = append(reasons, s)
		return nil
	})
	flag.Parse()
	var err error
	if *follow {
		err = showProgress(os.Stdin, os.Stdout)
	} else {
		err = judgeFiles(reasons, flag.Args(), os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "skipcheck:", err)
		os.Exit(1)
	}
}

// judgeFiles reads all result files and writes the verdict; its error says that the verdict is bad.
func judgeFiles(reasons, files []string, out io.Writer) error {
	res := newResults()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = readEvents(f, res.add)
		f.Close()
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
	}
	return res.judge(reasons, out)
}
