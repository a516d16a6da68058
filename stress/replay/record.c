/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* asprintf, mkstemps, pipe2 */
#endif

#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "array.h"
#include "run.h"

/* The command; not const, because exec's arguments are not. "?": a call that this
 * machine does not have is no error. */
static char calls[] = "trace=?mmap,?mmap2,?old_mmap,munmap,mprotect,?pkey_mprotect,mremap,brk,"
		      "?shmget,?shmctl,?shmat,?shmdt,?map_shadow_stack,?remap_file_pages,?mseal,"
		      "madvise,execve,?execveat,clone,?clone3,?fork,?vfork";
static char beginning[][16] = {"strace", "-f", "-s", "0", "-e", "signal=none"};
static char option[] = "-e", output[] = "-o";
static char separator[] = "--";

static char *make_path(const char *save)
{
	const char *directory = getenv("TMPDIR");
	char *path;
	int fd;

	if (save)
		return strdup(save);
	if (!directory || !*directory)
		directory = "/tmp";
	if (asprintf(&path, "%s/replay-XXXXXX.strace", directory) < 0)
		return NULL;
	fd = mkstemps(path, (int)strlen(".strace"));
	if (fd < 0) {
		fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
		free(path);
		return NULL;
	}
	close(fd);
	return path;
}

/* Start strace; *error is why it could not be started, or 0. */
static pid_t start(char **arguments, int *error)
{
	int report[2];
	pid_t child;

	if (pipe2(report, O_CLOEXEC)) {
		*error = errno;
		return -1;
	}
	child = fork();
	if (!child) {
		execvp(arguments[0], arguments);
		/* The pipe closes itself where exec succeeds. */
		if (write(report[1], &errno, sizeof(errno)) < 0)
			_exit(126);
		_exit(127);
	}
	*error = child < 0 ? errno : 0;
	close(report[1]);
	if (child > 0 && read(report[0], error, sizeof(*error)) != sizeof(*error))
		*error = 0;
	close(report[0]);
	return child;
}

/* May this process be traced at all? Answers errno, 0 if it may. */
static int try_ptrace(void)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) ? errno : 0);
	if (child < 0 || waitpid(child, &status, 0) != child)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

static void explain(int status)
{
	int error = try_ptrace();

	if (error)
		fprintf(stderr,
			"replay: ptrace is not permitted here (%s), and strace needs it: in a "
			"container, allow it with --cap-add=SYS_PTRACE; else see "
			"/proc/sys/kernel/yama/ptrace_scope\n",
			strerror(error));
	else
		fprintf(stderr, "replay: strace recorded nothing (it ended with %d)\n",
			WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Where the kernel lists strace's children, while strace runs: of these there is one. */
static char children[64];
static _Atomic bool recording;

/* strace itself keeps such signals back, so as to record to the end. */
void record_interrupt(void)
{
	int saved = errno, fd;
	char text[16] = "";

	if (atomic_load(&recording)) {
		fd = open(children, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && atoi(text) > 0)
			kill(atoi(text), SIGINT);
		if (fd >= 0)
			close(fd);
	}
	errno = saved;
}

static int wait_for(pid_t child)
{
	siginfo_t info;
	int status = 0;

	snprintf(children, sizeof(children), "/proc/%d/task/%d/children", (int)child, (int)child);
	atomic_store(&recording, true);
	if (atomic_load(&run_interrupted)) /* before anybody could be told */
		record_interrupt();
	/* Not yet reaped, so that its number is still its own. */
	while (waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) && errno == EINTR)
		;
	atomic_store(&recording, false);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

char *record_run(char **program, const char *save)
{
	char *path = make_path(save), **arguments = NULL;
	size_t arguments_count = 0, arguments_capacity = 0;
	struct stat file;
	int status = 0, error;
	pid_t child;

	if (!path)
		return NULL;
	for (size_t i = 0; i < sizeof(beginning) / sizeof(beginning[0]); i++)
		ARRAY_PUSH(arguments, beginning[i]);
	ARRAY_PUSH(arguments, option);
	ARRAY_PUSH(arguments, calls);
	ARRAY_PUSH(arguments, output);
	ARRAY_PUSH(arguments, path);
	ARRAY_PUSH(arguments, separator);
	for (char **argument = program; *argument; argument++)
		ARRAY_PUSH(arguments, *argument);
	ARRAY_PUSH(arguments, NULL);

	child = start(arguments, &error);
	free(arguments);
	if (child > 0)
		status = wait_for(child);
	if (error) {
		fprintf(stderr, "replay: strace: %s%s\n", strerror(error),
			error == ENOENT ? " (Debian: apt-get install strace)" : "");
	} else if (stat(path, &file) || !file.st_size) {
		explain(status);
	} else {
		return path;
	}
	record_done(path, !save);
	return NULL;
}

void record_done(char *path, bool remove)
{
	if (remove)
		unlink(path);
	free(path);
}
