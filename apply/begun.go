package apply

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// A catalog that was copied in the middle of a run and is put back after that would have phases done again that were done: what was moved would be
// moved back. So before anything is done that may only follow a state, when that is durable, the run's history gets an empty file that says so, and
// loses it before the state goes back. With the manifest of a run that is done it shows a catalog that is behind.

// begunStates are the states that leave such a file. What follows later ones may be done again.
var begunStates = []string{Saved, Patched, Detached}

// begunName is the name of such a file in history/rRUN.
func begunName(state string) string { return "after-" + state }

// begin leaves the file of a state, if the catalog has it: some runs go on without a mark.
func (x *execution) begin(state string) error {
	if x.marked != state || !slices.Contains(begunStates, state) {
		return nil
	}
	fd, err := x.s.history_.Open(x.history()+"/"+begunName(state), unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("noting what begins: %w", err)
	}
	return unix.Close(fd)
}

// noteDetached leaves the file detachedMark.
func (x *execution) noteDetached() error {
	fd, err := x.s.history_.Open(x.history()+"/"+detachedMark, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("noting what is done: %w", err)
	}
	return unix.Close(fd)
}

// unfinished has the manifest say that the run is not done. After a cut it may say that it is, when only the commit was missing: then what is
// done or undone from now on must not be taken for a run that is done, should the catalog be lost.
func (x *execution) unfinished() error {
	if x.resumed {
		if head, err := readHead(x.s.path, x.run); err == nil && head.State == Done {
			if err := x.noteDetached(); err != nil { // which went when the manifest was written
				return err
			}
		}
	}
	return x.s.writeManifest(x.run, nil)
}

// forgetBegun removes the files of a run.
func (s *Store) forgetBegun(run int64) (err error) {
	for _, state := range begunStates {
		err = errors.Join(err, ignoreMissing(s.history_.Unlink(fmt.Sprintf("r%d/%s", run, begunName(state)))))
	}
	return err
}

// storeSeen is how far a store is, by what lies in it.
type storeSeen struct {
	run   int64    // the newest that has something in history; 0: none
	begun []string // states of it that were followed by something
	done  bool     // its manifest says so, and that it was detached before in the catalog
	// rewritten is the number in the name of the file in history (see rewrittenPrefix).
	rewritten int64
}

// seeStore looks before the catalog is opened, which may be ahead of what was seen.
func seeStore(store string) storeSeen {
	seen := storeSeen{run: newestHistory(store), rewritten: highestIn(store, rewrittenPrefix)}
	dir := filepath.Join(store, "history", fmt.Sprintf("r%d", seen.run))
	for _, state := range begunStates {
		if _, err := os.Lstat(filepath.Join(dir, begunName(state))); err == nil {
			seen.begun = append(seen.begun, state)
		}
	}
	head, err := readHead(store, seen.run)
	seen.done = err == nil && head.State == Done && head.Detached
	return seen
}

// readHead reads what the head of a run's manifest says. The rest is not proved.
func readHead(store string, run int64) (*manifestHead, error) {
	file, err := os.OpenFile(filepath.Join(store, "history", fmt.Sprintf("r%d", run), manifestName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return (&manifestReader{r: bufio.NewReader(file)}).title()
}

// beyond tells that the store has more of the run than may be while the catalog has this state of it.
func (seen storeSeen) beyond(state string) bool {
	at := slices.Index([]string{Recorded, Saved, Patched}, state) // the number of begunStates that may have left a file
	if at < 0 {
		return false
	}
	return seen.done || slices.ContainsFunc(seen.begun, func(s string) bool { return slices.Index(begunStates, s) >= at })
}
