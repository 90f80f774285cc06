package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newManCommand writes the man pages from the same texts as the help, for packages.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the manual pages into a directory",
		Long:   "Writes snapdiff(8) and one page a command, as snapdiff-run(8), into DIR, and the completions for bash, zsh and fish.",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, dir := cmd.Root(), args[0]
			root.DisableAutoGenTag, root.CompletionOptions.HiddenDefaultCmd = true, true
			header := &doc.GenManHeader{Section: "8", Source: "snapdiff " + versionText(), Manual: "System administration"}
			if err := doc.GenManTree(root, header, dir); err != nil {
				return fmt.Errorf("write the manual pages: %w", err)
			}
			return writeCompletions(root, dir)
		},
	}
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
