// Package status tells how jobs are doing, from their stores alone: for people, for monitoring by exit status, and as metrics.
package status

import (
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
	"snapdiff/snapshot"
)

// Level is how urgent something is, in the numbers that monitoring plugins exit with.
type Level int

// Levels.
const (
	OK Level = iota
	Warning
	Critical
)

// String is the level in words.
func (l Level) String() string { return [...]string{"ok", "warning", "critical"}[l] }

// Limits are the ages of the newest restore point from which on a job is in trouble; 0: none.
type Limits struct{ Warning, Critical time.Duration }

// Job is how one job is doing.
type Job struct {
	Name  string `json:"job"`
	State string `json:"state"` // ok, warning, critical
	// Problems are what is wrong, the worst first.
	Problems []string `json:"problems,omitempty"`
	// Run is the newest restore point ("r17"), "" when there is none; Time is its date, Age its age in seconds, below zero where the date is in the future.
	Run  string     `json:"run,omitempty"`
	Time *time.Time `json:"time,omitempty"`
	Age  int64      `json:"age_seconds,omitempty"`
	// How the changes were found: "first", "native" or "full"; Reason says why it was no native one.
	How    string `json:"how,omitempty"`
	Reason string `json:"reason,omitempty"`
	apply.Counts
	Seconds    float64 `json:"seconds"`
	Incomplete int64   `json:"incomplete"`
	// Failed is how the newest run failed, nil where it did not.
	Failed *job.Failed `json:"failed,omitempty"`
	// Points is the number of restore points, Oldest the date of the first one.
	Points int        `json:"restore_points"`
	Oldest *time.Time `json:"oldest,omitempty"`
	// Verified is when the whole mirror was last known to equal its snapshot (of a mirror verified in shares: the oldest one).
	Verified *time.Time `json:"verified,omitempty"`
	// Expires is the restore point that goes next, when a run is made each day, and ExpiresAt the date from which on; "" where
	// none goes within a year.
	Expires   string     `json:"expires,omitempty"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	// History is what the store needs for all restore points but the newest, in bytes.
	History int64 `json:"history_bytes"`
	// Size and Free are those of the store's filesystem in bytes, InodesFree the inodes that are left there (0 where a filesystem makes
	// them as needed).
	Size       int64 `json:"size"`
	Free       int64 `json:"free"`
	InodesFree int64 `json:"inodes_free"`
	// Base is when the oldest of our snapshots on the source was taken, nil when there is none or the source cannot be asked. BaseBytes is
	// how much space would be free there without them, nil where the filesystem does not tell; BaseFull how full, in percent, that is in
	// which they live (LVM: a classic snapshot's own room, a thin pool).
	Base      *time.Time `json:"base,omitempty"`
	BaseBytes *int64     `json:"base_bytes,omitempty"`
	BaseFull  *float64   `json:"base_full,omitempty"`
	// Hold says how others meet our hold on the base, GiveUp how to give it up; "" where there is none.
	Hold   string `json:"hold,omitempty"`
	GiveUp string `json:"hold_next,omitempty"`

	level Level
}

// Level is how urgent the job's problems are.
func (j *Job) Level() Level { return j.level }

// InFuture tells that the newest restore point is dated in the future, by more than the clock may have been put right meanwhile.
func (j *Job) InFuture() bool { return j.Age < -int64(time.Minute/time.Second) }

// Of looks at one job. Whatever is wrong with its store is a problem in the result.
func Of(j config.Job, now time.Time, limits Limits) *Job {
	s := &Job{Name: j.Name}
	base, err := s.look(j, now, limits)
	if err != nil {
		s.problem(Critical, "%v", err)
	}
	s.pinned(j, base, now)
	s.State = s.level.String()
	return s
}

func (s *Job) problem(l Level, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if l > s.level {
		s.level = l
		s.Problems = append([]string{text}, s.Problems...)
		return
	}
	s.Problems = append(s.Problems, text)
}

// look looks at the store and gives the base of the next run.
func (s *Job) look(j config.Job, now time.Time, limits Limits) (base *snapshot.Mark, err error) {
	store, err := apply.OpenReadOnly(j.Store, apply.CatalogAt(j.Catalog))
	if err != nil {
		return base, err
	}
	defer store.Close()
	runs, err := store.Runs()
	if err != nil {
		return base, err
	}
	var last, cut *apply.RunInfo
	for i := range runs {
		switch {
		case runs[i].State == apply.Abandoned:
			continue
		case runs[i].State != apply.Done:
			cut = &runs[i]
			continue
		case s.Points == 0:
			s.Oldest = &runs[i].Date
		}
		last = &runs[i]
		s.Points++
		s.History += runs[i].Space
	}
	if last == nil {
		s.problem(Critical, "no run has ever been finished")
	} else {
		base = &last.Mark
		s.newest(last, now, limits)
	}
	if cut != nil {
		s.unfinished(cut, last, j.Store)
	}
	s.nextExpiry(j.Keep, runs)
	if s.Failed, err = job.LastFailed(store); err != nil {
		return base, err
	}
	if f := s.Failed; f != nil {
		s.problem(Warning, "the last run failed %s ago (exit status %d): %s", output.Age(now.Sub(f.Time)), f.Status, f.Error)
	}
	held, err := job.HeldRun(store)
	if err != nil {
		return base, err
	}
	if held != nil {
		s.problem(Critical, "r%d is held: %s", held.ID, strings.Join(append([]string{held.Reason()}, held.Places()...), ", "))
	}
	verified, err := job.LastVerified(store)
	if err != nil {
		return base, err
	}
	if !verified.IsZero() {
		s.Verified = &verified
	}
	return base, s.room(j.Store)
}

// newest describes the newest restore point.
func (s *Job) newest(r *apply.RunInfo, now time.Time, limits Limits) {
	age := now.Sub(r.Date)
	s.Run, s.Time, s.Age = fmt.Sprintf("r%d", r.ID), &r.Date, int64(age.Seconds())
	s.How, s.Reason, s.Counts, s.Incomplete = r.How, r.Reason, r.Counts, r.Incomplete
	s.Seconds = r.Ended.Sub(r.Started).Seconds()
	switch {
	case s.InFuture():
		s.problem(Warning, "the newest restore point, %s, is dated in the future (%s): the clock was wrong then, or is now, and its age does not tell whether runs are made", s.Run, r.Date.Local().Format(time.DateTime))
	case limits.Critical > 0 && age > limits.Critical:
		s.problem(Critical, "the newest restore point is too old (the limit is %s)", limits.Critical)
	case limits.Warning > 0 && age > limits.Warning:
		s.problem(Warning, "the newest restore point is old (the limit is %s)", limits.Warning)
	}
	if r.Incomplete > 0 {
		s.problem(Warning, "%d files could not be copied", r.Incomplete)
	}
	if r.How == "full" {
		s.problem(Warning, "the last run compared in full: %s", r.Reason)
	}
}

// unfinished is a run that works at this moment or was cut off.
func (s *Job) unfinished(cut, last *apply.RunInfo, path string) {
	if last != nil && cut.ID < last.ID {
		return // given up, and a later run has taken its place
	}
	if pid, err := apply.Working(path); pid != 0 && err == nil {
		return
	}
	s.problem(Warning, "r%d was cut off (%s); the next run finishes it", cut.ID, cut.State)
}

// room is the space on the store's filesystem; less than 5 % is a warning.
func (s *Job) room(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("space of %s: %w", path, err)
	}
	s.Size, s.Free, s.InodesFree = int64(st.Blocks)*st.Bsize, int64(st.Bavail)*st.Bsize, int64(st.Ffree)
	if s.Free < s.Size/20 {
		s.problem(Warning, "the store's filesystem is nearly full")
	}
	if st.Files > 0 && st.Ffree < st.Files/20 {
		s.problem(Warning, "the store's filesystem has nearly no inodes left")
	}
	return nil
}
