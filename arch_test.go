// Package snapdiff has no code: what stands here are the rules that hold for all packages of the module.
package snapdiff

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	Dir, ImportPath           string
	GoFiles, CgoFiles         []string
	TestGoFiles, XTestGoFiles []string
	Imports, Deps             []string
}

// list runs `go list -json` over all packages of the module, as the product is built: without cgo.
func list(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,CgoFiles,TestGoFiles,XTestGoFiles,Imports,Deps", "./...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := in.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

// within tells that an import path is the package or lies below it.
func within(path, pkg string) bool { return path == pkg || strings.HasPrefix(path, pkg+"/") }

// forbidden are imports that would turn the arrow cmd/snapdiff -> apply -> diff -> snapshot round, or bring in what the
// product must not have. from and to mean a package and all below it.
var forbidden = []struct {
	from   string
	except []string
	to     string
	why    string
}{
	{"snapdiff/snapshot", nil, "snapdiff/diff", "snapshots are taken without knowing what they are compared for"},
	{"snapdiff/snapshot", nil, "snapdiff/apply", "snapshots are taken without knowing what they are compared for"},
	{"snapdiff/diff", nil, "snapdiff/apply", "diff declares what it needs from the catalog as an interface of its own"},
	{"snapdiff/apply", nil, "snapdiff/snapshot/btrfs", "apply knows no source filesystem: every feeder's change sets apply the same way"},
	{"snapdiff/apply", nil, "snapdiff/diff/btrfsfeed", "apply knows no source filesystem: every feeder's change sets apply the same way"},
	{"snapdiff/snapshot", nil, "snapdiff/cmd", "the command line is on top"},
	{"snapdiff/diff", nil, "snapdiff/cmd", "the command line is on top"},
	{"snapdiff/apply", nil, "snapdiff/cmd", "the command line is on top"},
	{"snapdiff/cmd", nil, "snapdiff/apply/applytest", "what serves tests stays out of the product"},
	{"snapdiff", []string{"snapdiff/apply/applytest"}, "testing", "what serves tests stays out of the product"},
	{"snapdiff", nil, "C", "one static binary: no cgo"},
	{"snapdiff", nil, "github.com/mattn/go-sqlite3", "one static binary: no cgo"},
	{"snapdiff", nil, "net/http", "nothing here talks to a network"},
	{"snapdiff", []string{"snapdiff/cmd/snapdiff"}, "log", "what a user must see is an error or a warning of the result; the command line logs"},
	{"snapdiff/snapshot/btrfs", nil, "os/exec", "btrfs is driven by ioctl: no btrfs-progs at run time"},
	{"snapdiff/diff", nil, "os/exec", "btrfs is driven by ioctl: no btrfs-progs at run time"},
	{"snapdiff/apply", []string{"snapdiff/apply/applytest"}, "os/exec", "the store is served by system calls alone"},
}

func TestImports(t *testing.T) {
	for _, p := range list(t) {
		for _, rule := range forbidden {
			if !within(p.ImportPath, rule.from) || within(p.ImportPath, rule.to) {
				continue
			}
			if anyWithin(rule.except, p.ImportPath) {
				continue
			}
			for _, imported := range p.Imports {
				if within(imported, rule.to) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imported, rule.why)
				}
			}
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo in %v: one static binary", p.ImportPath, p.CgoFiles)
		}
	}
}

func anyWithin(pkgs []string, path string) bool {
	for _, p := range pkgs {
		if within(path, p) {
			return true
		}
	}
	return false
}

func TestEveryPackageIsDocumented(t *testing.T) {
	for _, p := range list(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		var docs []string
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				docs = append(docs, f.Doc.Text())
			}
		}
		switch want := "Package " + filepath.Base(p.ImportPath) + " "; {
		case len(docs) != 1:
			t.Errorf("%s: %d files with a package comment, want one", p.ImportPath, len(docs))
		case within(p.ImportPath, "snapdiff/cmd"): // a main package says what the command does
		case !strings.HasPrefix(docs[0], want):
			t.Errorf("%s: the package comment must begin with %q", p.ImportPath, want)
		}
	}
}

// TestStaticBinary: the product is one file that runs on any Linux.
func TestStaticBinary(t *testing.T) {
	if _, err := os.Stat("cmd/snapdiff/main.go"); errors.Is(err, os.ErrNotExist) {
		return
	}
	binary := filepath.Join(t.TempDir(), "snapdiff")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/snapdiff")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build with CGO_ENABLED=0: %v\n%s", err, out)
	}
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("the binary wants shared libraries: %v %v", libs, err)
	}
}
