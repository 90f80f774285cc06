package apply

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A whole tree restored over a newer one: what it has is as it was, all else stays, and nothing outside is touched.
func TestRestoreOverwrites(t *testing.T) {
	store, old, _ := pastStore(t)
	to, outside := filepath.Join(t.TempDir(), "to"), t.TempDir()
	shell(t, store, "cp -a tree "+to+"; cd "+to+"; echo precious > "+outside+"/f; rm same/f; ln -s "+outside+"/f same/f; rm changed; ln -s "+outside+" gone")
	v := openView(t, store, 1)
	done, err := v.RestoreWith(context.Background(), "", to, RestoreOptions{Overwrite: true})
	var some *Unrestored
	if !errors.As(err, &some) || some.Names != 1 || !strings.Contains(err.Error(), "type") || !strings.Contains(err.Error(), "a directory is there") {
		t.Errorf("%+v %v: want a refusal to remove the directory type", done, err)
	}
	out, err := exec.Command("rsync", "-aHAXn", "--checksum", "--modify-window=-1", "--itemize-changes", "--exclude=/type", old+"/", to+"/").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
	shell(t, to, `test -e same/fresh; test -e now; test "$(cat `+outside+`/f)" = precious; ! ls -A . same | grep snapdiff`)
}

func TestTopmost(t *testing.T) {
	got := topmost([]string{"b/c/d", "a", "b/c", "b/cd", "a", "bc/x"})
	if want := "a b/c b/cd bc/x"; strings.Join(got, " ") != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := topmost([]string{"a", ""}); len(got) != 1 || got[0] != "" {
		t.Errorf("%q, want the whole tree alone", got)
	}
}
