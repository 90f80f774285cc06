package gate

import (
	"bytes"

	"golang.org/x/sys/unix"

	"snapdiff/snapshot/beneath"
)

// leastPiece is how many bytes it takes to tell anything of them.
const leastPiece = 512

// turned tells that a file could be compressed, or was a known format that cannot, and now is neither. What cannot be read tells nothing.
func (p pair) turned(base, next *beneath.Root) bool {
	if p.tiny {
		return false
	}
	was, now := openFile(base, p.base), openFile(next, p.next)
	defer was.close()
	defer now.close()
	if was.fd < 0 || now.fd < 0 {
		return false
	}
	head, newHead := was.read(0), now.read(0)
	if len(newHead) < leastPiece || packed(newHead) {
		return false
	}
	if isFormat(head) && !isFormat(newHead) && random(newHead) {
		return true
	}
	for _, at := range []int64{p.at, min(was.size, now.size) / 2} {
		if before, after := was.read(at), now.read(at); compressible(before) && random(after) {
			return true
		}
	}
	return false
}

type file struct {
	fd   int
	size int64
}

func openFile(root *beneath.Root, path string) file {
	// O_NONBLOCK: the mirror may have been altered by others, and a fifo would wait.
	fd, err := root.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	var st unix.Stat_t
	if err == nil && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
		return file{fd, st.Size}
	}
	if err == nil {
		unix.Close(fd)
	}
	return file{fd: -1}
}

func (f file) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
	}
}

// read gives up to a piece at an offset; less where it cannot be read.
func (f file) read(at int64) []byte {
	b := make([]byte, piece)
	n, err := unix.Pread(f.fd, b, at)
	if err != nil {
		return nil
	}
	return b[:n]
}

// scatter is chi-square of the bytes against an even distribution. Of bytes by chance it is 255 with a deviation of 23, whatever their
// number n; of text it is about 14 n, of base64 3 n, of programs and uncompressed pictures more than 2 n.
func scatter(b []byte) float64 {
	var counts [256]float64
	for _, c := range b {
		counts[c]++
	}
	even, sum := float64(len(b))/256, 0.0
	for _, c := range counts {
		sum += (c - even) * (c - even) / even
	}
	return sum
}

// random tells bytes that are encrypted or compressed: compressed ones scatter a little less evenly the more there are.
func random(b []byte) bool {
	return len(b) >= leastPiece && scatter(b) < 350+float64(len(b))/16
}

func compressible(b []byte) bool {
	return len(b) >= leastPiece && scatter(b) > 350+float64(len(b))
}

// formats are how files begin that are compressed inside, at an offset.
var formats = []struct {
	at    int
	magic string
}{
	{0, "\xff\xd8\xff"}, {0, "\x89PNG"}, {0, "GIF8"}, {0, "PK\x03\x04"}, {0, "%PDF"}, {0, "RIFF"}, {0, "ID3"}, {0, "OggS"}, {0, "fLaC"},
	{0, "\xd0\xcf\x11\xe0"}, {0, "\x1a\x45\xdf\xa3"}, {4, "ftyp"}, {0, "II*\x00"}, {0, "MM\x00*"}, {0, "7z\xbc\xaf"}, {0, "Rar!"},
}

func isFormat(b []byte) bool {
	for _, f := range formats {
		if len(b) > f.at && bytes.HasPrefix(b[f.at:], []byte(f.magic)) {
			return true
		}
	}
	return packed(b)
}

// packed tells what a compressor made of one file, as administrators do with many at once.
func packed(b []byte) bool {
	for _, magic := range []string{"\x1f\x8b\x08", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd", "\x04\x22\x4d\x18"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return true
		}
	}
	return false
}
