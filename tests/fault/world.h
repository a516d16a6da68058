/* SPDX-License-Identifier: MIT */
/*
 * A small world for fault injection: a space, two mock backends, counted objects, pages
 * that are counted, and a picture of all of it that can be compared with another one.
 */
#ifndef TESTS_FAULT_WORLD_H
#define TESTS_FAULT_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <aspace/aspace.h>
#include <aspace/backend/mock.h>

/* Which of the two mocks. */
enum { A, B, MOCKS };

enum { OBJECTS_MAX = 160, AREAS_MAX = 200, GIVEN_MAX = 5 };

/* Counts what the page operations hand out, and refuses on command. */
struct pages {
	long blocks;            /* handed out and not taken back */
	unsigned long calls;    /* of alloc */
	unsigned long refusals; /* by command */
	long fail_at;           /* calls until the refusal; -1: none */
	bool fail_forever;
};

struct operation;

struct world {
	const struct operation *operation;
	struct aspace *space;
	struct aspace_mock *mock[MOCKS];
	struct pages pages;
	/* All objects, in order of creation. `held`: references of the test's own. */
	struct aspace_mock_object *object[OBJECTS_MAX];
	unsigned held[OBJECTS_MAX];
	unsigned objects;
	/* What run() hands over: indices of objects. */
	unsigned given[GIVEN_MAX];
	unsigned givens;
	/* setup() has opened a section or taken a snapshot for run() to end. */
	struct aspace_view view;
	struct aspace_snapshot snapshot;
	bool in_section;
	bool has_snapshot;
	/* The test's own section around run(). */
	struct aspace_view guard;
	bool guarded;
	/* run(): go on with a transaction after a failed operation, by trying it again. */
	bool retry_inside;
	unsigned retried;
};

enum operation_property {
	/* One refusal can end in ASPACE_BAD_STATE: a change before it cannot be undone. */
	CAN_STAND = 1,
	/* After ASPACE_BAD_STATE the same call can be made again, and succeeds. */
	REPEATS = 2,
	/* run() may try again inside a transaction (world.retry_inside). */
	IS_TXN = 4,
	/* Nothing can fail here. */
	CANNOT_FAIL = 8,
	/* Work that a grace period has put off is part of run(): out of memory is not an end
	 * for it, it tries again later. */
	DEFERRED = 16,
	/* The setup leaves something leaving or a section open: no quiesce before run(). */
	UNSETTLED = 32,
	/* What it takes is held back: it needs no pages. */
	GIVES_BACK = 64,
};

struct operation {
	const char *name;
	unsigned properties;
	unsigned space_mode;
	unsigned mock_mode[MOCKS];
	void (*setup)(struct world *);
	enum aspace_status (*run)(struct world *);
};

/* operations.c */
extern const struct operation operations[];
extern const size_t operation_count;

/* The n-th page of the part of the space that operations are about. Below and above
 * it lie areas that nobody touches, so that the tree has several levels. */
static inline uint64_t page(uint64_t n)
{
	return UINT64_C(0x10000000) + n * 0x1000;
}

static inline struct aspace_range pages_between(uint64_t from, uint64_t to)
{
	return aspace_range_of(page(from), page(to));
}

void world_open(struct world *world, const struct operation *operation);
/* Destroys everything and checks that nothing is left of it. */
void world_close(struct world *world);

/* For setup(): map pages [from, to) with an object of its own. Answers its index. */
unsigned put(struct world *world, unsigned mock, uint64_t from, uint64_t to, uint64_t flags);
/* For setup(): one more object that run() will hand over. */
void give(struct world *world, unsigned mock);
/* For run(): the pointer, and the note that it has been accepted or not. */
void *given(const struct world *world, unsigned i);

struct aspace_backend *backend_of(const struct world *world, unsigned mock);

/* The next reservation of each pool needs pages. */
void tighten_pools(struct world *world);
void loosen_pools(struct world *world);

/* ---- Pictures ---------------------------------------------------------- */

struct area_picture {
	uint64_t start, end, flags;
	int mock;
	int object; /* -1: none */
};

struct run_picture {
	uint64_t start, end, flags;
};

struct picture {
	size_t areas;
	struct area_picture area[AREAS_MAX];
	size_t runs[MOCKS];
	struct run_picture run[MOCKS][AREAS_MAX];
	uint64_t references[OBJECTS_MAX];
	unsigned objects;
};

/* Iterates the newest version, both ways, and visits the mocks' page tables. */
void take_picture(struct world *world, struct picture *picture);

/* The first difference in words, or NULL. References only where asked. */
const char *areas_differ(const struct picture *a, const struct picture *b);
const char *tables_differ(const struct picture *a, const struct picture *b);
const char *references_differ(const struct picture *a, const struct picture *b);
/* Does the tree say what the mocks hold? */
const char *tree_differs_from_tables(const struct picture *picture);
/* Does each object have a reference for each area that shows it, and those of the test? */
const char *references_are_wrong(const struct world *world, const struct picture *picture);

#endif
