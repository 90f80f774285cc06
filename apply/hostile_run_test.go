package apply_test

import (
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply"
	"snapdiff/apply/applytest"
)

// Between two runs somebody puts a symlink to a directory outside in the place of a directory of the mirror. The next run
// changes, makes, moves and deletes files there: it must not do so outside.
func TestRunsDoNotFollowPlantedSymlinks(t *testing.T) {
	for _, planted := range []string{"a", "a/b"} {
		t.Run(planted, func(t *testing.T) {
			source := applytest.Subvolume(t, filepath.Join(applytest.Mount(t, applytest.Btrfs), "source"))
			r := newRig(t, source, applytest.Ext4)
			write := func(top, path, content string) {
				t.Helper()
				path = filepath.Join(top, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			outside := t.TempDir()
			for _, name := range []string{"changed", "deleted", "moved", "meta"} {
				write(source, "a/b/"+name, "base")
				write(outside, name, "precious")
				write(outside, "b/"+name, "precious")
			}
			if err := r.run(apply.Options{}); err != nil {
				t.Fatal(err)
			}
			victim := filepath.Join(r.store, "tree", planted)
			if err := os.RemoveAll(victim); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, victim); err != nil {
				t.Fatal(err)
			}
			write(source, "a/b/changed", "new content")
			write(source, "a/b/new", "new")
			write(source, "a/b/dir/new", "new")
			for _, err := range []error{
				os.Remove(filepath.Join(source, "a/b/deleted")), os.Chmod(filepath.Join(source, "a/b/meta"), 0o777),
				os.Rename(filepath.Join(source, "a/b/moved"), filepath.Join(source, "a/b/moved-away")),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			before := listing(t, outside)
			r.mustSay(planted, r.bringAgain(r.snapshot(), false, apply.Options{}))
			if after := listing(t, outside); after != before {
				t.Errorf("the outside was touched:\n%s\n%s", before, after)
			}
			r.mend(planted)
		})
	}
}

// listing tells names, modes, sizes, times of last modification and contents of a tree.
func listing(t *testing.T, top string) string {
	t.Helper()
	var all string
	err := filepath.WalkDir(top, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		all += path + " " + info.Mode().String() + " " + info.ModTime().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			all += " " + string(content)
		}
		all += "\n"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
