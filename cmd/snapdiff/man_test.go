package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestManPageLayout: each command has a page whose options are laid out as man(7) wants it, dated by SOURCE_DATE_EPOCH.
func TestManPageLayout(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := t.TempDir()
	if status := execute([]string{"man", dir}, os.Stdout, os.Stderr); status != 0 {
		t.Fatalf("snapdiff man ended with %d", status)
	}
	text, err := os.ReadFile(filepath.Join(dir, "snapdiff-restore.8"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.TH "SNAPDIFF-RESTORE" "8" "2023-11-14"`, ".TP\n\\fB--overwrite\\fP\nput it", ".TP\n\\fB--config\\fP=\"/etc/snapdiff/snapdiff.toml\"\nthe configuration"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	topic, err := os.ReadFile(filepath.Join(dir, "snapdiff-dates.8"))
	if err != nil || !strings.Contains(string(topic), "\n  '3 days ago'       ") || strings.Contains(string(topic), "OPTIONS") {
		t.Errorf("the page of a topic: %v\n%s", err, topic)
	}
	if strings.Contains(string(text), "\n\t") {
		t.Errorf("options are indented by tabs:\n%s", text)
	}
}
