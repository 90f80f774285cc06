// Package zfs takes, holds, finds, mounts and destroys snapshots of ZFS datasets, and has the changes between two of them sent.
// It drives the zfs program, by go-zfs where that can do it. A dataset and a snapshot are known by their GUIDs, which outlive
// renames; names are only where to look first.
package zfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"snapdiff/snapshot"
)

// Magic is f_type of statfs(2) of a mounted dataset (ZFS_SUPER_MAGIC).
const Magic = 0x2fc12fc1

// What can be wrong with a source, besides what the zfs program says.
var (
	ErrNoModule  = errors.New("the ZFS module is not loaded")
	ErrNoProgram = errors.New("the zfs program is not installed")
	ErrNoDataset = errors.New("there is no such dataset")
	ErrVolume    = errors.New("is a volume, not a filesystem")
	ErrNoKey     = errors.New("is encrypted and its key is not loaded")
	ErrSuspended = errors.New("is suspended: its devices fail")
	ErrNotTop    = errors.New("is not the mount point of a dataset")
)

// Error is a command of ZFS that failed.
type Error struct {
	Args   []string // the program too
	Stderr string
	Err    error
}

// Error gives what the command said.
func (e *Error) Error() string {
	said := strings.TrimSpace(e.Stderr)
	if said == "" {
		said = e.Err.Error()
	}
	return fmt.Sprintf("%s: %s", strings.Join(e.Args, " "), said)
}

// Unwrap gives ErrNoDataset where that is what was said, and how the command ended.
func (e *Error) Unwrap() []error {
	if strings.Contains(e.Stderr, "does not exist") {
		return []error{ErrNoDataset, e.Err}
	}
	return []error{e.Err}
}

// ready makes sure that the zfs program can be run. Its place is not in the search path of every cron.
func ready() error {
	withSbin()
	if _, err := os.Stat("/dev/zfs"); err != nil {
		return ErrNoModule
	}
	if !Installed() {
		return ErrNoProgram
	}
	return nil
}

// Installed tells whether there is a zfs program.
func Installed() bool {
	withSbin()
	return installed()
}

var installed = sync.OnceValue(func() bool {
	_, err := exec.LookPath("zfs")
	return err == nil
})

// checkPool gives ErrSuspended where a call of the zfs program would wait for the devices, perhaps for ever. The state of a pool is in
// /proc (module/os/linux/zfs/spa_stats_os.c; OpenZFS 0.8 and later); a pool that is not there has none.
func checkPool(dataset string) error {
	pool, _, _ := strings.Cut(dataset, "/")
	if state, err := os.ReadFile(filepath.Join("/proc/spl/kstat/zfs", pool, "state")); err == nil && strings.TrimSpace(string(state)) == "SUSPENDED" {
		return fmt.Errorf("the pool %s %w", pool, ErrSuspended)
	}
	return nil
}

var withSbin = sync.OnceFunc(func() {
	os.Setenv("PATH", strings.TrimPrefix(os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin", ":"))
})

// run runs the zfs program and gives its output as lines of fields.
func run(ctx context.Context, args ...string) ([][]string, error) {
	return program(ctx, append([]string{"zfs"}, args...)...)
}

func program(ctx context.Context, args ...string) ([][]string, error) {
	out, err := output(ctx, "", args...)
	return fields(out), err
}

// output runs a program of ZFS with this standard input and gives what it prints.
func output(ctx context.Context, input string, args ...string) (string, error) {
	if err := ready(); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = snapshot.Environ()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if input != "" { // else it has none, and no pipe to it
		cmd.Stdin = strings.NewReader(input)
	}
	if err := cmd.Run(); err != nil {
		return "", &Error{args, errs.String(), err}
	}
	return out.String(), nil
}

// fields are those of lines.
func fields(text string) (lines [][]string) {
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return lines
}

// Dataset is a filesystem in a pool.
type Dataset struct {
	Name string
	GUID string // decimal
	Dir  string // where it is mounted, "" if it is not
	dev  uint64 // st_dev of what is in it, if it is mounted
	// Locked: it is encrypted and its key is not loaded.
	Locked bool
	// AttrFiles: extended attributes that are set now become files of their own (xattr=dir).
	AttrFiles bool
}

// attrFiles reads the property xattr. Until 2.3 "on" meant dir (xattr_table in module/zcommon/zfs_prop.c).
func attrFiles(xattr string) bool {
	if xattr != "on" {
		return xattr == "dir"
	}
	version, _ := os.ReadFile("/sys/module/zfs/version")
	var major, minor int
	n, _ := fmt.Sscanf(string(version), "%d.%d", &major, &minor)
	return n < 2 || major < 2 || major == 2 && minor < 3
}

// Lookup finds a dataset by its name: ErrNoDataset, ErrVolume, ErrSuspended.
func Lookup(ctx context.Context, name string) (Dataset, error) {
	if err := checkPool(name); err != nil {
		return Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	lines, err := run(ctx, "list", "-H", "-p", "-t", "filesystem,volume", "-o", "name,guid,type,keystatus,xattr", name)
	if err != nil {
		return Dataset{}, fmt.Errorf("dataset %s: %w", name, err)
	}
	if len(lines) != 1 || len(lines[0]) != 5 {
		return Dataset{}, fmt.Errorf("dataset %s: zfs list gave %q", name, lines)
	}
	if lines[0][2] != "filesystem" {
		return Dataset{}, fmt.Errorf("dataset %s %w", name, ErrVolume)
	}
	t, err := readMounts()
	if err != nil {
		return Dataset{}, err
	}
	d := Dataset{Name: name, GUID: lines[0][1], Locked: lines[0][3] == "unavailable", AttrFiles: attrFiles(lines[0][4])}
	d.mountedAt(t.of(name, ""))
	return d, nil
}

// ByGUID finds a dataset in the pool of another one; ErrNoDataset.
func ByGUID(ctx context.Context, in Dataset, guid string) (Dataset, error) {
	pool, _, _ := strings.Cut(in.Name, "/")
	lines, err := run(ctx, "list", "-H", "-p", "-r", "-t", "filesystem", "-o", "name,guid", pool)
	for _, f := range lines {
		if len(f) == 2 && f[1] == guid {
			return Dataset{Name: f[0], GUID: guid}, nil
		}
	}
	if err == nil {
		err = ErrNoDataset
	}
	return Dataset{}, fmt.Errorf("find the dataset with the GUID %s: %w", guid, err)
}

// mountedAt says where it is mounted; nil: nowhere.
func (d *Dataset) mountedAt(m *mountinfo.Info) {
	if m != nil {
		d.Dir, d.dev = m.Mountpoint, unix.Mkdev(uint32(m.Major), uint32(m.Minor))
	}
}

// At finds the dataset whose mount point is path; ErrNotTop.
func At(ctx context.Context, path string) (Dataset, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Dataset{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	t, err := readMounts()
	if err != nil {
		return Dataset{}, err
	}
	for _, m := range t.sets {
		var top unix.Stat_t
		if uint32(m.Major) != unix.Major(st.Dev) || uint32(m.Minor) != unix.Minor(st.Dev) || unix.Stat(m.Mountpoint, &top) != nil {
			continue
		}
		if top.Dev == st.Dev && top.Ino == st.Ino {
			d, err := Lookup(ctx, m.Source)
			if real, err := filepath.EvalSymlinks(path); err == nil { // it may be mounted in several places
				d.mountedAt(t.of(m.Source, real))
			}
			return d, err
		}
	}
	return Dataset{}, fmt.Errorf("%s %w", path, ErrNotTop)
}

// Mounted are the datasets that are mounted below the dataset's mount point, as paths relative to it. A snapshot has empty
// directories in their place.
func (d Dataset) Mounted() (below []string, err error) {
	t, err := readMounts()
	if err != nil {
		return nil, err
	}
	for _, m := range t.sets {
		if d.Dir != "" && isBelow(m.Mountpoint, d.Dir) {
			below = append(below, strings.TrimPrefix(m.Mountpoint[len(d.Dir):], "/"))
		}
	}
	return below, nil
}

// CheckKey gives ErrNoKey when the dataset was encrypted and its key not loaded when it was looked up.
func (d Dataset) CheckKey() error {
	if d.Locked {
		return fmt.Errorf("dataset %s %w", d.Name, ErrNoKey)
	}
	return nil
}
