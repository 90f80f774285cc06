package apply

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// FuzzReadManifest: whatever is read ends with an error or is a whole manifest. So that more than the checksum is tried, one that fits is
// also put below the text.
func FuzzReadManifest(f *testing.F) {
	f.Add([]byte("snapdiff manifest 2\nrun {\"run\":17,\"state\":\"done\",\"prev\":16,\"places\":17}\n@ 12 d 5 3 anna\n@ 40 f 9 12 a\\x20b 12 c\n@ 41 l 0 -\n# x\n- 12 a 40\n+ 12 b\n" +
		"= 40 100644 1 2 0 3 4.000000005 1 here user.x=MQ==,user.y=\n% 44 8192 4096 15\n* 40 8a55aac1b3f0c9d2\n~ 40 257 9\n> 40 a/b\n"))
	f.Add([]byte("snapdiff manifest 3\nrun {\"run\":17,\"state\":\"recorded\",\"prev\":16,\"places\":16}\n~ 40 257 9\n> 40 a/b\n^ 12 -4.000000005\n"))
	f.Add([]byte("snapdiff manifest 1\nrun 17\n- 40 f a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		visitor := manifestVisitor{
			place:   func(p nodePlace, places []manifestPlace) error { return nil },
			entry:   func(int64, string, int64) error { return nil },
			version: func(v manifestVersion) error { _, err := decodeXattrs(v.xattrs); return err },
		}
		for _, text := range [][]byte{data, endManifest(data)} {
			h, err := readManifest(bytes.NewReader(text), visitor)
			if err == nil && h == nil || err != nil && !errors.Is(err, errManifest) && !errors.Is(err, errOldManifest) {
				t.Fatalf("%+v, %v", h, err)
			}
		}
	})
}

func endManifest(data []byte) []byte {
	lines := bytes.Count(data, []byte("\n"))
	return append(bytes.Clone(data), []byte("end "+itoa(lines)+" "+hex16(xxhash.Sum64(data))+"\n")...)
}

func itoa(n int) string { return nodeName(int64(n)) }

func hex16(n uint64) string {
	const digits = "0123456789abcdef"
	b := make([]byte, 16)
	for i := range b {
		b[15-i] = digits[n>>(4*i)&15]
	}
	return string(b)
}
