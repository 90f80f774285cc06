package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
	"snapdiff/snapshot"
)

// VerifyOptions say how much of a mirror is verified and what becomes of what differs.
type VerifyOptions struct {
	// Part and Of choose the directories whose files are read: Part (from 1) of Of shares of about the same size. Of 0 or 1 is
	// everything.
	Part, Of int
	// Newest compares only what the newest run has written.
	Newest bool
	// Repair brings what differs back from the snapshot.
	Repair bool
	// Progress, if not nil, is told now and then how far it is.
	Progress func(apply.Progress)
}

// Verification is what a comparison of the mirror with its snapshot found.
type Verification struct {
	Job string `json:"job"`
	Run string `json:"run"` // whose snapshot the mirror was compared with
	// Share is "3/30" where only a share of the files was read.
	Share       string  `json:"share,omitempty"`
	Names       int64   `json:"names"` // compared
	Bytes       int64   `json:"bytes"` // read on each side
	Differences int     `json:"differences"`
	Seconds     float64 `json:"seconds"`
	// Repaired: the mirror was brought back. Kept says where in the store things are that should not have been in it.
	Repaired bool     `json:"repaired,omitempty"`
	Kept     []string `json:"kept,omitempty"`

	// Found are the differences: what has to be done to the mirror to make it equal. Known are the files that runs could
	// not copy; they differ as long as that is so and are not among the differences.
	Found []apply.Change `json:"-"`
	Known []string       `json:"-"`
}

// Differs says that a mirror was found to differ from its snapshot and was not repaired.
type Differs struct{ Found int }

// Error gives the number of differences.
func (e *Differs) Error() string {
	return fmt.Sprintf("the mirror differs from its snapshot in %s places", output.Count(int64(e.Found)))
}

// Hint is what to do next.
func (e *Differs) Hint() string {
	return "find out who or what changed it (a program that writes there, a bad disk: see dmesg and smartctl); snapdiff verify --repair brings it back from the snapshot"
}

// metaVerified is where the store keeps when which share was last found right (or was put right).
const metaVerified = "verified"

// verified is the value of metaVerified: the shares of one division. A whole verification is share 1 of 1.
type verified struct {
	Of    int
	Parts map[int]time.Time // by number, from 1
}

// LastVerified is when the whole mirror was last known to be right: the oldest of its shares; zero if that never was so.
func LastVerified(store *apply.Store) (time.Time, error) {
	v, err := readVerified(store)
	if err != nil || v.Of == 0 || len(v.Parts) < v.Of {
		return time.Time{}, err
	}
	var oldest time.Time
	for _, at := range v.Parts {
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	return oldest, nil
}

func readVerified(store *apply.Store) (v verified, err error) {
	text, err := store.Meta(metaVerified)
	if err != nil || text == "" {
		return v, err
	}
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("when the mirror was verified: %w", err)
	}
	return v, nil
}

// noteVerified remembers that a share was found right at a time. Another division begins anew, but a whole verification is as
// good as each of its shares.
func noteVerified(store *apply.Store, part, of int, at time.Time) error {
	v, err := readVerified(store)
	if err != nil {
		return err
	}
	if v.Of != of {
		old := v
		v = verified{Of: of, Parts: map[int]time.Time{}}
		if whole, ok := old.Parts[1]; ok && old.Of == 1 {
			for i := range of {
				v.Parts[i+1] = whole
			}
		}
	}
	v.Parts[part] = at
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return store.SetMeta(metaVerified, string(text))
}

// Verify compares the mirror with the snapshot that it was made of, contents byte by byte. It waits for no run and lets none
// begin.
func Verify(ctx context.Context, j config.Job, opts VerifyOptions, say func(format string, args ...any)) (_ *Verification, err error) {
	r, err := newRunner(ctx, j, Options{Say: say, Progress: opts.Progress})
	if err != nil {
		return nil, explainFailure(err, j)
	}
	defer func() { err = errors.Join(explainFailure(err, j), r.close()) }()
	last, snap, err := r.newest(ctx)
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	v := &Verification{Job: j.Name, Run: fmt.Sprintf("r%d", last.ID)}
	if opts.Of > 1 {
		v.Share = fmt.Sprintf("%d/%d", opts.Part, opts.Of)
	}
	var only func(path string, dir bool) bool
	if opts.Newest {
		if only, err = r.store.WrittenBy(last.ID); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	set, err := r.compareWithSnapshot(ctx, snap, opts, only, v)
	if err != nil {
		return nil, err
	}
	if err := r.foundIn(set, v); err != nil {
		return nil, err
	}
	v.Seconds = time.Since(began).Seconds()
	if v.Differences > 0 && !opts.Repair {
		return v, &Differs{v.Differences}
	}
	if v.Differences > 0 {
		if err := r.repair(ctx, snap, set, opts, v); err != nil {
			return v, err
		}
	}
	if opts.Newest {
		return v, nil
	}
	return v, noteVerified(r.store, max(opts.Part, 1), max(opts.Of, 1), time.Now())
}

// bringBack makes the mirror again what it was at the newest restore point, if it is known that somebody has altered it since and nothing
// else is wrong. base is the snapshot of that, nil if it is not open. Where it is gone, or not all can be brought back, the full comparison
// that follows takes for history what was done.
func (r *runner) bringBack(ctx context.Context, last *apply.RunInfo, base *source.Snapshot) error {
	mendable, err := r.store.Mendable()
	if err != nil || !mendable || r.job.OnLostBase == config.LostBaseStop && r.approved == nil && r.why == "" {
		return err
	}
	if base == nil {
		snap, err := r.src.Open(ctx, last.Mark)
		if errors.Is(err, snapshot.ErrGone) || errors.Is(err, snapshot.ErrAltered) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open the base: %w", err)
		}
		defer snap.Close()
		base = snap
	}
	if _, err := r.mirrorExclude(); errors.Is(err, errMixedExclude) {
		return nil
	}
	r.say("bringing the altered mirror back to r%d", last.ID)
	v := &Verification{}
	set, err := r.compareWithSnapshot(ctx, base, VerifyOptions{}, nil, v)
	if err == nil {
		err = r.foundIn(set, v)
	}
	if err != nil {
		return fmt.Errorf("compare the altered mirror with r%d: %w", last.ID, err)
	}
	err = r.repair(ctx, base, set, VerifyOptions{}, v)
	if still, stillErr := r.store.Mendable(); still || stillErr != nil {
		if stillErr == nil && v.Repaired { // but for some files
			r.say("not all of it: %v", err)
		} else if err = errors.Join(err, stillErr); err != nil {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	r.back = fmt.Sprintf("the mirror was altered, in %s places, and is again what it was at r%d", output.Count(int64(v.Differences)), last.ID)
	return noteVerified(r.store, 1, 1, time.Now())
}

// newest gives the newest finished run and opens its snapshot.
func (r *runner) newest(ctx context.Context) (*apply.RunInfo, *source.Snapshot, error) {
	last, cut, err := r.store.Last()
	switch {
	case err != nil:
		return nil, nil, err
	case cut != nil && (last == nil || cut.ID > last.ID):
		return nil, nil, hint.With(fmt.Errorf("r%d was cut off: the mirror is between two restore points", cut.ID), "snapdiff run %s finishes it", r.job.Name)
	case last == nil:
		return nil, nil, hint.With(errors.New("no run has ever been finished"), "snapdiff run %s", r.job.Name)
	}
	snap, err := r.src.Open(ctx, last.Mark)
	if errors.Is(err, snapshot.ErrGone) || errors.Is(err, snapshot.ErrAltered) {
		err = hint.With(fmt.Errorf("there is nothing to compare the mirror with: %w", err), "snapdiff run %s compares in full with a new snapshot; snapdiff verify %s --checksums needs none", r.job.Name, r.job.Name)
	}
	return last, snap, err
}

// compareWithSnapshot compares the mirror. only may be nil (see diff.FullOptions). What is found right gets its checksum.
func (r *runner) compareWithSnapshot(ctx context.Context, snap *source.Snapshot, opts VerifyOptions, only func(string, bool) bool, v *Verification) (*diff.ChangeSet, error) {
	var mu sync.Mutex
	tell := r.comparing(ctx, opts.Of)
	full := r.fullOptions(func(names, bytes int64) {
		mu.Lock()
		defer mu.Unlock()
		v.Names, v.Bytes = names, bytes // the last call has the totals
		if tell != nil {
			tell(names, bytes)
		}
	})
	if opts.Of > 1 {
		full.Share = opts.share
	}
	full.Only = only
	var err error
	if full.Exclude, err = r.mirrorExclude(); err != nil {
		return nil, err
	}
	sums := r.collectSums(&full)
	set, _, err := diff.Full(ctx, r.store.Mirror(), snap.Root, r.src.Keys(snap), full)
	return set, errors.Join(err, sums())
}

// share tells whether a directory is in the share.
func (o VerifyOptions) share(dir string) bool {
	h := fnv.New32a()
	h.Write([]byte(dir))
	return int(h.Sum32()%uint32(o.Of)) == o.Part-1
}

// collectSums has a full comparison note the checksums of what is right. The result is to be called after it.
func (r *runner) collectSums(full *diff.FullOptions) func() error {
	if !r.job.Checksums {
		return func() error { return nil }
	}
	sums := r.store.CollectSums()
	full.Sum = sums.Add
	return sums.Flush
}

// foundIn lists what a change set from the mirror to its snapshot means, without the files that runs could not copy.
func (r *runner) foundIn(set *diff.ChangeSet, v *Verification) error {
	pending, err := r.store.Pending()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, p := range pending {
		known[p.Path] = true
	}
	err = apply.ChangesOf(set, func(c apply.Change) error {
		switch {
		case known[c.Path]:
			v.Known = append(v.Known, c.Path)
		case c.Why != apply.ReasonNames: // a directory's times follow from the names in it
			v.Found = append(v.Found, c)
		}
		return nil
	})
	v.Differences = len(v.Found)
	return err
}

// repair brings the mirror back. A share is not enough for that: links lead out of it.
func (r *runner) repair(ctx context.Context, snap *source.Snapshot, set *diff.ChangeSet, opts VerifyOptions, v *Verification) error {
	if opts.Of > 1 || opts.Newest {
		r.say("comparing everything, to repair it")
		var err error
		if set, err = r.compareWithSnapshot(ctx, snap, VerifyOptions{}, nil, v); err != nil {
			return err
		}
	}
	known := map[string]bool{}
	for _, path := range v.Known {
		known[path] = true
	}
	// Not held by max_deleted: what goes is what somebody put into the mirror, and it was asked for.
	done, err := r.store.Mend(ctx, set, snap.Root, known, r.applyOptions())
	if err != nil {
		return err
	}
	v.Repaired, v.Kept = true, done.Kept
	for _, p := range done.Problems {
		err = errors.Join(err, fmt.Errorf("%s could not be brought back: %w", output.Name(shown(p.Path)), p.Err))
	}
	return err
}
