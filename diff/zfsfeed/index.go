package zfsfeed

import (
	"fmt"
	"sync"

	"snapdiff/diff"
)

// index lets several goroutines ask a link index. What an index without signatures does not know is 0.
type index struct {
	mu     sync.Mutex
	names  diff.LinkIndex
	signed diff.SignatureIndex // nil: it has none
}

func newIndex(links diff.LinkIndex) *index {
	signed, _ := links.(diff.SignatureIndex)
	return &index{names: links, signed: signed}
}

// Names implements diff.LinkIndex.
func (x *index) Names(ino uint64) ([]diff.Ref, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.names.Names(ino)
}

// Each implements diff.RangeIndex.
func (x *index) Each(first, last uint64, yield func(k diff.Key, dir bool, name diff.Ref) error) error {
	r, ok := x.names.(diff.RangeIndex)
	if !ok {
		return fmt.Errorf("the link index cannot be read through: %w", diff.ErrNotNative)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return r.Each(first, last, yield)
}

// Signature implements diff.SignatureIndex.
func (x *index) Signature(ino uint64) (uint64, error) {
	if x.signed == nil {
		return 0, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.signed.Signature(ino)
}

// Generation implements diff.SignatureIndex.
func (x *index) Generation(ino uint64) (uint64, error) {
	if x.signed == nil {
		return 0, nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.signed.Generation(ino)
}
