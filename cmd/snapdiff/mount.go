package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/apply/fusefs"
	"snapdiff/cmd/snapdiff/config"
	"snapdiff/cmd/snapdiff/hint"
	"snapdiff/cmd/snapdiff/job"
	"snapdiff/cmd/snapdiff/output"
)

// mountsDir holds the directories that mount makes when none is given.
const mountsDir = "/run/snapdiff"

// mountOptions are the flags of mount.
type mountOptions struct {
	job        string
	all        bool
	allowOther bool
	foreground bool
}

func newMountCommand(a *app) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount DATE [DIR] | --all [DIR]",
		Short: "Show the whole tree as it was, read-only",
		Long: `Shows the whole tree as it was at DATE as a read-only filesystem, in the background, and prints its directory: DIR, which must be
empty, or one below ` + mountsDir + `. With --all every restore point is a directory there, named by its date; new ones appear by
themselves, and "latest" leads to the newest. What is mounted stays right while runs go on, and is not dropped by prune;
with --all that holds for what was looked into within the last minutes. End it with snapdiff umount.`,
		Example: "  snapdiff mount yesterday\n  snapdiff mount '2026-11-20 14:00' /mnt\n  snapdiff mount --all",
		Args: func(cmd *cobra.Command, args []string) error {
			if o.all {
				return cobra.MaximumNArgs(1)(cmd, args)
			}
			return cobra.RangeArgs(1, 2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mount(cmd, o, args)
		},
	}
	addJobFlag(cmd, &o.job)
	cmd.Flags().BoolVar(&o.all, "all", false, "show every restore point, one directory a date")
	cmd.Flags().BoolVar(&o.allowOther, "allow-other", false, "let other users in; they see what they could see in the source")
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay until it is unmounted")
	return cmd
}

func (a *app) mount(cmd *cobra.Command, o mountOptions, args []string) error {
	j, err := a.job(o.job)
	if err != nil {
		return err
	}
	name := "all"
	if !o.all {
		run, err := chooseRun(cmd.ErrOrStderr(), j, args[0])
		if err != nil {
			return err
		}
		name, args = fmt.Sprintf("r%d", run), args[1:]
	}
	dir := filepath.Join(mountsDir, j.Name, name)
	if len(args) > 0 {
		if dir, err = filepath.Abs(args[0]); err != nil {
			return err
		}
		if err := a.outside(dir); err != nil {
			return err
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) { // which it says of a dead mount
		return fmt.Errorf("make the directory to mount on: %w", err)
	}
	if err := checkMountPoint(dir); err != nil {
		return err
	}
	if o.foreground {
		return a.serve(cmd, o, j, name, dir)
	}
	if err := a.background(cmd.Context(), j.Name, o, name, dir); err != nil {
		return err
	}
	return a.reportMount(cmd, j, name, dir)
}

// mountRecord is a mount in JSON.
type mountRecord struct {
	Job         string `json:"job"`
	Run         string `json:"run"` // "all" with --all
	output.Path        // where it is mounted
}

// reportMount says where it is mounted. name is "all" or a run's.
func (a *app) reportMount(cmd *cobra.Command, j config.Job, name, dir string) (err error) {
	if a.json {
		return output.JSON(cmd.OutOrStdout(), mountRecord{j.Name, name, output.NewPath(dir)})
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), output.Name(dir))
	return err
}

// checkMountPoint refuses a directory where a mount would hide something. One that is mounted already is refused too: whoever ends the mount that he was
// told of would end that of somebody else.
func checkMountPoint(dir string) error {
	names, err := os.ReadDir(dir)
	if errors.Is(err, unix.ENOTCONN) {
		return hint.With(fmt.Errorf("a dead mount is at %s: the process that served it has ended", output.Name(dir)), "snapdiff umount %s", output.Name(dir))
	}
	if err != nil {
		return fmt.Errorf("look at the directory to mount on: %w", err)
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return fmt.Errorf("look at the directory to mount on: %w", err)
	}
	mounts, err := job.MountPoints(mountType)
	switch {
	case err != nil:
		return err
	case slices.Contains(mounts, real):
		return hint.With(usageError{fmt.Errorf("%s is mounted already", output.Name(dir))},
			"it can be used; to have it once more, name an empty directory; to end it: snapdiff umount %s", output.Name(dir))
	case len(names) > 0:
		return hint.With(usageError{fmt.Errorf("%s is not empty", output.Name(dir))}, "name an empty directory")
	}
	return nil
}

// serve mounts and stays until it is unmounted, or until a signal comes. name is "all" or a run's.
func (a *app) serve(cmd *cobra.Command, o mountOptions, j config.Job, name, dir string) error {
	wait, err := start(o, j, name, dir)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(cmd.Context(), func() { unix.Unmount(dir, unix.MNT_DETACH) })
	defer stop()
	if err := a.reportMount(cmd, j, name, dir); err != nil {
		return err
	}
	return wait()
}

// start mounts. wait returns when it has been unmounted.
func start(o mountOptions, j config.Job, name, dir string) (wait func() error, err error) {
	opts := fusefs.Options{AllowOther: o.allowOther}
	open := func(run int64) (*apply.View, error) { return apply.OpenView(j.Store, j.Catalog, run) }
	if o.all {
		points := func() ([]apply.RestorePoint, error) { return apply.RestorePoints(j.Store, j.Catalog) }
		all, err := fusefs.MountAll(fusefs.Source{Name: j.Name, Points: points, Open: open}, dir, opts)
		if err != nil {
			return nil, err
		}
		return all.Wait, nil
	}
	run, err := strconv.ParseInt(strings.TrimPrefix(name, "r"), 10, 64)
	if err != nil {
		return nil, err
	}
	view, err := open(run)
	if err != nil {
		return nil, err
	}
	server, err := fusefs.Mount(view, dir, opts)
	if err != nil {
		return nil, errors.Join(err, view.Close())
	}
	return func() error { server.Wait(); return view.Close() }, nil
}

// background starts this program again to serve the mount, and waits until it can be used.
func (a *app) background(ctx context.Context, job string, o mountOptions, name, dir string) error {
	config, err := filepath.Abs(a.configPath) // the server stands elsewhere, to keep no disk busy
	if err != nil {
		return err
	}
	args := []string{"mount", "--foreground", "--config", config, "-j", job}
	if o.allowOther {
		args = append(args, "--allow-other")
	}
	ready, stdout, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	errs, err := os.CreateTemp("", "snapdiff-mount-")
	if err != nil {
		stdout.Close()
		return err
	}
	defer errs.Close()
	os.Remove(errs.Name())
	if o.all {
		args = append(args, "--all", "--", dir)
	} else {
		args = append(args, "--", name, dir)
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = stdout, errs, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	stdout.Close()
	if err != nil {
		return fmt.Errorf("start the mount: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { cmd.Process.Kill() })
	defer stop()
	if line, _ := bufio.NewReader(ready).ReadString('\n'); line != "" {
		return cmd.Process.Release()
	}
	cmd.Wait()
	said := make([]byte, 4096)
	n, _ := errs.ReadAt(said, 0)
	return errors.New(strings.TrimPrefix(strings.TrimSpace(string(said[:n])), "snapdiff: "))
}

func newUmountCommand() *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:     "umount DIR | --all",
		Example: "  snapdiff umount /mnt\n  snapdiff umount --all",
		Short:   "End a mount of restore points",
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			mounts, err := job.MountPoints(mountType)
			if err != nil {
				return err
			}
			if all {
				return umountAll(mounts)
			}
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return err
			}
			if real, err := filepath.EvalSymlinks(dir); err == nil {
				dir = real
			}
			if !slices.Contains(mounts, dir) {
				return usageError{fmt.Errorf("%s is no mount of a restore point", output.Name(dir))}
			}
			return umount(dir)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "end all of them, of all jobs")
	return cmd
}

// mountType is what the kernel calls the type of our mounts.
const mountType = "fuse.snapdiff"

// umountAll ends all mounts, the newest first: one may lie on another.
func umountAll(mounts []string) error {
	var errs []error
	for _, dir := range slices.Backward(mounts) {
		errs = append(errs, umount(dir))
	}
	return errors.Join(errs...)
}

func umount(dir string) error {
	serving := servers(dir)
	defer func() {
		for _, fd := range serving {
			unix.Close(fd)
		}
	}()
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("umount %s: %w (a program that works in it keeps it busy)", output.Name(dir), err)
	}
	for _, fd := range serving {
		waitForEnd(fd)
	}
	if strings.HasPrefix(dir, mountsDir+"/") {
		os.Remove(dir) // it was made by mount; if somebody uses it, it may stay
	}
	return nil
}

// servers gives pidfds of the processes that serve a mount. They hold its restore point until they end.
func servers(dir string) (fds []int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		text, _ := os.ReadFile(file)
		args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
		if !slices.Contains(args, "--foreground") || !slices.Contains(args, "mount") || args[len(args)-1] != dir {
			continue
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err != nil {
			continue
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			fds = append(fds, fd)
		}
	}
	return fds
}

// serverPatience is how long umount waits for a server that has nothing to serve any more, so that a prune right after it finds nothing in use.
const serverPatience = 10 * time.Second

// waitForEnd waits for a process, by its pidfd.
func waitForEnd(fd int) {
	for end := time.Now().Add(serverPatience); ; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(max(0, time.Until(end)).Milliseconds()))
		if n > 0 || err != unix.EINTR {
			return
		}
	}
}
