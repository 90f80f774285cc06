package lvm

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The log of XFS, fs/xfs/libxfs/xfs_log_format.h: blocks of 512 bytes, used round and round. A record is a header (struct xlog_rec_header, big-endian), of one
// block for each 32 KiB that records may have, and so many blocks of data. The first word of each block is the number of the round, that of data blocks is kept in the
// header: of 64 in its first block, behind the fields, and of 64 in each other, behind its own first word.
const (
	xlogBlock   = 512
	xlogMagic   = 0xFEEDBABE // XLOG_HEADER_MAGIC_NUM
	xlogLongest = 520        // blocks of the longest record, with its headers: XLOG_MAX_RECORD_BSIZE
	xlogMost    = 64         // records that a log with nothing to mend may have

	xlogVersionAt, xlogLenAt, xlogLSNAt, xlogTailAt, xlogOpsAt, xlogCyclesAt, xlogSizeAt = 8, 12, 16, 24, 40, 44, 320
	xlogCycles                                                                           = 64 // words of data blocks in a header block: XLOG_CYCLE_DATA_SIZE

	xlogOpHeader                                = 12 // struct xlog_op_header: be32 tid, len; u8 clientid, flags; u16
	xlogCommit, xlogContinue, xlogWas, xlogGone = 0x02, 0x04, 0x08, 0x20
	xlogTransMagic                              = 0x5452414E // XFS_TRANS_HEADER_MAGIC, in the order of the machine that wrote it, like items
	xlogBufItem                                 = 0x123C     // XFS_LI_BUF
)

// xfsLogQuiet tells whether the log of the XFS on a device, whose start is given, has nothing to mend but the superblock. So it is when the filesystem was frozen: all
// is in its place then, and the log is only left as if it were not so that a later mount frees the inodes that were deleted while open. (xfs_fs_freeze logs
// the superblock.) Whatever is not known here is something to mend.
func xfsLogQuiet(r io.ReaderAt, start []byte) (bool, error) {
	be := binary.BigEndian
	size, group, at := int64(be.Uint32(start[4:])), int64(be.Uint32(start[84:])), be.Uint64(start[48:])
	l := xfsLog{r: r, blocks: int64(be.Uint32(start[96:])) * size / xlogBlock}
	if at == 0 || l.blocks < 2*xlogLongest || start[124] > 31 {
		return false, nil
	}
	l.at = (int64(at>>start[124])*group + int64(at&(1<<start[124]-1))) * size
	head, err := l.head()
	if err != nil {
		return false, fmt.Errorf("reading the log of XFS: %w", err)
	}
	quiet, err := l.quiet(head)
	if err != nil {
		return false, fmt.Errorf("reading the log of XFS: %w", err)
	}
	return quiet, nil
}

type xfsLog struct {
	r          io.ReaderAt
	at, blocks int64 // byte at which it begins, and its length
	page       []byte
	pageAt     int64
}

// block gives one block. It is valid until the next call.
func (l *xfsLog) block(n int64) ([]byte, error) {
	off := l.at + (n%l.blocks+l.blocks)%l.blocks*xlogBlock
	if at := off &^ (pageSize - 1); l.page == nil || at != l.pageAt {
		if l.page == nil {
			l.page = aligned(pageSize)
		}
		l.pageAt = at
		if _, err := l.r.ReadAt(l.page, at); err != nil {
			l.page = nil
			return nil, err
		}
	}
	return l.page[off-l.pageAt:][:xlogBlock], nil
}

// cycle is the number of the round in which a block was written.
func (l *xfsLog) cycle(n int64) (uint32, error) {
	b, err := l.block(n)
	if err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(b) == xlogMagic {
		b = b[4:]
	}
	return binary.BigEndian.Uint32(b), nil
}

// head is the first block that was not written in the newest round; l.blocks where that is none.
func (l *xfsLog) head() (int64, error) {
	first, err := l.cycle(0)
	if err != nil {
		return 0, err
	}
	low, high := int64(1), l.blocks
	for low < high {
		middle := (low + high) / 2
		c, err := l.cycle(middle)
		if err != nil {
			return 0, err
		}
		if c == first {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, nil
}

// record is one of the log.
type xlogRecord struct {
	lsn, tail uint64
	ops       uint32
	data      []byte
	next      int64
}

// record reads the one whose header is block n; not ok if there is none, or one that is longer than any of a log that is quiet.
func (l *xfsLog) record(n int64) (rec xlogRecord, ok bool, err error) {
	be := binary.BigEndian
	header, err := l.block(n)
	if err != nil {
		return rec, false, err
	}
	length := int64(be.Uint32(header[xlogLenAt:]))
	blocks, headers := (length+xlogBlock-1)/xlogBlock, int64(1)
	if be.Uint32(header[xlogVersionAt:])&2 != 0 {
		headers = max((int64(be.Uint32(header[xlogSizeAt:]))+xlogCycles*xlogBlock-1)/(xlogCycles*xlogBlock), 1)
	}
	if be.Uint32(header) != xlogMagic || length == 0 || headers > 8 || blocks > xlogCycles*headers {
		return rec, false, nil
	}
	rec = xlogRecord{lsn: be.Uint64(header[xlogLSNAt:]), tail: be.Uint64(header[xlogTailAt:]), ops: be.Uint32(header[xlogOpsAt:]), next: n + headers + blocks}
	cycles := append([]byte(nil), header[xlogCyclesAt:][:4*xlogCycles]...)
	for i := int64(1); i < headers; i++ {
		b, err := l.block(n + i)
		if err != nil {
			return rec, false, err
		}
		cycles = append(cycles, b[4:][:4*xlogCycles]...)
	}
	for i := range blocks {
		b, err := l.block(n + headers + i)
		if err != nil {
			return rec, false, err
		}
		rec.data = append(append(rec.data, cycles[4*i:][:4]...), b[4:]...)
	}
	rec.data = rec.data[:length]
	return rec, true, nil
}

// quiet looks at all records that a recovery would read.
func (l *xfsLog) quiet(head int64) (bool, error) {
	last := head - 1
	for ; last > head-xlogLongest; last-- {
		b, err := l.block(last)
		if err != nil {
			return false, err
		}
		if binary.BigEndian.Uint32(b) == xlogMagic {
			break
		}
	}
	newest, ok, err := l.record(last)
	if err != nil || !ok || newest.next != head {
		return false, err
	}
	if end, quiet := newest.look(); end || !quiet {
		return end, nil
	}
	at := int64(newest.tail & (1<<32 - 1))
	for range xlogMost {
		rec, ok, err := l.record(at)
		if err != nil || !ok || rec.lsn&(1<<32-1) != uint64(at%l.blocks) {
			return false, err
		}
		if _, quiet := rec.look(); !quiet {
			return false, nil
		}
		if rec.lsn == newest.lsn {
			return true, nil
		}
		at = rec.next % l.blocks
	}
	return false, nil
}

// look goes through a record: end says that the filesystem was unmounted with it, quiet that it holds nothing but the superblock.
func (rec *xlogRecord) look() (end, quiet bool) {
	data := rec.data
	var order binary.ByteOrder // of the transaction
	skip := 0                  // parts of an item
	for range rec.ops {
		if len(data) < xlogOpHeader {
			return false, false
		}
		length, flags := binary.BigEndian.Uint32(data[4:]), data[9]
		data = data[xlogOpHeader:]
		if uint64(length) > uint64(len(data)) {
			return false, false
		}
		body := data[:length]
		data = data[length:]
		switch {
		case flags&xlogGone != 0:
			return rec.ops == 1, true
		case flags&(xlogContinue|xlogWas) != 0:
			return false, false
		case length == 0: // a transaction begins or ends
			if flags&xlogCommit != 0 {
				order = nil
			}
		case skip > 0:
			skip--
		case order == nil:
			if order = transOrder(body); order == nil {
				return false, false
			}
		default:
			// struct xfs_buf_log_format: u16 type, parts, flags, len; s64 block.
			if length < 16 || order.Uint16(body) != xlogBufItem || order.Uint64(body[8:]) != 0 {
				return false, false
			}
			skip = int(order.Uint16(body[2:])) - 1
		}
	}
	return false, true
}

// transOrder is the byte order of what begins with the head of a transaction; nil if nothing does.
func transOrder(body []byte) binary.ByteOrder {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		if len(body) >= 4 && order.Uint32(body) == xlogTransMagic {
			return order
		}
	}
	return nil
}
