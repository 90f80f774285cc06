package beneath

import "strings"

// Graft makes the tree show other Roots at these paths, as if they were mounted there: what the tree itself has at such a path is hidden, and it need
// not have anything there.
// It is for trees that are only read, and is called once, before the tree is used. The others are to be closed after the Root.
// (Detached mounts, which nobody else can see, cannot be mounted into each other by kernels before Linux 6.15.)
func (r *Root) Graft(roots map[string]*Root) {
	const fewest = 4
	r.grafts, r.graftIn = roots, map[string][]string{}
	for at := range roots {
		dir, name := split(at)
		r.graftIn[dir] = append(r.graftIn[dir], name)
	}
	r.limit = max(r.limit/(len(roots)+1), fewest)
	for _, g := range roots {
		g.limit = r.limit
	}
}

// grafted gives the Root that shows what path means, and the path in that one.
func (r *Root) grafted(path string) (*Root, string) {
	if len(r.grafts) == 0 {
		return r, path
	}
	for at := path; at != ""; at, _ = split(at) {
		if g := r.grafts[at]; g != nil {
			return g, strings.TrimPrefix(path[len(at):], "/")
		}
	}
	return r, path
}
