package job

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"snapdiff/cmd/snapdiff/output"
	"snapdiff/cmd/snapdiff/source"
)

// metaUnfollowed are the nested filesystems that the last run named: a line with a quoted path for each.
const metaUnfollowed = "unfollowed"

// nested gives the nested filesystems that the snapshots do not show.
func nested(src source.Source) ([]source.Unfollowed, error) {
	n, ok := src.(source.Nester)
	if !ok {
		return nil, nil
	}
	return n.Nested()
}

// nestedKind is what the source's kind calls them.
func nestedKind(src source.Source) string {
	if src.Kind() == "zfs" {
		return "child dataset"
	}
	return "nested subvolume"
}

const followAdvice = "give it a job of its own, set recursive = true, or exclude it"

// skipNested notes them, by name and reason.
func (r *runner) skipNested() (err error) {
	r.unfollowed, err = nested(r.src)
	for _, n := range r.unfollowed {
		r.skip(n.Path, n.Why)
	}
	return err
}

// skip notes one of them. What a comparison met too is noted once.
func (r *runner) skip(path, why string) {
	named := output.NewPath(path)
	if slices.Contains(r.skipped, named) {
		return
	}
	r.skipped = append(r.skipped, named)
	if why == "" && r.job.Recursive {
		r.say("%s %s is not followed", nestedKind(r.src), output.Name(path))
		return
	}
	r.say("%s %s is not followed: %s", nestedKind(r.src), output.Name(path), cmp.Or(why, followAdvice))
}

// noteUnfollowed warns of those that were not there in the run before: what is in them is in no mirror, and may have been in this one, in a directory.
func (r *runner) noteUnfollowed(last *Report) error {
	said, err := r.store.Meta(metaUnfollowed)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for line := range strings.SplitSeq(said, "\n") {
		known[line] = true
	}
	var lines, fresh []string
	for _, n := range r.unfollowed {
		line := strconv.Quote(n.Path)
		if !known[line] {
			fresh = append(fresh, unfollowed(r.src, n)+": "+cmp.Or(n.Why, followAdvice))
		}
		lines = append(lines, line)
	}
	const most = 5 // a host of containers may have thousands
	if n := len(fresh); n > most {
		fresh = append(fresh[:most], fmt.Sprintf("so it is with %d more; snapdiff run -v names all", n-most))
	}
	last.Warnings = append(last.Warnings, fresh...)
	if now := strings.Join(lines, "\n"); now != said {
		return r.store.SetMeta(metaUnfollowed, now)
	}
	return nil
}

// nested says what of the source no run copies.
func (c *checker) nested(src source.Source) {
	all, err := nested(src)
	c.add(Warning, err)
	for _, n := range all {
		c.say(Note, cmp.Or(n.Why, followAdvice), "%s", unfollowed(src, n))
	}
}

func unfollowed(src source.Source, n source.Unfollowed) string {
	return fmt.Sprintf("%s %s is not followed, so nothing in it is in the mirror", nestedKind(src), output.Name(n.Path))
}
