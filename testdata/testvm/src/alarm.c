// Preloaded into linux.uml. When nothing is to be done it sleeps until its one timer ends (os_idle_sleep in arch/um/os-Linux/time.c), but only
// if the timer still runs: else the signal is on its way, and it looks again. Once in some thousand minutes the signal never comes. Then
// the machine asks for ever, at full speed, and nothing in it that waits for a time ever wakes. Here it gets the signal if it has asked
// so often that none can be on its way; one too many does no harm, as each looks at what is due.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { often = 1000 };

int timer_gettime(timer_t timer, struct itimerspec *left)
{
	static int (*real)(timer_t, struct itimerspec *);
	static int asked; // one thread sleeps
	if (!real)
		real = dlsym(RTLD_NEXT, "timer_gettime");
	int err = real(timer, left);
	if (err || left->it_value.tv_sec || left->it_value.tv_nsec)
		asked = 0;
	else if (++asked % often == 0)
		kill(getpid(), SIGALRM);
	return err;
}
