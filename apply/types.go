package apply

import (
	"errors"
	"time"

	"snapdiff/diff"
	"snapdiff/snapshot"
	"snapdiff/snapshot/beneath"
)

// Sentinel errors of the store. All are wrapped with the store's path and with what to do next.
var (
	// ErrNotStore says that a directory is no store: never initialised, or the backup disk is not mounted.
	ErrNotStore = errors.New("is not a snapdiff store")
	// ErrLocked says that another process is writing to the store.
	ErrLocked = errors.New("store is in use by another snapdiff")
	// ErrNewer says that the store was written by a newer snapdiff, whose format this one does not know.
	ErrNewer = errors.New("store has a newer format than this snapdiff knows")
	// ErrNetwork says that the catalog would lie on a network filesystem (or FUSE), where SQLite's locks and shared memory
	// cannot be relied on.
	ErrNetwork = errors.New("catalog cannot lie on a network filesystem")
	// ErrExists says that Init found something in the directory.
	ErrExists = errors.New("directory is not empty")
	// ErrUnfinished says that an earlier run was cut off and has to be finished (Resume) or given up (Abandon) first.
	ErrUnfinished = errors.New("an unfinished run is in the way")
	// ErrCatalog says that the catalog and the change set do not fit together: compare in full.
	ErrCatalog = errors.New("the catalog does not know what the change set speaks of")
)

// State is how far a run has come. Each is a durable mark: what it says is on the disk.
type State string

// The states in their order. A first copy is Copying until it is Done.
const (
	Copying   State = "copying"   // first copy: see the table copied
	Recorded  State = "recorded"  // history rows and plan are in the catalog
	Saved     State = "saved"     // old bytes of files patched in place are in history
	Detached  State = "detached"  // all that went from its name is in stage or history
	Attached  State = "attached"  // all names are there, all contents are
	Finished  State = "finished"  // all metadata too
	Done      State = "done"      // committed: a restore point
	Undoing   State = "undoing"   // given up: what was attached is being taken back into stage
	Returning State = "returning" // given up: what is in stage is being put back where it was before the run
	Abandoned State = "abandoned" // given up; its rows serve earlier restore points
)

// How a run compared.
const (
	HowFirst  = "first"  // no comparison: everything was copied
	HowNative = "native" // by the filesystem's own knowledge of what changed
	HowFull   = "full"   // every name and inode against the mirror
)

// Counts are the figures of one run. Inodes are counted, not names.
type Counts struct {
	New      int64 `json:"new"`      // made
	Modified int64 `json:"modified"` // contents changed
	Meta     int64 `json:"meta"`     // only owner, mode, times or extended attributes changed
	Moved    int64 `json:"moved"`    // names went and came (renamed, linked, unlinked), whatever else changed
	Deleted  int64 `json:"deleted"`  // gone from the snapshot
	Bytes    int64 `json:"bytes"`    // of file contents that were written to the mirror
	Total    int64 `json:"total"`    // inodes in the mirror when the run was done, directories included
}

// Problem is one inode that could not be copied. It keeps its old version and is tried again in every run.
type Problem struct {
	Path string // relative to the top of the snapshot
	Err  error
}

// Pending is an inode that an earlier run could not copy.
type Pending struct {
	Path   string
	Key    diff.Key
	Reason string
}

// Result is what a run did.
type Result struct {
	Run        int64
	How        string
	Reason     string // why the comparison was a full one
	Counts     Counts
	Incomplete []Problem // everything that the mirror lacks now, from this run and from earlier ones
	Warnings   []string  // what was found and had to be put aside
}

// Progress is handed to Options.Progress now and then, from one goroutine at a time.
type Progress struct {
	Phase        string // "copy", "record", "detach", "attach", "finish", "commit"
	Files, Bytes int64  // done so far
	Total        int64  // files to do; 0: not known
}

// Options of a run.
type Options struct {
	Workers  int            // 0: as many as suit the machine. 1: all steps in one order, always the same
	Progress func(Progress) // may be nil
	// Step is called before every single step that changes the store, by a name that says which. An error stops the run at
	// once, as a kill would: nothing is put in order. For tests; may be nil. Workers call it at the same time.
	Step func(name string) error
}

// Run is one change set to be applied.
type Run struct {
	Changes *diff.ChangeSet
	// Rekey gives the present key of a path of the mirror, as the change set has it; only in a full comparison.
	Rekey func(path string) (diff.Key, error)
	// Base is the snapshot that the mirror equals (in a full comparison: the mirror itself), Next the one that it will equal.
	Base, Next *beneath.Root
	Mark       snapshot.Mark // of Next
	How        string        // HowNative or HowFull
	Reason     string        // of a full comparison
	Options
}

// RunRecord is a run as the catalog knows it. Those that are Done are the restore points.
type RunRecord struct {
	ID         int64
	State      State
	How        string
	Reason     string
	Date       time.Time // when the snapshot was taken
	Started    time.Time
	Finished   time.Time // zero when it is not
	Mark       snapshot.Mark
	Counts     Counts
	Incomplete int64 // inodes that the mirror lacked when the run was done
	Warnings   []string
}

// Interrupted is a run that was cut off.
type Interrupted struct {
	RunRecord
	// BaseMark is the snapshot that the mirror equalled before; zero where there was none (first copy, full comparison).
	BaseMark snapshot.Mark
}
