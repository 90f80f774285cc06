package zfsfeed

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"snapdiff/diff"
)

// The send stream is made of records, dmu_replay_record_t of OpenZFS's include/sys/zfs_ioctl.h, each 312 bytes: type (4),
// drr_payloadlen (4), a union of 304, whose last 32 bytes are the checksum of everything before it (in all but BEGIN); then a
// payload of a length that depends on the type. All numbers are in the byte order of the sender, which the magic number of BEGIN
// tells. Offsets are those within the record.
const (
	recordSize = 312
	sumAt      = recordSize - 32 // drr_checksum.drr_checksum
	magic      = 0x2F5bacbac     // DMU_BACKUP_MAGIC

	substream  = 1        // DMU_SUBSTREAM: one snapshot, no properties
	maxPayload = 32 << 20 // twice SPA_MAXBLOCKSIZE
)

// kind is drr_type.
type kind uint32

const (
	begin kind = iota
	object
	freeObjects
	write
	free
	end
	writeByRef
	spill
	writeEmbedded
	objectRange
	redact
)

// Feature flags, DMU_BACKUP_FEATURE_*. Those not among the known ones may change the meaning of records.
const (
	featureSpill      = 1 << 2
	featureEmbedded   = 1 << 16
	featureLZ4        = 1 << 17
	featureLarge      = 1 << 19
	featureCompressed = 1 << 22
	featureLargeDnode = 1 << 23
	featureZstd       = 1 << 25
	featureHolds      = 1 << 26
	featureSwitch     = 1 << 27
	featureLongName   = 1 << 28
	featuresKnown     = featureSpill | featureEmbedded | featureLZ4 | featureLarge | featureCompressed | featureLargeDnode | featureZstd |
		featureHolds | featureSwitch | featureLongName
)

// spillUnmodified is DRR_SPILL_UNMODIFIED: the block is there for old receivers only.
const spillUnmodified = 1 << 2

var (
	errDamaged = errors.New("the send stream is damaged")
	errCut     = errors.New("the send stream was cut off")
)

// record is one record as far as it is used. It is good until the next one.
type record struct {
	kind     kind
	object   uint64 // in freeObjects the first one
	count    uint64 // of freeObjects
	off, len uint64 // bytes of the object: write, writeEmbedded, free (len ^0 or more than is there: to the end), redact
	objType  uint32 // dmu_object_type_t of an object
	bonus    uint32 // the same of its bonus buffer
	flags    uint8  // of a spill
	payload  []byte // the bonus buffer of an object; nil for other kinds
}

// header is what BEGIN tells.
type header struct {
	features         uint64
	toGUID, fromGUID uint64
}

// stream reads records.
type stream struct {
	in    *bufio.Reader
	order binary.ByteOrder
	sum   fletcher4
	head  header
	buf   [recordSize]byte
	data  []byte
	last  record // of next
}

// readStream reads a whole stream, checks it, and hands over its records, without BEGIN and END.
func readStream(in io.Reader, visit func(*record) error) (header, error) {
	s := &stream{in: bufio.NewReaderSize(in, 256<<10)}
	if err := s.begin(); err != nil {
		return s.head, err
	}
	for {
		r, err := s.next()
		if err != nil {
			return s.head, err
		}
		if r.kind == end {
			return s.head, s.atEnd()
		}
		if err := visit(r); err != nil {
			return s.head, err
		}
	}
}

// begin reads BEGIN: magic at 8, drr_versioninfo 16, drr_type 32, drr_flags 36, drr_toguid 40, drr_fromguid 48, drr_toname 56.
func (s *stream) begin() error {
	if err := s.read(s.buf[:]); err != nil {
		return err
	}
	switch uint64(magic) {
	case binary.LittleEndian.Uint64(s.buf[8:]):
		s.order = binary.LittleEndian
	case binary.BigEndian.Uint64(s.buf[8:]):
		s.order = binary.BigEndian
	default:
		return fmt.Errorf("%w: it does not begin as one", errDamaged)
	}
	info := s.u64(16)
	s.head = header{features: info >> 2 & (1<<30 - 1), toGUID: s.u64(40), fromGUID: s.u64(48)}
	if k := kind(s.u32(0)); k != begin || info&3 != substream {
		return fmt.Errorf("the send stream is not that of one snapshot: %w", diff.ErrNotNative)
	}
	if unknown := s.head.features &^ featuresKnown; unknown != 0 {
		return fmt.Errorf("the send stream has features that are not known (%#x): %w", unknown, diff.ErrNotNative)
	}
	s.sum.add(s.order, s.buf[:])
	return s.payload(uint64(s.u32(4)))
}

// next reads a record and its payload and checks both.
func (s *stream) next() (*record, error) {
	before := s.sum
	if err := s.read(s.buf[:]); err != nil {
		return nil, err
	}
	s.sum.add(s.order, s.buf[:sumAt])
	if stored := s.sumAt(sumAt); stored != s.sum && stored != (fletcher4{}) { // very old senders sum up at the end only
		return nil, fmt.Errorf("%w: a record's checksum is wrong", errDamaged)
	}
	s.sum.add(s.order, s.buf[sumAt:])
	r := &s.last
	*r = record{kind: kind(s.u32(0)), object: s.u64(8)}
	if r.kind == end { // drr_checksum 8, drr_toguid 40
		if s.sumAt(8) != before {
			return nil, fmt.Errorf("%w: its checksum is wrong", errDamaged)
		}
		return r, nil
	}
	size, err := s.fields(r)
	if err != nil {
		return nil, err
	}
	if err := s.payload(size); err != nil {
		return nil, err
	}
	if r.kind == object {
		r.payload = s.data
	}
	return r, nil
}

// fields takes a record apart and gives the size of its payload.
func (s *stream) fields(r *record) (payload uint64, err error) {
	switch r.kind {
	case object: // type 16, bonustype 20, blksz 24, bonuslen 28, flags 35, raw_bonuslen 36
		r.objType, r.bonus = s.u32(16), s.u32(20)
		if raw := s.u32(36); raw != 0 {
			return uint64(raw), nil
		}
		return roundUp(s.u32(28)), nil
	case freeObjects: // firstobj 8, numobjs 16
		r.count = s.u64(16)
	case write: // type 16, offset 24, logical_size 32, compressiontype 50, compressed_size 96
		r.off, r.len = s.u64(24), s.u64(32)
		if s.buf[50] != 0 {
			return s.u64(96), nil
		}
		return r.len, nil
	case free: // offset 16, length 24
		r.off, r.len = s.u64(16), s.u64(24)
	case spill: // length 16, flags 32, compressed_size 40
		r.flags = s.buf[32]
		if compressed := s.u64(40); compressed != 0 {
			return compressed, nil
		}
		return s.u64(16), nil
	case writeEmbedded: // offset 16, length 24, psize 52
		r.off, r.len = s.u64(16), s.u64(24)
		return roundUp(s.u32(52)), nil
	case writeByRef, objectRange, redact: // of deduplicated, raw and redacted streams
		return 0, fmt.Errorf("the send stream has a record of type %d: %w", r.kind, diff.ErrNotNative)
	default:
		return 0, fmt.Errorf("%w: a record of the unknown type %d", errDamaged, r.kind)
	}
	return 0, nil
}

// payload reads what follows a record.
func (s *stream) payload(size uint64) error {
	if size > maxPayload || size%4 != 0 {
		return fmt.Errorf("%w: a record is followed by %d bytes", errDamaged, size)
	}
	if uint64(cap(s.data)) < size {
		s.data = make([]byte, size)
	}
	s.data = s.data[:size]
	if err := s.read(s.data); err != nil {
		return err
	}
	s.sum.add(s.order, s.data)
	return nil
}

func (s *stream) atEnd() error {
	if _, err := s.in.ReadByte(); err == nil {
		return fmt.Errorf("%w: something follows its end", errDamaged)
	} else if err != io.EOF {
		return err
	}
	return nil
}

// read fills b. A stream that ends too early is cut off, unless the sender says what went wrong.
func (s *stream) read(b []byte) error {
	_, err := io.ReadFull(s.in, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errCut
	}
	return err
}

func (s *stream) u32(at int) uint32 { return s.order.Uint32(s.buf[at:]) }
func (s *stream) u64(at int) uint64 { return s.order.Uint64(s.buf[at:]) }

func (s *stream) sumAt(at int) fletcher4 {
	return fletcher4{s.u64(at), s.u64(at + 8), s.u64(at + 16), s.u64(at + 24)}
}

// roundUp is P2ROUNDUP(n, 8).
func roundUp(n uint32) uint64 { return (uint64(n) + 7) &^ 7 }

// fletcher4 is the running checksum of ZFS (module/zcommon/zfs_fletcher.c): four sums over words of 32 bits.
type fletcher4 [4]uint64

// add goes on with b, whose length is a multiple of 4.
func (f *fletcher4) add(order binary.ByteOrder, b []byte) {
	a0, a1, a2, a3 := f[0], f[1], f[2], f[3]
	if order == binary.ByteOrder(binary.LittleEndian) { // this one is inlined
		for ; len(b) >= 4; b = b[4:] {
			a0 += uint64(binary.LittleEndian.Uint32(b))
			a1 += a0
			a2 += a1
			a3 += a2
		}
	} else {
		for ; len(b) >= 4; b = b[4:] {
			a0 += uint64(binary.BigEndian.Uint32(b))
			a1 += a0
			a2 += a1
			a3 += a2
		}
	}
	*f = fletcher4{a0, a1, a2, a3}
}
