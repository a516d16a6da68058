/* SPDX-License-Identifier: MIT */
/*
 * Which thread is in which image; the rules stand in plan.h.
 */
#include "planner.h"

#include <stdlib.h>

#include "array.h"

static uint32_t image_new(struct planner *planner, enum image_origin origin, uint32_t pid,
			  size_t line)
{
	struct plan *plan = planner->plan;
	struct image image = {.origin = origin, .pid = pid, .line = line};
	struct living living = {.active = planner->now};
	uint32_t index = (uint32_t)plan->images_count;

	ARRAY_PUSH(plan->images, image);
	ARRAY_PUSH(planner->living, living);
	plan_mark(planner, STEP_BEGIN, index, line);
	return index;
}

static void image_enter(struct planner *planner, uint32_t image)
{
	if (planner->living[image].threads++)
		return;
	planner->images_alive++;
	if (planner->images_alive > planner->plan->most_images)
		planner->plan->most_images = planner->images_alive;
}

static void image_leave(struct planner *planner, uint32_t image, size_t line)
{
	if (--planner->living[image].threads)
		return;
	planner->images_alive--;
	plan_mark(planner, STEP_END, image, line);
	areas_free(&planner->living[image].now);
	areas_free(&planner->living[image].touched);
	attached_free(&planner->living[image]);
}

static struct person *person_new(struct planner *planner, uint32_t pid, uint32_t image)
{
	struct person person = {.pid = pid, .image = image};

	image_enter(planner, image);
	ARRAY_PUSH(planner->people, person);
	return &planner->people[planner->people_count - 1];
}

struct person *people_known(struct planner *planner, uint32_t pid)
{
	for (size_t i = 0; i < planner->people_count; i++) {
		if (planner->people[i].pid == pid)
			return &planner->people[i];
	}
	return NULL;
}

/* Would the image make sense of the call? */
static bool image_fits(const struct living *living, const struct trace_call *call)
{
	switch (call->kind) {
	case TRACE_MMAP:
	case TRACE_SHMAT:
		if (call->flags & TRACE_FIXED)
			return areas_find(&living->now, call->address) != NULL;
		return !areas_overlap(&living->now, call->address, call->address + call->length);
	case TRACE_MUNMAP:
	case TRACE_MPROTECT:
	case TRACE_MREMAP:
	case TRACE_MADVISE:
	case TRACE_SHMDT:
		return areas_find(&living->now, call->address) != NULL;
	case TRACE_BRK:
		return living->has_brk &&
		       (living->brk == call->result ||
			(call->address && areas_find(&living->now, call->result - 1)));
	default:
		return true;
	}
}

/* The image, active last, that the call fits; or just the one active last. */
static bool image_guess(struct planner *planner, const struct trace_call *call, bool fitting,
			uint32_t *out)
{
	bool found = false;

	for (size_t i = 0; i < planner->living_count; i++) {
		struct living *living = &planner->living[i];

		if (!living->threads || (fitting && !image_fits(living, call)) ||
		    (found && living->active < planner->living[*out].active))
			continue;
		*out = (uint32_t)i;
		found = true;
	}
	return found;
}

static struct person *person_place(struct planner *planner, uint32_t pid, uint32_t image)
{
	struct person *person = person_new(planner, pid, image);

	person->guessed = true;
	planner->plan->guessed_threads++;
	return person;
}

/* Place a thread that no line has introduced. */
static struct person *person_guess(struct planner *planner, const struct trace_call *call)
{
	struct plan *plan = planner->plan;
	enum image_origin origin = plan->images_count ? IMAGE_GUESSED : IMAGE_FIRST;
	bool fresh = call->kind == TRACE_EXECVE;
	uint32_t image = 0;

	if (!fresh && image_guess(planner, call, true, &image))
		return person_place(planner, call->pid, image);
	/* Start-up code, or memory that an unknown parent had: another program. */
	fresh = fresh || (call->kind == TRACE_BRK && !call->address) ||
		((call->kind == TRACE_MMAP || call->kind == TRACE_SHMAT) &&
		 !(call->flags & TRACE_FIXED));
	if (!fresh && image_guess(planner, call, false, &image))
		return person_place(planner, call->pid, image);
	if (origin == IMAGE_GUESSED && call->kind == TRACE_EXECVE)
		origin = IMAGE_EXEC;
	return person_new(planner, call->pid, image_new(planner, origin, call->pid, call->line));
}

static bool is_stranger(const struct planner *planner, uint32_t pid)
{
	for (size_t i = 0; i < planner->strangers_count; i++) {
		if (planner->strangers[i] == pid)
			return true;
	}
	return false;
}

void people_attach(struct planner *planner, uint32_t pid)
{
	/* Only where there is one without a number already (strace -p attaches first). */
	if (people_known(planner, 0) && !is_stranger(planner, pid))
		ARRAY_PUSH(planner->strangers, pid);
}

/* strace on a terminal names no pid while there is one process only. */
static struct person *person_alone(struct planner *planner)
{
	struct person *person = NULL;
	uint32_t image = 0;

	if (planner->first_pid)
		person = people_known(planner, planner->first_pid);
	if (!person && planner->people_count == 1)
		person = planner->people;
	if (!person &&
	    image_guess(planner, &(struct trace_call){.kind = TRACE_OTHER}, false, &image)) {
		for (size_t i = 0; i < planner->people_count && !person; i++) {
			if (planner->people[i].image == image)
				person = &planner->people[i];
		}
	}
	return person;
}

struct person *people_of(struct planner *planner, const struct trace_call *call)
{
	bool end = call->kind == TRACE_EXIT || call->kind == TRACE_SUPERSEDED;
	struct person *person = people_known(planner, call->pid);

	if (person)
		return person;
	if (!call->pid) {
		person = person_alone(planner);
		if (person)
			return person;
	} else if (!planner->first_pid && !is_stranger(planner, call->pid)) {
		/* And names it once there are two. Who does nothing but end has never been alone. */
		person = end ? NULL : people_known(planner, 0);
		if (person) {
			person->pid = call->pid;
			planner->first_pid = call->pid;
			return person;
		}
	}
	if (end)
		return NULL;
	return person_guess(planner, call);
}

static void person_remove(struct planner *planner, struct person *person)
{
	*person = planner->people[--planner->people_count];
}

void people_exit(struct planner *planner, struct person *person, size_t line)
{
	image_leave(planner, person->image, line);
	person_remove(planner, person);
}

void people_clone(struct planner *planner, const struct trace_call *call, struct person *parent)
{
	struct person *old = call->child ? people_known(planner, call->child) : NULL;
	struct plan *plan = planner->plan;
	uint32_t image = parent->image;

	/* The child's own view of the call, or pids of another namespace; or what it
	 * shares is not shown, and what it does must tell. */
	if (!call->child || old == parent || (call->flags & TRACE_UNSURE))
		return;
	/* A pid used again, whose first end the trace does not show. */
	if (old)
		people_exit(planner, old, call->line);
	if (!(call->flags & (TRACE_VM | TRACE_THREAD))) {
		uint32_t copy = image_new(planner, IMAGE_FORK, call->child, call->line);
		struct living *from = &planner->living[image], *to = &planner->living[copy];

		areas_copy(&to->now, &from->now);
		areas_copy(&to->touched, &from->touched);
		to->has_brk = from->has_brk;
		to->brk = from->brk;
		attached_copy(to, from);
		areas_copy(&plan->images[copy].initial, &from->now);
		areas_copy(&plan->images[copy].ever, &plan->images[image].ever);
		image = copy;
	}
	person_new(planner, call->child, image);
}

void people_exec(struct planner *planner, struct person *person, enum image_origin origin,
		 size_t line)
{
	uint32_t image;

	image_leave(planner, person->image, line);
	image = image_new(planner, origin, person->pid, line);
	image_enter(planner, image);
	person->image = image;
	person->guessed = false;
}

/* The first thread of a program is the one that `pid` names, or that has been without a number. */
static struct person *find_leader(struct planner *planner, uint32_t pid)
{
	struct person *leader = people_known(planner, pid);

	if (leader)
		return leader;
	if (!pid)
		return planner->first_pid ? people_known(planner, planner->first_pid) : NULL;
	return planner->first_pid || is_stranger(planner, pid) ? NULL : people_known(planner, 0);
}

void people_supersede(struct planner *planner, const struct trace_call *call)
{
	struct person *leader = find_leader(planner, call->pid);
	struct person *heir = people_known(planner, call->child);

	if (!heir || leader == heir)
		return;
	heir->pid = call->pid ? call->pid : leader ? leader->pid : 0;
	if (!leader)
		return;
	if (!leader->pid)
		planner->first_pid = heir->pid;
	people_exit(planner, leader, call->line);
}

void people_finish(struct planner *planner, size_t line)
{
	while (planner->people_count)
		people_exit(planner, &planner->people[planner->people_count - 1], line);
}
