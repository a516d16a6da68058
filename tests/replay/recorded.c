/* SPDX-License-Identifier: MIT */
/*
 * Programs to be recorded, one for each argument: what common ones seldom do.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* mremap */
#endif
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	THREADS = 4,
	ROUNDS = 20,
};

static char *map(size_t size)
{
	char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return at;
}

/* Areas that move, grow, shrink and are cut, with a line of output now and then. */
static void *change_areas(void *argument)
{
	unsigned number = *(unsigned *)argument;

	for (unsigned i = 0; i < ROUNDS; i++) {
		size_t size = (1 + (number + i) % 7) * 4 * PAGE;
		char *at = map(size);

		mprotect(at + PAGE, PAGE, PROT_READ);
		at = mremap(at + 2 * PAGE, PAGE, size, MREMAP_MAYMOVE);
		if (at == MAP_FAILED)
			exit(1);
		madvise(at, size, MADV_DONTNEED);
		munmap(at + PAGE, size - PAGE);
		if (i % 5 == 0)
			printf("%u round %u\n", number, i);
	}
	return NULL;
}

static void run_threads(void)
{
	pthread_t threads[THREADS];
	unsigned numbers[THREADS];

	for (unsigned i = 0; i < THREADS; i++) {
		numbers[i] = i;
		if (pthread_create(&threads[i], NULL, change_areas, &numbers[i]))
			exit(1);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* Children that print, change their copies, and end in different ways. */
static void run_children(void)
{
	for (unsigned i = 0; i < THREADS; i++) {
		if (fork())
			continue;
		change_areas(&i);
		fflush(stdout);
		if (i == 1)
			kill(getpid(), SIGKILL);
		if (i == 2)
			execlp("true", "true", (char *)NULL);
		_exit((int)i);
	}
	while (wait(NULL) > 0)
		;
	printf("without a newline");
}

static void *start_other(void *argument)
{
	change_areas(argument);
	fflush(stdout);
	execlp("echo", "echo", "another program", (char *)NULL);
	return NULL;
}

/* execve by a thread that is not the first. */
static void run_thread_exec(void)
{
	unsigned number = 7;
	pthread_t thread;

	map(1 << 20);
	if (pthread_create(&thread, NULL, start_other, &number))
		exit(1);
	for (;;)
		pause();
}

static void run_segments(void)
{
	int segment = shmget(IPC_PRIVATE, 3 * PAGE, IPC_CREAT | 0600);
	void *first, *second;

	if (segment < 0)
		exit(1);
	first = shmat(segment, NULL, 0);
	second = shmat(segment, NULL, SHM_RDONLY);
	shmctl(segment, IPC_RMID, NULL);
	if (fork() == 0) {
		shmdt(second);
		map(3 * PAGE);
		_exit(0);
	}
	wait(NULL);
	shmdt(first);
	change_areas(&(unsigned){0});
	shmdt(second);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (!strcmp(what, "threads"))
		run_threads();
	else if (!strcmp(what, "children"))
		run_children();
	else if (!strcmp(what, "thread-exec"))
		run_thread_exec();
	else if (!strcmp(what, "segments"))
		run_segments();
	else
		return 2;
	return 0;
}
