package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/logging"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/snapshot"
)

// Level is how bad a finding is.
type Level string

const (
	Missing Level = "error"   // the job cannot run
	Warning Level = "warning" // it can, but not as it should
	Note    Level = "note"    // worth to know
)

// Finding is one thing that Check has to say.
type Finding struct {
	Job   string `json:"job"`
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Next  string `json:"next,omitempty"` // the command that mends it, or what else to do
}

// NotReady says that a job cannot run.
type NotReady struct{ Missing int }

// Error counts what is missing.
func (e *NotReady) Error() string {
	if e.Missing == 1 {
		return "cannot run: see the error above"
	}
	return fmt.Sprintf("cannot run: see the %d errors above", e.Missing)
}

// checker collects findings.
type checker struct {
	job   config.Job
	found []Finding
}

func (c *checker) add(level Level, err error) {
	if err != nil {
		c.found = append(c.found, Finding{c.job.Name, level, err.Error(), hint.Of(err)})
	}
}

func (c *checker) say(level Level, next, format string, args ...any) {
	c.found = append(c.found, Finding{c.job.Name, level, fmt.Sprintf(format, args...), next})
}

// Check tells what keeps a job from running, and what else its owner should know; log is where its runs are logged. It changes nothing. The
// error is a *NotReady when the job cannot run.
func Check(ctx context.Context, j config.Job, log config.Log) ([]Finding, error) {
	c := &checker{job: j}
	if err := checkRoot(); err != nil {
		c.add(Missing, err) // nothing else can be told
		return c.found, &NotReady{1}
	}
	c.kernel()
	c.add(Missing, logging.Look(log))
	c.hooks()
	src, err := source.Open(ctx, j)
	if err != nil {
		c.add(Missing, err)
		c.modules()
	} else {
		defer src.Close()
		c.place(ctx, src)
		c.native(ctx, src)
		c.pinned(ctx, src)
		c.nested(src)
	}
	c.storage()
	if c.store(ctx, src) {
		c.limits()
	}
	missing := 0
	for _, f := range c.found {
		if f.Level == Missing {
			missing++
		}
	}
	if missing > 0 {
		return c.found, &NotReady{missing}
	}
	return c.found, nil
}

// kernel looks whether the kernel has what is needed.
func (c *checker) kernel() {
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err == nil {
		unix.Close(fd)
	} else {
		c.say(Missing, "run Linux 5.6 or newer; in a container, let it call openat2", "the kernel has no openat2: %v", err)
	}
}

// hooks looks whether the programs of the hooks can be called. One for a run that failed is looked at too: it would be missed when it is needed.
func (c *checker) hooks() {
	for _, hook := range c.job.Hooks.Called() {
		program := hook.Argv[0]
		correct := fmt.Sprintf("correct %s in [jobs.%s.hooks]", hook.Name, c.job.Name)
		st, err := os.Stat(program)
		switch {
		case err != nil:
			c.say(Missing, "install the program, or "+correct, "hook %s cannot be called: %v", hook.Name, err)
		case st.IsDir():
			c.say(Missing, correct, "hook %s cannot be called: %s is a directory", hook.Name, program)
		case unix.Access(program, unix.X_OK) != nil: // no bit for anybody, or on a filesystem that is mounted noexec
			c.say(Missing, fmt.Sprintf("chmod +x %s, or %s", program, correct), "hook %s cannot be called: %s is not executable", hook.Name, program)
		}
	}
}

// modules looks whether the source may be missing because the kernel does not know its filesystem.
func (c *checker) modules() {
	data, err := os.ReadFile("/proc/filesystems")
	if err == nil && filepath.IsAbs(c.job.Source) && !knowsFilesystem(string(data), "btrfs") {
		c.say(Note, "modprobe btrfs", "the kernel knows no btrfs at this moment")
	}
	if err == nil && !filepath.IsAbs(c.job.Source) && !knowsFilesystem(string(data), "zfs") {
		c.say(Note, "if the source is a dataset: modprobe zfs", "the kernel knows no ZFS at this moment")
	}
}

// knowsFilesystem looks for a name in the text of /proc/filesystems.
func knowsFilesystem(text, name string) bool {
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[len(fields)-1] == name {
			return true
		}
	}
	return false
}

// place looks at where source and store are.
func (c *checker) place(ctx context.Context, src source.Source) {
	c.add(Missing, checkInside(ctx, c.job, src))
	if shared := sharedDisk(c.job, src); shared != "" {
		c.say(Warning, "put the store on another disk", "%s", shared)
	}
	if src.Kind() == "btrfs" {
		c.snapshots(src)
	}
}

// native has the source look at what it needs of its filesystem or volume manager.
func (c *checker) native(ctx context.Context, src source.Source) {
	driver, ok := src.(source.Checker)
	if !ok {
		return
	}
	missing, warnings := driver.Check(ctx)
	for _, err := range missing {
		c.add(Missing, err)
	}
	for _, err := range warnings {
		c.add(Warning, err)
	}
}

// pinned looks whether the source tells what max_pinned is about.
func (c *checker) pinned(ctx context.Context, src source.Source) {
	if c.job.MaxPinned.Bytes == 0 {
		return
	}
	all, err := src.Kept(ctx)
	c.add(Warning, err)
	if why := pinned(all).NotTold(c.job.MaxPinned); why != "" {
		c.say(Warning, fmt.Sprintf(`write max_pinned = "14d" in [jobs.%s]`, c.job.Name), "%s", why)
	}
}

// snapshots looks at the place for our snapshots of a btrfs subvolume.
func (c *checker) snapshots(src source.Source) {
	at := existing(c.job.Snapshots)
	if errors.Is(unix.Access(at, unix.W_OK), unix.EROFS) {
		c.say(Missing, "mount -o remount,rw "+mountPoint(at), "%s is read-only: snapshots cannot be made in it", at)
		return
	}
	parent := filepath.Dir(c.job.Snapshots)
	if st, err := os.Stat(parent); err != nil || !st.IsDir() {
		c.say(Missing, "mkdir -p "+parent, "the place for snapshots %s cannot be made: %s is no directory", c.job.Snapshots, parent)
		return
	}
	from, err := mountOf(src.Dir())
	if err != nil {
		return
	}
	if to, err := mountOf(c.job.Snapshots); err == nil && diskOf(from) != diskOf(to) {
		c.say(Missing, fmt.Sprintf("take snapshots out of [jobs.%s], or name a directory on the source's filesystem", c.job.Name),
			"the place for snapshots %s is on another filesystem than the source", c.job.Snapshots)
	}
}

func mountPoint(path string) string {
	if m, err := mountOf(path); err == nil {
		return m.Mountpoint
	}
	return path
}

// storage looks at the filesystem of the store.
func (c *checker) storage() {
	c.add(Missing, checkNetwork(c.job))
	c.add(Missing, checkOwner(c.job.Store))
	c.add(Missing, checkWritable(c.job.Store))
	if c.job.Catalog != "" {
		c.add(Missing, checkWritable(c.job.Catalog))
		c.inMemory(c.job.Catalog, "the catalog")
	}
	c.inMemory(c.job.Store, "the store")
	var st unix.Statfs_t
	if unix.Statfs(existing(c.job.Store), &st) != nil || st.Blocks == 0 {
		return
	}
	free := int64(st.Bavail) * st.Bsize
	switch {
	case st.Bavail == 0:
		c.say(Missing, "make room on "+mountPoint(c.job.Store), "the store's filesystem is full")
	case st.Bavail < st.Blocks/20:
		c.say(Warning, "make room on "+mountPoint(c.job.Store), "the store's filesystem has only %s left", output.Size(free))
	}
	if st.Files > 0 && st.Ffree < st.Files/20 { // btrfs and the like count none
		level := Warning
		if st.Ffree == 0 {
			level = Missing
		}
		c.say(level, "make a filesystem with more inodes for the store (mkfs.ext4 -i 8192), or use XFS", "the store's filesystem has only %s inodes left", output.Count(int64(st.Ffree)))
	}
}

// inMemory warns of a place that the next boot empties.
func (c *checker) inMemory(path, what string) {
	var st unix.Statfs_t
	if unix.Statfs(existing(path), &st) == nil && (st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC) {
		c.say(Warning, "take a place on another disk", "%s lies in memory (%s) and is lost when the machine goes down", what, mountPoint(path))
	}
}

// store looks at the store itself. It tells whether there is one. src is nil when the source cannot be opened.
func (c *checker) store(ctx context.Context, src source.Source) bool {
	store, err := apply.OpenReadOnly(c.job.Store, apply.CatalogAt(c.job.Catalog))
	if errors.Is(err, apply.ErrNotStore) {
		text := "there is no store at %s"
		if _, err := os.Stat(c.job.Store); errors.Is(err, fs.ErrNotExist) {
			text = "%s is not there: no store yet, or the backup disk is not mounted"
		}
		c.say(Missing, "snapdiff init "+c.job.Name, text, c.job.Store)
		c.room(ctx, src)
		return false
	}
	if err != nil {
		c.add(Missing, err)
		return false
	}
	defer store.Close()
	if err := c.look(ctx, store, src); err != nil {
		c.add(Missing, err)
	}
	return true
}

// room looks whether a first copy finds room.
func (c *checker) room(ctx context.Context, src source.Source) {
	var st unix.Statfs_t
	if src == nil || unix.Statfs(existing(c.job.Store), &st) != nil {
		return
	}
	if used := usedBytes(ctx, src); used > fits(&st) {
		c.say(Warning, "", "up to %s are in use in the source, the store's filesystem has %s left", output.Size(used), output.Size(int64(st.Bavail)*st.Bsize))
	}
}

// look looks at what the catalog knows, and at the snapshots that it remembers.
func (c *checker) look(ctx context.Context, store *apply.Store, src source.Source) error {
	known, err := store.Meta(metaSource)
	if err != nil {
		return err
	}
	if src != nil && known != "" && known != src.ID() {
		c.add(Missing, &OtherSource{Job: c.job, Known: known, Found: src.ID()})
		src = nil // it cannot have our snapshots
	}
	last, cut, err := store.Last()
	if err != nil {
		return err
	}
	working, err := apply.Working(c.job.Store)
	switch {
	case err != nil:
		return err
	case working != 0:
		c.say(Note, "", "process %d works on the store at this moment", working)
		return nil // what is there now may be gone in a moment
	case cut != nil:
		c.say(Note, "snapdiff run "+c.job.Name, "r%d was cut off; the next run finishes it first", cut.ID)
		c.base(ctx, src, cut.Mark, fmt.Sprintf("the snapshot of r%d", cut.ID))
	case last == nil:
		c.room(ctx, src)
	}
	if last != nil && (cut == nil || cut.State == apply.Recorded) {
		c.base(ctx, src, last.Mark, "the base (the snapshot that the mirror equals)")
		c.held(ctx, src, last.Mark)
	}
	if reason, err := store.NeedsFull(); err != nil {
		return err
	} else if reason != "" {
		c.say(Warning, fmt.Sprintf("snapdiff run %s --full", c.job.Name), "the next run has to compare in full: %s", reason)
	}
	held, err := HeldRun(store)
	if err != nil {
		return err
	}
	if held != nil {
		c.say(Warning, fmt.Sprintf("snapdiff run %s --approve r%d --dry-run; if it is meant: snapdiff run %s --approve r%d", c.job.Name, held.ID, c.job.Name, held.ID),
			"r%d is held: %s", held.ID, held.Reason())
	}
	pending, err := store.Pending()
	if len(pending) > 0 {
		c.say(Warning, "snapdiff run "+c.job.Name+" names them and tries again", "%s files could not be copied, the first is %s: %v", output.Count(int64(len(pending))),
			ShortName(shown(pending[0].Path)), pending[0].Err)
	}
	return err
}

// held says what the hold on the base means for others.
func (c *checker) held(ctx context.Context, src source.Source, base snapshot.Mark) {
	h, ok := src.(source.Holder)
	if !ok {
		return
	}
	what, next, err := h.Held(ctx, base)
	c.add(Missing, err)
	if what != "" {
		c.say(Note, next, "%s", what)
	}
}

// base looks whether a snapshot is there and unaltered.
func (c *checker) base(ctx context.Context, src source.Source, mark snapshot.Mark, what string) {
	if src == nil {
		return
	}
	snap, err := src.Open(ctx, mark)
	switch {
	case err == nil:
		snap.Close()
	case !errors.Is(err, snapshot.ErrGone) && !errors.Is(err, snapshot.ErrAltered):
		c.add(Missing, err)
	case errors.Is(err, source.ErrDatasetGone):
		c.say(Note, "", "%v; the next run takes it out of the mirror", err)
	case c.job.OnLostBase == config.LostBaseStop:
		c.say(Missing, fmt.Sprintf("snapdiff run %s --full", c.job.Name), "%s cannot be used any more: %v", what, err)
	default:
		c.say(Warning, "", "%s cannot be used any more: %v; the next run compares in full, which reads everything", what, err)
	}
}
