package apply

import (
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite's memory. What it gets by default wastes: a page of a catalog with what SQLite keeps beside it is given 8 KiB, and more than 16 KiB,
// which each balancing of a tree needs for a moment, is mapped and unmapped by the kernel every time. So these two sizes are kept here
// for the next who asks; all others come from where they came from.
const (
	pageSlot  = 4416 // of a page of 4,096 bytes: 4,376 in this version of SQLite, and sizeHeader
	largeSlot = 64 << 10
	largeMore = 16 << 10 // what is larger than that comes in a largeSlot

	pagesAtOnce = 64 // that are asked for together
	largeKept   = 4  // that are kept

	sizeHeader = 8 // before each piece: its size without this, an int64
)

// sqliteMemory are the pieces that wait for whoever asks next. It is one for the process, as SQLite wants it.
var sqliteMemory struct {
	mu           sync.Mutex
	pages, large []uintptr
}

// sqliteMethods are what SQLite calls.
var sqliteMethods = sqlite3.Tsqlite3_mem_methods{
	FxMalloc: pointerOf(sqliteMalloc), FxFree: pointerOf(sqliteFree), FxRealloc: pointerOf(sqliteRealloc), FxSize: pointerOf(sqliteSize),
	FxRoundup:  pointerOf(func(_ *libc.TLS, n int32) int32 { return roomOf(n) }),
	FxInit:     pointerOf(func(*libc.TLS, uintptr) int32 { return sqlite3.SQLITE_OK }),
	FxShutdown: pointerOf(func(*libc.TLS, uintptr) {}),
}

// They have to be set before SQLite is used for the first time. Were they not, SQLite would go on with its own.
func init() {
	tls := libc.NewTLS()
	defer tls.Close()
	arguments := libc.NewVaList(uintptr(unsafe.Pointer(&sqliteMethods)))
	defer libc.Xfree(tls, arguments)
	sqlite3.Xsqlite3_config(tls, sqlite3.SQLITE_CONFIG_MALLOC, arguments)
}

// pointerOf is a function as translated C calls it.
func pointerOf[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&f)) }

// roomOf is how much a piece has for who asks for n bytes.
func roomOf(n int32) int32 {
	switch whole := n + sizeHeader; {
	case whole > 4096 && whole <= pageSlot:
		return pageSlot - sizeHeader
	case whole > largeMore && whole <= largeSlot:
		return largeSlot - sizeHeader
	}
	return (n + 7) &^ 7
}

// sizeAt is the header of a piece.
func sizeAt(piece uintptr) *int64 {
	header := piece - sizeHeader
	return *(**int64)(unsafe.Pointer(&header))
}

func sqliteMalloc(tls *libc.TLS, n int32) uintptr {
	room := roomOf(n)
	var whole uintptr
	switch room {
	case pageSlot - sizeHeader:
		whole = takePage()
	case largeSlot - sizeHeader:
		whole = takeLarge(tls)
	default:
		whole = libc.Xmalloc(tls, libc.Tsize_t(room)+sizeHeader)
	}
	if whole == 0 {
		return 0
	}
	piece := whole + sizeHeader
	*sizeAt(piece) = int64(room)
	return piece
}

func takePage() uintptr {
	m := &sqliteMemory
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.pages) == 0 {
		// Never given back. Of memory that is sure to be used it costs less to have all of it at once than each page at its first use.
		all, err := unix.Mmap(-1, 0, pagesAtOnce*pageSlot, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
		if err != nil {
			return 0
		}
		for i := pagesAtOnce - 1; i >= 0; i-- {
			m.pages = append(m.pages, uintptr(unsafe.Pointer(&all[i*pageSlot])))
		}
	}
	return pop(&m.pages)
}

func takeLarge(tls *libc.TLS) uintptr {
	m := &sqliteMemory
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.large) == 0 {
		return libc.Xmalloc(tls, largeSlot)
	}
	return pop(&m.large)
}

func pop(list *[]uintptr) uintptr {
	last := len(*list) - 1
	piece := (*list)[last]
	*list = (*list)[:last]
	return piece
}

func sqliteFree(tls *libc.TLS, piece uintptr) {
	if piece == 0 {
		return
	}
	m, whole := &sqliteMemory, piece-sizeHeader
	m.mu.Lock()
	defer m.mu.Unlock()
	switch *sizeAt(piece) {
	case pageSlot - sizeHeader:
		m.pages = append(m.pages, whole)
		return
	case largeSlot - sizeHeader:
		if len(m.large) < largeKept {
			m.large = append(m.large, whole)
			return
		}
	}
	libc.Xfree(tls, whole)
}

func sqliteRealloc(tls *libc.TLS, piece uintptr, n int32) uintptr {
	had, room := *sizeAt(piece), int64(roomOf(n))
	if had == room {
		return piece
	}
	other := sqliteMalloc(tls, n)
	if other != 0 {
		libc.Xmemcpy(tls, other, piece, libc.Tsize_t(min(had, room)))
		sqliteFree(tls, piece)
	}
	return other
}

func sqliteSize(_ *libc.TLS, piece uintptr) int32 {
	if piece == 0 {
		return 0
	}
	return int32(*sizeAt(piece))
}
