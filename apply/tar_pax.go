package apply

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Archives are in the pax format of POSIX.1-2001 (pax(1), "ustar Interchange Format" and "pax Extended Header"), with the records that
// GNU tar, bsdtar and star use for what POSIX has none: SCHILY.xattr.*, SCHILY.acl.*, GNU.sparse.* (format 1.0). archive/tar of Go
// cannot write sparse files, so the headers are written here.

const paxBlock = 512

// Type flags.
const (
	paxRegular  = '0'
	paxLink     = '1'
	paxSymlink  = '2'
	paxChar     = '3'
	paxBlockDev = '4'
	paxDir      = '5'
	paxFifo     = '6'
	paxExtended = 'x'
)

// paxEntry is one entry of an archive.
type paxEntry struct {
	kind         byte
	name, link   string // any bytes but NUL
	mode         uint32 // permission bits only
	uid, gid     uint32
	major, minor uint32
	size         int64 // of what follows the header
	mtime        int64 // seconds
	nsec         int32
	records      []paxRecord // more than what follows from the other fields
}

// paxRecord is one record of an extended header. The key has no '=' (see paxKey).
type paxRecord struct{ key, value string }

// writeHeader writes an entry's header, preceded by an extended one where it needs that.
func (e *paxEntry) writeHeader(w io.Writer) error {
	if records := e.extended(); records != "" {
		x := paxEntry{kind: paxExtended, name: "PaxHeaders/" + lastName(e.name), mode: 0o644, size: int64(len(records))}
		if err := x.writeBlock(w); err != nil {
			return err
		}
		if _, err := io.WriteString(w, records+padding(int64(len(records)))); err != nil {
			return err
		}
	}
	return e.writeBlock(w)
}

func lastName(path string) string {
	path = strings.TrimSuffix(path, "/")
	return path[strings.LastIndexByte(path, '/')+1:]
}

// padding is what fills the last block of so many bytes.
func padding(size int64) string { return strings.Repeat("\x00", int(-size&(paxBlock-1))) }

const (
	octal7  = 1<<21 - 1 // the most that 7 octal digits hold
	octal11 = 1<<33 - 1
)

// extended gives the records of all that the plain header cannot hold.
func (e *paxEntry) extended() string {
	var b strings.Builder
	add := func(key, value string) { b.WriteString(formatRecord(key, value)) }
	if !isPlain(e.name) {
		add("path", e.name)
	}
	if !isPlain(e.link) {
		add("linkpath", e.link)
	}
	if e.size > octal11 {
		add("size", strconv.FormatInt(e.size, 10))
	}
	if e.uid > octal7 {
		add("uid", strconv.FormatUint(uint64(e.uid), 10))
	}
	if e.gid > octal7 {
		add("gid", strconv.FormatUint(uint64(e.gid), 10))
	}
	if e.nsec != 0 || e.mtime < 0 || e.mtime > octal11 {
		add("mtime", paxTime(e.mtime, e.nsec))
	}
	for _, r := range e.records {
		add(r.key, r.value)
	}
	return b.String()
}

// isPlain tells whether a name fits into the plain header and means the same to everybody there.
func isPlain(name string) bool {
	if len(name) > 100 {
		return false
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return false
		}
	}
	return true
}

// formatRecord is "LENGTH KEY=VALUE\n"; the length counts itself.
func formatRecord(key, value string) string {
	rest := len(" =\n") + len(key) + len(value)
	size := rest
	for size != rest+len(strconv.Itoa(size)) {
		size = rest + len(strconv.Itoa(size))
	}
	return strconv.Itoa(size) + " " + key + "=" + value + "\n"
}

// paxKey makes an attribute's name fit for a key, as GNU tar does and undoes.
func paxKey(name string) string {
	return strings.NewReplacer("%", "%25", "=", "%3D").Replace(name)
}

// paxTime is seconds in decimal. -1 s + 1 ns is -0.999999999.
func paxTime(sec int64, nsec int32) string {
	sign := ""
	if sec < 0 {
		sign, sec = "-", -sec
		if nsec != 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	if nsec == 0 {
		return sign + strconv.FormatInt(sec, 10)
	}
	return sign + strconv.FormatInt(sec, 10) + "." + strings.TrimRight(fmt.Sprintf("%09d", nsec), "0")
}

// writeBlock writes the plain header. What does not fit is cut or zero there; an extended header has it.
func (e *paxEntry) writeBlock(w io.Writer) error {
	var b [paxBlock]byte
	octal := func(at, digits int, value uint64) {
		for i := at + digits - 1; i >= at; i-- {
			b[i], value = '0'+byte(value&7), value>>3
		}
	}
	fits := func(value, most uint64) uint64 {
		if value > most {
			return 0
		}
		return value
	}
	copy(b[0:100], e.name)
	octal(100, 7, uint64(e.mode))
	octal(108, 7, fits(uint64(e.uid), octal7))
	octal(116, 7, fits(uint64(e.gid), octal7))
	octal(124, 11, fits(uint64(e.size), octal11))
	octal(136, 11, fits(uint64(e.mtime), octal11)) // a negative one is too large
	b[156] = e.kind
	copy(b[157:257], e.link)
	copy(b[257:265], "ustar\x0000")
	octal(329, 7, fits(uint64(e.major), octal7))
	octal(337, 7, fits(uint64(e.minor), octal7))
	copy(b[148:156], "        ")
	sum := uint64(0)
	for _, c := range b {
		sum += uint64(c)
	}
	octal(148, 6, sum)
	b[154] = 0
	_, err := w.Write(b[:])
	return err
}
