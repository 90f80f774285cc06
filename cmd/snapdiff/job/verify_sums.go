package job

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/output"
)

// SumVerification is what comparing the store with its own checksums found.
type SumVerification struct {
	Job     string  `json:"job"`
	What    string  `json:"what"` // "mirror", "history", or the restore point ("r7")
	Share   string  `json:"share,omitempty"`
	Files   int64   `json:"files"` // read
	Bytes   int64   `json:"bytes"`
	Unknown int64   `json:"unknown"` // files without a checksum
	Seconds float64 `json:"seconds"`
	// Rotten are paths of the mirror, Lost those of restore points that rest on rotten or missing history, Altered what else is wrong with
	// the names in the mirror.
	Rotten  []output.Path `json:"rotten,omitempty"`
	Lost    []LostPath    `json:"lost,omitempty"`
	Altered []string      `json:"altered,omitempty"`

	// Names are those of Rotten as they are.
	Names []string `json:"-"`
}

// Rotten says that contents are not what was copied.
type Rotten struct {
	Found   int
	History bool
}

// Error gives the number.
func (e *Rotten) Error() string {
	return fmt.Sprintf("%s things are not as they were copied", output.Count(int64(e.Found)))
}

// Hint is what to do next.
func (e *Rotten) Hint() string {
	if e.History {
		return "look after the disk (dmesg, smartctl). What is rotten in history nothing can bring back; where the newest state has the same contents, restore from that"
	}
	return "look after the disk (dmesg, smartctl); snapdiff verify --repair brings the mirror back from the snapshot"
}

// onReadOnly tells a path on a filesystem that is mounted read-only.
func onReadOnly(path string) bool {
	return errors.Is(unix.Access(existing(path), unix.W_OK), unix.EROFS)
}

// VerifySums compares the mirror (point below 0), all of history (0) or what one restore point has in history with the checksums
// taken when it was copied. The source is not needed.
func VerifySums(ctx context.Context, j config.Job, point int64, opts VerifyOptions) (_ *SumVerification, err error) {
	if err := checkRoot(); err != nil {
		return nil, err
	}
	open, noting := apply.Open, true
	if onReadOnly(j.Store) || j.Catalog != "" && onReadOnly(j.Catalog) { // where a store is looked at that is to be rescued
		open, noting = apply.OpenStill, false
	}
	store, err := open(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return nil, explainFailure(err, j)
	}
	defer func() { err = errors.Join(explainFailure(err, j), store.Close()) }()
	if _, cut, err := store.Last(); err != nil || cut != nil {
		if err == nil {
			err = hint.With(fmt.Errorf("r%d was cut off: the store is between two restore points", cut.ID), "snapdiff run %s finishes it", j.Name)
		}
		return nil, err
	}
	v := &SumVerification{Job: j.Name, What: "mirror"}
	began := time.Now()
	var tell func(files, bytes int64)
	if opts.Progress != nil {
		tell = func(files, bytes int64) { opts.Progress(apply.Progress{Doing: "reading", Names: files, Bytes: bytes}) }
	}
	var found *apply.SumCheck
	switch {
	case point < 0:
		var share func(string) bool
		if opts.Of > 1 {
			v.Share, share = fmt.Sprintf("%d/%d", opts.Part, opts.Of), opts.share
		}
		found, err = store.VerifyMirror(ctx, share, tell)
	default:
		v.What = "history"
		if point > 0 {
			v.What = fmt.Sprintf("r%d", point)
		}
		found, err = store.VerifyHistory(ctx, point, j.Catalog, tell)
	}
	if errors.Is(err, apply.ErrNoSums) {
		err = hint.With(err, "snapdiff verify %s compares the mirror with its snapshot and takes them (checksums = true)", j.Name)
	}
	if err != nil {
		return nil, err
	}
	v.Files, v.Bytes, v.Unknown, v.Seconds = found.Files, found.Bytes, found.Unknown, time.Since(began).Seconds()
	v.Lost, v.Altered = lostPaths(found.Lost), found.Altered
	for _, path := range found.Rotten {
		v.Names = append(v.Names, path)
		v.Rotten = append(v.Rotten, output.NewPath(path))
	}
	if n := len(v.Rotten) + len(v.Lost) + len(v.Altered); n > 0 {
		return v, &Rotten{n, point >= 0}
	}
	if point < 0 && v.Unknown == 0 && noting {
		return v, noteVerified(store, max(opts.Part, 1), max(opts.Of, 1), time.Now())
	}
	return v, nil
}
