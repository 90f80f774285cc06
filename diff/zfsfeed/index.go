package zfsfeed

import "snapdiff/diff"

// signedIndex makes a link index one that has signatures, none of which is known where it has none.
func signedIndex(links diff.LinkIndex) diff.SignatureIndex {
	if signed, ok := links.(diff.SignatureIndex); ok {
		return signed
	}
	return unsigned{links}
}

// unsigned is a link index without signatures.
type unsigned struct{ diff.LinkIndex }

// Signatures implements diff.SignatureIndex.
func (unsigned) Signatures(inos []uint64) ([]uint64, error) { return make([]uint64, len(inos)), nil }

// Expect implements diff.SignatureIndex.
func (unsigned) Expect([]uint64) error { return nil }

// Generation implements diff.SignatureIndex.
func (unsigned) Generation(uint64) (uint64, error) { return 0, nil }
