/* SPDX-License-Identifier: MIT */
/*
 * dlclose() of a plugin with libaspace.a in it, before a thread ends that has used it.
 *
 * liburcu tells by a destructor of the thread's own that a thread is gone. It is not linked with
 * -z nodelete: where only the plugin holds it, it goes with the plugin, and the thread ends in code
 * that is no more. So the plugin must stay, or be opened to stay. The control is one
 * that does not.
 *
 *     plugin_closed CONTROL CURED      both are the plugin; the latter is linked with -z nodelete
 */
#include <dlfcn.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "../threads/crew.h"

static int (*plugin_use)(void);
static pthread_barrier_t used, closed;

static void *user(void *unused)
{
	(void)unused;
	check(plugin_use() == 0);
	pthread_barrier_wait(&used);
	pthread_barrier_wait(&closed);
	return NULL;
}

static void open_and_close(const char *path, int flags)
{
	void *handle = dlopen(path, RTLD_NOW | flags), *found;
	pthread_t thread;

	if (!handle)
		fail("%s", dlerror());
	found = dlsym(handle, "plugin_use");
	check(found);
	memcpy(&plugin_use, &found, sizeof(found));
	pthread_barrier_init(&used, NULL, 2);
	pthread_barrier_init(&closed, NULL, 2);
	thread = spawn(user, NULL);
	pthread_barrier_wait(&used);
	check(!dlclose(handle));
	pthread_barrier_wait(&closed);
	join(thread);
}

/* In a child, which may crash; its status. */
static int status_of(const char *path, int flags)
{
	const struct rlimit none = {0, 0};
	int status;
	pid_t pid = fork();

	check(pid >= 0);
	if (!pid) {
		setrlimit(RLIMIT_CORE, &none);
		open_and_close(path, flags);
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid);
	return status;
}

int main(int argc, char **argv)
{
	int status;

	check(argc == 3);
	check(status_of(argv[2], 0) == 0);
	check(status_of(argv[1], RTLD_NODELETE) == 0);
	puts("linked with -z nodelete, or opened with RTLD_NODELETE, it may be closed");
	status = status_of(argv[1], 0);
	if (status == 0) {
		puts("skipped: the control does not crash: this liburcu stays by itself");
		return 77;
	}
	check(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	puts("closed without either, it takes liburcu with it, and the thread crashes as it ends");
	return 0;
}
