package apply

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// ErrExists says that a restore would overwrite something.
var ErrExists = errors.New("it is there already, and nothing is overwritten")

// RestoreOptions say how to restore. The zero value never overwrites.
type RestoreOptions struct {
	// Overwrite puts what is restored in the place of what is there. A directory takes in what it lacks and gets its
	// attributes; other names in it stay. A directory is never removed for a file.
	Overwrite bool
	// Workers restore files; 0: as many as do a disk good.
	Workers int
	// Progress, when set, is told now and then how far it is.
	Progress func(Progress)
}

// Restored is what a restore did.
type Restored struct {
	To    string // where it is now
	Names int64  // files and directories
	Bytes int64  // contents of files
}

// Unrestored says that a restore went through but for some names.
type Unrestored struct {
	Names int64   // how many
	Errs  []error // of the first of them
}

// Error names the first ones.
func (u *Unrestored) Error() string {
	text := errors.Join(u.Errs...).Error()
	if more := u.Names - int64(len(u.Errs)); more > 0 {
		text += fmt.Sprintf("\nand %d others", more)
	}
	return text
}

// Unwrap gives the errors.
func (u *Unrestored) Unwrap() []error { return u.Errs }

// restoreError says why something could not be restored to a place.
type restoreError struct {
	what string // what was to be done, with the whole path
	err  error
	next string
}

// Error says what was to be done and why it was not.
func (e *restoreError) Error() string { return e.what + ": " + e.err.Error() }

// Unwrap gives the cause.
func (e *restoreError) Unwrap() error { return e.err }

// Hint is what to do next, "" where that is not known.
func (e *restoreError) Hint() string { return e.next }

// notRestored says that path, a whole one, could not be made.
func notRestored(path string, err error) error {
	e := &restoreError{what: fmt.Sprintf("restore %q", path), err: err}
	switch {
	case errors.Is(err, ErrExists):
		e.next = "name another place, or allow it with --overwrite"
	case isAny(err, unix.ENOSPC, unix.EDQUOT):
		e.next = fmt.Sprintf("make room on the filesystem of %s and do it again with --overwrite, or name a place on another one", filepath.Dir(path))
	case errors.Is(err, unix.EROFS):
		e.next = "name a place on a filesystem that is not mounted read-only"
	}
	return e
}

// openTarget opens the directory in which to is to be made.
func openTarget(dir, to string) (*beneath.Root, error) {
	root, err := beneath.Open(dir)
	if err == nil {
		return root, nil
	}
	e := &restoreError{what: fmt.Sprintf("restore to %q", to), err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.err, e.next = fmt.Errorf("there is no directory %q", dir), "mkdir -p "+shellWord(dir)
	case errors.Is(err, unix.ENOTDIR):
		e.err, e.next = fmt.Errorf("%q is no directory", dir), "name another place"
	}
	return nil, e
}

// shellWord is a path as a shell takes it.
func shellWord(path string) string {
	if strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+,:@%", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

// Restore brings the file or subtree at path of the view, relative to its root, to the path to, with all that counts as equal:
// contents, holes, hard links within it, owner, mode, times, extended attributes and ACLs. An existing directory to takes
// it in under its own last name, otherwise to is its new name. Nothing that exists is overwritten. The result is where it is
// now. When single names fail, the rest is restored all the same (see Unrestored).
func (v *View) Restore(ctx context.Context, path, to string) (string, error) {
	done, err := v.RestoreWith(ctx, path, to, RestoreOptions{})
	return done.To, err
}

// RestoreWith is Restore with options.
func (v *View) RestoreWith(ctx context.Context, path, to string, opts RestoreOptions) (Restored, error) {
	f, err := v.Lookup(path)
	if err != nil {
		return Restored{}, err
	}
	if st, err := os.Stat(to); err == nil && st.IsDir() {
		switch {
		case f.Name != "":
			to = filepath.Join(to, f.Name)
		case !opts.Overwrite:
			if whole, err := filepath.Abs(to); err == nil {
				to = whole
			}
			return Restored{}, notRestored(to, ErrExists)
		}
	}
	to, err = filepath.Abs(to)
	if err != nil {
		return Restored{}, fmt.Errorf("restore to %s: %w", to, err)
	}
	root, err := openTarget(filepath.Dir(to), to)
	if err != nil {
		return Restored{}, err
	}
	defer root.Close()
	r := newRestorer(ctx, v, root, opts)
	defer r.done.count(ctx, v, f)()
	r.name(f, filepath.Base(to), nil)
	return r.end(to)
}

// RestoreList brings several files and subtrees, by their paths, to below the directory to, each at its whole path:
// directories on the way that are not there are made as they were. Hard links among all of them are kept.
func (v *View) RestoreList(ctx context.Context, paths []string, to string, opts RestoreOptions) (Restored, error) {
	to, err := filepath.Abs(to)
	if err != nil {
		return Restored{}, fmt.Errorf("restore to %s: %w", to, err)
	}
	root, err := openTarget(to, to)
	if err != nil {
		return Restored{}, err
	}
	defer root.Close()
	r := newRestorer(ctx, v, root, opts)
	above := map[string]*restoringDir{"": nil}
	for _, path := range topmost(paths) {
		if ctx.Err() != nil {
			break
		}
		f, err := v.Lookup(path)
		if err != nil {
			r.failed(path, err)
			continue
		}
		dir, name := split(path)
		switch parent, err := r.above(dir, above); {
		case err != nil:
			r.failed(path, err)
		case path == "":
			r.children(f, "", nil)
		default:
			r.name(f, join(dir, name), parent)
		}
	}
	for _, d := range above {
		if d != nil {
			d.done()
		}
	}
	return r.end(to)
}

// topmost leaves out what lies below another one of the paths, and what is there twice.
func topmost(paths []string) []string {
	all := make(map[string]bool, len(paths))
	for _, p := range paths {
		all[p] = true
	}
	top := slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		if all[""] {
			return p != ""
		}
		for i := strings.LastIndexByte(p, '/'); i > 0; i = strings.LastIndexByte(p[:i], '/') {
			if all[p[:i]] {
				return true
			}
		}
		return false
	})
	slices.Sort(top)
	return slices.Compact(top)
}

// above makes the directories on the way to what is restored, where they are not there. known are those that were made.
func (r *restorer) above(path string, known map[string]*restoringDir) (*restoringDir, error) {
	if d, ok := known[path]; ok {
		return d, nil
	}
	up, _ := split(path)
	parent, err := r.above(up, known)
	if err != nil {
		return nil, err
	}
	var d *restoringDir // stays nil for a directory that was there: it keeps its attributes
	switch err := r.root.Mkdir(path, 0o700); {
	case errors.Is(err, fs.ErrExist):
		if st, err := r.root.Lstat(path); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil, errors.Join(unix.ENOTDIR, err)
		}
	case err != nil:
		return nil, err
	default:
		f, err := r.view.Lookup(path)
		if err != nil {
			return nil, err
		}
		d = r.newDir(f, path, parent)
	}
	known[path] = d
	return d, nil
}
