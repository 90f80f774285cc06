package main

import (
	"os"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/output"
)

// addProgressFlag gives a command that may take long its --progress.
func addProgressFlag(cmd *cobra.Command) {
	cmd.Flags().Bool("progress", false, "show how far it is: on a terminal that is the default (--progress=false: not), elsewhere it is a line every ten seconds")
}

// progress begins to show on stderr how far something is, and gives what to tell the news, nil where nobody wants to see them. end
// is to be called when it is over. label is put before all.
func (a *app) progress(cmd *cobra.Command, label string) (news func(apply.Progress), end func()) {
	stderr := cmd.ErrOrStderr()
	wanted := output.IsTerminal(stderr) && os.Getenv("TERM") != "dumb" && (a.logger == nil || !a.logger.Replaces)
	if f := cmd.Flags().Lookup("progress"); f.Changed {
		wanted = f.Value.String() == "true"
	}
	if !wanted {
		return nil, func() {}
	}
	bar := output.NewBar(stderr, label)
	a.bar = bar
	return func(p apply.Progress) { bar.Show(output.Step(p)) }, func() { bar.Close(); a.bar = nil }
}
