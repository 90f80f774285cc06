package diff

// LinkIndex gives the names that inodes had in the base, where the filesystem itself cannot tell them. The store keeps them as
// its link index.
type LinkIndex interface {
	// Names are all names, in the base, of the inode that had this number there, directories included; none for a number
	// that is not known, and none for the root.
	Names(ino uint64) ([]Ref, error)
}
