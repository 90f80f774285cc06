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
	file, err := os.OpenFile(filepath.Join(dir, manifestName), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return seen
	}
	defer file.Close()
	head, err := (&manifestReader{r: bufio.NewReader(file)}).title()
	seen.done = err == nil && head.State == Done && head.Detached
	return seen
}

// beyond tells that the store has more of the run than may be while the catalog has this state of it.
func (seen storeSeen) beyond(state string) bool {
	at := slices.Index([]string{Recorded, Saved, Patched}, state) // the number of begunStates that may have left a file
	if at < 0 {
		return false
	}
	return seen.done || slices.ContainsFunc(seen.begun, func(s string) bool { return slices.Index(begunStates, s) >= at })
}
