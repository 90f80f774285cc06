package lvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The store of a classic snapshot, drivers/md/dm-snap-persistent.c: chunk 0 is the header; then areas follow one another,
// each one chunk of exceptions and the chunks of data that these name. All numbers are little-endian.
const (
	cowMagic   = 0x70416e53 // "SnAp"
	cowVersion = 1          // SNAPSHOT_DISK_VERSION

	cowHeaderSize    = 16 // struct disk_header: magic, valid, version, chunk_size in sectors, 32 bits each
	cowExceptionSize = 16 // struct disk_exception: old_chunk, new_chunk, 64 bits each
	sector           = 512

	smallestChunk, largestChunk = 4 << 10, 64 << 20
)

// ErrOverflowed says that a classic snapshot ran out of room and is lost.
var ErrOverflowed = errors.New("the snapshot overflowed and is lost")

// errStore says that something is no store of a classic snapshot, or a damaged one.
var errStore = errors.New("store of a classic snapshot")

// cowHeader is the header of the store.
type cowHeader struct {
	chunk int64 // bytes
}

func decodeCOWHeader(b []byte) (h cowHeader, err error) {
	if len(b) < cowHeaderSize {
		return h, fmt.Errorf("%w: header of %d bytes", errStore, len(b))
	}
	if magic := binary.LittleEndian.Uint32(b); magic != cowMagic {
		return h, fmt.Errorf("%w: it begins with %q, not with SnAp", errStore, b[:4])
	}
	if valid := binary.LittleEndian.Uint32(b[4:]); valid != 1 {
		return h, ErrOverflowed
	}
	if version := binary.LittleEndian.Uint32(b[8:]); version != cowVersion {
		return h, fmt.Errorf("%w: unknown version %d", errStore, version)
	}
	h.chunk = int64(binary.LittleEndian.Uint32(b[12:])) * sector
	if h.chunk < smallestChunk || h.chunk > largestChunk || h.chunk&(h.chunk-1) != 0 {
		return h, fmt.Errorf("%w: chunks of %d bytes", errStore, h.chunk)
	}
	return h, nil
}

// readExceptions gives the chunks of the origin whose old content the store of a classic snapshot holds, in no order. store
// is size bytes long. Reads are aligned to chunks, into aligned memory, so that it may be opened with O_DIRECT.
//
// It may be read while the kernel adds to it. The kernel lets a write to the origin go on only when the exception is on
// disk; it fills one chunk of exceptions after the other, and has cleared the next one when it fills the last place in one.
func readExceptions(store io.ReaderAt, size int64) ([]Block, error) {
	first := aligned(smallestChunk)
	if _, err := store.ReadAt(first, 0); err != nil {
		return nil, fmt.Errorf("reading the header of the %w: %w", errStore, err)
	}
	h, err := decodeCOWHeader(first)
	if err != nil {
		return nil, err
	}
	var blocks []Block
	buf := aligned(int(h.chunk))
	chunks := size / h.chunk
	perArea := h.chunk / cowExceptionSize
	for area := int64(1); area < chunks; area += perArea + 1 {
		if _, err := store.ReadAt(buf, area*h.chunk); err != nil {
			return nil, fmt.Errorf("reading exceptions from the %w: %w", errStore, err)
		}
		n, err := decodeExceptions(buf, h, chunks, func(b Block) {
			if n := len(blocks); n > 0 && blocks[n-1].End() == b.Off {
				blocks[n-1].Len += b.Len
			} else {
				blocks = append(blocks, b)
			}
		})
		if err != nil {
			return nil, err
		}
		if n < perArea {
			break
		}
	}
	if _, err := store.ReadAt(first, 0); err != nil {
		return nil, fmt.Errorf("reading the header of the %w: %w", errStore, err)
	}
	_, err = decodeCOWHeader(first) // did it overflow meanwhile?
	return blocks, err
}

// decodeExceptions reads one chunk of exceptions up to the first place that is free and tells how many there were. chunks
// is the size of the store.
func decodeExceptions(b []byte, h cowHeader, chunks int64, yield func(Block)) (n int64, err error) {
	const mostChunks = 1 << 62 / largestChunk // offsets stay far from overflowing
	perArea := h.chunk / cowExceptionSize
	for ; len(b) >= cowExceptionSize; b = b[cowExceptionSize:] {
		old, copied := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if copied == 0 { // it would be the header: the end
			return n, nil
		}
		if copied >= uint64(chunks) || (copied-1)%uint64(perArea+1) == 0 {
			return n, fmt.Errorf("%w: the copy of chunk %d is said to be chunk %d of %d, where none can be", errStore, old, copied, chunks)
		}
		if old >= mostChunks {
			return n, fmt.Errorf("%w: chunk number %d is out of bounds", errStore, old)
		}
		yield(Block{int64(old) * h.chunk, h.chunk})
		n++
	}
	return n, nil
}
