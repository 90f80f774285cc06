package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/logging"
	"snapdiff/cmd/snapdiff/output"
)

// app is what all commands share.
type app struct {
	configPath string
	// conf is the configuration once a command has read it.
	conf *config.Config
	// throwAway: what is made is not to last, as in the demo.
	throwAway bool
	// destroy is job.Options.Destroy; nil where snapshots are destroyed before a run ends.
	destroy func(paths ...string) error
	json    bool
	// aligned asks for tables with headings also where the output is no terminal.
	aligned bool
	// verbose: say also what is done.
	verbose bool
	// logTo and logFormat are the flags of the log; logger is nil until it is opened; logged: the command is one that is logged.
	logTo, logFormat string
	logger           *logging.Log
	stderr           io.Writer
	logged           bool
	// bar is what shows how far something is, nil when nothing does.
	bar *output.Bar
	// started: the command line made sense and the command itself runs. Errors before that are usage errors.
	started bool
}

// commands are all commands, in the order of the help text.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{newInitCommand(a), newRunCommand(a), newListCommand(a), newCheckCommand(a), newStatusCommand(a), newVerifyCommand(a), newDoctorCommand(a), newReleaseCommand(a), newDemoCommand(a), newVersionCommand(a), newManCommand(), newDestroyCommand()}
}

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "snapdiff",
		Short: "Keeps an exact mirror of a filesystem from the changes between its snapshots",
		Long: `snapdiff keeps an exact, plain copy (a mirror) of a filesystem on another disk. It takes a snapshot of a btrfs subvolume, a ZFS dataset or a
logical volume, asks the filesystem what changed since the last one, without walking the tree, and applies just that. What a run replaces it
keeps, so that any past day can be mounted, searched and restored.

New here? snapdiff help begin, or, on a throw-away filesystem, snapdiff demo.`,
		Example: `  snapdiff init && snapdiff check      # the first time
  snapdiff run                         # from cron or systemd: silent when all is well
  snapdiff status
  snapdiff restore yesterday /srv/mail/anna /tmp`,
		Version:       thisBuild().String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			a.started, a.logged, a.stderr = true, cmd.Annotations[isLogged] != "", cmd.ErrOrStderr()
		},
	}
	root.PersistentFlags().StringVar(&a.configPath, "config", config.DefaultPath, "the configuration `FILE`")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print one JSON object a line")
	root.PersistentFlags().StringVar(&a.logTo, "log", "", "log what is done to `FILE`, \"journal\" or \"stderr\" (also [log] in the configuration)")
	root.PersistentFlags().StringVar(&a.logFormat, "log-format", "", "`FORMAT` of the log: text or json; alone it logs to stderr")
	root.SetVersionTemplate("snapdiff {{.Version}}\n")
	root.SetUsageTemplate(root.UsageTemplate() + exitTable())
	root.AddCommand(a.commands()...)
	root.AddCommand(a.pastCommands()...)
	addTopics(root)
	a.complete(root)
	return root
}

// execute runs a command line and gives the exit status.
func execute(args []string, stdout, stderr io.Writer) int {
	return (&app{}).execute(args, stdout, stderr)
}

func (a *app) execute(args []string, stdout, stderr io.Writer) int {
	ctx, stop := stopOnSignal()
	defer stop()
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	status := 0
	var m monitored
	switch {
	case errors.As(err, &m):
		status = int(m.Level)
	case err != nil:
		status = a.failed(ctx, cmd, err)
	}
	if a.logger != nil {
		a.logger.Close() // what could not be written cannot be told to anybody
	}
	return status
}

// jobs gives the named jobs of the configuration, all of them when none is named.
func (a *app) jobs(names []string) ([]config.Job, error) {
	c, err := config.Load(a.configPath)
	if err == nil {
		err = a.openLog(c.Log, a.stderr)
	}
	if err != nil {
		return nil, err
	}
	a.conf = c
	if len(names) == 0 {
		return c.Jobs, nil
	}
	var jobs []config.Job
	for _, name := range names {
		job, ok := c.Job(name)
		if !ok {
			return nil, noJob(name, c)
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

// noJob says that the configuration has no such job, and which one may have been meant.
func noJob(name string, c *config.Config) error {
	err := usageError{fmt.Errorf("no job %q in %s; it has: %s", name, c.Path, strings.Join(c.Names(), ", "))}
	if near := config.Nearest(name, c.Names()); near != "" {
		return hint.With(err, "did you mean %s?", near)
	}
	return err
}

// job gives the job that -j names; it may be left out where the configuration has only one, or where one alone has a source that holds
// the paths, which are as people give them.
func (a *app) job(name string, paths ...string) (config.Job, error) {
	jobs, err := a.candidates(name)
	if err != nil {
		return config.Job{}, err
	}
	return oneOf(jobs, paths)
}

// candidates are the job that -j names, or all.
func (a *app) candidates(name string) ([]config.Job, error) {
	if name == "" {
		return a.jobs(nil)
	}
	return a.jobs([]string{name})
}

// oneOf is the job that is meant where none is named: the only one, or the one whose source holds the absolute ones of the paths.
func oneOf(jobs []config.Job, paths []string) (config.Job, error) {
	if len(jobs) == 1 {
		return jobs[0], nil
	}
	why, which := "the configuration has more than one job", jobs
	for _, path := range paths {
		if !filepath.IsAbs(path) {
			continue
		}
		holding := config.Holding(jobs, path)
		if len(holding) == 0 {
			return config.Job{}, sayWhich("no job has a source that is known to hold "+output.Name(path), jobs)
		}
		which = slices.DeleteFunc(slices.Clone(which), func(j config.Job) bool {
			return !slices.ContainsFunc(holding, func(h config.Job) bool { return h.Name == j.Name })
		})
		if len(which) == 0 {
			return config.Job{}, sayWhich("no job has a source that holds all the paths", jobs)
		}
		why = output.Name(path) + " is in the source of more than one job"
	}
	if len(which) > 1 {
		return config.Job{}, sayWhich(why, which)
	}
	return which[0], nil
}

// sayWhich says that one of several jobs has to be named.
func sayWhich(why string, jobs []config.Job) error {
	names := make([]string, len(jobs))
	for i, j := range jobs {
		names[i] = j.Name
	}
	return hint.With(usageError{errors.New(why)}, "say which with -j JOB; there are: %s", strings.Join(names, ", "))
}

// addJobFlag gives a command about one job its -j.
func addJobFlag(cmd *cobra.Command, job *string) {
	cmd.Flags().StringVarP(job, "job", "j", "", "the `JOB`, where the configuration has more than one")
}

// addJobOfPathFlag is addJobFlag for a command that takes paths of the source.
func addJobOfPathFlag(cmd *cobra.Command, job *string) {
	addJobFlag(cmd, job)
	cmd.Flags().Lookup("job").Usage += " and no absolute path in a source tells which"
}
