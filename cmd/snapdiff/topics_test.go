package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/dates"
)

func help(t *testing.T, status int, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if got := execute(args, &out, &out); got != status {
		t.Errorf("%q: status %d, want %d", args, got, status)
	}
	return out.String()
}

func TestHelp(t *testing.T) {
	for _, c := range []struct {
		status int
		args   string
		says   string
	}{
		{0, "help", "snapdiff help begin"}, {0, "--help", "dates "}, {0, "help run", "--approve"}, {0, "help dates", "'3 days ago'"},
		{0, "dates", "'3 days ago'"}, {0, "help statuses", "held: more files"}, {0, "help begin", "snapdiff check"},
		{2, "help daets", "did you mean snapdiff help dates?"}, {2, "help zzzzzz", "there is help on: "}, {2, "help rnu", "snapdiff help run"},
	} {
		if out := help(t, c.status, strings.Fields(c.args)...); !strings.Contains(out, c.says) {
			t.Errorf("%q does not say %q:\n%s", c.args, c.says, out)
		}
	}
}

// Every command teaches by an example, and its examples are commands that there are.
func TestEveryCommandHasAnExample(t *testing.T) {
	root := newRootCommand(&app{})
	for _, cmd := range root.Commands() {
		if cmd.Hidden || !cmd.Runnable() || cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		if cmd.Example == "" {
			t.Errorf("%s has no example", cmd.Name())
		}
		for _, m := range regexp.MustCompile(`(?m)snapdiff ([a-z]+)`).FindAllStringSubmatch(cmd.Example, -1) {
			if found, _, err := root.Find(m[1:]); err != nil || found == root {
				t.Errorf("%s: the example calls %q, which is no command", cmd.Name(), m[1])
			}
		}
	}
}

// What the topics show is what the program takes.
func TestTopicsAreTrue(t *testing.T) {
	text := regexp.MustCompile(`(?m)^  (.*)$`).FindAllStringSubmatch(configurationTopic, -1)
	var lines []string
	for _, m := range text {
		lines = append(lines, m[1])
	}
	if _, err := config.Parse("topic", []byte(strings.Join(lines, "\n"))); err != nil {
		t.Errorf("the configuration of the topic: %v", err)
	}
	for _, key := range config.JobKeys() {
		if !regexp.MustCompile(`(?m)^  ` + key + ` *=|^  \[jobs.mail.` + key + `\]`).MatchString(configurationTopic) {
			t.Errorf("the topic does not show the key %s", key)
		}
	}
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC) // a Saturday
	for _, m := range regexp.MustCompile(`(?m)^  (latest|r17|2026.*?|'.*?'|today, yesterday, monday)   `).FindAllStringSubmatch(datesTopic, -1) {
		for _, date := range strings.Split(m[1], ", ") {
			if _, err := dates.Parse(strings.Trim(strings.TrimSpace(date), "'"), now); err != nil {
				t.Errorf("the topic shows a date that is none: %v", err)
			}
		}
	}
}
