/* SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "timing.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "array.h"
#include "histogram.h"
#include "kept.h"
#include "progress.h"
#include "run.h"

enum question {
	ASKED_PREPARE,
	ASKED_CHANGE,
	ASKED_FLUSH,
};

/* One call of the backend, its addresses counted from the window's base. */
struct asked {
	enum question what;
	struct aspace_change change;
};

/* A backend that notes what it is asked, and asks the host. */
struct recorder {
	struct aspace_backend backend;
	struct role *role;
};

/* An image. */
struct role {
	struct playing playing;
	struct recorder recorder;
	uint64_t base; /* KERNEL: of its window */
	size_t next;   /* step */
	size_t spent;  /* of asked */

	struct asked *asked;
	size_t asked_count, asked_capacity;
	size_t *until; /* for each step, how many have been asked when it is done */
};

struct player {
	const struct options *options;
	const char *name;
	const struct stage *stage;
	struct role *roles;
	const struct aspace_page_ops *pages; /* the library's; NULL: its own */
	bool recording;
};

/* ---- Recording --------------------------------------------------------------- */

static enum aspace_status ask(struct aspace_backend *backend, const struct aspace_change *change)
{
	const struct aspace_backend_ops *ops = backend->ops;

	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
		return ops->map(backend, change);
	case ASPACE_CHANGE_UNMAP:
		return ops->unmap(backend, change);
	case ASPACE_CHANGE_PROTECT:
		return ops->protect(backend, change);
	case ASPACE_CHANGE_REPLACE:
		return ops->replace(backend, change);
	case ASPACE_CHANGE_MOVE:
		return ops->move(backend, change);
	}
	return ASPACE_INVALID_PARAM;
}

static struct aspace_change shift(const struct aspace_change *change, uint64_t by)
{
	struct aspace_change to = *change;

	to.range.start.value += by;
	to.range.end.value += by;
	to.destination.value += by;
	return to;
}

static struct aspace_backend *record(struct aspace_backend *backend, enum question what,
				     const struct aspace_change *change)
{
	struct role *role = ((struct recorder *)backend)->role;
	struct asked asked = {.what = what};

	if (change)
		asked.change = shift(change, -role->playing.base);
	ARRAY_PUSH(role->asked, asked);
	return aspace_host_backend(role->playing.host);
}

static enum aspace_status record_prepare(struct aspace_backend *backend,
					 const struct aspace_change *change)
{
	struct aspace_backend *host = record(backend, ASKED_PREPARE, change);

	return host->ops->prepare(host, change);
}

static enum aspace_status record_change(struct aspace_backend *backend,
					const struct aspace_change *change)
{
	return ask(record(backend, ASKED_CHANGE, change), change);
}

static void record_flush(struct aspace_backend *backend)
{
	struct aspace_backend *host = record(backend, ASKED_FLUSH, NULL);

	host->ops->flush(host);
}

static const struct aspace_backend_ops recorder_ops = {
	.size = sizeof(recorder_ops),
	.map = record_change,
	.unmap = record_change,
	.protect = record_change,
	.prepare = record_prepare,
	.replace = record_change,
	.move = record_change,
	.flush = record_flush,
};

static void record_into(struct role *role)
{
	role->asked_count = 0;
	role->recorder.backend = *role->playing.backend;
	role->recorder.backend.ops = &recorder_ops;
	role->recorder.role = role;
	role->playing.backend = &role->recorder.backend;
}

/* ---- The library --------------------------------------------------------------- */

static const char *library_step(struct player *player, struct role *role, const struct step *step)
{
	enum aspace_status status;
	static char reason[200];

	if (step->kind == STEP_END)
		return playing_close(&role->playing, reason) ? NULL : reason;
	if (step->kind == STEP_BEGIN) {
		const struct scene *scene = &player->stage->scenes[step->image];

		status = playing_open(&role->playing, scene, BACKEND_HOST, 0, player->options->page,
				      player->pages);
		if (status)
			return aspace_status_string(status);
		if (player->recording)
			record_into(role);
	}
	status = playing_do(&role->playing, step);
	return status ? aspace_status_string(status) : NULL;
}

/* ---- The backend without the library --------------------------------------------- */

static const char *backend_step(struct player *player, struct role *role, const struct step *step)
{
	enum aspace_status status = ASPACE_OK;
	struct aspace_backend *backend;

	if (step->kind == STEP_BEGIN) {
		status = playing_open_host(&role->playing,
					   player->stage->scenes[step->image].layout.size);
		if (status)
			return aspace_status_string(status);
		role->spent = 0;
	}
	backend = role->playing.backend;
	for (; role->spent < role->until[role->next - 1]; role->spent++) {
		const struct asked *asked = &role->asked[role->spent];
		struct aspace_change change = shift(&asked->change, role->playing.base);

		if (asked->what == ASKED_FLUSH)
			backend->ops->flush(backend);
		else if (asked->what == ASKED_PREPARE)
			status = backend->ops->prepare(backend, &change);
		else
			status = ask(backend, &change);
		if (status)
			return aspace_status_string(status);
	}
	if (step->kind == STEP_END) {
		aspace_host_destroy(role->playing.host);
		role->playing.host = NULL;
	}
	return NULL;
}

/* ---- The kernel alone -------------------------------------------------------------- */

static void *pointer(const struct role *role, uint64_t place)
{
	return (void *)(uintptr_t)(role->base + place);
}

static int protection_of(unsigned protection)
{
	return aspace_host_protection(flags_of(protection));
}

static bool kernel_map(const struct role *role, uint64_t start, uint64_t end, unsigned protection)
{
	return mmap(pointer(role, start), end - start, protection_of(protection),
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

static bool kernel_do(const struct role *role, const struct scene *scene, const struct step *step)
{
	const struct areas *initial = &scene->initial;
	uint64_t size = step->end - step->start;
	bool fine = true;

	switch (step->kind) {
	case STEP_BEGIN:
		for (size_t i = 0; fine && i < initial->at_count; i++)
			fine = kernel_map(role, initial->at[i].start, initial->at[i].end,
					  initial->at[i].protection);
		return fine;
	case STEP_MAP:
		return kernel_map(role, step->start, step->end, step->protection);
	case STEP_UNMAP:
		return !munmap(pointer(role, step->start), size);
	case STEP_PROTECT:
		return !mprotect(pointer(role, step->start), size, protection_of(step->protection));
	case STEP_MOVE:
		return mremap(pointer(role, step->start), size, size, MREMAP_MAYMOVE | MREMAP_FIXED,
			      pointer(role, step->to)) != MAP_FAILED;
	case STEP_RESIZE:
		return mremap(pointer(role, step->start), size, step->to - step->start, 0) !=
		       MAP_FAILED;
	case STEP_END:
		return !munmap(pointer(role, 0), scene->layout.size);
	default:
		return false;
	}
}

static const char *kernel_step(struct player *player, struct role *role, const struct step *step)
{
	return kernel_do(role, &player->stage->scenes[step->image], step) ? NULL : strerror(errno);
}

/*
 * Where the windows may be: free addresses, since a program's calls find it so. They stay ours
 * although nothing is mapped there: in a pass nothing else of this process maps.
 */
static bool find_windows(struct player *player)
{
	size_t images = player->stage->plan->images_count;
	uint64_t size = LAYOUT_ALIGN, base;
	void *room;

	for (size_t i = 0; i < images; i++)
		size += player->stage->scenes[i].layout.size;
	room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED || munmap(room, size))
		return false;
	base = ((uintptr_t)room + LAYOUT_ALIGN - 1) & ~(LAYOUT_ALIGN - 1);
	for (size_t i = 0; i < images; i++) {
		player->roles[i].base = base;
		base += player->stage->scenes[i].layout.size;
	}
	return true;
}

/* ---- Passes -------------------------------------------------------------------------- */

static const char *(*const take_step[WAYS])(struct player *, struct role *, const struct step *) = {
	[WAY_KERNEL] = kernel_step,
	[WAY_BACKEND] = backend_step,
	[WAY_LIBRARY] = library_step,
	[WAY_TOUCHED] = library_step,
};

static const char *const way_names[WAYS] = {"kernel", "backend", "library", "touched"};

/* What has been spent, or, begun from the negative of what there was, is being spent. */
struct spent {
	double ns, faults;
};

static void add_now(struct spent *spent, double sign)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	spent->faults += sign * (double)(usage.ru_minflt + usage.ru_majflt);
	spent->ns += sign * (double)clock_now();
}

/* False: a step was refused. The clock runs but for the steps that are not measured. */
static bool play_pass(struct player *player, enum way way, struct spent *spent)
{
	const struct stage *stage = player->stage;

	*spent = (struct spent){.ns = 0};
	player->pages = way == WAY_TOUCHED ? kept_pages() : NULL;
	for (size_t i = 0; i < stage->plan->images_count; i++)
		player->roles[i].next = 0;
	if (way == WAY_KERNEL && !find_windows(player)) {
		fprintf(stderr, "replay: %s: no room for its windows\n", player->name);
		return false;
	}
	add_now(spent, -1);
	for (size_t i = 0; i < stage->order_count; i++) {
		struct role *role = &player->roles[stage->order[i]];
		const struct step *step = &stage->scenes[stage->order[i]].steps[role->next++];
		bool measured = step->kind != STEP_BEGIN && step->kind != STEP_END;
		const char *reason;

		if (!measured)
			add_now(spent, 1);
		reason = take_step[way](player, role, step);
		if (reason) {
			fprintf(stderr, "replay: %s:%zu: %s, %s: %s\n", player->name, step->line,
				way_names[way], step_kind_name(step->kind), reason);
			return false;
		}
		if (player->recording)
			role->until[role->next - 1] = role->asked_count;
		if (!measured)
			add_now(spent, -1);
	}
	add_now(spent, 1);
	return true;
}

static size_t count_operations(const struct stage *stage)
{
	size_t count = 0;

	for (size_t i = 0; i < stage->plan->images_count; i++) {
		for (size_t k = 0; k < stage->scenes[i].steps_count; k++) {
			enum step_kind kind = stage->scenes[i].steps[k].kind;

			count += kind != STEP_BEGIN && kind != STEP_END;
		}
	}
	return count;
}

static void play_passes(struct player *player, struct timing *timing)
{
	const struct options *options = player->options;
	uint64_t least = options->repeat > 3 ? options->repeat : 3;
	uint64_t start = clock_now(), passes = 0;
	struct progress progress;

	progress_begin(&progress, options->quiet);
	do {
		char text[80];

		for (unsigned i = 0; i < WAYS; i++) {
			enum way way = (enum way)((i + passes) % WAYS);
			struct spent spent;

			timing->failed |= !play_pass(player, way, &spent);
			if (timing->failed)
				break;
			ARRAY_PUSH(timing->passes[way].at, spent.ns);
			timing->faults[way] = spent.faults;
		}
		passes++;
		snprintf(text, sizeof(text), "pass %" PRIu64, passes);
		if (progress_due(&progress, clock_now()))
			progress_show(&progress, text);
		timing->interrupted = atomic_load(&run_interrupted);
	} while (!timing->failed && !timing->interrupted &&
		 (passes < least || (double)(clock_now() - start) < options->seconds * 1e9));
	progress_end(&progress);
}

void timing_play(const struct options *options, const char *name, const struct stage *stage,
		 struct timing *timing)
{
	size_t images = stage->plan->images_count;
	struct player player = {.options = options, .name = name, .stage = stage};
	struct spent unused;

	*timing = (struct timing){.operations = count_operations(stage)};
	player.roles = array_zeroed(images, sizeof(*player.roles));
	for (size_t i = 0; i < images; i++)
		player.roles[i].until = array_zeroed(stage->scenes[i].steps_count, sizeof(size_t));
	player.recording = true;
	timing->failed = !play_pass(&player, WAY_LIBRARY, &unused);
	player.recording = false;
	/* The first touch. */
	timing->failed = timing->failed || !play_pass(&player, WAY_TOUCHED, &unused);
	if (!timing->failed)
		play_passes(&player, timing);
	kept_release();
	for (size_t i = 0; i < images; i++) {
		free(player.roles[i].asked);
		free(player.roles[i].until);
	}
	free(player.roles);
}

void timing_free(struct timing *timing)
{
	for (unsigned way = 0; way < WAYS; way++)
		free(timing->passes[way].at);
}

/* ---- Medians -------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *at, size_t count)
{
	qsort(at, count, sizeof(*at), compare_doubles);
	return count ? at[count / 2] : 0;
}

double timing_each(const struct timing *timing, enum way way)
{
	const struct series *passes = &timing->passes[way];
	double *sorted = array_zeroed(passes->at_count, sizeof(*sorted));
	double middle;

	memcpy(sorted, passes->at, passes->at_count * sizeof(*sorted));
	middle = median(sorted, passes->at_count);
	free(sorted);
	return timing->operations ? middle / (double)timing->operations : 0;
}

double timing_share(const struct timing *timing, enum way way)
{
	size_t count = timing->passes[way].at_count;
	double *share = array_zeroed(count, sizeof(*share)), middle;

	for (size_t i = 0; i < count; i++)
		share[i] = timing->passes[way].at[i] / timing->passes[WAY_BACKEND].at[i] - 1;
	middle = median(share, count);
	free(share);
	return middle;
}
