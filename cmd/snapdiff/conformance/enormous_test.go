package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/cmd/snapdiff/job"
)

// TestEnormousFiles: files that claim exabytes, with a little at the beginning and at the end. A mirror that can hold them gets them, holes and
// all; one that cannot names them, and all else is done.
func TestEnormousFiles(t *testing.T) {
	const size = 1<<62 + 5
	for mirror, holds := range map[Kind]bool{XFS: true, Ext4: false} {
		t.Run(string(mirror), func(t *testing.T) {
			b := newBench(t, drivers[0], mirror)
			big := filepath.Join(b.origin.dir, "big")
			Apply(t, b.origin.dir, Create("file", 5000, 1))
			b.must(os.WriteFile(big, []byte("begin"), 0o600))
			f, err := os.OpenFile(big, os.O_WRONLY, 0)
			b.must(err)
			_, err = f.WriteAt([]byte("end"), size-3)
			b.must(errors.Join(err, f.Close()))
			b.enormous(holds, size)
			Apply(t, b.origin.dir, Append("file", 10, 2))
			f, err = os.OpenFile(big, os.O_WRONLY, 0)
			b.must(err)
			_, err = f.WriteAt([]byte("middle"), 1<<61)
			b.must(errors.Join(err, f.Close()))
			b.enormous(holds, size)
			b.must(os.Remove(big))
			b.run()
		})
	}
}

// enormous makes a run and looks at the file.
func (b *bench) enormous(holds bool, size int64) {
	b.Helper()
	reports, err := job.Run(b.Context(), b.job, job.Options{Say: b.Logf})
	b.sameFile("file")
	if !holds {
		var incomplete *job.Incomplete
		if !errors.As(err, &incomplete) || len(reports[0].Incomplete) != 1 || !strings.Contains(reports[0].Incomplete[0].Error, "too large") {
			b.Errorf("the run says %v: %+v", err, reports)
		}
		return
	}
	b.must(err)
	var texts [2]string
	for i, dir := range []string{b.origin.dir, filepath.Join(b.job.Store, "tree")} {
		f, err := os.Open(filepath.Join(dir, "big"))
		b.must(err)
		buf := make([]byte, 4096)
		for _, off := range []int64{0, 1 << 61, size - 3} {
			n, _ := f.ReadAt(buf, off)
			texts[i] += strings.TrimRight(string(buf[:n]), "\x00") + "|"
		}
		st, err := f.Stat()
		b.must(errors.Join(err, f.Close()))
		if st.Size() != size {
			b.Errorf("%s/big has %d bytes", dir, st.Size())
		}
	}
	v, err := job.Verify(b.Context(), b.job, job.VerifyOptions{}, b.Logf)
	b.must(err)
	if v.Differences != 0 {
		b.Errorf("verify finds %d differences", v.Differences)
	}
	_, err = job.VerifySums(b.Context(), b.job, -1, job.VerifyOptions{})
	b.must(err)
	view, err := apply.OpenView(b.job.Store, "", 1)
	b.must(err)
	defer view.Close()
	to := filepath.Join(filepath.Dir(b.job.Store), "restored")
	_, err = view.Restore(b.Context(), "big", to)
	b.must(err)
	st, err := os.Stat(to)
	b.must(errors.Join(err, os.Remove(to)))
	if st.Size() != size {
		b.Errorf("r1 restored has %d bytes", st.Size())
	}
	if texts[0] != texts[1] {
		b.Errorf("the source has %q, the mirror %q", texts[0], texts[1])
	}
}
