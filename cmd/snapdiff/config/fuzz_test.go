package config

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
)

// FuzzConfig: any text is refused with the place of the mistake, or its jobs have settings that make sense. It begins with the
// configurations of the manual and of the package.
func FuzzConfig(f *testing.F) {
	const job = "[jobs.a]\nsource = \"/s\"\nstore = \"/t\"\n"
	for _, text := range append(documented(f), Example, job, "", "[jobs.a]\n", "[log]\nto = \"journal\"\n",
		job+"max_deleted = 9223372036854775807\n", job+"max_pinned = \"99999999999999999d\"\n", job+"bwlimit = \"8388608T\"\n", job+"nice = -20\nionice = \"idle\"\n",
		job+"keep = { last = -1 }\n", job+"exclude = [\"[\", \"/\", \"**\"]\n", job+"[jobs.a.hooks]\nafter_run = []\ntimeout = \"-1s\"\n") {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f.toml", data)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Text == "" || e.Line < 0 || e.Line > strings.Count(string(data), "\n")+1 {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		if len(c.Jobs) == 0 {
			t.Fatal("it has no job and is taken")
		}
		for _, j := range c.Jobs {
			if what := senseless(j); what != "" {
				t.Errorf("a job with %s is taken: %+v", what, j)
			}
		}
	})
}

// senseless tells what no job may have.
func senseless(j Job) string {
	for what, wrong := range map[string]bool{
		"no name": j.Name == "", "no source": j.Source == "", "a store that is no absolute path": !strings.HasPrefix(j.Store, "/"),
		"workers": j.Workers < 0, "a limit of bandwidth": j.BwLimit < 0, "a size of snapshots": j.SnapshotSize < 1 || j.SnapshotSize > 100,
		"a nice value": j.Nice != nil && (*j.Nice < -20 || *j.Nice > 19), "a limit": j.MaxDeleted.Count < 0 || j.MaxDeleted.Percent < 0 || j.MaxDeleted.Percent > 100,
		"a limit of what is pinned": j.MaxPinned.Bytes < 0 || j.MaxPinned.Age < 0,
		"a rule of what is kept":    j.Keep != nil && min(j.Keep.Last, j.Keep.Hourly, j.Keep.Daily, j.Keep.Weekly, j.Keep.Monthly, j.Keep.Yearly) < 0,
	} {
		if wrong {
			return what
		}
	}
	return ""
}

// documented are the configurations in the manual, and the one of the package with what it has in comments.
func documented(f *testing.F) []string {
	f.Helper()
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		f.Fatal(err)
	}
	example, err := os.ReadFile("../packaging/snapdiff.toml")
	if err != nil {
		f.Fatal(err)
	}
	texts := regexp.MustCompile(`(?m)(^    .*\n|^\n)+`).FindAllString(string(page), -1)
	whole := regexp.MustCompile(`(?m)^#(\[jobs|[a-z_]* *= )`).ReplaceAllString(string(example), "$1")
	return append(texts, strings.Join(texts, ""), whole)
}
