package main

import (
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionTellsTheTruth(t *testing.T) {
	host := runtime.Version() + ", " + runtime.GOOS + "/" + runtime.GOARCH
	vcs := func(version, revision, modified string) *debug.BuildInfo {
		return &debug.BuildInfo{Main: debug.Module{Version: version}, Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}}
	}
	for name, c := range map[string]struct {
		version, commit string
		info            *debug.BuildInfo
		want            string
	}{
		"a release":          {"v1.2.0", "0123456789abcdef", &debug.BuildInfo{}, "v1.2.0 (commit 0123456789ab, " + host + ")"},
		"made in between":    {"v1.2.0-3-g0123456-dirty", "0123456789abcdef", &debug.BuildInfo{}, "v1.2.0-3-g0123456-dirty (commit 0123456789ab, " + host + ")"},
		"go install @v1.2.0": {"", "", &debug.BuildInfo{Main: debug.Module{Version: "v1.2.0"}}, "v1.2.0 (" + host + ")"},
		"go build, clean":    {"", "", vcs("v1.2.1-0.20261128-0123456789ab", "0123456789abcdef", "false"), "v1.2.1-0.20261128-0123456789ab (commit 0123456789ab, " + host + ")"},
		"go build, dirty":    {"", "", vcs("(devel)", "0123456789abcdef", "true"), "devel-dirty (commit 0123456789ab, " + host + ")"},
		"nothing known":      {"", "", &debug.BuildInfo{}, "devel (" + host + ")"},
	} {
		if got := buildOf(c.version, c.commit, c.info).String(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	b := &strings.Builder{}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		b.Reset()
		if status := execute(args, b, b); status != 0 || b.String() != "snapdiff "+thisBuild().String()+"\n" {
			t.Errorf("%q: status %d, %q", args, status, b.String())
		}
	}
}
