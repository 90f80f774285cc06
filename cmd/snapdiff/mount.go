package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"snapdiff/apply"
	"snapdiff/apply/fusefs"
	"snapdiff/cmd/snapdiff/output"
)

// mountsDir holds the directories that mount makes when none is given.
const mountsDir = "/run/snapdiff"

// mountOptions are the flags of mount.
type mountOptions struct {
	job        string
	allowOther bool
	foreground bool
}

func newMountCommand(a *app) *cobra.Command {
	var o mountOptions
	cmd := &cobra.Command{
		Use:   "mount DATE [DIR]",
		Short: "Show the whole tree as it was, read-only",
		Long: `Shows the whole tree as it was at DATE as a read-only filesystem, in the background, and prints its directory: DIR, which must be empty, or one below
` + mountsDir + `. End it with snapdiff umount. It stays right while runs go on.`,
		Example: "  snapdiff mount yesterday\n  snapdiff mount '2026-11-20 14:00' /mnt",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.mount(cmd, o, args)
		},
	}
	addJobFlag(cmd, &o.job)
	cmd.Flags().BoolVar(&o.allowOther, "allow-other", false, "let other users in; they see what they could see in the source")
	cmd.Flags().BoolVar(&o.foreground, "foreground", false, "stay until it is unmounted")
	return cmd
}

func (a *app) mount(cmd *cobra.Command, o mountOptions, args []string) error {
	j, err := a.job(o.job)
	if err != nil {
		return err
	}
	if o.foreground && len(args) == 2 {
		return a.serve(cmd, o, args[0], args[1])
	}
	run, err := chooseRun(cmd.ErrOrStderr(), j, args[0])
	if err != nil {
		return err
	}
	dir := filepath.Join(mountsDir, j.Name, fmt.Sprintf("r%d", run))
	if len(args) == 2 {
		if dir, err = filepath.Abs(args[1]); err != nil {
			return err
		}
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the directory to mount on: %w", err)
	}
	if err := checkMountPoint(dir); err != nil {
		return err
	}
	if o.foreground {
		return a.serve(cmd, o, fmt.Sprintf("r%d", run), dir)
	}
	if err := a.background(cmd.Context(), j.Name, o, fmt.Sprintf("r%d", run), dir); err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), output.Name(dir))
	return err
}

// checkMountPoint refuses a directory where a mount would hide something.
func checkMountPoint(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look at the directory to mount on: %w", err)
	}
	if len(names) > 0 {
		return usageError{fmt.Errorf("%s is not empty: is it mounted already? Name an empty directory", output.Name(dir))}
	}
	return nil
}

// serve mounts and stays until it is unmounted, or until a signal comes.
func (a *app) serve(cmd *cobra.Command, o mountOptions, date, dir string) error {
	j, err := a.job(o.job)
	if err != nil {
		return err
	}
	run, err := chooseRun(io.Discard, j, date)
	if err != nil {
		return err
	}
	view, err := apply.OpenView(j.Store, j.Catalog, run)
	if err != nil {
		return err
	}
	defer view.Close()
	server, err := fusefs.Mount(view, dir, fusefs.Options{AllowOther: o.allowOther})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(cmd.Context(), func() { unix.Unmount(dir, unix.MNT_DETACH) })
	defer stop()
	if _, err := fmt.Fprintln(cmd.OutOrStdout(), output.Name(dir)); err != nil {
		return err
	}
	server.Wait()
	return nil
}

// background starts this program again to serve the mount, and waits until it can be used.
func (a *app) background(ctx context.Context, job string, o mountOptions, date, dir string) error {
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
	cmd := exec.Command("/proc/self/exe", append(args, "--", date, dir)...)
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
	return &cobra.Command{
		Use:   "umount DIR",
		Short: "End a mount of a restore point",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return umount(args[0])
		},
	}
}

// fuseMagic is f_type of FUSE (FUSE_SUPER_MAGIC, linux/magic.h).
const fuseMagic = 0x65735546

func umount(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("umount %s: %w", output.Name(dir), err)
	}
	if st.Type != fuseMagic {
		return usageError{fmt.Errorf("%s is no mount of a restore point", output.Name(dir))}
	}
	if err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("umount %s: %w (a program that works in it keeps it busy)", output.Name(dir), err)
	}
	if strings.HasPrefix(dir, mountsDir+"/") {
		os.Remove(dir) // it was made by mount; if somebody uses it, it may stay
	}
	return nil
}
