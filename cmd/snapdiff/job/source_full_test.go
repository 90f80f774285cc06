package job

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"snapdiff/cmd/snapdiff/config"
)

// TestSourceFullIsNoFullStore: what the source has no room for is not said of the store, whatever the program was that said it.
func TestSourceFullIsNoFullStore(t *testing.T) {
	j := config.Job{Name: "mail", Source: "tank/mail", Store: t.TempDir()}
	for _, err := range []error{
		fmt.Errorf("create the snapshot: %w", unix.ENOSPC), fmt.Errorf("create the snapshot: %w", unix.EDQUOT),
		errors.New("zfs snapshot: cannot create snapshot 'tank/mail@x': out of space"),
		errors.New(`lvcreate: Volume group "vg" has insufficient free space (0 extents): 25 required.`),
	} {
		err := explain(fmt.Errorf("run: %w", sourceFull(err, j)), j)
		if !errorIs[*SourceFull](err) || errorIs[*NoSpace](err) {
			t.Errorf("%v is %T", err, err)
		}
	}
	if err := sourceFull(unix.EIO, j); errorIs[*SourceFull](err) {
		t.Errorf("a disk that fails is called full: %v", err)
	}
}
