/* SPDX-License-Identifier: MIT */
/*
 * From the calls of a trace to steps on address spaces.
 *
 * One *image* is one address space of the trace, from the fork or execve that
 * made it to the exit or execve of the last thread in it. Each is replayed in a
 * space of its own. A *step* is one operation on one image; most calls are one
 * step, mremap may be four, madvise is none.
 *
 * Who is in which image:
 *  - clone with CLONE_VM, and vfork: the child is in its parent's image;
 *    clone without, and fork: the child's image begins as a copy of it;
 *    execve that succeeded: the thread enters a new, empty image.
 *  - A trace that was filtered to the memory calls has none of these lines. Then
 *    brk(NULL), with which a program's start-up code begins, tells: if it
 *    answers another break than the image's, there was an execve. A pid never
 *    heard of that begins otherwise is a thread of the image that fits: that
 *    has mapped what it unmaps or protects, has free where it maps; of several,
 *    the one that was active last.
 *
 * What the kernel mapped at execve (program, loader, stack) has no line either: a
 * range that is protected, unmapped, moved or advised before anything was
 * mapped there has been there since the image began, readable and writable.
 */
#ifndef REPLAY_PLAN_H
#define REPLAY_PLAN_H

#include "areas.h"
#include "trace.h"

enum step_kind {
	STEP_BEGIN, /* the image, with its initial areas */
	STEP_MAP,
	STEP_UNMAP,
	STEP_PROTECT,
	STEP_MOVE,   /* [start, end) goes to `to` */
	STEP_RESIZE, /* the area [start, end) shall end at `to`; growth is like the rest */
	STEP_END,
	STEP_KINDS,
};

struct step {
	enum step_kind kind;
	uint32_t image;
	unsigned protection;
	bool replace;         /* MAP: take away what is in the way */
	enum trace_kind call; /* which call asks for it */
	size_t line;
	uint64_t start, end, to;
};

/* How an image came to be. */
enum image_origin {
	IMAGE_FIRST, /* the trace begins in it */
	IMAGE_FORK,
	IMAGE_EXEC,
	IMAGE_GUESSED, /* no line says so; see above */
};

struct image {
	enum image_origin origin;
	uint32_t pid; /* who was in it first */
	size_t line;  /* where it begins */
	struct areas initial;
	struct areas ever; /* all that was ever mapped; protections are 0 */
	size_t steps;      /* BEGIN and END not counted */
};

struct plan {
	struct image *images;
	size_t images_count, images_capacity;
	struct step *steps;
	size_t steps_count, steps_capacity;

	size_t most_images; /* at once */
	size_t origins[IMAGE_GUESSED + 1];
	size_t existing;        /* ranges taken to have existed from their image's beginning */
	size_t assumed_maps;    /* ranges used after their unmap: a map was missed */
	size_t assumed_unmaps;  /* mapped where something still was: an unmap was missed */
	size_t unsized;         /* attached segments (shmat) of a length that is not shown */
	size_t guessed_threads; /* pids whose image was found by what they did */
};

/* Cannot fail: every trace that trace_parse() accepts has a plan. */
void plan_make(struct plan *plan, const struct trace *trace, uint64_t page);
void plan_free(struct plan *plan);

/* Do to a model what the step (none of BEGIN and END) does to a space. */
void step_apply(const struct step *step, struct areas *areas);
const char *step_kind_name(enum step_kind kind);

#endif
