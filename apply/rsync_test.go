package apply

import (
	"os/exec"
	"strings"
	"testing"
)

// rsyncJudge fails the test if rsync sees a difference between two trees. XFS lists each ACL a second time, under a name of
// its own that no other filesystem has.
func rsyncJudge(t *testing.T, source, mirror string, more ...string) {
	t.Helper()
	args := append([]string{"-aHAXn", "--delete", "--checksum", "--modify-window=-1", "--itemize-changes",
		"--exclude=/.snapdiff", "--filter=-x trusted.SGI_ACL_*"}, more...)
	out, err := exec.Command("rsync", append(args, source+"/", mirror+"/")...).CombinedOutput()
	if err != nil {
		t.Fatalf("rsync: %v\n%s", err, out)
	}
	if s := strings.TrimSpace(string(out)); s != "" {
		if len(s) > 4000 {
			s = s[:4000] + "..."
		}
		t.Fatalf("rsync sees differences:\n%s", s)
	}
}
