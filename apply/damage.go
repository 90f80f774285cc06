package apply

import (
	"errors"
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
)

// DamagedCatalog says that the catalog cannot be read as what it was written, is an old one, or is lost. Mirror and history are as good
// as they were.
type DamagedCatalog struct{ Err error }

// Error says what was met.
func (e *DamagedCatalog) Error() string { return fmt.Sprintf("the catalog is damaged: %v", e.Err) }

// Unwrap gives what was met.
func (e *DamagedCatalog) Unwrap() error { return e.Err }

// Hint is what to do next.
func (e *DamagedCatalog) Hint() string {
	return "snapdiff doctor shows what is lost; snapdiff doctor --repair rebuilds the catalog from the manifests in history"
}

// MissingDir says that a directory which every store has is not there.
type MissingDir struct{ Store, Dir string }

// Error says which.
func (e *MissingDir) Error() string {
	return fmt.Sprintf("opening the store: %s/%s is missing", e.Store, e.Dir)
}

// Hint is what to do next.
func (e *MissingDir) Hint() string {
	if e.Dir == "tree" {
		return "if the mirror is on a filesystem of its own, mount it; what the past still has is in history, and snapdiff can read none of it without the mirror"
	}
	return "snapdiff doctor shows what is lost; snapdiff doctor --repair makes the directory anew, empty"
}

// catalogError says what was being done with the catalog.
func catalogError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("catalog: %s: %w", doing, damaged(err))
}

// damaged makes a *DamagedCatalog of an error of SQLite that means it.
func damaged(err error) error {
	var already *DamagedCatalog
	if err == nil || errors.As(err, &already) || !IsDamage(err) {
		return err
	}
	return &DamagedCatalog{err}
}

// IsDamage tells an error that means a damaged catalog.
func IsDamage(err error) bool {
	var is *DamagedCatalog
	if err == nil || errors.As(err, &is) {
		return err != nil
	}
	switch sqlite.ErrCode(err).ToPrimary() {
	case sqlite.ResultCorrupt, sqlite.ResultNotADB:
		return true
	case sqlite.ResultError: // a header with a schema format that SQLite does not know (sqlite3InitOne in its prepare.c) has no code of its own
		return strings.Contains(err.Error(), "unsupported file format")
	}
	return false
}
