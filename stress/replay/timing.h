/* SPDX-License-Identifier: MIT */
/*
 * What the library costs beside the kernel: one trace, played in four ways, without readers
 * and in turns.
 *
 *     kernel    the steps as the program's own calls: mmap, munmap, mprotect, mremap
 *     backend   what the library asked of the host backend, asked again without the library
 *     library   the steps as calls of the library, on the host backend
 *     touched   the same, but the library's memory has been touched before
 *
 * The library's own share is what `library` takes beyond `backend`: the two make the same
 * system calls in the same order. What `backend` takes beyond `kernel` is the price of a
 * window that stays reserved: mmap() in the place of munmap().
 *
 * A space begins without memory, and a trace is short: `library` has pages in it that a space
 * which lives for longer has had already, and `touched` has not.
 *
 * There is no clock within the measured part, but at the ends of spaces. Not measured:
 * making and unmaking a space, and the areas with which a forked one begins.
 */
#ifndef REPLAY_TIMING_H
#define REPLAY_TIMING_H

#include "options.h"

enum way {
	WAY_KERNEL,
	WAY_BACKEND,
	WAY_LIBRARY,
	WAY_TOUCHED,
	WAYS,
};

struct series {
	double *at;
	size_t at_count, at_capacity;
};

struct timing {
	size_t operations;          /* measured ones in a pass */
	struct series passes[WAYS]; /* nanoseconds that each took */
	double faults[WAYS];        /* page faults in the last one */
	bool failed;                /* something was refused; it was said what */
	bool interrupted;
};

/* Measure for as long as the options say, at least three passes. */
void timing_play(const struct options *options, const char *name, const struct stage *stage,
		 struct timing *timing);
void timing_free(struct timing *timing);

/* Medians: nanoseconds an operation; what the library takes, in one way or the other, beyond the
 * backend, as a part of the backend's time. */
double timing_each(const struct timing *timing, enum way way);
double timing_share(const struct timing *timing, enum way way);

#endif
