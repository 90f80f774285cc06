// Package lvm takes, finds, opens and destroys snapshots of logical volumes, thin and classic, and tells which blocks of
// a volume changed between two of them. It drives LVM by its own commands with JSON reports. What the blocks mean to the
// filesystem on the volume it does not know.
package lvm
