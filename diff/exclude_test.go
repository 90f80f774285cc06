package diff

import "testing"

func TestExclude(t *testing.T) {
	e := MustExclude("*.tmp", "/top", "a/b*/c", "odd[0-9]", "dir/")
	for path, want := range map[string]bool{
		"": false, "x.tmp": true, "a/x.tmp/below": true, "x.tmpx": false, "top": true, "top/below": true, "a/top": false,
		"a/b/c": true, "a/bb/c/d": true, "a/b/d": false, "z/a/b/c": false, "q/odd7": true, "q/oddx": false, "x/dir/y": true,
		"\xff.tmp": true, "\xff\xfe": false, "a": false, "a/b": false,
	} {
		if got := e.Match(path); got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
	for dir, want := range map[string]bool{"a": true, "a/b": true, "a/b/c": false, "b": false, "top": false} {
		if got := e.dependsOn(dir); got != want {
			t.Errorf("what is excluded below %q depends on its path: %v, want %v", dir, got, want)
		}
	}
	for _, bad := range []string{"", "/", "a//b", "../x", "a/**", "[", "a/./b"} {
		if _, err := ParseExclude([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	var none *Exclude
	if none.Match("x") || none.dependsOn("x") {
		t.Error("nil excludes something")
	}
}
