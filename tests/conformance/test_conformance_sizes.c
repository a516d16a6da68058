/* SPDX-License-Identifier: MIT */
/*
 * Structures that carry their size: of every length, each directly before a page that
 * nobody may touch, so that whatever is read or written behind the end faults.
 */
#include <sys/mman.h>
#include <unistd.h>

#include <aspace/backend/host.h>
#include <aspace/backend/null.h>

#include "conformance/support.h"

#define LONGEST 4096 /* what the headers allow */

static unsigned char *pages;
static size_t page;

static int open_pages(void **state)
{
	(void)state;
	page = (size_t)sysconf(_SC_PAGESIZE);
	pages = mmap(NULL, 3 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return pages == MAP_FAILED || mprotect(pages + 2 * page, page, PROT_NONE);
}

static int close_pages(void **state)
{
	(void)state;
	return munmap(pages, 3 * page);
}

/* The first `size` bytes of `whole`, which has `known`, then `rest` over and over. All of it
 * ends where the forbidden page begins, but for what alignment takes. */
static void *at_the_end(const void *whole, size_t known, size_t size, int rest)
{
	size_t rounded = (size + 7) & ~(size_t)7;
	unsigned char *start = pages + 2 * page - rounded;

	memset(pages, 0xee, 2 * page);
	memset(start, rest, size);
	memcpy(start, whole, size < known ? size : known);
	return start;
}

/* ---- A backend's table --------------------------------------------------- */

enum {
	MAP,
	UNMAP,
	PROTECT,
	PREPARE,
	REPLACE,
	MOVE,
	FLUSH,
	FAULT,
	MERGE,
	CLONE,
	RELEASE,
	CHECK,
	SPAN,
	ADVISE,
	OPERATIONS,
};

static _Atomic unsigned calls[OPERATIONS]; /* `release` runs on the helper thread */

#define COUNTS(name, which)                                                                        \
	static enum aspace_status name(struct aspace_backend *backend,                             \
				       const struct aspace_change *change)                         \
	{                                                                                          \
		(void)backend;                                                                     \
		(void)change;                                                                      \
		calls[which]++;                                                                    \
		return ASPACE_OK;                                                                  \
	}
COUNTS(count_map, MAP)
COUNTS(count_unmap, UNMAP)
COUNTS(count_protect, PROTECT)
COUNTS(count_prepare, PREPARE)
COUNTS(count_replace, REPLACE)
COUNTS(count_move, MOVE)

static void count_flush(struct aspace_backend *backend)
{
	(void)backend;
	calls[FLUSH]++;
}

static enum aspace_status count_fault(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_vaddr address,
				      unsigned access)
{
	(void)backend;
	(void)area;
	(void)address;
	(void)access;
	calls[FAULT]++;
	return ASPACE_OK;
}

static bool count_merge(struct aspace_backend *backend, const struct aspace_area *left,
			const struct aspace_area *right)
{
	(void)backend;
	calls[MERGE]++;
	return left->user == right->user;
}

static enum aspace_status count_clone(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	calls[CLONE]++;
	*copy = user;
	return ASPACE_OK;
}

static void count_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	calls[RELEASE]++;
}

static enum aspace_status count_check(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_vaddr *where,
				      const char **what)
{
	(void)backend;
	(void)area;
	(void)where;
	(void)what;
	calls[CHECK]++;
	return ASPACE_OK;
}

static uint64_t count_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend;
	(void)area;
	calls[SPAN]++;
	return 1;
}

static enum aspace_status count_advice(struct aspace_backend *backend,
				       const struct aspace_area *area, struct aspace_range range,
				       enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)backend;
	(void)area;
	(void)range;
	(void)advice;
	(void)reached;
	calls[ADVISE]++;
	return ASPACE_OK;
}

static const struct aspace_backend_ops whole_table = {
	.size = sizeof(whole_table),
	.map = count_map,
	.unmap = count_unmap,
	.protect = count_protect,
	.prepare = count_prepare,
	.replace = count_replace,
	.move = count_move,
	.flush = count_flush,
	.fault = count_fault,
	.can_merge = count_merge,
	.clone = count_clone,
	.release = count_release,
	.check_area = count_check,
	.fault_span = count_span,
	.advise = count_advice,
};

/* Where each operation ends. */
static const size_t end_of[OPERATIONS] = {
#define END(member) offsetof(struct aspace_backend_ops, member) + sizeof(whole_table.member)
	[MAP] = END(map),         [UNMAP] = END(unmap),     [PROTECT] = END(protect),
	[PREPARE] = END(prepare), [REPLACE] = END(replace), [MOVE] = END(move),
	[FLUSH] = END(flush),     [FAULT] = END(fault),     [MERGE] = END(can_merge),
	[CLONE] = END(clone),     [RELEASE] = END(release), [CHECK] = END(check_area),
	[SPAN] = END(fault_span), [ADVISE] = END(advise),
};

/* Everything that asks for an operation, in a plain space or one that defers unmaps. */
static void use_every_operation(struct aspace_backend *backend, unsigned mode)
{
	struct aspace_options options = {.size = sizeof(options), .mode = mode};
	bool grace = mode & ASPACE_GRACE_UNMAP, has_fault, has_move, has_advise;
	struct aspace_txn *txn;
	struct aspace *space;
	int user;

	has_fault = backend->ops->size >= end_of[FAULT];
	has_move = backend->ops->size >= end_of[MOVE];
	has_advise = backend->ops->size >= end_of[ADVISE];
	assert_ok(aspace_create(&options, &space));
	assert_ok(aspace_map(space, range(0, 100), 1, backend, &user, 0));
	assert_ok(aspace_map(space, range(100, 200), 1, backend, &user, 0));
	assert_int_equal(aspace_count(space), 1);
	assert_ok(aspace_unmap(space, range(40, 60), 0));
	assert_ok(aspace_protect(space, range(10, 20), 2, 0));
	if (!grace) {
		assert_ok(aspace_map(space, range(70, 80), 1, backend, NULL, ASPACE_REPLACE));
		assert_status(has_move ? ASPACE_OK : ASPACE_NOT_SUPPORTED,
			      aspace_move(space, range(0, 10), at(300), 0));
	}
	assert_ok(aspace_resize(space, at(20), 5, 0));
	assert_status(has_fault ? ASPACE_OK : ASPACE_NOT_SUPPORTED,
		      aspace_fault(space, at(90), ASPACE_ACCESS_READ, 0));
	assert_status(has_advise ? ASPACE_OK : ASPACE_NOT_SUPPORTED,
		      aspace_advise(space, range(0, 200), ASPACE_ADVICE_DROP, 0));
	assert_ok(aspace_txn_begin(space, 0, &txn));
	assert_ok(aspace_txn_map(txn, range(400, 500), 1, backend, &user, 0));
	assert_ok(aspace_txn_unmap(txn, range(420, 430), 0));
	if (!grace)
		assert_ok(aspace_txn_map(txn, range(90, 95), 1, backend, NULL, ASPACE_REPLACE));
	assert_ok(aspace_txn_protect(txn, range(150, 160), 2, 0));
	assert_ok(aspace_txn_commit(txn));
	assert_ok(aspace_quiesce(space, 0));
	assert_ok(aspace_validate(space, NULL, 0));
	assert_ok(aspace_clear(space, 0));
	assert_ok(aspace_destroy(space, 0));
}

static void a_table_of_any_length_works(void **state)
{
	(void)state;
	/* Behind what the library knows: operations of a later version, not NULL. */
	for (size_t size = end_of[PROTECT]; size < sizeof(whole_table) + 100;
	     size += sizeof(whole_table.map)) {
		struct aspace_backend_ops *table =
			at_the_end(&whole_table, sizeof(whole_table), size, 0xff);
		struct aspace_backend backend = {.ops = table, .flags_mask = 7};

		table->size = size;
		for (unsigned i = 0; i < OPERATIONS; i++)
			calls[i] = 0;
		use_every_operation(&backend, 0);
		use_every_operation(&backend, ASPACE_GRACE_UNMAP);
		for (unsigned i = 0; i < OPERATIONS; i++)
			assert_int_equal(calls[i] != 0, size >= end_of[i]);
	}
}

static void refuse_size(struct aspace *space, size_t size, size_t there)
{
	struct aspace_backend_ops *table = at_the_end(&whole_table, sizeof(whole_table), there, 0);
	struct aspace_backend backend = {.ops = table, .flags_mask = 7};

	table->size = size;
	assert_status(ASPACE_INVALID_PARAM, aspace_map(space, range(0, 10), 0, &backend, NULL, 0));
	assert_int_equal(aspace_count(space), 0);
}

static void a_table_too_short_or_too_long_is_refused(void **state)
{
	struct aspace *space;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	for (size_t size = 0; size < end_of[PROTECT]; size++)
		refuse_size(space, size, size < sizeof(size_t) ? sizeof(size_t) : size);
	/* An operation that is cut in two. */
	for (size_t size = 0; size < sizeof(whole_table) + 20; size++) {
		if (size % sizeof(whole_table.map))
			refuse_size(space, size, size < sizeof(size_t) ? sizeof(size_t) : size);
	}
	refuse_size(space, LONGEST + 8, sizeof(whole_table));
	refuse_size(space, SIZE_MAX, sizeof(whole_table));
	assert_ok(aspace_destroy(space, 0));
}

/* ---- Options -------------------------------------------------------------- */

/* Whatever takes options: OK from `least` on, as long as what it does not know is zero. */
static void try_options(const void *whole, size_t known, size_t least,
			enum aspace_status (*make)(const void *options))
{
	for (size_t size = 0; size < known + 70; size++) {
		size_t *options;

		if (size < sizeof(size_t)) /* the size itself is always there */
			options = at_the_end(whole, known, sizeof(size_t), 0);
		else
			options = at_the_end(whole, known, size, 0);
		*options = size;
		assert_status(size < least ? ASPACE_INVALID_PARAM : ASPACE_OK, make(options));
		if (size <= known)
			continue;
		/* The last byte of what is not known. */
		((unsigned char *)options)[size - 1] = 1;
		assert_status(ASPACE_INVALID_PARAM, make(options));
	}
	for (unsigned i = 0; i < 3; i++) {
		const size_t sizes[] = {LONGEST, LONGEST + 1, SIZE_MAX};
		size_t *options = at_the_end(whole, known, LONGEST, 0);

		*options = sizes[i];
		assert_status(i ? ASPACE_INVALID_PARAM : ASPACE_OK, make(options));
	}
}

static enum aspace_status make_space(const void *options)
{
	struct aspace *space;
	enum aspace_status status = aspace_create(options, &space);

	if (status == ASPACE_OK)
		assert_ok(aspace_destroy(space, 0));
	return status;
}

static enum aspace_status make_mock(const void *options)
{
	struct aspace_mock *mock;
	enum aspace_status status = aspace_mock_create(options, &mock);

	if (status == ASPACE_OK)
		aspace_mock_destroy(mock);
	return status;
}

static enum aspace_status make_host(const void *options)
{
	struct aspace_host *host;
	enum aspace_status status = aspace_host_create(options, &host);

	if (status == ASPACE_OK)
		aspace_host_destroy(host);
	return status;
}

static void options_of_any_length_work(void **state)
{
	const struct aspace_options space = {
		.limits = {{0}, {0x100000}}, /* as good where it is cut */
		.granule = 16,
		.garbage_max = 1 << 20,
		.stall_ms = 20,
	};
	const struct aspace_mock_options mock = {.granule = 4096, .log_capacity = 4};
	struct aspace_host_options host = {.window = 16 * (uint64_t)sysconf(_SC_PAGESIZE)};

	(void)state;
	try_options(&space, sizeof(space), offsetof(struct aspace_options, limits), make_space);
	try_options(&mock, sizeof(mock), offsetof(struct aspace_mock_options, flags_mask),
		    make_mock);
	try_options(&host, sizeof(host), offsetof(struct aspace_host_options, address), make_host);
}

/* What a shorter structure does not say is the default, not what lies behind it. */
static void what_options_do_not_say_is_the_default(void **state)
{
	struct aspace_options whole = {.size = offsetof(struct aspace_options, granule)};
	struct aspace *space;

	(void)state;
	memset((char *)&whole + whole.size, 0xff, sizeof(whole) - whole.size);
	assert_ok(aspace_create(&whole, &space));
	assert_int_equal(aspace_granule(space), 1);
	assert_ok(aspace_map(space, range(3, 5), 0, aspace_null_backend(), NULL, 0));
	assert_ok(aspace_destroy(space, 0));
}

/* ---- Figures --------------------------------------------------------------- */

static void figures_of_any_length_are_written(void **state)
{
	struct aspace_stats whole = {.size = sizeof(whole)};
	struct aspace *space;

	(void)state;
	assert_ok(aspace_create(NULL, &space));
	assert_ok(aspace_map(space, range(3, 5), 0, aspace_null_backend(), NULL, 0));
	assert_ok(aspace_quiesce(space, 0));
	assert_ok(aspace_stats(space, &whole, 0));
	for (size_t size = 0; size < sizeof(whole) + 70; size++) {
		size_t there = size < sizeof(size_t) ? sizeof(size_t) : size;
		unsigned char *stats = at_the_end(&whole, 0, there, 0x55);

		*(size_t *)(void *)stats = size;
		if (size < offsetof(struct aspace_stats, leaving)) {
			assert_status(ASPACE_INVALID_PARAM, aspace_stats(space, (void *)stats, 0));
			continue;
		}
		assert_ok(aspace_stats(space, (void *)stats, 0));
		assert_int_equal(*(size_t *)(void *)stats, size);
		/* The number of grace periods may have gone up. */
		assert_memory_equal(stats + sizeof(size_t), (char *)&whole + sizeof(size_t),
				    (size < offsetof(struct aspace_stats, grace_periods)
					     ? size
					     : offsetof(struct aspace_stats, grace_periods)) -
					    sizeof(size_t));
		for (size_t i = sizeof(whole); i < size; i++)
			assert_int_equal(stats[i], 0);
		/* Alignment's rest, which is not the caller's structure any more. */
		for (size_t i = size; i & 7; i++)
			assert_int_equal(stats[i], 0xee);
	}
	assert_ok(aspace_destroy(space, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_table_of_any_length_works),
		cmocka_unit_test(a_table_too_short_or_too_long_is_refused),
		cmocka_unit_test(options_of_any_length_work),
		cmocka_unit_test(what_options_do_not_say_is_the_default),
		cmocka_unit_test(figures_of_any_length_are_written),
	};

	return cmocka_run_group_tests(tests, open_pages, close_pages);
}
