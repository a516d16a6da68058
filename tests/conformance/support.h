/* SPDX-License-Identifier: MIT */
/*
 * What the conformance tests share: a space with two mock backends, and checks of the
 * whole of it.
 */
#ifndef TESTS_CONFORMANCE_SUPPORT_H
#define TESTS_CONFORMANCE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <aspace/aspace.h>
#include <aspace/backend/mock.h>

struct world {
	struct aspace *space;
	struct aspace_mock *mock, *other;
	struct aspace_backend *backend, *other_backend;
};

/* How a world is to be; zero everywhere: bytes as pages, all defaults. */
struct world_options {
	struct aspace_options space; /* size is filled in; granule 0 means 1 */
	uint64_t granule;            /* of both mocks; 0 means 1 */
	unsigned mock_mode, other_mode;
	uint64_t flags_mask;
	uint64_t log_capacity;
};

void world_open(struct world *w, const struct world_options *options);
/* Destroys all; fails on a leak, a mapped page, or a breach of the backends' protocol. */
void world_close(struct world *w);
/* The same without the space, which is gone. */
void world_close_mocks(struct world *w);

static inline struct aspace_range range(uint64_t start, uint64_t end)
{
	return aspace_range_of(start, end);
}

static inline struct aspace_vaddr at(uint64_t value)
{
	return (struct aspace_vaddr){value};
}

/* Of a table: named where a status is not the one wanted. May be NULL. */
extern const char *current_case;

#define assert_ok(call)           assert_status(ASPACE_OK, call)
#define assert_status(want, call) assert_status_at(want, call, #call, __FILE__, __LINE__)
void assert_status_at(enum aspace_status want, enum aspace_status got, const char *call,
		      const char *file, int line);

/* The areas, as "start-end:flags" in hexadecimal, "/b" behind those of the other backend;
 * the tree is valid; mapped pages are those of the areas. */
#define assert_areas(w, want) assert_areas_at(w, want, __FILE__, __LINE__)
void assert_areas_at(struct world *w, const char *want, const char *file, int line);
/* Only that: for views. */
void describe(const struct world *w, const struct aspace_view *view, char *text, size_t size);
#define assert_view(w, view, want)                                                                 \
	do {                                                                                       \
		char text_[4096];                                                                  \
                                                                                                   \
		describe(w, view, text_, sizeof(text_));                                           \
		assert_string_equal(text_, want);                                                  \
	} while (0)

static inline enum aspace_status map(struct world *w, uint64_t start, uint64_t end, uint64_t flags,
				     void *user)
{
	return aspace_map(w->space, range(start, end), flags, w->backend, user, 0);
}

static inline enum aspace_status unmap(struct world *w, uint64_t start, uint64_t end)
{
	return aspace_unmap(w->space, range(start, end), 0);
}

static inline enum aspace_status protect(struct world *w, uint64_t start, uint64_t end,
					 uint64_t flags)
{
	return aspace_protect(w->space, range(start, end), flags, 0);
}

/* An object with one reference. */
struct aspace_mock_object *object(struct world *w);
#define assert_references(object, want)                                                            \
	assert_int_equal(aspace_mock_object_references(object), want)

struct aspace_stats stats_of(struct world *w);

#endif
