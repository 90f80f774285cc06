package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
)

// bwLimitFlag is --bwlimit, which takes the place of the job's own limit. It is a pflag.Value.
type bwLimitFlag struct {
	given bool
	rate  int64
}

func (f *bwLimitFlag) add(cmd *cobra.Command) {
	cmd.Flags().Var(f, "bwlimit", "move at most so much file data in a second: `RATE` in KiB or with a suffix, as rsync takes it (20M); 0: no limit")
}

func (f *bwLimitFlag) on(j config.Job) config.Job {
	if f.given {
		j.BwLimit = f.rate
	}
	return j
}

func (f *bwLimitFlag) Set(text string) (err error) {
	f.given = true
	f.rate, err = config.ParseBwLimit(text)
	return err
}

func (f *bwLimitFlag) String() string {
	if !f.given {
		return ""
	}
	return strconv.FormatInt(f.rate, 10) + "B"
}

// Type is what help shows.
func (f *bwLimitFlag) Type() string { return "RATE" }
