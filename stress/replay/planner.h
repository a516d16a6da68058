/* SPDX-License-Identifier: MIT */
/*
 * What plan.c (calls to steps) and people.c (threads to images) share while a
 * plan is made.
 */
#ifndef REPLAY_PLANNER_H
#define REPLAY_PLANNER_H

#include "plan.h"

/* A segment of shared memory where it is attached. */
struct attached {
	uint64_t start;
	struct areas pieces; /* what is left of it; protections are 0 */
	bool sized;          /* else it is as long as it turns out to be */
};

/* An image while the plan is made; the same index as in plan->images. */
struct living {
	struct areas now;
	/* Where any step has mapped or unmapped, and what existed; protections are
	 * 0. Nothing else can have existed all along. */
	struct areas touched;
	unsigned threads; /* in it; 0: it has ended */
	size_t active;    /* the last call that was made in it */
	struct attached *attached;
	size_t attached_count, attached_capacity;
	bool has_brk;
	uint64_t brk;
};

struct person {
	uint32_t pid;
	uint32_t image;
	bool guessed; /* it is in this image to judge by what it did */
};

struct planner {
	struct plan *plan;
	uint64_t page;
	struct living *living;
	size_t living_count, living_capacity;
	struct person *people; /* live threads */
	size_t people_count, people_capacity;
	size_t images_alive;
	uint32_t *strangers; /* pids that came later than the one without a number */
	size_t strangers_count, strangers_capacity;
	uint32_t first_pid; /* the pid of the thread whose early lines had none; 0: unknown */
	size_t now;         /* number of the call at hand */
};

/* The thread that makes `call`, met before or placed by what the call does; NULL
 * for the end of one never met. Valid until the next call of this file. */
struct person *people_of(struct planner *planner, const struct trace_call *call);
/* The thread met before under this pid, or NULL. */
struct person *people_known(struct planner *planner, uint32_t pid);
/* strace says that a thread is new. */
void people_attach(struct planner *planner, uint32_t pid);
/* The effects of clone, of execve (with or without a line), of an exit, and of
 * an exec by another thread that takes the pid over. */
void people_clone(struct planner *planner, const struct trace_call *call, struct person *parent);
void people_exec(struct planner *planner, struct person *person, enum image_origin origin,
		 size_t line);
void people_exit(struct planner *planner, struct person *person, size_t line);
void people_supersede(struct planner *planner, const struct trace_call *call);
/* End the images that still live. */
void people_finish(struct planner *planner, size_t line);

void attached_copy(struct living *to, const struct living *from);
void attached_free(struct living *living);

/* Append a step that has no range: BEGIN and END. */
void plan_mark(struct planner *planner, enum step_kind kind, uint32_t image, size_t line);

#endif
