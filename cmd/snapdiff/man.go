package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes the man pages from the same texts as the help, for packages.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Long:   "Writes snapdiff(8) and one page a command or topic, as snapdiff-run(8), into DIR, and the completions for bash, zsh and fish.",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, dir := cmd.Root(), args[0]
			root.DisableAutoGenTag, root.CompletionOptions.HiddenDefaultCmd = true, true
			if err := writePages(root, dir); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return writeCompletions(root, dir)
		},
	}
}

// writePages writes the pages as cobra makes them, tidied.
func writePages(root *cobra.Command, dir string) error {
	date := time.Now()
	if epoch, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil { // https://reproducible-builds.org/specs/source-date-epoch
		date = time.Unix(epoch, 0).UTC()
	}
	header := &doc.GenManHeader{Section: "8", Date: &date, Source: "snapdiff " + versionText(), Manual: "System administration"}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, "snapdiff-completion-powershell.8")); err != nil {
		return err
	}
	for _, topic := range topics() {
		if err := writeTopic(topic, *header, dir); err != nil {
			return err
		}
	}
	pages, err := filepath.Glob(filepath.Join(dir, "snapdiff*.8"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		if err := os.WriteFile(page, []byte(tidyPage(string(text), date)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeTopic writes the page of a help topic, snapdiff-dates(8), which cobra leaves out. Its lines stay as they are, and it has neither synopsis
// nor options.
func writeTopic(topic *cobra.Command, header doc.GenManHeader, dir string) error {
	const verbatim = "    " // in Markdown
	name := "snapdiff-" + topic.Name()
	page := &cobra.Command{Use: name, Short: topic.Short, Long: verbatim + strings.ReplaceAll(topic.Long, "\n", "\n"+verbatim)}
	var text bytes.Buffer
	if err := doc.GenMan(page, &header, &text); err != nil {
		return err
	}
	title, rest, _ := strings.Cut(text.String(), ".SH SYNOPSIS")
	_, rest, _ = strings.Cut(rest, ".SH DESCRIPTION")
	description, _, _ := strings.Cut(rest, ".SH OPTIONS")
	return os.WriteFile(filepath.Join(dir, name+".8"), []byte(title+".SH DESCRIPTION"+description), 0o644)
}

var (
	pageOption = regexp.MustCompile(`(?m)(?:^\.PP\n)?^(\\fB-.*\\fP)(.*)\n\t`)
	pageNoMore = regexp.MustCompile(`^(\[=false\]|="")$`)
)

// tidyPage gives options the layout of man(7), without the values that they have when they are not given and that say nothing, and the
// date the form that man pages have.
func tidyPage(text string, date time.Time) string {
	text = strings.Replace(text, `"`+date.Format("Jan 2006")+`"`, `"`+date.Format("2006-01-02")+`"`, 1)
	return pageOption.ReplaceAllStringFunc(text, func(option string) string {
		part := pageOption.FindStringSubmatch(option)
		return ".TP\n" + part[1] + pageNoMore.ReplaceAllString(part[2], "") + "\n"
	})
}

// writeCompletions writes snapdiff.bash, _snapdiff (zsh) and snapdiff.fish.
func writeCompletions(root *cobra.Command, dir string) error {
	for name, write := range map[string]func(f *os.File) error{
		"snapdiff.bash": func(f *os.File) error { return root.GenBashCompletionV2(f, true) },
		"_snapdiff":     func(f *os.File) error { return root.GenZshCompletion(f) },
		"snapdiff.fish": func(f *os.File) error { return root.GenFishCompletion(f, true) },
	} {
		f, err := os.Create(filepath.Join(dir, name))
		if err == nil {
			err = write(f)
		}
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return fmt.Errorf("write the completion %s: %w", name, err)
		}
	}
	return nil
}
