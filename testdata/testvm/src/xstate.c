// Preloaded into linux.uml. The 6.1 kernel's buffer for a guest process's floating point registers has the 2,696 bytes of an XSAVE
// area without AMX. The host takes only whole areas (xstateregs_set in arch/x86/kernel/fpu/regset.c: else EFAULT), which are
// 11,008 bytes on a CPU with AMX: there the machine panics at its first process. What the guest knows of is put at the
// front of an area of the right size; the rest is AMX, which no guest process has asked for. Mended in Linux 6.13.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static char area[1 << 16] __attribute__((aligned(64))); // one thread traces

long ptrace(enum __ptrace_request request, ...)
{
	static long (*real)(enum __ptrace_request, ...);
	static size_t whole;
	va_list args;
	va_start(args, request);
	long pid = va_arg(args, int);
	void *addr = va_arg(args, void *), *data = va_arg(args, void *);
	va_end(args);
	if (!real)
		real = dlsym(RTLD_NEXT, "ptrace");
	if (request != PTRACE_SETREGSET || (long)addr != NT_X86_XSTATE)
		return real(request, (int)pid, addr, data);
	struct iovec *given = data, all = {area, sizeof area};
	if (!whole) {
		if (real(PTRACE_GETREGSET, (int)pid, addr, &all) != 0)
			return -1;
		whole = all.iov_len;
	}
	if (given->iov_len >= whole)
		return real(request, (int)pid, addr, data);
	memset(area, 0, whole);
	memcpy(area, given->iov_base, given->iov_len);
	all.iov_len = whole;
	return real(request, (int)pid, addr, &all);
}
