package source

import (
	"slices"
	"testing"

	"snapdiff/diff"
)

func TestCarry(t *testing.T) {
	for _, keys := range [][]diff.Key{{}, {{Ino: 12, Gen: 1<<32 - 1}, {Ino: 1<<63 + 5}}} {
		got, ok := decodeCarry(encodeCarry(keys))
		if !ok || !slices.Equal(got, keys) {
			t.Errorf("%v is read back as %v, %v", keys, got, ok)
		}
	}
	for _, unknown := range []string{"", "[", "{}", carryForm, "[[12,1]]", encodeCarry(make([]diff.Key, mostCarried+1))} {
		if got, ok := decodeCarry(unknown); ok {
			t.Errorf("%q is read as %v", unknown, got)
		}
	}
}
