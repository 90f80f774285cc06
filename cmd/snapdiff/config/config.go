// Package config reads snapdiff's configuration: which source goes to which store, and how. It is strict: an unknown key
// or a value that makes no sense is an error with the file, the line and, where one comes near, the right spelling.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"snapdiff/diff"
)

// DefaultPath is where the configuration is when --config does not say otherwise.
const DefaultPath = "/etc/snapdiff/snapdiff.toml"

// What a job does when its base snapshot is lost and a native diff cannot be had.
const (
	// LostBaseFull compares every name and inode of the snapshot with the mirror.
	LostBaseFull = "full"
	// LostBaseStop waits for an administrator.
	LostBaseStop = "stop"
)

// DefaultSnapshotSize is the size of a classic LVM snapshot in percent of its origin: the base stays from one run to the next,
// and must hold what a busy day overwrites.
const DefaultSnapshotSize = 20

// Config is a whole configuration file.
type Config struct {
	// Path is the file that it was read from.
	Path string
	// Jobs are in the order of their names.
	Jobs []Job
	// Log is where what is done is logged.
	Log Log
}

// Job is one source, one store and their settings.
type Job struct {
	// Name is the JOB of [jobs.JOB]: letters, digits, '-', '_' and '.'.
	Name string
	// Source is the filesystem to protect: an absolute path, or the name of a dataset or volume (pool/mail, vg/lv).
	Source string
	// Store is the absolute path of the directory on the backup disk.
	Store string
	// Snapshots is the directory for our own snapshots, on the source's filesystem (btrfs); SOURCE/.snapdiff by default.
	Snapshots string
	// SnapshotSize is the size of a classic LVM snapshot in percent of its origin.
	SnapshotSize int
	// Catalog is the path of the catalog when it does not lie in the store (needed when the store is on a network
	// filesystem); "" otherwise.
	Catalog string
	// OnLostBase is LostBaseFull (default) or LostBaseStop.
	OnLostBase string
	// MaxDeleted and MaxChanged hold a run that deletes, or deletes and changes, more than this of the mirror's files.
	MaxDeleted, MaxChanged Limit
	// Ransomware is RansomwareHold (default) or RansomwareOff.
	Ransomware string
	// MaxPinned is how much space, or for how long, our snapshots may pin it on the source when runs fail.
	MaxPinned Pinned
	// Keep says which restore points are kept; nil keeps all of them.
	Keep *Keep
	// Checksums: checksums of what is copied are kept, to find rot.
	Checksums bool
	// VerifyWrites reads what a run wrote from the disk again before the run is done.
	VerifyWrites bool
	// Exclude are patterns of what stays out of the mirror (diff.ParseExclude).
	Exclude []string
	// Recursive: the nested subvolumes or child datasets of the source are taken too.
	Recursive bool
	// Hooks are programs that a run calls.
	Hooks Hooks
	Neighbour
}

// Keep says how many restore points stay: the newest of each of the last so many hours, days, weeks and so on.
type Keep struct {
	Last    int `toml:"last" like:"last = 7"`
	Hourly  int `toml:"hourly" like:"hourly = 24"`
	Daily   int `toml:"daily" like:"daily = 14"`
	Weekly  int `toml:"weekly" like:"weekly = 8"`
	Monthly int `toml:"monthly" like:"monthly = 12"`
	Yearly  int `toml:"yearly" like:"yearly = 3"`
}

// file is the shape of the TOML document. The tag "like" is an example of what may stand at a key, for messages.
type file struct {
	Jobs map[string]fileJob `toml:"jobs" like:"[jobs.mail]"`
	Log  fileLog            `toml:"log" like:"[log]"`
}

type fileJob struct {
	Source     string    `toml:"source" like:"source = \"/srv/mail\""`
	Store      string    `toml:"store" like:"store = \"/backup/mail\""`
	Snapshots  string    `toml:"snapshots" like:"snapshots = \"/srv/mail/.snapdiff\""`
	SnapSize   *string   `toml:"snapshot_size" like:"snapshot_size = \"20%\""`
	Catalog    string    `toml:"catalog" like:"catalog = \"/var/lib/snapdiff/mail.db\""`
	OnLostBase string    `toml:"on_lost_base" like:"on_lost_base = \"stop\""`
	MaxDeleted *any      `toml:"max_deleted"`
	MaxChanged *any      `toml:"max_changed"`
	Ransomware string    `toml:"ransomware" like:"ransomware = \"off\""`
	MaxPinned  string    `toml:"max_pinned" like:"max_pinned = \"14d\""`
	Keep       *Keep     `toml:"keep" like:"keep = { last = 7, daily = 14 }"`
	Exclude    []string  `toml:"exclude" like:"exclude = [\"*.tmp\"]"`
	Recursive  bool      `toml:"recursive"`
	Checksums  *bool     `toml:"checksums"`
	ReadBack   bool      `toml:"verify_writes"`
	Hooks      fileHooks `toml:"hooks" like:"hooks = { after_run = [\"/usr/local/sbin/mirror-done\"] }"`
	fileNeighbour
}

// Load reads and checks the configuration at path.
func Load(path string) (*Config, error) {
	if err := checkOwner(path); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Path: path, Text: "there is no such file",
			Next: "write one, or name another with --config FILE; the least that works is\n" + Example}
	}
	if err != nil {
		return nil, &Error{Path: path, Text: err.Error(), Next: "make it readable, or name another with --config FILE"}
	}
	return Parse(path, data)
}

// Example is the smallest configuration that works.
const Example = `    [jobs.mail]
    source = "/srv/mail"
    store  = "/backup/mail"`

// Parse reads and checks a configuration; path is only used for messages.
func Parse(path string, data []byte) (*Config, error) {
	var f file
	dec := toml.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, decodeError(path, data, err)
	}
	c := &Config{Path: path}
	var p *problem
	if c.Log, p = f.Log.check(); p != nil {
		return nil, &Error{Path: path, Line: lineOf(data, "log", p.key), Text: "[log] " + p.text}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Jobs)) {
		job, err := f.Jobs[name].check(name)
		if err != nil {
			return nil, &Error{Path: path, Line: lineOf(data, append([]string{"jobs", name}, strings.Split(err.key, ".")...)...), Text: err.in("jobs." + name)}
		}
		c.Jobs = append(c.Jobs, *job)
	}
	if len(c.Jobs) == 0 {
		return nil, &Error{Path: path, Text: "has no job", Next: "add one:\n" + Example}
	}
	return c, c.checkStores(data)
}

// Job finds a job by its name.
func (c *Config) Job(name string) (Job, bool) {
	i := slices.IndexFunc(c.Jobs, func(j Job) bool { return j.Name == name })
	if i < 0 {
		return Job{}, false
	}
	return c.Jobs[i], true
}

// Names are the names of all jobs, sorted.
func (c *Config) Names() []string {
	names := make([]string, len(c.Jobs))
	for i, j := range c.Jobs {
		names[i] = j.Name
	}
	return names
}

// Holding gives those of the jobs whose source holds an absolute path; where sources lie in one another, those of the innermost. One that is
// named as its filesystem names it, which may be mounted anywhere, holds none.
func Holding(jobs []Job, path string) (holding []Job) {
	deepest := -1
	path = filepath.Clean(path)
	for _, j := range jobs {
		if !filepath.IsAbs(j.Source) || path != j.Source && !strings.HasPrefix(path, strings.TrimSuffix(j.Source, "/")+"/") || len(j.Source) < deepest {
			continue
		}
		if len(j.Source) > deepest {
			deepest, holding = len(j.Source), nil
		}
		holding = append(holding, j)
	}
	return holding
}

// checkStores refuses two jobs that would write to one store or keep their catalog in one file.
func (c *Config) checkStores(data []byte) error {
	stores, catalogs := map[string]string{}, map[string]string{}
	for _, j := range c.Jobs {
		if other, ok := stores[j.Store]; ok {
			return &Error{Path: c.Path, Line: lineOf(data, "jobs", j.Name, "store"),
				Text: fmt.Sprintf("[jobs.%s] has the store of [jobs.%s]: %s", j.Name, other, j.Store), Next: "give each job a store of its own"}
		}
		stores[j.Store] = j.Name
		if j.Catalog == "" {
			continue
		}
		if other, ok := catalogs[j.Catalog]; ok {
			return &Error{Path: c.Path, Line: lineOf(data, "jobs", j.Name, "catalog"),
				Text: fmt.Sprintf("[jobs.%s] has the catalog of [jobs.%s]: %s", j.Name, other, j.Catalog), Next: "give each job a catalog of its own"}
		}
		catalogs[j.Catalog] = j.Name
	}
	return nil
}

// problem is what is wrong with one key of a job; that of one in a table of the job is "hooks.timeout".
type problem struct{ key, text string }

// in says it of a table, with the header of the table that the key is in.
func (p *problem) in(table string) string {
	if i := strings.LastIndexByte(p.key, '.'); i >= 0 {
		table += "." + p.key[:i]
	}
	return "[" + table + "] " + p.text
}

var (
	jobName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	// sourceName is a ZFS dataset (zfs(8): what its component names may hold) or VG/LV (lvm(8)).
	sourceName = regexp.MustCompile(`^[A-Za-z0-9_+][A-Za-z0-9_+.: -]*(/[A-Za-z0-9_+.: -]+)*$`)
	runID      = regexp.MustCompile(`^r[0-9]+$`)
)

func (f fileJob) check(name string) (*Job, *problem) {
	switch {
	case !jobName.MatchString(name):
		return nil, &problem{"", "is not a name for a job: letters, digits, '-', '_' and '.' only"}
	case runID.MatchString(name):
		return nil, &problem{"", "looks like the id of a run; give the job another name"}
	}
	j := &Job{Name: name, Snapshots: f.Snapshots, OnLostBase: f.OnLostBase, Keep: f.Keep, MaxDeleted: DefaultLimit, MaxChanged: NoLimit}
	var p *problem
	if j.Source, p = checkSource(f.Source); p != nil {
		return nil, p
	}
	if j.Store, p = absolute("store", f.Store, true); p != nil {
		return nil, p
	}
	if j.Snapshots, p = absolute("snapshots", f.Snapshots, false); p != nil {
		return nil, p
	}
	if j.Catalog, p = absolute("catalog", f.Catalog, false); p != nil {
		return nil, p
	}
	if j.Snapshots == "" && filepath.IsAbs(j.Source) {
		j.Snapshots = filepath.Join(j.Source, ".snapdiff")
	}
	if _, err := diff.ParseExclude(f.Exclude); err != nil {
		return nil, &problem{"exclude", err.Error()}
	}
	j.Exclude, j.Recursive = f.Exclude, f.Recursive
	j.Checksums, j.VerifyWrites = f.Checksums == nil || *f.Checksums, f.ReadBack
	if j.Hooks, p = f.Hooks.check(); p != nil {
		return nil, &problem{"hooks." + p.key, p.text}
	}
	if j.Neighbour, p = f.fileNeighbour.check(); p != nil {
		return nil, p
	}
	if j.SnapshotSize, p = percentage("snapshot_size", f.SnapSize, DefaultSnapshotSize); p != nil {
		return nil, p
	}
	switch j.OnLostBase {
	case "":
		j.OnLostBase = LostBaseFull
	case LostBaseFull, LostBaseStop:
	default:
		return nil, &problem{"on_lost_base", fmt.Sprintf("on_lost_base = %q: it is %q or %q", j.OnLostBase, LostBaseFull, LostBaseStop)}
	}
	if p = f.checkGate(j); p != nil {
		return nil, p
	}
	return j, f.Keep.check()
}

// percentage reads a value like "20%".
func percentage(key string, value *string, unset int) (int, *problem) {
	if value == nil {
		return unset, nil
	}
	number, ok := strings.CutSuffix(strings.TrimSpace(*value), "%")
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if !ok || err != nil || n < 1 || n > 100 {
		return 0, &problem{key, fmt.Sprintf(`%s = %q: it is a percentage from "1%%" to "100%%"`, key, *value)}
	}
	return n, nil
}

func (k *Keep) check() *problem {
	if k == nil {
		return nil
	}
	counts := []int{k.Last, k.Hourly, k.Daily, k.Weekly, k.Monthly, k.Yearly}
	if slices.Min(counts) < 0 {
		return &problem{"keep", "keep: a count is below 0"}
	}
	if slices.Max(counts) == 0 {
		return &problem{"keep", "keep would keep nothing; leave it out to keep every restore point"}
	}
	return nil
}

// checkSource takes a path, or the name of a dataset or volume as its filesystem gives it.
func checkSource(name string) (string, *problem) {
	if filepath.IsAbs(name) || !sourceName.MatchString(name) {
		return absolute("source", name, true)
	}
	return name, nil
}

func absolute(key, path string, needed bool) (string, *problem) {
	switch {
	case path == "" && needed:
		return "", &problem{"", "has no " + key}
	case path == "":
		return "", nil
	case !filepath.IsAbs(path):
		return "", &problem{key, fmt.Sprintf("%s = %q: an absolute path is needed, beginning with /", key, path)}
	}
	return filepath.Clean(path), nil
}
