package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
)

// spelling says what cobra says of a command line that makes no sense, with what may have been meant.
func spelling(cmd *cobra.Command, err error) error {
	text, proposal, found := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if found { // a command
		return hint.With(errors.New(text), "did you mean %s?", strings.Join(strings.Fields(proposal), " or "))
	}
	if name, ok := strings.CutPrefix(text, "unknown flag: --"); ok {
		if near := config.Nearest(name, flagNames(cmd)); near != "" {
			return hint.With(err, "did you mean --%s? All are in %s --help", near, cmd.CommandPath())
		}
	}
	if _, ok := strings.CutPrefix(text, "accepts "); ok { // a number of arguments, which says little
		_, given, _ := strings.Cut(text, "received ")
		return fmt.Errorf("usage: %s (arguments given: %s)", strings.TrimSuffix(cmd.UseLine(), " [flags]"), given)
	}
	return err
}

// flagNames are all flags that a command takes.
func flagNames(cmd *cobra.Command) (names []string) {
	add := func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	}
	cmd.Flags().VisitAll(add)
	cmd.InheritedFlags().VisitAll(add)
	return names
}
