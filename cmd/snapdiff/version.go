package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"snapdiff/cmd/snapdiff/output"
)

// version and commit are set by the linker in what make builds; of what `go install` builds the build information tells.
var version, commit string

// build says what this program was built of.
type build struct {
	Version  string `json:"version"`          // a tag, a tag with what came after it, or "devel"
	Commit   string `json:"commit,omitempty"` // of git; "" where that is not known
	Dirty    bool   `json:"dirty"`            // the files were not those of the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Example: "  snapdiff version\n  snapdiff version --json",
		Short:   "Print the version",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.json {
				return output.JSON(cmd.OutOrStdout(), thisBuild())
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "snapdiff %s\n", thisBuild())
			return err
		},
	}
}

func thisBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return buildOf(version, commit, info)
}

// buildOf puts together what the linker was told and what Go knows.
func buildOf(version, commit string, info *debug.BuildInfo) build {
	b := build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && commit == "":
			b.Commit = s.Value
		case s.Key == "vcs.modified" && commit == "":
			b.Dirty = s.Value == "true"
		}
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	b.Dirty = b.Dirty || strings.HasSuffix(b.Version, "dirty")
	return b
}

// String is a build in one line.
func (b build) String() string {
	parts := []string{b.Go, b.Platform}
	if b.Commit != "" {
		parts = append([]string{"commit " + b.Commit[:min(12, len(b.Commit))]}, parts...)
	}
	text := b.Version
	if b.Dirty && !strings.HasSuffix(text, "dirty") {
		text += "-dirty"
	}
	return fmt.Sprintf("%s (%s)", text, strings.Join(parts, ", "))
}

func versionText() string { return thisBuild().Version }
