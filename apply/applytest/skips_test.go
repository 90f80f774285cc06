package applytest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// projectRoot is the module's top directory, seen from this package.
const projectRoot = "../.."

// allowedSkips reads testdata/may-skip.txt: "file function" pairs.
func allowedSkips(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(projectRoot, "testdata/may-skip.txt"))
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && !strings.HasPrefix(line, "#") {
			allowed[fields[0]+" "+fields[1]] = true
		}
	}
	return allowed
}

// TestOnlyListedSkips reads every Go file: a skip outside the list is a test that can vanish unseen.
func TestOnlyListedSkips(t *testing.T) {
	allowed := allowedSkips(t)
	found := map[string]bool{}
	err := filepath.WalkDir(projectRoot, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		for _, function := range skippingFunctions(t, path) {
			where := strings.TrimPrefix(filepath.ToSlash(path), projectRoot+"/") + " " + function
			found[where] = true
			if !allowed[where] {
				t.Errorf("%s skips, and testdata/may-skip.txt does not allow it", where)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for where := range allowed {
		if !found[where] {
			t.Errorf("testdata/may-skip.txt names %s, which does not skip", where)
		}
	}
}

// skippingFunctions names the functions of a file that call Skip, Skipf or SkipNow on anything.
func skippingFunctions(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var functions []string
	for _, decl := range file.Decls {
		function, ok := decl.(*ast.FuncDecl)
		if !ok {
			continue
		}
		ast.Inspect(function, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && isSkip(call) {
				functions = append(functions, function.Name.Name)
				return false
			}
			return true
		})
	}
	return functions
}

// isSkip tells t.Skip, t.Skipf and t.SkipNow.
func isSkip(call *ast.CallExpr) bool {
	selector, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	name := selector.Sel.Name
	return name == "SkipNow" || name == "Skipf" || name == "Skip" && len(call.Args) > 0
}

// skipped is a test that tells whether it was skipped, and that no result counts as.
type skipped struct {
	testing.TB
	why string
}

func (s *skipped) Skip(why ...any) {
	s.why = fmt.Sprint(why...)
	runtime.Goexit()
}

// TestHostIsLeftAlone: what needs ZFS or LVM skips outside the test machine, also where the kernel has them. Where it has (in the
// test machine), the test's own variable is taken away.
func TestHostIsLeftAlone(t *testing.T) {
	NeedRoot(t)
	if InTestMachine() {
		load("dm-mod", "zfs")
		t.Setenv("SNAPDIFF_TESTVM", "")
	}
	for name, need := range map[string]func(testing.TB){"ZFS": NeedZFS, "LVM": NeedLVM} {
		s := &skipped{TB: t}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			need(s)
		}()
		<-ended
		if !strings.HasPrefix(s.why, "needs "+name) {
			t.Errorf("what needs %s goes on on a host: %q", name, s.why)
		}
	}
}
