package apply_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"snapdiff/apply"
	. "snapdiff/apply/applytest"
	"snapdiff/apply/fusefs"
)

// TestEveryRestorePointIsExact brings all scenarios and then random rounds into a mirror, and afterwards restores and mounts
// each restore point and judges it by the snapshot that it was made of.
func TestEveryRestorePointIsExact(t *testing.T) {
	r := rand.New(rand.NewPCG(Seed(t), 1))
	rounds, each := 5, 150
	if Soak() {
		rounds, each = 200, 1000
	}
	k := newKeeper(t, MirrorKinds[r.IntN(len(MirrorKinds))])
	begin(t, k.source)
	k.run(never)
	changeAll(t, k.source)
	k.run(never)
	for range rounds {
		k.randomRound(r, each)
	}
	for run := 1; run <= k.taken; run++ {
		k.judgePoint(int64(run))
	}
}

// judgePoint judges one restore point, restored and mounted.
func (k *keeper) judgePoint(run int64) {
	k.Helper()
	want := filepath.Join(k.snaps, fmt.Sprintf("snapdiff-%d", run))
	view, err := apply.OpenView(k.store, "", run)
	k.must(err)
	defer view.Close()
	restored := filepath.Join(filepath.Dir(k.store), "restored")
	_, err = view.Restore(context.Background(), "", restored)
	k.must(err)
	k.Logf("r%d restored", run)
	Judge(k, want, restored)
	k.must(os.RemoveAll(restored))
	dir := filepath.Join(filepath.Dir(k.store), "mounted")
	k.must(os.MkdirAll(dir, 0o700))
	server, err := fusefs.Mount(view, dir, fusefs.Options{})
	k.must(err)
	defer server.Wait()
	defer server.Unmount()
	k.Logf("r%d mounted", run)
	Judge(k, want, dir)
}
