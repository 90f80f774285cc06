package main

import (
	"testing"

	"snapdiff/cmd/snapdiff/config"
)

func TestSourcePath(t *testing.T) {
	j := config.Job{Name: "mail", Source: "/srv/mail"}
	for path, want := range map[string]string{
		"/srv/mail/anna/17": "anna/17", "/srv/mail": "", "/srv/mail/": "", "anna/./17/": "anna/17", ".": "", "..x": "..x", "/srv/mail/\xff\n": "\xff\n",
	} {
		if got, err := sourcePath(j, path); err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"", "..", "../other", "/srv/mail2/x", "/", "anna/../../x"} {
		if got, err := sourcePath(j, path); err == nil {
			t.Errorf("%q: %q, want a refusal", path, got)
		}
	}
}
