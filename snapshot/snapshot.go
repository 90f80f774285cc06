// Package snapshot takes, lists, opens and destroys native snapshots of a source. Each filesystem has a driver in a
// folder of its own; what all of them share is declared here. A snapshot is known by its own UUID or GUID, never by its
// name alone.
package snapshot

import (
	"errors"
	"time"
)

// Mark is what the catalog remembers of a snapshot to find it again and to prove that it is still the same one.
type Mark struct {
	// Kind names the driver: "btrfs", "zfs", "lvm".
	Kind string
	// Source is the identity of the source itself (btrfs: UUID of the subvolume). It outlives renames.
	Source string
	// ID is the snapshot's own identity (btrfs: UUID of the snapshot).
	ID string
	// Parent is the identity of what it was taken of (btrfs: parent_uuid).
	Parent string
	// Path is where the snapshot was when last seen; only a hint.
	Path string
	// Trans is larger in a later snapshot of the source (btrfs: otransid, the bound for the next diff; ZFS: createtxg; LVM: nanoseconds of
	// the time of Taken).
	Trans uint64
	// Content changes when anybody altered the snapshot (btrfs: ctransid).
	Content uint64
	// Taken is when the snapshot was made.
	Taken time.Time
	// Carry are the inodes that the next comparison looks at in any case, as the driver notes them (LVM); "" where it has not.
	Carry string `json:",omitempty"`
	// Session names the time for which the source was mounted without a break (LVM, btrfs); where it is not the one of the base, a crash
	// may have come between. "" where nobody knows.
	Session string `json:",omitempty"`
	// Foreign: made by somebody else, never destroyed by us.
	Foreign bool
	// Recursive: the source's children were taken too, those that it had.
	Recursive bool    `json:",omitempty"`
	Children  []Child `json:",omitempty"`
	// Left are snapshots that were of children once, of which the filesystem is not below the source any more (ZFS: a dataset that was renamed):
	// no list of the source's snapshots shows them. They are to be destroyed.
	Left []Mark `json:",omitempty"`
	// Numbered is the highest number that a child of the source was ever given.
	Numbered uint64 `json:",omitempty"`
}

// ErrGone says that a snapshot which the catalog remembers is not there any more.
var ErrGone = errors.New("snapshot is gone")

// ErrAltered says that a snapshot was made writable and changed: it is no longer what the mirror equals.
var ErrAltered = errors.New("snapshot was altered")
