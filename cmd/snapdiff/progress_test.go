package main

import (
	"bytes"
	"strings"
	"testing"

	"snapdiff/cmd/snapdiff/job"
)

func TestProgressBar(t *testing.T) {
	for total, want := range map[int64][]string{1 << 30: {"mail: 1,234 files, 500 MB", "%"}, 0: {"mail: 1,234 files, 500 MB"}} {
		var out bytes.Buffer
		bar := &progressBar{w: &out, job: "mail"}
		bar.close() // nothing was said yet
		if out.Len() > 0 {
			t.Errorf("a bar that never appeared: %q", out.String())
		}
		bar.show(job.Progress{Files: 1234, Bytes: 500_000_000, Total: total})
		bar.close()
		for _, w := range want {
			if !strings.Contains(out.String(), w) {
				t.Errorf("total %d: %q lacks %q", total, out.String(), w)
			}
		}
	}
}
