package applytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestRemountElsewhereMounted: a filesystem that is still mounted in another mount namespace is not well by being mounted again.
func TestRemountElsewhereMounted(t *testing.T) {
	dir := Mount(t, XFS)
	other := exec.Command("unshare", "-m", "--propagation", "private", "sh", "-c", "echo; sleep 1")
	said, err := other.StdoutPipe()
	if err == nil {
		err = other.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := said.Read(make([]byte, 1)); err != nil { // it has its copy of the mount
		t.Fatal(err)
	}
	Shutdown(t, dir)
	Remount(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o600); err != nil {
		t.Errorf("after it was mounted again: %v", err)
	}
	if err := other.Wait(); err != nil {
		t.Error(err)
	}
}
