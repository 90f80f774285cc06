package applytest

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// RandomPath is one of a few hundred paths, so that changes meet.
func RandomPath(r *rand.Rand) string {
	path := fmt.Sprint("n", r.IntN(6))
	for r.IntN(3) > 0 && len(path) < 12 {
		path += fmt.Sprint("/n", r.IntN(6))
	}
	return path
}

// RandomChange is any change at any RandomPath; many of them cannot be done (see Ignorable).
func RandomChange(r *rand.Rand) Change {
	a, b := RandomPath(r), RandomPath(r)
	off, n, seed := r.Int64N(100_000), 1+r.Int64N(20_000), r.IntN(1000)
	block := off / 4096 * 4096
	switch r.IntN(28) {
	case 0, 1, 2:
		return Mkdir(a)
	case 3, 4, 5, 6:
		return Create(a, n, seed)
	case 7, 8, 9:
		return Rename(a, b)
	case 10:
		return Exchange(a, b)
	case 11, 12:
		return Link(a, b)
	case 13, 14:
		return Remove(a)
	case 15:
		return Symlink(b, a)
	case 16:
		return Write(a, off, n, seed)
	case 17:
		return Append(a, n, seed)
	case 18:
		return Truncate(a, off)
	case 19:
		return Punch(a, block, 8192)
	case 20:
		return Chmod(a, uint32(r.IntN(0o10000)))
	case 21:
		return Chown(a, r.IntN(9), r.IntN(9))
	case 22:
		return SetXattr(a, fmt.Sprint("user.x", r.IntN(3)), fmt.Sprint(seed))
	case 23:
		return RemoveXattr(a, fmt.Sprint("user.x", r.IntN(3)))
	case 24:
		return Utimes(a, off, n)
	case 25:
		return Reflink(a, b)
	case 26:
		return KeepMtime(a, Write(a, off, n, seed))
	default:
		return []Change{Fifo(a), Socket(a), Mknod(a, unix.S_IFCHR|0o600, 1, 3), PreallocKeep(a, block, 8192), RemoveAll(a), ACL(a, 9, 5)}[r.IntN(6)]
	}
}
