package inodefeed

import (
	"slices"

	"snapdiff/diff"
)

// Most candidates are files that changed and have the names that they had. To look one up in the base by its name only shows that the link
// index tells the truth, and costs as much as reading the inode: XFS does not find it where the device was read before. The new snapshot
// shows it as well, for the file that stands under that name there.

// stands tells that an inode of the base has there just the names that the link index says. They are those that it has in the new snapshot, which shows
// that: it is found there by the first of them, and as many are known as it has links. The directory of that name is where the
// index says in the base too, and no such name went from it or came to it.
func (t *tree) stands(num uint64, i inode) (bool, error) {
	if i.IsDir() {
		return false, nil
	}
	now, ok, err := t.later.inode(num)
	if err != nil || !ok || now.Gen != i.Gen || now.Type() != i.Type() {
		return false, err
	}
	refs, err := t.Names(num)
	if err != nil || len(refs) == 0 || !t.All(uint64(i.Nlink), len(refs)) {
		return false, err
	}
	if names, err := t.later.Names(num); err != nil || !slices.Equal(refs, names) {
		return false, err
	}
	if err := t.Find(refs[0].Parent); err != nil {
		return false, err
	}
	_, _, ok, err = t.later.Path(num)
	return ok, err
}

// toLookUp are those of the base that will be asked for by their names: to read attributes and contents.
func (t *tree) toLookUp(list []diff.Candidate) (some []diff.Candidate) {
	for _, c := range list {
		b, was := t.known[c.Num]
		n, is := t.later.known[c.Num]
		if !was || !is || b.Gen != n.Gen || b.IsDir() || !b.plain || b.IsRegular() && isRead(b.Info, n.Info) {
			some = append(some, c)
		}
	}
	return some
}
