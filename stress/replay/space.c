/* SPDX-License-Identifier: MIT */
#include "space.h"

#include <aspace/backend/null.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "maps.h"

enum aspace_status playing_open_host(struct playing *playing, uint64_t size)
{
	/* One alignment more than needed, so that the base can be a multiple of it. */
	struct aspace_host_options options = {
		.size = sizeof(options),
		.window = size + LAYOUT_ALIGN,
	};
	enum aspace_status status = aspace_host_create(&options, &playing->host);

	if (status)
		return status;
	playing->backend = aspace_host_backend(playing->host);
	playing->base = (aspace_host_window(playing->host).start.value + LAYOUT_ALIGN - 1) &
			~(LAYOUT_ALIGN - 1);
	return ASPACE_OK;
}

/* Of one change: it takes seconds and cannot be interrupted, and 8 bytes a page. */
#define MOCK_PAGES_MAX (UINT64_C(1) << 24)

static enum aspace_status open_mock(struct playing *playing, uint64_t page)
{
	struct aspace_mock_options options = {
		.size = sizeof(options),
		.granule = page,
		.flags_mask = TRACE_READ | TRACE_WRITE | TRACE_EXEC,
		.mode = ASPACE_MOCK_CHECK_ORDER,
		.pages_max = MOCK_PAGES_MAX,
	};
	enum aspace_status status = aspace_mock_create(&options, &playing->mock);

	if (!status)
		playing->backend = aspace_mock_backend(playing->mock);
	return status;
}

/* The window comes to where the tables can say it. */
static enum aspace_status open_tables(struct playing *playing, uint64_t size, uint64_t page)
{
	uint64_t most = UINT64_C(1) << TABLES_BITS;
	enum aspace_status status;

	if (size > most - LAYOUT_ALIGN)
		return ASPACE_NO_SPACE;
	playing->base &= most - 1;
	if (playing->base > most - LAYOUT_ALIGN - size)
		playing->base = (most - LAYOUT_ALIGN - size) & ~(LAYOUT_ALIGN - 1);
	playing->tables = array_zeroed(1, sizeof(*playing->tables));
	status = tables_open(playing->tables, page);
	if (status) {
		free(playing->tables);
		playing->tables = NULL;
		return status;
	}
	playing->backend = &playing->tables->source.backend;
	return ASPACE_OK;
}

static void free_parts(struct playing *playing)
{
	aspace_host_destroy(playing->host);
	if (playing->mock)
		aspace_mock_destroy(playing->mock);
	free(playing->tables);
	free(playing->versions);
	playing->tables = NULL;
	playing->host = NULL;
	playing->mock = NULL;
	playing->versions = NULL;
}

/* Note the version that is there now, then let time go on to `time`. */
static void arrive(struct playing *playing, uint32_t time)
{
	struct aspace_view view;

	aspace_read_begin(playing->space, &view);
	atomic_store_explicit(&playing->versions[time], view.version, memory_order_relaxed);
	aspace_read_end(&view);
	atomic_store_explicit(&playing->ended, time, memory_order_release);
}

enum aspace_status playing_open(struct playing *playing, const struct scene *scene,
				enum backend_kind kind, uint64_t base, uint64_t page,
				const struct aspace_page_ops *pages)
{
	struct aspace_options options = {
		.size = sizeof(options),
		.granule = page,
		.pages = pages,
	};
	uint64_t size = scene->layout.size;
	enum aspace_status status = ASPACE_OK;

	*playing = (struct playing){.scene = scene, .kind = kind, .base = base};
	if (kind == BACKEND_HOST)
		status = playing_open_host(playing, size);
	else if (kind == BACKEND_MOCK)
		status = open_mock(playing, page);
	else if (kind == BACKEND_AARCH64)
		status = open_tables(playing, size, page);
	else
		playing->backend = aspace_null_backend();
	if (status)
		return status;
	options.limits = aspace_range_of(playing->base, playing->base + size);
	status = aspace_create(&options, &playing->space);
	if (status) {
		if (playing->tables)
			tables_close(playing->tables, (char[200]){0});
		free_parts(playing);
		return status;
	}
	playing->versions =
		array_zeroed((size_t)scene->history.times + 1, sizeof(*playing->versions));
	arrive(playing, 0);
	return ASPACE_OK;
}

static struct aspace_range range_of(const struct playing *playing, uint64_t start, uint64_t end)
{
	return aspace_range_of(playing->base + start, playing->base + end);
}

/* All initial areas in one transaction: a fork shows its child all or nothing. */
static enum aspace_status step_begin(struct playing *playing)
{
	const struct areas *initial = &playing->scene->initial;
	enum aspace_status status;
	struct aspace_txn *txn;

	if (!initial->at_count)
		return ASPACE_OK;
	status = aspace_txn_begin(playing->space, 0, &txn);
	if (status)
		return status;
	for (size_t i = 0; i < initial->at_count; i++) {
		const struct area *area = &initial->at[i];

		status = aspace_txn_map(txn, range_of(playing, area->start, area->end),
					flags_of(area->protection), playing->backend, NULL, 0);
		if (status) {
			aspace_txn_abort(txn);
			return status;
		}
	}
	return aspace_txn_commit(txn);
}

enum aspace_status playing_do(struct playing *playing, const struct step *step)
{
	struct aspace *space = playing->space;
	struct aspace_range range = range_of(playing, step->start, step->end);
	uint64_t flags = flags_of(step->protection);

	switch (step->kind) {
	case STEP_BEGIN:
		return step_begin(playing);
	case STEP_MAP:
		return aspace_map(space, range, flags, playing->backend, NULL,
				  step->replace ? ASPACE_REPLACE : 0);
	case STEP_UNMAP:
		return aspace_unmap(space, range, 0);
	case STEP_PROTECT:
		return aspace_protect(space, range, flags, 0);
	case STEP_MOVE:
		return aspace_move(space, range, aspace_va(playing->base + step->to), 0);
	case STEP_RESIZE:
		return aspace_resize(space, range.start, step->to - step->start, 0);
	default:
		return ASPACE_INVALID_PARAM;
	}
}

enum aspace_status playing_step(struct playing *playing, const struct step *step)
{
	uint32_t time = atomic_load_explicit(&playing->ended, memory_order_relaxed) + 1;
	enum aspace_status status;

	atomic_store_explicit(&playing->begun, time, memory_order_release);
	status = playing_do(playing, step);
	if (!status)
		arrive(playing, time);
	return status;
}

/* The areas that the history has at this time, at their real addresses. */
static void wanted_areas(const struct playing *playing, struct areas *out)
{
	const struct history *history = &playing->scene->history;
	uint32_t time = atomic_load(&playing->ended);
	uint64_t at = 0;

	*out = (struct areas){.at = NULL};
	while (at < history->size) {
		const struct tile *tile = history_at(history, at, time);

		if (tile->value != HOLE)
			areas_map(out, playing->base + tile->start, playing->base + tile->end,
				  (unsigned)tile->value);
		at = tile->end;
	}
}

static bool check_areas(struct playing *playing, const struct areas *wanted, char reason[200])
{
	struct aspace_area area;
	struct aspace_view view;
	struct aspace_iter iter;
	size_t count = 0;
	bool fine = true;

	aspace_read_begin(playing->space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	while (fine && aspace_iter_next(&iter, &area)) {
		const struct area *want = &wanted->at[count];

		if (count == wanted->at_count || area.start.value != want->start ||
		    area.end.value != want->end || area.flags != flags_of(want->protection) ||
		    area.backend != playing->backend || area.user) {
			snprintf(reason, 200,
				 "the library has %" PRIx64 "-%" PRIx64 " with flags %" PRIx64
				 " where the model has %s",
				 area.start.value, area.end.value, area.flags,
				 count == wanted->at_count ? "nothing more" : "another area");
			fine = false;
		}
		count++;
	}
	aspace_read_end(&view);
	if (fine && count != wanted->at_count) {
		snprintf(reason, 200, "the library has %zu areas where the model has %zu", count,
			 wanted->at_count);
		fine = false;
	}
	if (fine && aspace_count(playing->space) != count) {
		snprintf(reason, 200, "aspace_count() says %zu where there are %zu",
			 aspace_count(playing->space), count);
		fine = false;
	}
	return fine;
}

static bool take_pages(void *ctx, struct aspace_range range, uint64_t flags)
{
	struct areas *seen = ctx;

	areas_map(seen, range.start.value, range.end.value, (unsigned)flags);
	return true;
}

static bool check_mock(struct playing *playing, const struct areas *wanted, char reason[200])
{
	struct areas seen = {.at = NULL};
	const char *what;
	bool fine;

	/* The window of a call that was refused for want of memory may be larger than can be looked through. */
	if (wanted->at_count || aspace_mock_pages(playing->mock))
		aspace_mock_visit(playing->mock, aspace_limits(playing->space), take_pages, &seen);
	fine = areas_equal(&seen, wanted);
	areas_free(&seen);
	if (!fine) {
		snprintf(reason, 200, "the mock's page table is not what the model has");
	} else if (aspace_mock_violations(playing->mock, &what)) {
		snprintf(reason, 200, "the mock counts %" PRIu64 " protocol violations, first: %s",
			 aspace_mock_violations(playing->mock, NULL), what);
		fine = false;
	}
	return fine;
}

static bool check_kernel(struct playing *playing, const struct areas *wanted, char reason[200])
{
	struct aspace_range window = aspace_host_window(playing->host);
	char *text = maps_read();
	bool fine;

	if (!text) {
		snprintf(reason, 200, "/proc/self/smaps: %s", strerror(errno));
		return false;
	}
	fine = maps_compare(text, window.start.value, window.end.value, wanted, reason);
	free(text);
	return fine;
}

static bool check_memory(struct playing *playing, const struct areas *wanted, char reason[200])
{
	if (playing->host)
		return check_kernel(playing, wanted, reason);
	if (playing->tables)
		return tables_check(playing->tables, playing->space, reason);
	return !playing->mock || check_mock(playing, wanted, reason);
}

bool playing_check_step(struct playing *playing, const struct step *step, char reason[200])
{
	struct aspace_range range = range_of(playing, step->start, step->end);

	if (!playing->tables)
		return true;
	if (step->kind == STEP_MOVE) {
		struct aspace_range to =
			range_of(playing, step->to, step->to + (step->end - step->start));

		if (!tables_check_step(playing->tables, playing->space, to, reason))
			return false;
	} else if (step->kind == STEP_RESIZE) {
		range.end = aspace_va(playing->base + step->to);
	} else if (step->kind == STEP_BEGIN) {
		range = aspace_limits(playing->space);
	}
	return tables_check_step(playing->tables, playing->space, range, reason);
}

bool playing_check(struct playing *playing, char reason[200])
{
	struct aspace_violation violation;
	struct areas wanted;
	bool fine;

	if (aspace_validate(playing->space, &violation, 0)) {
		snprintf(reason, 200, "aspace_validate: invariant %u at %" PRIx64 ": %s",
			 violation.invariant, violation.address.value, violation.what);
		return false;
	}
	wanted_areas(playing, &wanted);
	fine = check_areas(playing, &wanted, reason) && check_memory(playing, &wanted, reason);
	areas_free(&wanted);
	return fine;
}

bool playing_close(struct playing *playing, char reason[200])
{
	struct areas nothing = {.at = NULL};
	enum aspace_status status = aspace_clear(playing->space, 0);
	bool fine;

	if (status) {
		snprintf(reason, 200, "aspace_clear: %s", aspace_status_string(status));
		return false;
	}
	fine = check_areas(playing, &nothing, reason) && check_memory(playing, &nothing, reason);
	status = aspace_destroy(playing->space, 0);
	if (status) {
		snprintf(reason, 200, "aspace_destroy: %s", aspace_status_string(status));
		return false;
	}
	playing->space = NULL;
	if (playing->tables && !tables_close(playing->tables, fine ? reason : (char[200]){0}))
		fine = false;
	free_parts(playing);
	return fine;
}
