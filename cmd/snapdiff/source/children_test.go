package source

import (
	"context"
	"errors"
	"strings"
	"testing"

	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
)

// TestRecursiveRefused: a source of a kind that has no children refuses the setting before it looks at anything.
func TestRecursiveRefused(t *testing.T) {
	_, err := openLVM(context.Background(), config.Job{Name: "mail", Source: "vg/mail", Recursive: true})
	if err == nil || !strings.Contains(err.Error(), "recursive") || !strings.Contains(hint.Of(err), "[jobs.mail]") {
		t.Errorf("a logical volume: %v, next: %s", err, hint.Of(err))
	}
	if err := errForeignRecursive("/snap"); hint.Of(errors.Join(err)) == "" {
		t.Errorf("%v has no hint", err)
	}
}
