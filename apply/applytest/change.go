package applytest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Change is one alteration of a tree. It prints as the Go expression that makes it, so that a random sequence that failed
// can be pasted into a table of scenarios.
type Change struct {
	text string
	do   func(root string) error
}

// String is the Go expression of the change.
func (c Change) String() string { return c.text }

// Apply does the change to the tree at root.
func (c Change) Apply(root string) error {
	if err := c.do(root); err != nil {
		return fmt.Errorf("%s: %w", c.text, err)
	}
	return nil
}

// Apply does changes one after another and fails the test at the first that cannot be done.
func Apply(t testing.TB, root string, changes ...Change) {
	t.Helper()
	for _, c := range changes {
		if err := c.Apply(root); err != nil {
			t.Fatalf("changing the source: %v", err)
		}
	}
}

// Script prints changes one a line.
func Script(changes []Change) string {
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "%s,\n", c)
	}
	return b.String()
}

// change makes a Change of a function on one path; args are printed behind the path.
func change(name, path string, do func(p string) error, args ...any) Change {
	return Change{text: call(name, append([]any{path}, args...)), do: func(root string) error { return at(root, path, do) }}
}

// change2 makes a Change of a function on two paths.
func change2(name, a, b string, do func(a, b string) error, args ...any) Change {
	return Change{text: call(name, append([]any{a, b}, args...)), do: func(root string) error {
		return at(root, a, func(pa string) error {
			return at(root, b, func(pb string) error { return do(pa, pb) })
		})
	}}
}

// call prints a Go call. Long names are cut: they come from generators that the reader knows.
func call(name string, args []any) string {
	parts := make([]string, len(args))
	for i, arg := range args {
		parts[i] = fmt.Sprintf("%#v", arg)
		if s, ok := arg.(string); ok {
			parts[i] = fmt.Sprintf("%q", s)
		}
		if len(parts[i]) > 300 {
			parts[i] = fmt.Sprintf("%s...(%d bytes)", parts[i][:200], len(parts[i]))
		}
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}

// pieceLength is how much of a path goes into one system call: PATH_MAX is 4,096.
const pieceLength = 3000

// at calls f with a name for root/path that is short enough for any system call and whose last element nothing has
// followed: paths above 4,096 bytes are walked in pieces.
func at(root, path string, f func(p string) error) error {
	if path == "" {
		return f(root)
	}
	if len(root)+len(path) < pieceLength {
		return f(root + "/" + path)
	}
	fd, base, err := openParent(root, path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f(fdPath(fd, base))
}

// openParent opens the directory that holds the last element of a path of any length.
func openParent(root, path string) (fd int, base string, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	if fd, err = unix.Open(root, flags, 0); err != nil {
		return -1, "", err
	}
	for len(path) > pieceLength {
		cut := strings.LastIndexByte(path[:pieceLength], '/')
		next, err := unix.Openat(fd, path[:cut], flags, 0)
		unix.Close(fd)
		if err != nil {
			return -1, "", err
		}
		fd, path = next, path[cut+1:]
	}
	dir, base := ".", path
	if cut := strings.LastIndexByte(path, '/'); cut >= 0 {
		dir, base = path[:cut], path[cut+1:]
	}
	parent, err := unix.Openat(fd, dir, flags, 0)
	unix.Close(fd)
	return parent, base, err
}

// fdPath names an entry of an open directory for system calls that only take paths.
func fdPath(fd int, name string) string { return fmt.Sprintf("/proc/self/fd/%d/%s", fd, name) }

// pattern gives n bytes that depend on the seed and the offset alone, and hardly compress.
func pattern(seed int, off, n int64) []byte {
	out := make([]byte, n)
	var chacha *rand.ChaCha8
	const block = 4096
	var page [block]byte
	for i := int64(0); i < n; {
		number := (off + i) / block
		var key [32]byte
		for b := range 8 {
			key[b], key[8+b] = byte(seed>>(8*b)), byte(number>>(8*b))
		}
		chacha = rand.NewChaCha8(key)
		chacha.Read(page[:])
		i += int64(copy(out[i:], page[(off+i)%block:]))
	}
	return out
}

// ignorable are the errors that a random change may meet: its path is taken, gone or of another type by then.
var ignorable = []error{
	unix.ENOENT, unix.EEXIST, unix.ENOTDIR, unix.EISDIR, unix.ENOTEMPTY, unix.EINVAL, unix.ELOOP, unix.ENODATA,
	unix.EOPNOTSUPP, unix.ENXIO, unix.EPERM, unix.EXDEV, unix.EMLINK, unix.ENAMETOOLONG, unix.EBADF,
}

// Ignorable tells that a random change failed for a reason that a random change may have.
func Ignorable(err error) bool {
	for _, e := range ignorable {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
