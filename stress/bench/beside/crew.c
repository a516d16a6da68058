/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* CPU sets */
#include "bench/beside/measure.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define THREADS_MAX 16

noreturn void fail(const char *what, const char *why)
{
	fprintf(stderr, "bench-beside: %s: %s\n", what, why);
	exit(1);
}

void must(enum aspace_status status, const char *what)
{
	if (status != ASPACE_OK)
		fail(what, aspace_status_string(status));
}

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

unsigned cpu_count(void)
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	return (unsigned)CPU_COUNT(&allowed);
}

static void run_on(unsigned number)
{
	cpu_set_t allowed, one;

	CPU_ZERO(&allowed);
	sched_getaffinity(0, sizeof(allowed), &allowed);
	number %= (unsigned)CPU_COUNT(&allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || number--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
		return;
	}
}

struct crew {
	pthread_barrier_t start;
	bool pinned;
	void (*work)(void *ctx, unsigned thread);
	void *ctx;
};

struct member {
	pthread_t thread;
	struct crew *crew;
	unsigned number;
	double begun, ended;
};

static void *run_member(void *arg)
{
	struct member *member = arg;
	struct crew *crew = member->crew;

	if (crew->pinned)
		run_on(member->number);
	pthread_barrier_wait(&crew->start);
	member->begun = now();
	crew->work(crew->ctx, member->number);
	member->ended = now();
	return NULL;
}

double run_crew(unsigned threads, bool pinned, void (*work)(void *ctx, unsigned thread), void *ctx)
{
	struct crew crew = {.pinned = pinned, .work = work, .ctx = ctx};
	struct member members[THREADS_MAX];
	double begun = 0, ended = 0;

	if (threads > THREADS_MAX)
		fail("threads", "too many");
	pthread_barrier_init(&crew.start, NULL, threads);
	for (unsigned i = 0; i < threads; i++) {
		members[i] = (struct member){.crew = &crew, .number = i};
		if (pthread_create(&members[i].thread, NULL, run_member, &members[i]))
			fail("a thread", "there is none");
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(members[i].thread, NULL);
		if (!i || members[i].begun < begun)
			begun = members[i].begun;
		if (!i || members[i].ended > ended)
			ended = members[i].ended;
	}
	pthread_barrier_destroy(&crew.start);
	return ended - begun;
}
