package job

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/diff"
)

// behave gives this process the nice value and the I/O priority that a job asks for; what it starts has them too. The result puts
// back what was before, for the next job. What is not asked for is not touched: without a class, the I/O priority follows from nice.
func behave(n config.Neighbour) (restore func(), err error) {
	nice, io, err := priorities()
	if err == nil {
		err = setPriorities(n.Nice, n.IONice)
	}
	if err != nil {
		return nil, fmt.Errorf("set nice and ionice of this run: %w", err)
	}
	oldNice, oldIO := &nice, &io
	if n.Nice == nil {
		oldNice = nil
	}
	if n.IONice == nil {
		oldIO = nil
	}
	// To take back a higher nice value needs a right that root has; the process goes on as it is without.
	return func() { _ = setPriorities(oldNice, oldIO) }, nil
}

// Of ioprio_set(2) (linux/ioprio.h), which has no wrapper.
const ioprioWhoProcess = 1

// priorities are those of the calling thread. Nothing but a job sets them, so they are those of all.
func priorities() (nice, io int, err error) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return 0, 0, err
	}
	ioprio, _, errno := unix.Syscall(unix.SYS_IOPRIO_GET, ioprioWhoProcess, 0, 0)
	if errno != 0 {
		return 0, 0, errno
	}
	return 20 - raw, int(ioprio), nil // the bare system call gives 20 - nice, so as never to be negative
}

// setPriorities sets them for every thread: on Linux both belong to a thread, and a new one has those of the thread that made it. So once
// a pass has met no thread that was not set yet, none is left.
func setPriorities(nice, io *int) error {
	if nice == nil && io == nil {
		return nil
	}
	set := map[int]bool{}
	for again := true; again; {
		again = false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil || set[id] {
				continue
			}
			set[id], again = true, true
			if err := setThread(id, nice, io); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

func setThread(id int, nice, io *int) error {
	if nice != nil {
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, *nice); err != nil {
			return err
		}
	}
	if io == nil {
		return nil
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, ioprioWhoProcess, uintptr(id), uintptr(*io)); errno != 0 {
		return errno
	}
	return nil
}

// applyOptions are for all that changes the store.
func (r *runner) applyOptions() apply.Options {
	return apply.Options{Workers: r.job.Workers, Pace: r.pace, Progress: r.opts.Progress, NoSums: !r.job.Checksums, ReadBack: r.job.VerifyWrites}
}

func (r *runner) diffOptions(again []diff.Key) diff.Options {
	return diff.Options{Exclude: r.exclude, Again: again, Workers: r.job.Workers, Pace: r.pace}
}

func (r *runner) fullOptions(progress func(names, bytes int64)) diff.FullOptions {
	return diff.FullOptions{Exclude: r.exclude, Workers: r.job.Workers, Pace: r.pace, Progress: progress}
}
