package job

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/source"
	"snapdiff/diff"
)

// metaExclude is where the store keeps the patterns that its mirror was made with, one a line.
const metaExclude = "exclude"

const whyExclude = "exclude was changed in the configuration"

// readExclude reads what stays out of the mirror. When that is not what the mirror was made with, the run has to compare in full:
// no native diff shows what is no longer excluded.
func (r *runner) readExclude() error {
	if r.why == r.configured { // it may have been brought to that meanwhile
		r.why = ""
	}
	r.configured = ""
	var err error
	if r.exclude, err = source.Excluded(r.src, r.job); err != nil {
		return err
	}
	last, _, err := r.store.Last()
	if err != nil || last == nil {
		return err
	}
	made, err := r.store.Meta(metaExclude)
	if last.Mark.Recursive != r.job.Recursive {
		r.configured = source.WhyRecursive(r.job.Recursive) + " in the configuration"
	}
	if err == nil && made != r.excludeText() {
		r.configured = whyExclude
	}
	r.why = cmp.Or(r.why, r.configured)
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

// mixedExclude begins what stands for no list of patterns: an empty pattern is refused. Behind it are those that the mirror will have been made with.
const mixedExclude = "\n"

// mixExclude says that the mirror is, from now on, made partly with the patterns noted and partly with these, until noteExclude or finishedExclude. What is cut off
// meanwhile has no patterns that could be put back: the next run compares in full.
func (r *runner) mixExclude(text string) error {
	made, err := r.store.Meta(metaExclude)
	if err != nil || made == r.excludeText() {
		return err
	}
	return r.store.SetMeta(metaExclude, mixedExclude+text)
}

// finishedExclude is for a run that was recorded, cut off and is finished now: the mirror was made with its patterns, whatever the configuration says today.
func (r *runner) finishedExclude() error {
	made, err := r.store.Meta(metaExclude)
	text, mixed := strings.CutPrefix(made, mixedExclude)
	if err != nil || !mixed {
		return err
	}
	return r.store.SetMeta(metaExclude, text)
}

// errMixedExclude says that no patterns are those of the whole mirror.
var errMixedExclude = hint.With(errors.New("exclude was changed in the configuration, and a run that would have brought the mirror to that was cut off"), "let a run bring it there: snapdiff run, then try again")

// mirrorExclude are the patterns that the mirror was made with; errMixedExclude when there are none. To those of the configuration a run brings it.
func (r *runner) mirrorExclude() (*diff.Exclude, error) {
	made, err := r.store.Meta(metaExclude)
	switch {
	case err != nil:
		return nil, err
	case made == r.excludeText():
		return r.exclude, nil
	case strings.HasPrefix(made, mixedExclude):
		return nil, errMixedExclude
	}
	patterns := slices.DeleteFunc(r.src.Exclude(), func(p string) bool { return p != source.AlwaysExcluded })
	if made != "" {
		patterns = append(patterns, strings.Split(made, "\n")...)
	}
	return diff.ParseExclude(patterns)
}
