package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"zombiezen.com/go/sqlite"

	"snapdiff/diff"
	"snapdiff/snapshot/beneath"
)

// SumCheck is what comparing contents with the checksums taken when they were copied has found.
type SumCheck struct {
	Files, Bytes int64 // read
	// Unknown are files without a checksum: they were changed in part, or come from before there were checksums.
	Unknown int64
	// Rotten are paths in the mirror of which the contents are not what was copied, or cannot be read.
	Rotten []string
	// Lost are paths and restore points that rest on objects in history which are rotten or missing.
	Lost []Affected
	// Altered are names in the mirror that are not as runs left them.
	Altered []string
}

// sumChecker reads files and compares.
type sumChecker struct {
	s        *Store
	ctx      context.Context
	progress func(files, bytes int64)
	buffers  sync.Pool

	files, bytes, unknown atomic.Int64

	mu     sync.Mutex // for the catalog and what follows
	linked map[uint64]bool
	rotten []string
}

func (s *Store) newSumChecker(ctx context.Context, progress func(files, bytes int64)) (*sumChecker, error) {
	valid, err := s.sumsValid()
	if err != nil {
		return nil, err
	}
	if !valid {
		return nil, ErrNoSums
	}
	return &sumChecker{s: s, ctx: ctx, progress: progress, linked: map[uint64]bool{},
		buffers: sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}}, nil
}

// ErrNoSums says that a store has no checksums.
var ErrNoSums = errors.New("the store has no checksums: they are taken when files are copied or verified against their snapshot")

// check compares one file. false: it is not what it was.
func (c *sumChecker) check(root *beneath.Root, path string) (bool, error) {
	if err := context.Cause(c.ctx); err != nil {
		return false, err
	}
	st, err := root.Lstat(path)
	if err != nil {
		return false, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size == 0 {
		return true, nil // what it was, attributes say
	}
	c.mu.Lock()
	if st.Nlink > 1 && c.linked[st.Ino] {
		c.mu.Unlock()
		return true, nil
	}
	want, known, err := c.s.sumOf(st.Ino)
	if st.Nlink > 1 {
		c.linked[st.Ino] = true
	}
	c.mu.Unlock()
	if err != nil || !known {
		c.unknown.Add(1)
		return true, catalogError("read a checksum", err)
	}
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	got, err := sumFile(root, path, *buf)
	files, bytes := c.files.Add(1), c.bytes.Add(st.Size)
	if c.progress != nil {
		c.progress(files, bytes)
	}
	if err != nil && !isAny(err, unix.EIO, unix.ENODATA, unix.EBADMSG, unix.EUCLEAN) {
		return false, err
	}
	return err == nil && got == want, nil
}

// sumFile reads a file and makes its checksum.
func sumFile(root *beneath.Root, path string, buf []byte) (uint64, error) {
	fd, err := root.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NOATIME, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return sumOpen(fd, buf)
}

// sumOpen makes the checksum of an open file.
func sumOpen(fd int, buf []byte) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	sum := sumPool.Get().(*diff.ContentSum)
	defer sumPool.Put(sum)
	sum.Reset(st.Size)
	parts := []diff.Range{{Len: st.Size}}
	if st.Blocks*512 < st.Size {
		var err error
		if parts, err = dataParts(fd, 0, st.Size); err != nil {
			return 0, err
		}
	}
	for _, p := range parts {
		for off := p.Off; off < p.Off+p.Len; {
			n, err := unix.Pread(fd, buf[:min(int64(len(buf)), p.Off+p.Len-off)], off)
			if err == unix.EINTR {
				continue
			}
			if err == nil && n == 0 {
				err = errShort
			}
			if err != nil {
				return 0, err
			}
			sum.Add(off, buf[:n])
			off += int64(n)
		}
	}
	return sum.Sum(), nil
}

// VerifyMirror compares the files of the mirror with their checksums, and its names with the catalog. share, if not nil, tells the
// directories whose files are read.
func (s *Store) VerifyMirror(ctx context.Context, share func(dir string) bool, progress func(files, bytes int64)) (*SumCheck, error) {
	c, err := s.newSumChecker(ctx, progress)
	if err != nil {
		return nil, err
	}
	dirs := []string{""}
	for len(dirs) > 0 {
		dir := dirs[len(dirs)-1]
		dirs = dirs[:len(dirs)-1]
		sub, err := c.dir(dir, share == nil || share(dir))
		if err != nil {
			return nil, fmt.Errorf("verifying the mirror: %w", err)
		}
		dirs = append(dirs, sub...)
	}
	names := newCatalogCheck(ctx, s)
	if err := names.mirror(); err != nil {
		return nil, err
	}
	slices.Sort(c.rotten)
	return &SumCheck{Files: c.files.Load(), Bytes: c.bytes.Load(), Unknown: c.unknown.Load(), Rotten: c.rotten, Altered: names.wrong}, nil
}

// dir compares the files of one directory, if they are to be read, and gives its subdirectories.
func (c *sumChecker) dir(dir string, read bool) (sub []string, err error) {
	var files []string
	err = c.s.tree.ReadDir(dir, func(name string, dtype uint8, _ uint64) error {
		path := join(dir, name)
		if dtype == unix.DT_UNKNOWN {
			st, err := c.s.tree.Lstat(path)
			if err != nil {
				return err
			}
			dtype = uint8(st.Mode & unix.S_IFMT >> 12)
		}
		switch {
		case dtype == unix.DT_DIR:
			sub = append(sub, path)
		case dtype == unix.DT_REG && read:
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return sub, inChunks(c.ctx, defaultWorkers(), len(files), func(i int) error {
		ok, err := c.check(c.s.tree, files[i])
		if err == nil && !ok {
			c.mu.Lock()
			c.rotten = append(c.rotten, files[i])
			c.mu.Unlock()
		}
		return err
	})
}

// VerifyHistory compares the objects that a restore point rests on with their checksums; point 0 means all objects.
// catalog is as in OpenView. What is in the mirror is not read.
func (s *Store) VerifyHistory(ctx context.Context, point int64, catalog string, progress func(files, bytes int64)) (*SumCheck, error) {
	c, err := s.newSumChecker(ctx, progress)
	if err != nil {
		return nil, err
	}
	runs, err := s.numbers(`SELECT DISTINCT run FROM versions WHERE content = 1 AND run > ? ORDER BY run`, point)
	if err != nil {
		return nil, err
	}
	var lost []object
	for _, run := range runs {
		gone, err := c.lostOf(run, point)
		if err != nil {
			return nil, fmt.Errorf("verifying history: %w", err)
		}
		lost = append(lost, gone...)
	}
	saved, err := s.missingSaved()
	if err != nil {
		return nil, err
	}
	done := &SumCheck{Files: c.files.Load(), Bytes: c.bytes.Load(), Unknown: c.unknown.Load()}
	if done.Lost, err = s.affected(append(lost, saved...), catalog); err != nil || point == 0 {
		return done, err
	}
	done.Lost = slices.DeleteFunc(done.Lost, func(a Affected) bool { return !slices.Contains(a.Points, point) })
	return done, nil
}

// lostOf compares the objects of one run that a restore point rests on and gives those that are missing or rotten.
func (c *sumChecker) lostOf(run, point int64) (lost []object, err error) {
	objects, err := c.s.objectsOf(run, point)
	if err != nil {
		return nil, err
	}
	bad := make([]bool, len(objects))
	err = inChunks(c.ctx, defaultWorkers(), len(objects), func(i int) error {
		ok, err := c.check(c.s.history_, historyObject(objects[i].run, objects[i].node))
		bad[i] = missing(err) || err == nil && !ok
		return ignoreMissing(err)
	})
	for i, o := range objects {
		if bad[i] {
			lost = append(lost, o)
		}
	}
	return lost, err
}

// objectsOf gives the objects of one run with contents that a restore point shows; all objects for 0.
func (s *Store) objectsOf(run, point int64) (objects []object, err error) {
	sql := `SELECT run, node FROM versions v WHERE content = 1 AND run = ?1 AND (?2 = 0
		OR (SELECT born FROM nodes WHERE id = v.node) <= ?2 AND NOT EXISTS (SELECT 1 FROM versions o WHERE o.node = v.node AND o.run > ?2 AND o.run < v.run AND o.content = 1)) ORDER BY node`
	err = s.query(sql, func(row *sqlite.Stmt) error {
		objects = append(objects, object{row.ColumnInt64(0), row.ColumnInt64(1)})
		return nil
	}, run, point)
	return objects, catalogError("list what is in history", err)
}

// SumCollector keeps the checksums of files that were found right.
type SumCollector struct {
	s    *Store
	mu   sync.Mutex
	sums []fileSum
	err  error
}

// CollectSums begins. Nobody else may use the store until Flush, but for what does not need the catalog.
func (s *Store) CollectSums() *SumCollector { return &SumCollector{s: s} }

// Add takes the checksum of an inode of the mirror.
func (c *SumCollector) Add(ino, sum uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sums = append(c.sums, fileSum{ino, sum, true}); len(c.sums) >= 20_000 {
		c.flush()
	}
}

func (c *SumCollector) flush() {
	sums := c.sums
	c.sums = nil
	if c.err == nil && len(sums) > 0 {
		c.err = c.s.transaction("keep checksums", func() error { return c.s.setSums(sums) })
	}
}

// Flush ends the collecting.
func (c *SumCollector) Flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
	return c.err
}
