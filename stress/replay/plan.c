/* SPDX-License-Identifier: MIT */
#include "plan.h"

#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "planner.h"

/* What is known of ranges that nobody was seen to map. */
#define EXISTING (TRACE_READ | TRACE_WRITE)

/* Further than any allocator moves the break in one step. */
#define BREAK_MOST (UINT64_C(1) << 30)

const char *step_kind_name(enum step_kind kind)
{
	static const char *const names[STEP_KINDS] = {
		[STEP_BEGIN] = "begin",     [STEP_MAP] = "map",   [STEP_UNMAP] = "unmap",
		[STEP_PROTECT] = "protect", [STEP_MOVE] = "move", [STEP_RESIZE] = "resize",
		[STEP_END] = "end",
	};

	return names[kind];
}

void plan_mark(struct planner *planner, enum step_kind kind, uint32_t image, size_t line)
{
	struct plan *plan = planner->plan;
	struct step step = {.kind = kind, .image = image, .call = TRACE_OTHER, .line = line};

	ARRAY_PUSH(plan->steps, step);
}

void step_apply(const struct step *step, struct areas *areas)
{
	switch (step->kind) {
	case STEP_MAP:
		areas_map(areas, step->start, step->end, step->protection);
		break;
	case STEP_UNMAP:
		areas_unmap(areas, step->start, step->end);
		break;
	case STEP_PROTECT:
		areas_protect(areas, step->start, step->end, step->protection);
		break;
	case STEP_MOVE:
		for (uint64_t at = step->start; at < step->end;) {
			struct area piece = *areas_find(areas, at);
			uint64_t to = step->to + (at - step->start);

			if (piece.end > step->end)
				piece.end = step->end;
			areas_map(areas, to, to + (piece.end - at), piece.protection);
			at = piece.end;
		}
		areas_unmap(areas, step->start, step->end);
		break;
	case STEP_RESIZE:
		if (step->to < step->end)
			areas_unmap(areas, step->to, step->end);
		else
			areas_map(areas, step->end, step->to, step->protection);
		break;
	default:
		break;
	}
}

void attached_copy(struct living *to, const struct living *from)
{
	for (size_t i = 0; i < from->attached_count; i++) {
		struct attached copy = {.start = from->attached[i].start,
					.sized = from->attached[i].sized};

		areas_copy(&copy.pieces, &from->attached[i].pieces);
		ARRAY_PUSH(to->attached, copy);
	}
}

void attached_free(struct living *living)
{
	for (size_t i = 0; i < living->attached_count; i++)
		areas_free(&living->attached[i].pieces);
	free(living->attached);
	living->attached = NULL;
	living->attached_count = 0;
	living->attached_capacity = 0;
}

/* [start, end) is something else now. */
static void attached_lose(struct living *living, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < living->attached_count; i++)
		areas_unmap(&living->attached[i].pieces, start, end);
}

/* The segment of unknown length of which `at` is the end, as far as it is known. */
static struct attached *attached_before(struct living *living, uint64_t at)
{
	for (size_t i = 0; i < living->attached_count; i++) {
		struct attached *attached = &living->attached[i];

		if (!attached->sized && at && areas_find(&attached->pieces, at - 1))
			return attached;
	}
	return NULL;
}

/* Append a step, and do to the model what it will do to the space. */
static void add_step(struct planner *planner, struct step step)
{
	struct plan *plan = planner->plan;
	struct image *image = &plan->images[step.image];
	struct living *living = &planner->living[step.image];
	uint64_t start = step.start, end = step.end;

	step_apply(&step, &living->now);
	areas_map(&living->touched, start, end, 0);
	if (step.kind == STEP_RESIZE && step.to < end)
		attached_lose(living, step.to, end);
	else if (step.kind != STEP_PROTECT && step.kind != STEP_RESIZE)
		attached_lose(living, start, end);
	if (step.kind == STEP_MOVE) {
		start = step.to;
		end = step.to + (step.end - step.start);
	} else if (step.kind == STEP_RESIZE) {
		end = step.to;
	}
	if (step.kind == STEP_MAP || step.kind == STEP_MOVE || step.kind == STEP_RESIZE) {
		if (step.kind == STEP_MOVE)
			attached_lose(living, start, end);
		areas_map(&living->touched, start, end, 0);
		areas_map(&image->ever, start, end, 0);
	}
	image->steps++;
	ARRAY_PUSH(plan->steps, step);
}

static struct step step_of(const struct trace_call *call, uint32_t image, enum step_kind kind,
			   uint64_t start, uint64_t end)
{
	return (struct step){.kind = kind,
			     .image = image,
			     .call = call->kind,
			     .line = call->line,
			     .start = start,
			     .end = end};
}

static void add_map(struct planner *planner, const struct trace_call *call, uint32_t image,
		    uint64_t start, uint64_t end, unsigned protection, bool replace)
{
	struct step step = step_of(call, image, STEP_MAP, start, end);

	step.protection = protection;
	step.replace = replace;
	add_step(planner, step);
}

static void add_unmap(struct planner *planner, const struct trace_call *call, uint32_t image,
		      uint64_t start, uint64_t end)
{
	add_step(planner, step_of(call, image, STEP_UNMAP, start, end));
}

/* The kernel found [start, end) free. If the model does not, it has missed something. */
static bool way_is_blocked(struct planner *planner, uint32_t image, uint64_t start, uint64_t end)
{
	if (!areas_overlap(&planner->living[image].now, start, end))
		return false;
	planner->plan->assumed_unmaps++;
	return true;
}

/* The kernel found [start, end) mapped. Where the model does not: see plan.h. */
static void assume_mapped(struct planner *planner, const struct trace_call *call, uint32_t image,
			  uint64_t start, uint64_t end)
{
	struct plan *plan = planner->plan;
	struct living *living = &planner->living[image];
	uint64_t hole, hole_end, from, to;

	while (areas_hole(&living->now, start, end, &hole, &hole_end)) {
		struct image *at = &plan->images[image];
		struct attached *segment = attached_before(living, hole);

		if (segment) {
			/* It turns out to be longer. */
			add_map(planner, call, image, hole, hole_end,
				areas_find(&living->now, hole - 1)->protection, false);
			areas_map(&segment->pieces, hole, hole_end, 0);
			start = hole_end;
			continue;
		}
		if (!areas_hole(&living->touched, hole, hole_end, &from, &to)) {
			from = hole_end;
			to = hole_end;
		}
		if (hole < from) {
			/* Something was here once and went. */
			plan->assumed_maps++;
			add_map(planner, call, image, hole, from, EXISTING, false);
		}
		if (from < to) {
			plan->existing++;
			areas_map(&at->initial, from, to, EXISTING);
			areas_map(&at->ever, from, to, 0);
			areas_map(&living->now, from, to, EXISTING);
			areas_map(&living->touched, from, to, 0);
		}
		start = to;
	}
}

static void plan_munmap(struct planner *planner, const struct trace_call *call, uint32_t image)
{
	uint64_t end = call->address + call->length;
	struct living *living = &planner->living[image];

	/* munmap passes over holes: only where there is nothing at all, and never
	 * was, did it mean something that no line has mapped. */
	if (!areas_overlap(&living->now, call->address, end) &&
	    !areas_overlap(&living->touched, call->address, end))
		assume_mapped(planner, call, image, call->address, end);
	add_unmap(planner, call, image, call->address, end);
}

static void plan_shmat(struct planner *planner, const struct trace_call *call, uint32_t image)
{
	struct living *living = &planner->living[image];
	struct attached attached = {.start = call->address, .sized = call->length > 0};
	uint64_t end = call->address + (attached.sized ? call->length : planner->page);

	planner->plan->unsized += !attached.sized;
	add_map(planner, call, image, call->address, end, call->protection,
		(call->flags & TRACE_FIXED) || way_is_blocked(planner, image, call->address, end));
	areas_map(&attached.pieces, call->address, end, 0);
	ARRAY_PUSH(living->attached, attached);
}

static void plan_shmdt(struct planner *planner, const struct trace_call *call, uint32_t image)
{
	struct living *living = &planner->living[image];
	struct areas pieces = {.at = NULL};

	for (size_t i = 0; i < living->attached_count; i++) {
		struct attached *attached = &living->attached[i];

		if (attached->start == call->address && attached->pieces.at_count) {
			areas_copy(&pieces, &attached->pieces);
			break;
		}
	}
	if (!pieces.at_count) {
		/* Attached before the trace begins. */
		planner->plan->unsized++;
		areas_map(&pieces, call->address, call->address + planner->page, 0);
		assume_mapped(planner, call, image, call->address, call->address + planner->page);
	}
	for (size_t i = 0; i < pieces.at_count; i++)
		add_unmap(planner, call, image, pieces.at[i].start, pieces.at[i].end);
	areas_free(&pieces);
}

static void plan_mprotect(struct planner *planner, const struct trace_call *call, uint32_t image)
{
	uint64_t end = call->address + call->length;
	struct step step = step_of(call, image, STEP_PROTECT, call->address, end);

	if (!call->length)
		return;
	assume_mapped(planner, call, image, call->address, end);
	step.protection = call->protection;
	add_step(planner, step);
}

/* Let what is at [start, end) end at `to` instead. */
static void plan_resize(struct planner *planner, const struct trace_call *call, uint32_t image,
			uint64_t start, uint64_t end, uint64_t to)
{
	struct step step = step_of(call, image, STEP_RESIZE, start, end);

	if (to == end)
		return;
	step.protection = areas_find(&planner->living[image].now, end - 1)->protection;
	if (to > end && way_is_blocked(planner, image, end, to)) {
		add_map(planner, call, image, end, to, step.protection, true);
		return;
	}
	step.to = to;
	add_step(planner, step);
}

static void plan_mremap(struct planner *planner, const struct trace_call *call, uint32_t image)
{
	struct areas *now = &planner->living[image].now;
	uint64_t start = call->address, end = start + call->length;
	uint64_t to = call->result, to_end = to + call->new_length;
	uint64_t kept = call->length < call->new_length ? call->length : call->new_length;
	struct step step;

	if (call->length)
		assume_mapped(planner, call, image, start, end);
	if (to == start) {
		plan_resize(planner, call, image, start, end, to_end);
		return;
	}
	/* What MREMAP_FIXED replaces, or what the model should have lost. */
	if (areas_overlap(now, to, to_end)) {
		planner->plan->assumed_unmaps += !(call->flags & TRACE_FIXED);
		add_unmap(planner, call, image, to, to_end);
	}
	if (!call->length || (call->flags & TRACE_DONTUNMAP)) {
		/* The old range stays mapped. */
		const struct area *area = areas_find(now, start);

		add_map(planner, call, image, to, to_end, area ? area->protection : EXISTING,
			false);
		return;
	}
	if (kept < call->length)
		add_unmap(planner, call, image, start + kept, end);
	step = step_of(call, image, STEP_MOVE, start, start + kept);
	step.to = to;
	add_step(planner, step);
	plan_resize(planner, call, image, to, to + kept, to_end);
}

static void plan_brk(struct planner *planner, const struct trace_call *call, struct person *person)
{
	struct living *living = &planner->living[person->image];
	uint64_t mask = ~(planner->page - 1);
	uint64_t old = (living->brk + planner->page - 1) & mask;
	uint64_t new = (call->result + planner->page - 1) & mask;

	if (!call->address && living->has_brk && living->brk != call->result) {
		/* Only a new program has its break elsewhere without having moved it. */
		people_exec(planner, person, IMAGE_GUESSED, call->line);
		living = &planner->living[person->image];
	}
	if (person->guessed && living->has_brk && call->result == call->address &&
	    (new > old ? new - old : old - new) > BREAK_MOST) {
		/* Nor does a break go so far in one step: it is not this image's. */
		people_exec(planner, person, IMAGE_GUESSED, call->line);
		living = &planner->living[person->image];
	}
	if (!living->has_brk || call->result != call->address) {
		/* The first to be seen, an enquiry, or a refusal. */
		living->has_brk = true;
		living->brk = call->result;
		return;
	}
	living->brk = call->result;
	if (new > old)
		add_map(planner, call, person->image, old, new, EXISTING,
			way_is_blocked(planner, person->image, old, new));
	else if (new < old)
		add_unmap(planner, call, person->image, new, old);
}

static void plan_call(struct planner *planner, const struct trace_call *call, struct person *person)
{
	uint32_t image = person->image;
	uint64_t end = call->address + call->length;

	planner->living[image].active = planner->now;
	switch (call->kind) {
	case TRACE_MMAP:
		add_map(planner, call, image, call->address, end, call->protection,
			(call->flags & TRACE_FIXED) ||
				way_is_blocked(planner, image, call->address, end));
		break;
	case TRACE_MUNMAP:
		plan_munmap(planner, call, image);
		break;
	case TRACE_MPROTECT:
		plan_mprotect(planner, call, image);
		break;
	case TRACE_MREMAP:
		plan_mremap(planner, call, image);
		break;
	case TRACE_BRK:
		plan_brk(planner, call, person);
		break;
	case TRACE_SHMAT:
		plan_shmat(planner, call, image);
		break;
	case TRACE_SHMDT:
		plan_shmdt(planner, call, image);
		break;
	case TRACE_MADVISE:
		assume_mapped(planner, call, image, call->address, end);
		break;
	case TRACE_EXECVE:
		people_exec(planner, person, IMAGE_EXEC, call->line);
		break;
	case TRACE_CLONE:
		people_clone(planner, call, person);
		break;
	case TRACE_EXIT:
		people_exit(planner, person, call->line);
		break;
	default:
		break;
	}
}

/*
 * Of the calls from `at` on, the one that must already have had its effect when
 * `call` got its address: begun before `call` ended, and freeing that address.
 * (munmap counts from its beginning anyway.)
 */
static size_t find_early(struct planner *planner, const struct trace *trace, size_t at,
			 const bool *planned, const struct trace_call *call, uint32_t image)
{
	uint64_t end = call->address + call->length;

	for (size_t i = at + 1; i < trace->calls_count; i++) {
		const struct trace_call *later = &trace->calls[i];
		uint64_t from = later->address, to = from + later->length;
		struct person *person;

		/* No call is cut for longer than this, and the search must end. */
		if (i - at > 1000)
			break;
		if (planned[i] || later->begin >= call->line)
			continue;
		if (later->kind == TRACE_BRK) {
			from = later->result;
			to = planner->living[image].brk;
		} else if (later->kind != TRACE_MREMAP || later->result == later->address) {
			continue;
		}
		if (from >= end || to <= call->address)
			continue;
		person = people_known(planner, later->pid);
		if (person && person->image == image)
			return i;
	}
	return SIZE_MAX;
}

static void plan_in_order(struct planner *planner, const struct trace *trace)
{
	bool *planned = array_zeroed(trace->calls_count, sizeof(*planned));

	for (size_t i = 0; i < trace->calls_count; i++) {
		const struct trace_call *call = &trace->calls[i];
		struct person *person;
		size_t early;

		if (planned[i])
			continue;
		planner->now = i;
		if (call->kind == TRACE_SUPERSEDED) {
			people_supersede(planner, call);
			continue;
		}
		if (call->kind == TRACE_ATTACHED) {
			people_attach(planner, call->pid);
			continue;
		}
		person = people_of(planner, call);
		if (!person)
			continue;
		if (call->kind == TRACE_MMAP && !(call->flags & TRACE_FIXED) &&
		    areas_overlap(&planner->living[person->image].now, call->address,
				  call->address + call->length)) {
			early = find_early(planner, trace, i, planned, call, person->image);
			if (early != SIZE_MAX) {
				plan_call(planner, &trace->calls[early],
					  people_of(planner, &trace->calls[early]));
				planned[early] = true;
				person = people_of(planner, call);
			}
		}
		plan_call(planner, call, person);
	}
	free(planned);
}

/* Leave out the images that nothing was ever mapped in: execve that was tried in
 * several places, each of which an edited trace may show as a success. */
static void drop_empty(struct plan *plan)
{
	uint32_t *renamed = array_zeroed(plan->images_count, sizeof(*renamed));
	size_t kept = 0, steps = 0;

	for (size_t i = 0; i < plan->images_count; i++) {
		struct image *image = &plan->images[i];

		if (!image->ever.at_count) {
			areas_free(&image->ever);
			areas_free(&image->initial);
			renamed[i] = UINT32_MAX;
			continue;
		}
		plan->origins[image->origin]++;
		renamed[i] = (uint32_t)kept;
		plan->images[kept++] = *image;
	}
	plan->images_count = kept;
	for (size_t i = 0; i < plan->steps_count; i++) {
		struct step step = plan->steps[i];

		step.image = renamed[step.image];
		if (step.image != UINT32_MAX)
			plan->steps[steps++] = step;
	}
	plan->steps_count = steps;
	free(renamed);
}

/*
 * aspace_resize wants a whole area; mremap takes any part of one, and equal
 * neighbours have become one that began as several. What resizes only a part is
 * played as the map or unmap of the difference. This is known only now: what
 * was found to have existed all along may be the neighbour.
 */
static void settle_resizes(struct plan *plan)
{
	struct areas *now = array_zeroed(plan->images_count, sizeof(*now));

	for (size_t i = 0; i < plan->steps_count; i++) {
		struct step *step = &plan->steps[i];
		struct areas *areas = &now[step->image];

		if (step->kind == STEP_RESIZE) {
			const struct area *area = areas_find(areas, step->start);

			if (area->start != step->start || area->end != step->end) {
				bool grows = step->to > step->end;

				step->kind = grows ? STEP_MAP : STEP_UNMAP;
				step->start = grows ? step->end : step->to;
				step->end = grows ? step->to : step->end;
			}
		}
		if (step->kind == STEP_BEGIN)
			areas_copy(areas, &plan->images[step->image].initial);
		else if (step->kind == STEP_END)
			areas_free(areas);
		else
			step_apply(step, areas);
	}
	free(now);
}

void plan_make(struct plan *plan, const struct trace *trace, uint64_t page)
{
	struct planner planner = {.plan = plan, .page = page};

	*plan = (struct plan){.images = NULL};
	plan_in_order(&planner, trace);
	people_finish(&planner, trace->lines);
	free(planner.living);
	free(planner.people);
	free(planner.strangers);
	drop_empty(plan);
	settle_resizes(plan);
}

void plan_free(struct plan *plan)
{
	for (size_t i = 0; i < plan->images_count; i++) {
		areas_free(&plan->images[i].initial);
		areas_free(&plan->images[i].ever);
	}
	free(plan->images);
	free(plan->steps);
	*plan = (struct plan){.images = NULL};
}
