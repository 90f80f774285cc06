package snapdiff

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNeedGo: make finds a Go that is new enough behind one that is too old, and says what to do where there is none and none can be had.
func TestNeedGo(t *testing.T) {
	dir := t.TempDir()
	script, err := os.ReadFile("testdata/need-go.sh")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	goOf := func(version string) string { return "#!/bin/sh\necho " + version + "\n" }
	none := filepath.Join(dir, "none")
	write("testdata/need-go.sh", strings.ReplaceAll(string(script), "/usr/local/go/bin/go", none)) // nor one of this machine
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	write("go.mod", string(mod))
	write("bin/curl", "#!/bin/sh\nexit 1\n")
	need := func() (string, error) {
		cmd := exec.Command(filepath.Join(dir, "testdata/need-go.sh"))
		cmd.Env = []string{"PATH=" + filepath.Join(dir, "bin") + ":/usr/bin:/bin", "XDG_CACHE_HOME=" + filepath.Join(dir, "cache"), "HOME=" + dir}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, version := range []string{"nonsense", "go1.9", "go1.19.8"} {
		write("bin/go", goOf(version))
		out, err := need()
		if err == nil || !strings.Contains(out, "or newer is needed: unpack it from https://go.dev/dl/ into /usr/local/go") {
			t.Errorf("with %s alone: %v\n%s", version, err, out)
		}
	}
	latest := strings.Fields(string(script[strings.Index(string(script), "\nget=")+len("\nget="):]))[0]
	write("cache/snapdiff-go/"+latest+"/bin/go", goOf(latest))
	if out, err := need(); err != nil || out != filepath.Join(dir, "cache/snapdiff-go", latest, "bin")+"\n" {
		t.Errorf("with one that was fetched before: %v\n%s", err, out)
	}
	for _, version := range []string{latest, "go2.0"} {
		write("bin/go", goOf(version))
		if out, err := need(); err != nil || out != filepath.Join(dir, "bin")+"\n" {
			t.Errorf("with %s: %v\n%s", version, err, out)
		}
	}
}
