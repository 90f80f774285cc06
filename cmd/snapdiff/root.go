package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
)

// app is what all commands share.
type app struct {
	configPath string
	json       bool
	// aligned asks for tables with headings also where the output is no terminal.
	aligned bool
	// started: the command line made sense and the command itself runs. Errors before that are usage errors.
	started bool
}

// commands are all commands, in the order of the help text.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{newInitCommand(a), newRunCommand(a), newListCommand(a), newCheckCommand(a), newStatusCommand(a), newVerifyCommand(a), newDemoCommand(a), newVersionCommand(a), newManCommand()}
}

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "snapdiff",
		Short:         "Keeps an exact mirror of a filesystem from the changes between its snapshots",
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(*cobra.Command, []string) {
			a.started = true
		},
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", config.DefaultPath, "the configuration `FILE`")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object a line")
	root.SetUsageTemplate(root.UsageTemplate() + exitTable())
	root.AddCommand(a.commands()...)
	root.AddCommand(a.pastCommands()...)
	a.complete(root)
	return root
}

// execute runs a command line and gives the exit status.
func execute(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{}
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var m monitored
	if errors.As(err, &m) {
		return int(m.Level)
	}
	if !a.started {
		err = usageError{spelling(err)}
	}
	fmt.Fprintf(stderr, "snapdiff: %v\n", err)
	if next := hint.Of(err); next != "" {
		fmt.Fprintf(stderr, "  next: %s\n", next)
	} else if !a.started {
		fmt.Fprintln(stderr, "  next: see snapdiff --help")
	} else if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		fmt.Fprintln(stderr, "  next: run snapdiff as root")
	}
	return statusOf(err)
}

// spelling makes cobra's proposal for a misspelt command, a paragraph of its own, what to do next.
func spelling(err error) error {
	text, proposal, found := strings.Cut(err.Error(), "\n\nDid you mean this?\n")
	if !found {
		return err
	}
	return hint.With(errors.New(text), "did you mean %s?", strings.Join(strings.Fields(proposal), " or "))
}

// jobs gives the named jobs of the configuration, all of them when none is named.
func (a *app) jobs(names []string) ([]config.Job, error) {
	c, err := config.Load(a.configPath)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return c.Jobs, nil
	}
	var jobs []config.Job
	for _, name := range names {
		job, ok := c.Job(name)
		if !ok {
			return nil, usageError{fmt.Errorf("no job %q in %s; it has: %s", name, c.Path, strings.Join(c.Names(), ", "))}
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// job gives the job that -j names; it may be left out where the configuration has only one.
func (a *app) job(name string) (config.Job, error) {
	var names []string
	if name != "" {
		names = []string{name}
	}
	jobs, err := a.jobs(names)
	if err != nil {
		return config.Job{}, err
	}
	if len(jobs) > 1 {
		return config.Job{}, usageError{errors.New("the configuration has more than one job: say which with -j JOB")}
	}
	return jobs[0], nil
}

// addJobFlag gives a command about one job its -j.
func addJobFlag(cmd *cobra.Command, job *string) {
	cmd.Flags().StringVarP(job, "job", "j", "", "the `JOB`, where the configuration has more than one")
}
