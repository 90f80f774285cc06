package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
)

// topics are pages of help that belong to no command: snapdiff help dates.
func topics() []*cobra.Command {
	return []*cobra.Command{
		{Use: "begin", Short: "The first job, step by step", Long: beginTopic},
		{Use: "dates", Short: "How restore points are named", Long: datesTopic},
		{Use: "configuration", Short: "The configuration file", Long: configurationTopic, Aliases: []string{"config"}},
		{Use: "statuses", Short: "Exit statuses, and what to do", Long: statusesTopic(), Aliases: []string{"status-codes", "exit"}},
	}
}

const beginTopic = `The first job, step by step:

  1. Write ` + config.DefaultPath + `:

` + config.Example + `

     source is the top directory of a btrfs subvolume, a ZFS dataset (tank/mail), or a logical volume (vg/mail) or where it is mounted;
     store is a directory on another disk. (snapdiff help configuration has all settings.)

  2. snapdiff check      names all that is missing, each with the command that mends it
  3. snapdiff init       makes the store
  4. snapdiff run        copies everything once; interrupted, the next run goes on
  5. snapdiff run        from now on: only what changed. From cron or systemctl enable --now snapdiff.timer

Look at what you have:

  snapdiff status                       is all well?
  snapdiff list                         the restore points
  snapdiff diff                         what the last run changed
  snapdiff find '*.docx' --deleted      what was deleted, and when
  snapdiff log anna/letter.txt          every version of one file
  snapdiff restore yesterday anna/letter.txt /tmp
  snapdiff mount '3 days ago'           look around in the past

Without any of this, on a throw-away filesystem: snapdiff demo`

const datesTopic = `Wherever a command takes a DATE, these are understood. The newest restore point that is not later is meant, and the command says which it is.

  latest                       the newest restore point
  r17                          the restore point of run 17, as snapdiff list shows it
  2026-11-20                   as it was at the end of that day, local time
  '2026-11-20 14:00'           a time, with seconds too; also 2026-11-20T14:00
  2026-11-20T14:00:05+01:00    a time with its zone
  today, yesterday, monday     a weekday is the last one before today
  '3 days ago'                 days, weeks, months, years: at the end of that day
  '2 hours ago'                minutes and hours: at that moment
  now, @1795600298             this moment; a second, as date +%s prints it

A local time that summer time skips or shows twice is refused, with the two ways to write it. Nothing is guessed.

  snapdiff restore yesterday /srv/mail/anna /tmp
  snapdiff mount '2026-11-20 14:00' /mnt
  snapdiff diff monday yesterday
  snapdiff tar latest --since r17 > changes.tar`

const configurationTopic = `The configuration is ` + config.DefaultPath + `, or the file that --config names: TOML, one table a job. Unknown keys are errors.

  [jobs.mail]                  # the name: snapdiff run mail
  source = "/srv/mail"         # what is protected: a btrfs subvolume, "tank/mail" (ZFS), "vg/mail" (LVM) or where that is mounted
  store  = "/backup/mail"      # a directory on another disk; the mirror is /backup/mail/tree
  keep   = { last = 7, hourly = 24, daily = 14, weekly = 8, monthly = 12, yearly = 3 }   # all restore points when left out
  max_deleted = "25%"          # or a number: a run that would delete more is held until it is approved
  max_changed = "100%"         # the same for files that would be deleted, replaced or changed
  ransomware  = "hold"         # or "off": hold a run that looks like the work of ransomware
  max_pinned  = "14d"          # or "200GB" (ZFS, classic LVM): when runs fail, how old or large our snapshots on the source may grow
  checksums   = true           # keep a checksum of each file copied, so that verify finds rot without the source (the default)
  verify_writes = false        # or true: read back from the disk what a run wrote before it counts as done
  workers = 4                  # files worked on at once
  bwlimit = "20M"              # file data moved in a second
  nice    = 10
  ionice  = "idle"             # or "best-effort:7"
  on_lost_base = "full"        # or "stop": wait for an administrator instead of comparing everything
  exclude = ["*.tmp", "/spool/queue"]          # names at any depth, or paths from the top
  recursive = true                             # btrfs, ZFS: nested subvolumes or child datasets too, each below its place
  snapshots = "/srv/mail/.snapdiff"            # btrfs: where snapshots live
  snapshot_size = "20%"                        # LVM, not thin: how large a snapshot is
  catalog = "/var/lib/snapdiff/mail.db"        # only where the store is on a network filesystem

  [jobs.mail.hooks]                            # programs with their arguments; no shell
  before_snapshot = ["/usr/local/sbin/quiesce", "start"]   # must succeed
  after_snapshot  = ["/usr/local/sbin/quiesce", "stop"]
  after_run       = ["/usr/local/sbin/mirror-done"]
  on_failure      = ["/usr/local/sbin/tell-somebody"]
  timeout         = "5m"

  [log]
  to     = "journal"           # or "stderr", or a file
  format = "text"              # or "json"

Try what you wrote: snapdiff check`

// statusesTopic explains the table of exit statuses.
func statusesTopic() string {
	return "Scripts and cron go by the exit status:\n" + exitTable() + `
Of several jobs the first failure counts that is more than incomplete. What went wrong is on stderr, one line a failure, and below it, after
"next:", what to do. snapdiff status --nagios has statuses of its own: 0 ok, 1 warning, 2 critical.

  snapdiff run || echo "mirror: status $?" | mail -s "snapdiff on $(hostname)" root`
}

// newHelpCommand is help on a command or a topic; a word that is neither is an error.
func newHelpCommand(root *cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "help [COMMAND | TOPIC]",
		Short: "Help on a command or a topic",
		Long:  "Shows help on a command or on a topic: begin, dates, configuration, statuses.",
		Args:  cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return helpWords(root), cobra.ShellCompDirectiveNoFileComp
		},
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return root.Help()
		}
		if found, _, err := root.Find(args); err == nil && found != root {
			return found.Help()
		}
		return noHelp(args[0], helpWords(root))
	}
	return cmd
}

// helpWords are what there is help on.
func helpWords(root *cobra.Command) (words []string) {
	for _, c := range root.Commands() {
		if !c.Hidden && c.Name() != "help" {
			words = append(words, c.Name())
		}
	}
	return words
}

func noHelp(word string, known []string) error {
	err := usageError{fmt.Errorf("there is no help on %q", word)}
	if near := config.Nearest(word, known); near != "" {
		return hint.With(err, "did you mean snapdiff help %s?", near)
	}
	return hint.With(err, "there is help on: %s", strings.Join(known, ", "))
}

// addTopics gives root its topics and its help.
func addTopics(root *cobra.Command) {
	for _, topic := range topics() {
		topic.SetHelpFunc(func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), cmd.Long) })
		root.AddCommand(topic)
	}
	root.SetHelpCommand(newHelpCommand(root))
}
