package job

import (
	"slices"
	"strings"

	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
)

// metaExclude is where the store keeps the patterns that its mirror was made with, one a line.
const metaExclude = "exclude"

// readExclude reads what stays out of the mirror. When that is not what the mirror was made with, the run has to compare in full:
// no native diff shows what is no longer excluded.
func (r *runner) readExclude() error {
	var err error
	if r.exclude, err = diff.ParseExclude(append(r.src.Exclude(), r.job.Exclude...)); err != nil {
		return err
	}
	last, _, err := r.store.Last()
	if err != nil || last == nil {
		return err
	}
	made, err := r.store.Meta(metaExclude)
	if err == nil && made != r.excludeText() && r.why == "" {
		r.why = "exclude was changed in the configuration"
	}
	if last.Mark.Recursive != r.job.Recursive && r.why == "" {
		r.why = source.WhyRecursive(r.job.Recursive) + " in the configuration"
	}
	return err
}

func (r *runner) excludeText() string {
	own := slices.DeleteFunc(r.src.Exclude(), func(p string) bool { return p == source.AlwaysExcluded })
	return strings.Join(slices.Concat(r.job.Exclude, own), "\n")
}

// noteExclude remembers what the mirror was made with, before a first copy and after every run.
func (r *runner) noteExclude() error {
	made, err := r.store.Meta(metaExclude)
	if err != nil || made == r.excludeText() {
		return err
	}
	return r.store.SetMeta(metaExclude, r.excludeText())
}

// mixedExclude stands for no list of patterns: an empty pattern is refused.
const mixedExclude = "\n"

// mixExclude is for a first copy that goes on with other patterns than it was begun with: no patterns are those of the whole
// mirror then, and the next run compares in full.
func (r *runner) mixExclude() error {
	made, err := r.store.Meta(metaExclude)
	if err != nil || made == r.excludeText() {
		return err
	}
	return r.store.SetMeta(metaExclude, mixedExclude)
}
