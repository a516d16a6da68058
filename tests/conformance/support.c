/* SPDX-License-Identifier: MIT */
#include "conformance/support.h"

#include <stdio.h>

const char *current_case;

static struct aspace_mock *open_mock(const struct world_options *options, unsigned mode)
{
	struct aspace_mock_options mock_options = {
		.size = sizeof(mock_options),
		.granule = options->granule ? options->granule : 1,
		.flags_mask = options->flags_mask,
		.mode = mode,
		.log_capacity = options->log_capacity,
	};
	struct aspace_mock *mock;

	assert_ok(aspace_mock_create(&mock_options, &mock));
	return mock;
}

void world_open(struct world *w, const struct world_options *options)
{
	struct aspace_options space = options->space;

	w->mock = open_mock(options, options->mock_mode);
	w->other = open_mock(options, options->other_mode);
	w->backend = aspace_mock_backend(w->mock);
	w->other_backend = aspace_mock_backend(w->other);
	space.size = sizeof(space);
	assert_ok(aspace_create(&space, &w->space));
}

static void close_mock(struct aspace_mock *mock)
{
	const char *what = "";

	if (aspace_mock_violations(mock, &what))
		fail_msg("the protocol of backends was broken: %s", what);
	assert_int_equal(aspace_mock_references(mock), 0);
	assert_int_equal(aspace_mock_pages(mock), 0);
	aspace_mock_destroy(mock);
}

void world_close_mocks(struct world *w)
{
	close_mock(w->mock);
	close_mock(w->other);
}

void world_close(struct world *w)
{
	assert_ok(aspace_destroy(w->space, 0));
	world_close_mocks(w);
}

void assert_status_at(enum aspace_status want, enum aspace_status got, const char *call,
		      const char *file, int line)
{
	if (got == want)
		return;
	if (current_case)
		print_error("%s: ", current_case);
	print_error("%s: %s, not %s\n", call, aspace_status_string(got),
		    aspace_status_string(want));
	_fail(file, line);
}

void describe(const struct world *w, const struct aspace_view *view, char *text, size_t size)
{
	struct aspace_iter iter;
	struct aspace_area area;
	size_t length = 0;

	text[0] = '\0';
	aspace_iter_begin(view, at(0), &iter);
	while (aspace_iter_next(&iter, &area) && length < size)
		length += (size_t)snprintf(
			text + length, size - length, "%s%llx-%llx:%llx%s", length ? " " : "",
			(unsigned long long)area.start.value, (unsigned long long)area.end.value,
			(unsigned long long)area.flags, area.backend == w->backend ? "" : "/b");
}

/* The mock's pages are those of its areas; leaving ones keep theirs. */
static bool tables_match(struct world *w, const struct aspace_view *view)
{
	uint64_t pages[2] = {0}, flags;
	struct aspace_iter iter;
	struct aspace_area area;

	aspace_iter_begin(view, at(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		struct aspace_mock *mock = area.backend == w->backend ? w->mock : w->other;
		uint64_t granule = area.backend->granule ? area.backend->granule : 1;

		for (uint64_t a = area.start.value; a < area.end.value; a += granule) {
			if (!aspace_mock_query(mock, at(a), &flags) || flags != area.flags)
				return false;
			pages[area.backend != w->backend]++;
		}
	}
	if (stats_of(w).leaving)
		return true;
	return pages[0] == aspace_mock_pages(w->mock) && pages[1] == aspace_mock_pages(w->other);
}

void assert_areas_at(struct world *w, const char *want, const char *file, int line)
{
	struct aspace_violation violation;
	struct aspace_view view;
	char text[4096];

	if (aspace_validate(w->space, &violation, 0) != ASPACE_OK) {
		print_error("invariant %u at %#llx: %s\n", violation.invariant,
			    (unsigned long long)violation.address.value, violation.what);
		_fail(file, line);
	}
	aspace_read_begin(w->space, &view);
	describe(w, &view, text, sizeof(text));
	if (strcmp(text, want) != 0) {
		print_error("areas are   %s\nand not     %s\n", text, want);
		_fail(file, line);
	}
	if (!tables_match(w, &view)) {
		print_error("the page tables hold something else than %s\n", text);
		_fail(file, line);
	}
	aspace_read_end(&view);
}

struct aspace_mock_object *object(struct world *w)
{
	struct aspace_mock_object *object;

	assert_ok(aspace_mock_object_create(w->mock, &object));
	return object;
}

struct aspace_stats stats_of(struct world *w)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	assert_ok(aspace_stats(w->space, &stats, 0));
	return stats;
}
