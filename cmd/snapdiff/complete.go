package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
)

// complete teaches every command's arguments to the completion of shells, by what its usage line says they are.
func (a *app) complete(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.ValidArgsFunction == nil {
			switch {
			case strings.Contains(cmd.Use, "JOB..."):
				cmd.ValidArgsFunction = a.completeJobs
			case strings.Contains(cmd.Use, "DATE"), strings.Contains(cmd.Use, "FROM"):
				cmd.ValidArgsFunction = a.completeDates
			}
		}
		if cmd.Flags().Lookup("job") != nil {
			// The only error is a flag that is not there.
			_ = cmd.RegisterFlagCompletionFunc("job", a.completeJobs)
		}
	}
}

// completeJobs offers the names of the jobs that are not on the command line yet.
func (a *app) completeJobs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	c, err := config.Load(a.configPath)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, name := range c.Names() {
		if !strings.Contains("\x00"+strings.Join(args, "\x00")+"\x00", "\x00"+name+"\x00") {
			names = append(names, name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeDates offers restore points, the newest first, for the first argument of commands that take a date; those behind
// it are files.
func (a *app) completeDates(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	dates := 1
	if strings.Contains(cmd.Use, "FROM") {
		dates = 2
	}
	if len(args) >= dates {
		return nil, cobra.ShellCompDirectiveDefault
	}
	name, _ := cmd.Flags().GetString("job")
	j, err := a.job(name)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	points, err := apply.RestorePoints(j.Store, j.Catalog)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	const most = 50
	offers := []string{"latest\tthe newest restore point", "yesterday\tas it was at the end of yesterday"}
	for i := len(points) - 1; i >= 0 && len(offers) < most; i-- {
		offers = append(offers, fmt.Sprintf("r%d\t%s", points[i].Run, points[i].Date.Local().Format("Monday 2006-01-02 15:04:05")))
	}
	return offers, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
}
