package main

import (
	"errors"
	"time"

	"snapdiff/cmd/snapdiff/config"
)

// ageFlag is a flag that takes an age as max_pinned in the configuration does, or as Go writes durations. It is a pflag.Value.
type ageFlag struct{ to *time.Duration }

func (f ageFlag) Set(text string) error {
	age, ok := config.ParseAge(text)
	if !ok {
		var err error
		if age, err = time.ParseDuration(text); err != nil || age <= 0 {
			return errors.New(`an age is needed, such as "26h", "2d" or "90m"`)
		}
	}
	*f.to = age
	return nil
}

func (f ageFlag) String() string {
	if f.to == nil || *f.to == 0 {
		return ""
	}
	return f.to.String()
}

// Type is what help shows.
func (f ageFlag) Type() string { return "AGE" }
