package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"
)

// Trouble is one thing that is wrong with a store.
type Trouble struct {
	Text string
	// Mend says what a repair does about it; "" when it can do nothing. Mended: it has done it.
	Mend   string
	Mended bool
	// Lost are the paths and restore points that it concerns.
	Lost []Affected
	// Note: nothing is wrong, but it is worth to know.
	Note bool
	// Catalog: it is about a catalog that is damaged or lost.
	Catalog bool
}

// DoctorOptions of Examine.
type DoctorOptions struct {
	Catalog string // its path where it does not lie in the store, else ""
	Repair  bool   // mends what can be mended; else nothing is written
	// Say, if not nil, is told what is being looked at.
	Say func(format string, args ...any)
	// Progress, if not nil, is told how far it is.
	Progress func(Progress)
}

// tell tells how far something is.
func (o DoctorOptions) tell(doing string) counter { return counter{o.Progress, doing} }

// Examine looks for all that can be wrong with a store itself: its place, its catalog, its manifests, the objects in history, stage,
// and names in the mirror. (Contents are for verify.) It reads every directory. The store is locked meanwhile.
func Examine(ctx context.Context, path string, o DoctorOptions) ([]Trouble, error) {
	d := &doctor{ctx: ctx, path: path, o: o}
	if d.o.Say == nil {
		d.o.Say = func(string, ...any) {}
	}
	if err := d.isStore(); err != nil {
		return nil, err
	}
	err := d.examine()
	if d.s != nil {
		err = errors.Join(err, d.s.Close())
	}
	return d.found, err
}

type doctor struct {
	ctx   context.Context
	path  string
	o     DoctorOptions
	s     *Store
	found []Trouble
}

func (d *doctor) say(t Trouble) { d.found = append(d.found, t) }

// mend notes a trouble, and mends it if that is asked for. What it does must be all right to be done again.
func (d *doctor) mend(t Trouble, do func() error) error {
	if d.o.Repair && do != nil {
		if err := do(); err != nil {
			return fmt.Errorf("%s: %w", t.Text, err)
		}
		t.Mended = true
	}
	d.say(t)
	return nil
}

// isStore refuses what has nothing of a store.
func (d *doctor) isStore() error {
	st, err := os.Stat(filepath.Join(d.path, mirrorDir))
	if err == nil && st.IsDir() {
		return nil
	}
	return fmt.Errorf("%s %w (it has no tree): is the backup disk mounted?", d.path, ErrNotStore)
}

func (d *doctor) examine() error {
	if err := d.place(); err != nil {
		return err
	}
	ok, err := d.catalog()
	if err != nil || !ok {
		return err
	}
	for _, look := range []func() error{d.runs, d.history, d.stage, d.mirror} {
		if err := d.ctx.Err(); err != nil {
			return err
		}
		if err := look(); err != nil {
			return err
		}
	}
	return nil
}

// place looks at the directory of the store and the pieces in it.
func (d *doctor) place() error {
	var st unix.Stat_t
	if err := unix.Stat(d.path, &st); err != nil {
		return fmt.Errorf("looking at the store %s: %w", d.path, err)
	}
	if int(st.Uid) != os.Geteuid() {
		t := Trouble{Text: fmt.Sprintf("the store belongs to user %d, who could change it", st.Uid), Mend: "gives it to root"}
		if err := d.mend(t, func() error { return os.Chown(d.path, 0, 0) }); err != nil {
			return err
		}
	}
	if st.Mode&0o077 != 0 {
		t := Trouble{Text: fmt.Sprintf("the store is open to others (mode %04o): it holds deleted and set-uid files", st.Mode&0o7777), Mend: "closes it (mode 0700)"}
		if err := d.mend(t, func() error { return os.Chmod(d.path, 0o700) }); err != nil {
			return err
		}
	}
	for name, isDir := range pieces {
		at := filepath.Join(d.path, name)
		st, err := os.Lstat(at)
		switch {
		case err == nil && st.IsDir() == isDir:
			continue
		case err == nil:
			d.say(Trouble{Text: fmt.Sprintf("%s is not what it should be (%s)", name, st.Mode())})
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		t := Trouble{Text: fmt.Sprintf("%s is missing", name), Mend: "makes it anew, empty"}
		err = d.mend(t, func() error {
			switch {
			case isDir:
				return os.Mkdir(at, 0o700)
			case name == "README":
				return os.WriteFile(at, []byte(storeReadme), 0o600)
			}
			return os.WriteFile(at, nil, 0o600)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// catalog opens the catalog, after it was rebuilt if it had to be. false: it cannot be opened, and all is said about it.
func (d *doctor) catalog() (bool, error) {
	d.o.Say("reading the catalog")
	err := d.open()
	if err == nil {
		err = d.sound()
	}
	if err = d.unreadable(err); err == nil || !IsDamage(err) {
		return err == nil, err
	}
	if d.s != nil {
		d.s.Close()
		d.s = nil
	}
	d.o.Say("reading the manifests")
	t := Trouble{Text: err.Error(), Catalog: true}
	if t.Mend, err = d.couldRebuild(); err != nil {
		return false, err
	}
	var done *Rebuilt
	err = d.mend(t, func() (err error) {
		done, err = Rebuild(d.ctx, d.path, CatalogAt(d.o.Catalog), Telling(d.o.Progress))
		return err
	})
	if err != nil || done == nil {
		return false, err
	}
	last := &d.found[len(d.found)-1]
	last.Mend = done.String()
	return true, d.open()
}

// unreadable takes a catalog for damaged of which the disk cannot read some part: that comes back with no repair of the disk.
func (d *doctor) unreadable(failed error) error {
	if sqlite.ErrCode(failed).ToPrimary() != sqlite.ResultIOErr {
		return failed
	}
	place, err := findCatalog(d.path, d.o.Catalog)
	if err != nil {
		return failed
	}
	file, err := os.Open(place.path)
	if err == nil {
		_, err = io.Copy(io.Discard, file)
		file.Close()
	}
	if !errors.Is(err, unix.EIO) {
		return failed
	}
	return &DamagedCatalog{fmt.Errorf("the disk cannot read it: %w", err)}
}

// String says what was done.
func (r *Rebuilt) String() string {
	text := fmt.Sprintf("the catalog was rebuilt with %s", pointsText(r.Points))
	if len(r.LostPoints) > 0 {
		text += fmt.Sprintf("; lost: %s, because %s", pointsText(r.LostPoints), r.Why)
	} else if r.Why != "" {
		text += "; " + r.Why
	}
	if r.Cut != 0 {
		text += fmt.Sprintf("; r%d, which was cut off, was given up", r.Cut)
	}
	if r.Aside != "" {
		text += "; the old one is " + r.Aside
	}
	return text + "; the next run compares in full"
}

// pointsText is "r1, r4 to r17".
func pointsText(points []int64) string {
	if len(points) == 0 {
		return "no restore points"
	}
	var b strings.Builder
	for i := 0; i < len(points); {
		j := i
		for j+1 < len(points) && points[j+1] == points[j]+1 {
			j++
		}
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		switch {
		case j > i+1:
			fmt.Fprintf(&b, "r%d to r%d", points[i], points[j])
			i = j + 1
		default:
			fmt.Fprintf(&b, "r%d", points[i])
			i++
		}
	}
	return b.String()
}

// PointsText names restore points in short: "r1, r4 to r17".
func PointsText(points []int64) string { return pointsText(points) }

// couldRebuild says what a rebuild would give.
func (d *doctor) couldRebuild() (string, error) {
	r, err := openForRebuild(d.path, d.o.Catalog)
	if err != nil {
		return "", err
	}
	defer r.s.Close()
	chain, broken, err := r.s.manifestChain(d.ctx, d.o.tell("reading manifests"))
	if err != nil {
		return "", err
	}
	var points []int64
	for _, h := range chain {
		if h.State == Done {
			points = append(points, h.Run)
		}
	}
	text := "rebuilds it from the manifests with " + pointsText(points)
	if broken.why != "" {
		text += fmt.Sprintf(" (%s: what is older cannot be shown: %s)", broken.why, pointsText(broken.points))
	}
	return text + "; the next run then compares in full", nil
}

// open opens the store, locked, for writing only if something is to be mended.
func (d *doctor) open() (err error) {
	if d.o.Repair {
		d.s, err = Open(d.path, CatalogAt(d.o.Catalog))
		return err
	}
	d.s, err = OpenStill(d.path, CatalogAt(d.o.Catalog))
	return err
}

// sound looks whether the catalog is whole, and whether it says what the manifests say.
func (d *doctor) sound() error {
	var wrong []string
	err := d.s.query(`PRAGMA integrity_check(5)`, func(row *sqlite.Stmt) error {
		if text := row.ColumnText(0); text != "ok" {
			wrong = append(wrong, text)
		}
		return nil
	})
	if err == nil && len(wrong) > 0 {
		err = &DamagedCatalog{errors.New(strings.Join(wrong, "; "))}
	}
	if err != nil {
		return catalogError("check it", err)
	}
	if _, err := d.s.Runs(); err != nil {
		return err
	}
	return d.manifests()
}

// runs tells what the catalog says of the state of the store.
func (d *doctor) runs() error {
	_, cut, err := d.s.Last()
	if err != nil {
		return err
	}
	if cut != nil {
		d.say(Trouble{Text: fmt.Sprintf("r%d was cut off (%s); the next run finishes it", cut.ID, cut.State), Note: true})
	}
	reason, err := d.s.NeedsFull()
	if err != nil {
		return err
	}
	if reason != "" {
		d.say(Trouble{Text: "the next run compares in full: " + reason, Note: true})
	}
	pending, err := d.s.Pending()
	if len(pending) > 0 {
		d.say(Trouble{Text: fmt.Sprintf("%d files could not be copied; each run tries them again", len(pending)), Note: true})
	}
	return err
}
