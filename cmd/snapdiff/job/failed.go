package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
)

// metaFailed is where the store keeps how the newest run failed; "" where it did not.
const metaFailed = "failed"

// Failed is how a run failed. A run that comes to be done, or is held, ends that.
type Failed struct {
	Time   time.Time `json:"time"`
	Status int       `json:"status"` // its exit status
	Error  string    `json:"error"`
}

// LastFailed gives how the newest run failed, nil if it did not or could not be noted.
func LastFailed(store *apply.Store) (*Failed, error) {
	text, err := store.Meta(metaFailed)
	if err != nil || text == "" {
		return nil, err
	}
	f := new(Failed)
	if err := json.Unmarshal([]byte(text), f); err != nil {
		return nil, fmt.Errorf("read how the last run failed: %w", err)
	}
	return f, nil
}

// NoteFailed has the store remember how a run failed with an error: one that failed before it recorded anything would leave no trace there. Where the
// store is not there or not to be written to, or another snapdiff works on it, nothing is noted: status says the former by itself, and the latter is
// no failure of the job's. The run has told its error: that this cannot be kept is none on top.
func NoteFailed(j config.Job, failed error, f Failed) {
	if errorIs[*Incomplete](failed) || errorIs[*RunHeld](failed) || errors.Is(failed, apply.ErrLocked) {
		return
	}
	if errors.Join(checkRoot(), checkNetwork(j), checkOwner(j.Store), checkWritable(j.Store), checkLeastRoom(j)) != nil {
		return
	}
	text, err := json.Marshal(f)
	if err != nil {
		return
	}
	store, err := apply.Open(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return
	}
	_ = errors.Join(store.SetMeta(metaFailed, string(text)), store.Close())
}

// forgetFailed ends what NoteFailed began.
func forgetFailed(store *apply.Store) error {
	text, err := store.Meta(metaFailed)
	if err != nil || text == "" {
		return err
	}
	return store.SetMeta(metaFailed, "")
}
