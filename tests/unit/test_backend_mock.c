/* SPDX-License-Identifier: MIT */
/*
 * The mock backend through its vtable, and its own calls; the null backend beside it.
 */
#include <aspace/backend/mock.h>
#include <aspace/backend/null.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PAGE UINT64_C(4096)
#define BASE UINT64_C(0x7f0000000000)

static struct aspace_mock *make(const struct aspace_mock_options *options)
{
	struct aspace_mock_options o = options ? *options : (struct aspace_mock_options){0};
	struct aspace_mock *mock = NULL;

	o.size = sizeof(o);
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_OK);
	assert_non_null(mock);
	return mock;
}

static void unmake(struct aspace_mock *mock)
{
	const char *what;
	uint64_t violations = aspace_mock_violations(mock, &what);

	if (violations)
		fail_msg("%llu violations, first: %s", (unsigned long long)violations, what);
	aspace_mock_destroy(mock);
}

static const struct aspace_backend_ops *ops_of(struct aspace_mock *mock)
{
	return aspace_mock_backend(mock)->ops;
}

static enum aspace_status map(struct aspace_mock *mock, uint64_t start, uint64_t end,
			      uint64_t flags)
{
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_MAP,
		.range = aspace_range_of(start, end),
		.new_flags = flags,
	};

	return ops_of(mock)->map(aspace_mock_backend(mock), &change);
}

static enum aspace_status unmap(struct aspace_mock *mock, uint64_t start, uint64_t end,
				uint64_t flags)
{
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_UNMAP,
		.range = aspace_range_of(start, end),
		.old_flags = flags,
	};

	return ops_of(mock)->unmap(aspace_mock_backend(mock), &change);
}

static enum aspace_status protect(struct aspace_mock *mock, uint64_t start, uint64_t end,
				  uint64_t old_flags, uint64_t new_flags)
{
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_PROTECT,
		.range = aspace_range_of(start, end),
		.old_flags = old_flags,
		.new_flags = new_flags,
	};

	return ops_of(mock)->protect(aspace_mock_backend(mock), &change);
}

static enum aspace_status replace(struct aspace_mock *mock, uint64_t start, uint64_t end,
				  uint64_t flags)
{
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_REPLACE,
		.range = aspace_range_of(start, end),
		.new_flags = flags,
	};

	return ops_of(mock)->replace(aspace_mock_backend(mock), &change);
}

static enum aspace_status move(struct aspace_mock *mock, uint64_t start, uint64_t end, uint64_t to,
			       uint64_t flags)
{
	const struct aspace_change change = {
		.kind = ASPACE_CHANGE_MOVE,
		.range = aspace_range_of(start, end),
		.destination = aspace_va(to),
		.old_flags = flags,
	};

	return ops_of(mock)->move(aspace_mock_backend(mock), &change);
}

/* All of [start, end) is mapped with @flags. */
static void assert_mapped(struct aspace_mock *mock, uint64_t start, uint64_t end, uint64_t flags)
{
	for (uint64_t a = start; a < end; a += PAGE) {
		uint64_t found = ~flags;

		assert_true(aspace_mock_query(mock, aspace_va(a), &found));
		assert_int_equal(found, flags);
	}
}

static void assert_hole(struct aspace_mock *mock, uint64_t start, uint64_t end)
{
	for (uint64_t a = start; a < end; a += PAGE)
		assert_false(aspace_mock_query(mock, aspace_va(a), NULL));
}

static void assert_violation(struct aspace_mock *mock, uint64_t count, const char *word)
{
	const char *what = NULL;

	assert_int_equal(aspace_mock_violations(mock, &what), count);
	assert_non_null(what);
	if (!strstr(what, word))
		fail_msg("\"%s\" does not say \"%s\"", what, word);
}

/* ---- The page table -------------------------------------------------------------- */

static void test_changes(void **state)
{
	struct aspace_mock *mock = make(NULL);
	uint64_t flags = 0;

	(void)state;
	assert_int_equal(map(mock, BASE, BASE + 200 * PAGE, 5), ASPACE_OK);
	assert_int_equal(aspace_mock_pages(mock), 200);
	assert_mapped(mock, BASE, BASE + 200 * PAGE, 5);
	assert_hole(mock, BASE - 70 * PAGE, BASE);
	assert_hole(mock, BASE + 200 * PAGE, BASE + 300 * PAGE);
	assert_true(aspace_mock_query(mock, aspace_va(BASE + PAGE - 1), &flags));

	assert_int_equal(protect(mock, BASE + 10 * PAGE, BASE + 100 * PAGE, 5, 0), ASPACE_OK);
	assert_mapped(mock, BASE, BASE + 10 * PAGE, 5);
	assert_mapped(mock, BASE + 10 * PAGE, BASE + 100 * PAGE, 0);
	assert_mapped(mock, BASE + 100 * PAGE, BASE + 200 * PAGE, 5);

	assert_int_equal(unmap(mock, BASE + 100 * PAGE, BASE + 150 * PAGE, 5), ASPACE_OK);
	assert_int_equal(aspace_mock_pages(mock), 150);
	assert_hole(mock, BASE + 100 * PAGE, BASE + 150 * PAGE);

	assert_int_equal(replace(mock, BASE + 50 * PAGE, BASE + 120 * PAGE, 7), ASPACE_OK);
	assert_int_equal(aspace_mock_pages(mock), 170);
	assert_mapped(mock, BASE + 50 * PAGE, BASE + 120 * PAGE, 7);

	assert_int_equal(move(mock, BASE + 60 * PAGE, BASE + 120 * PAGE, 3 * PAGE, 7), ASPACE_OK);
	assert_int_equal(aspace_mock_pages(mock), 170);
	assert_mapped(mock, 3 * PAGE, 63 * PAGE, 7);
	assert_hole(mock, BASE + 60 * PAGE, BASE + 150 * PAGE);
	unmake(mock);
}

static void test_whole_64_bits(void **state)
{
	const struct aspace_mock_options bytes = {.granule = 1};
	const struct aspace_mock_options pages = {.granule = PAGE};
	struct aspace_mock *mock = make(&bytes);
	uint64_t flags = 0;

	(void)state;
	assert_int_equal(aspace_mock_backend(mock)->granule, 1);
	assert_int_equal(map(mock, 0, 1, 1), ASPACE_OK);
	assert_int_equal(map(mock, UINT64_MAX - 1, UINT64_MAX, 2), ASPACE_OK);
	assert_int_equal(map(mock, UINT64_MAX - 300, UINT64_MAX - 1, 3), ASPACE_OK);
	assert_true(aspace_mock_query(mock, aspace_va(0), &flags));
	assert_int_equal(flags, 1);
	assert_false(aspace_mock_query(mock, aspace_va(1), &flags));
	assert_true(aspace_mock_query(mock, aspace_va(UINT64_MAX - 1), &flags));
	assert_int_equal(flags, 2);
	assert_true(aspace_mock_query(mock, aspace_va(UINT64_MAX - 300), &flags));
	assert_int_equal(flags, 3);
	assert_false(aspace_mock_query(mock, aspace_va(UINT64_MAX - 301), &flags));
	assert_false(aspace_mock_query(mock, aspace_va(UINT64_MAX), &flags));
	assert_int_equal(unmap(mock, UINT64_MAX - 1, UINT64_MAX, 2), ASPACE_OK);
	/* All of it is too much, and says so at once. */
	assert_int_equal(map(mock, 1, UINT64_MAX - 300, 1), ASPACE_NO_MEMORY);
	assert_int_equal(aspace_mock_pages(mock), 300);
	unmake(mock);

	mock = make(&pages);
	assert_int_equal(map(mock, 0 - 2 * PAGE, 0 - PAGE, 1), ASPACE_OK);
	assert_true(aspace_mock_query(mock, aspace_va(0 - 2 * PAGE), &flags));
	assert_false(aspace_mock_query(mock, aspace_va(0 - PAGE), &flags));
	unmake(mock);
}

/* Every wrong change is told, refused, and changes nothing. */
static void test_violations(void **state)
{
	struct aspace_mock *mock = make(&(struct aspace_mock_options){.flags_mask = 7});
	uint64_t end = BASE + 100 * PAGE;

	(void)state;
	assert_int_equal(aspace_mock_violations(mock, NULL), 0);
	assert_int_equal(map(mock, BASE, end, 1), ASPACE_OK);

	assert_int_equal(map(mock, end - PAGE, end + PAGE, 1), ASPACE_BAD_STATE);
	assert_violation(mock, 1, "map of a mapped page");
	assert_hole(mock, end, end + PAGE);
	assert_int_equal(unmap(mock, end - PAGE, end + PAGE, 1), ASPACE_BAD_STATE);
	assert_int_equal(unmap(mock, BASE, end, 3), ASPACE_BAD_STATE);
	assert_int_equal(protect(mock, BASE, end + PAGE, 1, 2), ASPACE_BAD_STATE);
	assert_int_equal(protect(mock, BASE, end, 2, 3), ASPACE_BAD_STATE);
	assert_int_equal(replace(mock, end, end + PAGE, 2), ASPACE_BAD_STATE);
	assert_int_equal(move(mock, BASE, end, end - PAGE, 1), ASPACE_BAD_STATE);
	assert_int_equal(move(mock, BASE, end, 0 - PAGE, 1), ASPACE_BAD_STATE);
	assert_int_equal(move(mock, BASE, BASE + PAGE, end - PAGE, 1), ASPACE_BAD_STATE);
	assert_int_equal(move(mock, BASE, end, 0, 2), ASPACE_BAD_STATE);
	assert_int_equal(aspace_mock_violations(mock, NULL), 10);

	assert_int_equal(map(mock, end, end, 1), ASPACE_BAD_STATE);
	assert_int_equal(map(mock, end + PAGE, end, 1), ASPACE_BAD_STATE);
	assert_int_equal(map(mock, end + 1, end + PAGE, 1), ASPACE_BAD_STATE);
	assert_int_equal(map(mock, end, end + PAGE + 1, 1), ASPACE_BAD_STATE);
	assert_int_equal(map(mock, end, end + PAGE, 8), ASPACE_BAD_STATE);
	assert_int_equal(protect(mock, BASE, end, 1, 8), ASPACE_BAD_STATE);
	assert_violation(mock, 16, "map of a mapped page"); /* still the first */

	assert_int_equal(aspace_mock_pages(mock), 100);
	assert_mapped(mock, BASE, end, 1);
	aspace_mock_destroy(mock);
}

static void test_order(void **state)
{
	const struct aspace_mock_options o = {.mode = ASPACE_MOCK_CHECK_ORDER};
	struct aspace_mock *mock = make(&o);
	struct aspace_backend *backend = aspace_mock_backend(mock);
	struct aspace_change change = {
		.kind = ASPACE_CHANGE_MAP,
		.range = aspace_range_of(0, PAGE),
	};

	(void)state;
	assert_int_equal(backend->ops->prepare(backend, &change), ASPACE_OK);
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
	change.kind = ASPACE_CHANGE_UNMAP;
	change.undo = true;
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	backend->ops->flush(backend);
	assert_int_equal(aspace_mock_violations(mock, NULL), 0);

	change.kind = ASPACE_CHANGE_MAP;
	change.undo = false;
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_BAD_STATE);
	assert_violation(mock, 1, "without a prepare");
	assert_int_equal(backend->ops->prepare(backend, &change), ASPACE_BAD_STATE);
	assert_int_equal(aspace_mock_violations(mock, NULL), 2);
	aspace_mock_destroy(mock);
}

static bool collect(void *ctx, struct aspace_range range, uint64_t flags)
{
	char *text = ctx;

	sprintf(text + strlen(text), "%llu-%llu:%llu ", (unsigned long long)range.start.value,
		(unsigned long long)range.end.value, (unsigned long long)flags);
	return strlen(text) < 60;
}

static void test_visit(void **state)
{
	struct aspace_mock *mock = make(&(struct aspace_mock_options){.granule = 1});
	char text[200] = "";

	(void)state;
	map(mock, 10, 500, 1);
	map(mock, 500, 600, 1);
	map(mock, 600, 601, 2);
	map(mock, UINT64_C(1) << 20, (UINT64_C(1) << 20) + 1, 0);
	aspace_mock_visit(mock, aspace_range_of(0, UINT64_C(1) << 21), collect, text);
	assert_string_equal(text, "10-600:1 600-601:2 1048576-1048577:0 ");
	text[0] = '\0';
	aspace_mock_visit(mock, aspace_range_of(20, 30), collect, text);
	assert_string_equal(text, "20-30:1 ");
	text[0] = '\0';
	aspace_mock_visit(mock, aspace_range_of(30, 30), collect, text);
	assert_string_equal(text, "");
	unmake(mock);
}

/* Random changes of single pages, against an array; then the table is compacted. */
static void test_random_and_compact(void **state)
{
	enum { PAGES = 5000, SPREAD = 977 };
	static int model[PAGES];
	struct aspace_mock *mock = make(NULL);
	uint64_t before, mapped = 0;
	unsigned seed = 12345;

	(void)state;
	memset(model, 0, sizeof(model));
	for (int i = 0; i < 200000; i++) {
		uint64_t n = (seed = seed * 1103515245u + 12345u) / 65536 % PAGES;
		uint64_t at = n * SPREAD * PAGE;
		int flags = (int)(seed / 7 % 5) + 1;

		if (model[n]) {
			assert_int_equal(unmap(mock, at, at + PAGE, (uint64_t)model[n]), ASPACE_OK);
			model[n] = 0;
		} else {
			assert_int_equal(map(mock, at, at + PAGE, (uint64_t)flags), ASPACE_OK);
			model[n] = flags;
		}
	}
	for (uint64_t n = 0; n < PAGES; n += 2) {
		if (model[n])
			unmap(mock, n * SPREAD * PAGE, (n * SPREAD + 1) * PAGE, (uint64_t)model[n]);
		model[n] = 0;
	}
	before = aspace_mock_bytes(mock);
	assert_int_equal(aspace_mock_compact(mock), ASPACE_OK);
	assert_true(aspace_mock_bytes(mock) < before);
	for (uint64_t n = 0; n < PAGES; n++) {
		uint64_t flags = 0;

		assert_int_equal(aspace_mock_query(mock, aspace_va(n * SPREAD * PAGE), &flags),
				 model[n] != 0);
		assert_int_equal(flags, model[n]);
		mapped += model[n] != 0;
	}
	assert_int_equal(aspace_mock_pages(mock), mapped);
	assert_true(mapped > 0);
	unmake(mock);
}

/* 8 GiB of 4 KiB pages: two million. */
static void test_big(void **state)
{
	struct aspace_mock *mock = make(NULL);
	uint64_t size = UINT64_C(8) << 30;

	(void)state;
	assert_int_equal(map(mock, BASE, BASE + size, 3), ASPACE_OK);
	assert_int_equal(aspace_mock_pages(mock), size / PAGE);
	assert_int_equal(protect(mock, BASE, BASE + size, 3, 1), ASPACE_OK);
	assert_true(aspace_mock_query(mock, aspace_va(BASE + size - 1), NULL));
	assert_false(aspace_mock_query(mock, aspace_va(BASE + size), NULL));
	assert_int_equal(unmap(mock, BASE, BASE + size, 1), ASPACE_OK);
	assert_int_equal(aspace_mock_pages(mock), 0);
	unmake(mock);
}

/* ---- Refusing, logging -------------------------------------------------------------- */

static void test_inject(void **state)
{
	struct aspace_mock *mock = make(NULL);

	(void)state;
	assert_int_equal(aspace_mock_inject(mock, ASPACE_MOCK_MAP, 2, false, ASPACE_NO_MEMORY),
			 ASPACE_OK);
	assert_int_equal(map(mock, 0, PAGE, 1), ASPACE_OK);
	assert_int_equal(map(mock, PAGE, 2 * PAGE, 1), ASPACE_NO_MEMORY);
	assert_hole(mock, PAGE, 2 * PAGE);
	assert_int_equal(map(mock, PAGE, 2 * PAGE, 1), ASPACE_OK);
	assert_int_equal(aspace_mock_calls(mock, ASPACE_MOCK_MAP), 3);
	assert_int_equal(aspace_mock_injected(mock, ASPACE_MOCK_MAP), 1);

	aspace_mock_inject(mock, ASPACE_MOCK_UNMAP, 1, true, ASPACE_NOT_SUPPORTED);
	for (int i = 0; i < 3; i++)
		assert_int_equal(unmap(mock, 0, PAGE, 1), ASPACE_NOT_SUPPORTED);
	assert_int_equal(protect(mock, 0, PAGE, 1, 2), ASPACE_OK);
	aspace_mock_heal(mock);
	assert_int_equal(unmap(mock, 0, PAGE, 2), ASPACE_OK);
	assert_int_equal(aspace_mock_injected(mock, ASPACE_MOCK_UNMAP), 3);

	/* Whatever the kind: the third from now. */
	aspace_mock_inject(mock, ASPACE_MOCK_ANY, 3, false, ASPACE_BUSY);
	assert_int_equal(map(mock, 0, PAGE, 1), ASPACE_OK);
	assert_int_equal(protect(mock, 0, PAGE, 1, 2), ASPACE_OK);
	assert_int_equal(move(mock, 0, PAGE, 9 * PAGE, 2), ASPACE_BUSY);
	assert_mapped(mock, 0, PAGE, 2);
	assert_int_equal(move(mock, 0, PAGE, 9 * PAGE, 2), ASPACE_OK);
	assert_int_equal(aspace_mock_injected(mock, ASPACE_MOCK_ANY), 1);
	assert_int_equal(aspace_mock_injected(mock, ASPACE_MOCK_MOVE), 0);

	aspace_mock_inject(mock, ASPACE_MOCK_REPLACE, 1, false, ASPACE_NO_MEMORY);
	assert_int_equal(replace(mock, 9 * PAGE, 10 * PAGE, 3), ASPACE_NO_MEMORY);
	assert_mapped(mock, 9 * PAGE, 10 * PAGE, 2);

	/* Taken back before it fires. */
	aspace_mock_inject(mock, ASPACE_MOCK_PROTECT, 1, true, ASPACE_BUSY);
	aspace_mock_inject(mock, ASPACE_MOCK_PROTECT, 0, true, ASPACE_BUSY);
	assert_int_equal(protect(mock, 9 * PAGE, 10 * PAGE, 2, 3), ASPACE_OK);
	assert_int_equal(aspace_mock_inject(mock, ASPACE_MOCK_FLUSH, 1, false, ASPACE_BUSY),
			 ASPACE_INVALID_PARAM);
	unmake(mock);
}

static void test_log(void **state)
{
	struct aspace_mock *mock = make(&(struct aspace_mock_options){.log_capacity = 3});
	struct aspace_backend *backend = aspace_mock_backend(mock);
	struct aspace_change change = {
		.kind = ASPACE_CHANGE_MAP,
		.range = aspace_range_of(PAGE, 3 * PAGE),
		.new_flags = 6,
	};
	struct aspace_mock_entry entry;

	(void)state;
	backend->ops->prepare(backend, &change);
	backend->ops->map(backend, &change);
	change.kind = ASPACE_CHANGE_UNMAP;
	change.old_flags = 6;
	change.undo = true;
	aspace_mock_inject(mock, ASPACE_MOCK_UNMAP, 1, false, ASPACE_NO_MEMORY);
	backend->ops->unmap(backend, &change);
	assert_int_equal(aspace_mock_log_count(mock), 3);
	assert_true(aspace_mock_log_get(mock, 0, &entry));
	assert_int_equal(entry.call, ASPACE_MOCK_PREPARE);
	assert_int_equal(entry.kind, ASPACE_CHANGE_MAP);
	assert_true(aspace_mock_log_get(mock, 1, &entry));
	assert_int_equal(entry.call, ASPACE_MOCK_MAP);
	assert_int_equal(entry.range.start.value, PAGE);
	assert_int_equal(entry.range.end.value, 3 * PAGE);
	assert_int_equal(entry.new_flags, 6);
	assert_false(entry.undo);
	assert_true(aspace_mock_log_get(mock, 2, &entry));
	assert_int_equal(entry.call, ASPACE_MOCK_UNMAP);
	assert_int_equal(entry.status, ASPACE_NO_MEMORY);
	assert_true(entry.undo);
	assert_false(aspace_mock_log_get(mock, 3, &entry));

	backend->ops->flush(backend);
	assert_false(aspace_mock_log_get(mock, 0, &entry)); /* overwritten */
	assert_true(aspace_mock_log_get(mock, 3, &entry));
	assert_int_equal(entry.call, ASPACE_MOCK_FLUSH);
	aspace_mock_log_clear(mock);
	assert_int_equal(aspace_mock_log_count(mock), 0);
	assert_false(aspace_mock_log_get(mock, 3, &entry));
	unmake(mock);
}

/* ---- Options --------------------------------------------------------------------------- */

static void test_options(void **state)
{
	struct aspace_mock_options o = {.size = sizeof(o)};
	struct {
		struct aspace_mock_options known;
		uint64_t more;
	} longer = {.known = {.size = sizeof(longer), .granule = 8}};
	struct aspace_mock *mock;
	const struct aspace_backend_ops *ops;

	(void)state;
	/* Of a caller that knows less than we do, or more and means nothing by it. */
	longer.more = 1;
	assert_int_equal(aspace_mock_create(&longer.known, &mock), ASPACE_INVALID_PARAM);
	longer.more = 0;
	longer.known.flags_mask = 7;
	assert_int_equal(aspace_mock_create(&longer.known, &mock), ASPACE_OK);
	assert_true(aspace_mock_backend(mock)->flags_mask == 7);
	unmake(mock);
	longer.known.size = offsetof(struct aspace_mock_options, flags_mask);
	assert_int_equal(aspace_mock_create(&longer.known, &mock), ASPACE_OK);
	assert_int_equal(aspace_mock_backend(mock)->granule, 8);
	assert_true(aspace_mock_backend(mock)->flags_mask == ~ASPACE_FLAGS_RESERVED);
	unmake(mock);

	o.size = 8;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);
	o.size = sizeof(o);
	assert_int_equal(aspace_mock_create(&o, NULL), ASPACE_INVALID_PARAM);
	o.granule = 3;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);
	o.granule = 0;
	o.flags_mask = UINT64_C(1) << 56;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);
	o.flags_mask = 0;
	o.mode = ASPACE_MOCK_MERGE_ALWAYS | ASPACE_MOCK_MERGE_NEVER;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);
	o.mode = ASPACE_MOCK_CHECK_ORDER | ASPACE_MOCK_NO_FLUSH;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);
	o.mode = ASPACE_MOCK_LOSES << 1;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);
	o.mode = 1u << 31;
	assert_int_equal(aspace_mock_create(&o, &mock), ASPACE_INVALID_PARAM);

	assert_int_equal(aspace_mock_create(NULL, &mock), ASPACE_OK);
	ops = ops_of(mock);
	assert_int_equal(ops->size, sizeof(*ops));
	assert_true(ops->map && ops->unmap && ops->protect && ops->prepare && ops->replace &&
		    ops->move && ops->flush && ops->fault && ops->advise);
	assert_true(!ops->can_merge && !ops->clone && !ops->release);
	assert_false(aspace_mock_backend(mock)->remap_restores);
	assert_true(aspace_mock_backend(mock)->flags_mask == ~ASPACE_FLAGS_RESERVED);
	assert_int_equal(aspace_mock_backend(mock)->granule, 4096);
	unmake(mock);

	mock = make(&(struct aspace_mock_options){
		.mode = ASPACE_MOCK_NO_PREPARE | ASPACE_MOCK_NO_REPLACE | ASPACE_MOCK_NO_MOVE |
			ASPACE_MOCK_NO_FLUSH | ASPACE_MOCK_NO_FAULT | ASPACE_MOCK_NO_ADVISE |
			ASPACE_MOCK_REMAP_RESTORES});
	ops = ops_of(mock);
	assert_true(ops->map && ops->unmap && ops->protect);
	assert_true(!ops->prepare && !ops->replace && !ops->move && !ops->flush && !ops->fault &&
		    !ops->advise);
	assert_true(aspace_mock_backend(mock)->remap_restores);
	unmake(mock);
}

static void test_merge(void **state)
{
	const unsigned modes[] = {ASPACE_MOCK_MERGE_ALWAYS, ASPACE_MOCK_MERGE_NEVER};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct aspace_mock *mock = make(&(struct aspace_mock_options){.mode = modes[i]});
		struct aspace_backend *backend = aspace_mock_backend(mock);
		struct aspace_area left = {.start = {0}, .end = {PAGE}, .backend = backend};
		struct aspace_area right = {.start = {PAGE}, .end = {2 * PAGE}, .backend = backend};

		assert_int_equal(backend->ops->can_merge(backend, &left, &right), i == 0);
		assert_int_equal(aspace_mock_calls(mock, ASPACE_MOCK_CAN_MERGE), 1);
		assert_int_equal(aspace_mock_violations(mock, NULL), 0);
		right.flags = 1;
		backend->ops->can_merge(backend, &left, &right);
		assert_violation(mock, 1, "can_merge");
		aspace_mock_destroy(mock);
	}
}

static void test_fault(void **state)
{
	struct aspace_mock *mock = make(
		&(struct aspace_mock_options){.mode = ASPACE_MOCK_LAZY | ASPACE_MOCK_CHECK_ACCESS});
	struct aspace_backend *backend = aspace_mock_backend(mock);
	struct aspace_area area = {
		.start = {BASE}, .end = {BASE + 4 * PAGE}, .flags = 1, .backend = backend};
	struct aspace_vaddr at = {BASE + PAGE + 5};

	(void)state;
	assert_int_equal(map(mock, BASE, BASE + 4 * PAGE, 1), ASPACE_OK);
	assert_false(aspace_mock_populated(mock, at));
	assert_int_equal(backend->ops->fault(backend, &area, at, ASPACE_ACCESS_WRITE),
			 ASPACE_ACCESS_DENIED);
	assert_false(aspace_mock_populated(mock, at));
	assert_int_equal(backend->ops->fault(backend, &area, at, ASPACE_ACCESS_READ), ASPACE_OK);
	assert_true(aspace_mock_populated(mock, at));
	assert_false(aspace_mock_populated(mock, aspace_va(BASE)));
	/* Population goes with the page through protect and move, and ends with replace. */
	assert_int_equal(protect(mock, BASE, BASE + 4 * PAGE, 1, 3), ASPACE_OK);
	assert_true(aspace_mock_populated(mock, at));
	assert_int_equal(move(mock, BASE, BASE + 4 * PAGE, 0, 3), ASPACE_OK);
	assert_true(aspace_mock_populated(mock, aspace_va(PAGE)));
	assert_false(aspace_mock_populated(mock, aspace_va(2 * PAGE)));
	assert_int_equal(replace(mock, 0, 4 * PAGE, 3), ASPACE_OK);
	assert_false(aspace_mock_populated(mock, aspace_va(PAGE)));
	assert_int_equal(aspace_mock_violations(mock, NULL), 0);
	assert_int_equal(backend->ops->fault(backend, &area, at, ASPACE_ACCESS_READ),
			 ASPACE_BAD_STATE);
	assert_violation(mock, 1, "fault");
	aspace_mock_destroy(mock);

	mock = make(NULL);
	map(mock, 0, PAGE, 1);
	assert_true(aspace_mock_populated(mock, aspace_va(0)));
	unmake(mock);
}

/* ---- Objects ------------------------------------------------------------------------------ */

static void test_objects(void **state)
{
	struct aspace_mock *mock = make(&(struct aspace_mock_options){.mode = ASPACE_MOCK_OBJECTS});
	struct aspace_backend *backend = aspace_mock_backend(mock);
	struct aspace_mock_object *object = NULL;
	void *copy = NULL;

	(void)state;
	assert_int_equal(aspace_mock_object_create(mock, &object), ASPACE_OK);
	assert_int_equal(aspace_mock_object_id(object), 1);
	assert_int_equal(backend->ops->clone(backend, object, &copy), ASPACE_OK);
	assert_ptr_equal(copy, object);
	assert_int_equal(aspace_mock_object_references(object), 2);
	aspace_mock_inject(mock, ASPACE_MOCK_CLONE, 1, false, ASPACE_NO_MEMORY);
	copy = NULL;
	assert_int_equal(backend->ops->clone(backend, object, &copy), ASPACE_NO_MEMORY);
	assert_null(copy);
	assert_int_equal(aspace_mock_references(mock), 2);
	backend->ops->release(backend, object);
	assert_int_equal(aspace_mock_object_id(object), 1);
	aspace_mock_object_put(mock, object);
	assert_int_equal(aspace_mock_object_id(object), 0);
	assert_int_equal(aspace_mock_references(mock), 0);
	assert_int_equal(aspace_mock_calls(mock, ASPACE_MOCK_RELEASE), 1);
	assert_int_equal(aspace_mock_violations(mock, NULL), 0);

	backend->ops->release(backend, object);
	assert_violation(mock, 1, "release");
	assert_int_equal(backend->ops->clone(backend, object, &copy), ASPACE_BAD_STATE);
	assert_int_equal(aspace_mock_violations(mock, NULL), 2);
	assert_int_equal(aspace_mock_references(mock), 0);
	aspace_mock_destroy(mock);

	mock = make(NULL);
	assert_int_equal(aspace_mock_object_create(mock, &object), ASPACE_NOT_SUPPORTED);
	unmake(mock);
}

/* Dead objects' memory comes back, late and under new numbers: bytes stay bounded. */
static void test_objects_again(void **state)
{
	struct aspace_mock *mock = make(&(struct aspace_mock_options){.mode = ASPACE_MOCK_OBJECTS});
	struct aspace_mock_object *first = NULL, *object = NULL;
	uint64_t bytes = 0, again = 0;

	(void)state;
	assert_int_equal(aspace_mock_object_create(mock, &first), ASPACE_OK);
	aspace_mock_object_put(mock, first);
	for (int i = 0; i < 50000; i++) {
		assert_int_equal(aspace_mock_object_create(mock, &object), ASPACE_OK);
		assert_int_equal(aspace_mock_object_id(object), i + 2);
		if (object == first && !again)
			again = (uint64_t)i;
		aspace_mock_object_put(mock, object);
		if (i == 10000)
			bytes = aspace_mock_bytes(mock);
	}
	assert_true(again > 1000);
	assert_int_equal(aspace_mock_bytes(mock), bytes);
	unmake(mock);
}

/* ---- Readers beside a writer ---------------------------------------------------------------- */

#define HOT        64
#define HOT_STRIDE (1000 * PAGE)

struct race {
	struct aspace_mock *mock;
	atomic_bool stop;
	_Atomic uint64_t queries, hits, misses; /* counts */
	_Atomic uint64_t wrong;
	/* Stored before the page is mapped, read after it was found: what the mock's own
	 * order must carry. */
	_Atomic uint64_t payload[HOT];
};

/* Hot page n only ever has flags n * 256 + something below 256; a page that stays has 7. */
static void *read_race(void *ctx)
{
	struct race *race = ctx;

	for (uint64_t i = 0; !atomic_load(&race->stop); i++) {
		uint64_t n = i % HOT, flags;

		if (aspace_mock_query(race->mock, aspace_va(n * HOT_STRIDE), &flags)) {
			if (flags >> 8 != n)
				atomic_fetch_add(&race->wrong, 1);
			atomic_fetch_add(&race->hits, 1);
		} else {
			atomic_fetch_add(&race->misses, 1);
		}
		if (!aspace_mock_query(race->mock, aspace_va(BASE + n * PAGE), &flags) ||
		    flags != 7)
			atomic_fetch_add(&race->wrong, 1);
		atomic_fetch_add(&race->queries, 1);
	}
	return NULL;
}

static void write_hot(struct race *race, uint64_t round)
{
	uint64_t n = round % HOT, at = n * HOT_STRIDE, flags = n << 8 | (round / HOT % 256);
	uint64_t next = n << 8 | ((flags + 1) & 255);

	assert_int_equal(map(race->mock, at, at + PAGE, flags), ASPACE_OK);
	assert_int_equal(protect(race->mock, at, at + PAGE, flags, next), ASPACE_OK);
	if (round % 3)
		assert_int_equal(unmap(race->mock, at, at + PAGE, next), ASPACE_OK);
	else
		assert_int_equal(move(race->mock, at, at + PAGE, BASE * 2, next), ASPACE_OK);
	if (round % 3 == 0)
		assert_int_equal(unmap(race->mock, BASE * 2, BASE * 2 + PAGE, next), ASPACE_OK);
	/* A block that never was: the table grows under the readers. */
	at = BASE * 2 + (round + 1) * 64 * PAGE;
	assert_int_equal(map(race->mock, at, at + PAGE, 1), ASPACE_OK);
}

static void test_readers_beside_writer(void **state)
{
	static struct race race;
	pthread_t thread[2];
	uint64_t round = 0;

	(void)state;
	race.mock = make(NULL);
	assert_int_equal(map(race.mock, BASE, BASE + HOT * PAGE, 7), ASPACE_OK);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, read_race, &race), 0);
	/* Until the readers have met all that they are here to meet. */
	while (round < 20000 || atomic_load(&race.hits) < 1000 || atomic_load(&race.misses) < 1000)
		write_hot(&race, round++);
	atomic_store(&race.stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(atomic_load(&race.wrong), 0);
	print_message("%llu rounds beside %llu queries\n", (unsigned long long)round,
		      (unsigned long long)atomic_load(&race.queries));
	unmake(race.mock);
}

/* What a writer did before a change is seen by who sees the change (TSan checks the order). */
static void *read_payload(void *ctx)
{
	static uint64_t last;
	struct race *race = ctx;
	uint64_t flags;

	last = 0;
	while (last < 1000) {
		if (!aspace_mock_query(race->mock, aspace_va(0), &flags))
			continue;
		if (atomic_load_explicit(&race->payload[0], memory_order_relaxed) < flags)
			atomic_fetch_add(&race->wrong, 1);
		last = flags;
	}
	return NULL;
}

static void test_query_orders(void **state)
{
	static struct race race;
	pthread_t thread;

	(void)state;
	race.mock = make(NULL);
	assert_int_equal(map(race.mock, 0, PAGE, 0), ASPACE_OK);
	assert_int_equal(pthread_create(&thread, NULL, read_payload, &race), 0);
	for (uint64_t i = 0; i < 1000; i++) {
		atomic_store_explicit(&race.payload[0], i + 1, memory_order_relaxed);
		assert_int_equal(protect(race.mock, 0, PAGE, i, i + 1), ASPACE_OK);
	}
	pthread_join(thread, NULL);
	assert_int_equal(atomic_load(&race.wrong), 0);
	unmake(race.mock);
}

/* ---- Null ------------------------------------------------------------------------------------- */

static enum aspace_status advise(struct aspace_mock *mock, uint64_t start, uint64_t end,
				 enum aspace_advice advice)
{
	struct aspace_backend *backend = aspace_mock_backend(mock);
	const struct aspace_area area = {
		.start = {BASE}, .end = {BASE + 4 * PAGE}, .flags = 1, .backend = backend};
	struct aspace_vaddr reached = {end};

	return backend->ops->advise(backend, &area, aspace_range_of(start, end), advice, &reached);
}

static void test_advise(void **state)
{
	const unsigned mode = ASPACE_MOCK_LAZY | ASPACE_MOCK_CHECK_ACCESS;
	struct aspace_mock *mock =
		make(&(struct aspace_mock_options){.mode = mode, .log_capacity = 64});
	struct aspace_mock_entry entry;
	uint64_t calls;

	(void)state;
	assert_int_equal(map(mock, BASE, BASE + 4 * PAGE, 1), ASPACE_OK);
	/* Populated and emptied, page by page. */
	assert_int_equal(advise(mock, BASE + PAGE, BASE + 3 * PAGE, ASPACE_ADVICE_POPULATE_READ),
			 ASPACE_OK);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(aspace_mock_populated(mock, aspace_va(BASE + i * PAGE)),
				 i == 1 || i == 2);
	assert_int_equal(advise(mock, BASE, BASE + 2 * PAGE, ASPACE_ADVICE_DROP), ASPACE_OK);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(aspace_mock_populated(mock, aspace_va(BASE + i * PAGE)), i == 2);
	assert_int_equal(advise(mock, BASE, BASE + PAGE, ASPACE_ADVICE_POPULATE_WRITE),
			 ASPACE_ACCESS_DENIED);
	for (unsigned i = ASPACE_ADVICE_WILL_NEED; i <= ASPACE_ADVICE_NORMAL; i++)
		assert_int_equal(advise(mock, BASE, BASE + 4 * PAGE, (enum aspace_advice)i),
				 ASPACE_OK);
	assert_false(aspace_mock_populated(mock, aspace_va(BASE + 2 * PAGE)));

	/* Logged, counted, refused on command, by itself and as any call. */
	aspace_mock_log_clear(mock);
	calls = aspace_mock_calls(mock, ASPACE_MOCK_ADVISE);
	assert_int_equal(aspace_mock_inject(mock, ASPACE_MOCK_ADVISE, 2, false, ASPACE_BUSY),
			 ASPACE_OK);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(
			advise(mock, BASE + PAGE, BASE + 2 * PAGE, ASPACE_ADVICE_POPULATE_READ),
			i == 1 ? ASPACE_BUSY : ASPACE_OK);
	assert_int_equal(aspace_mock_inject(mock, ASPACE_MOCK_ANY, 1, false, ASPACE_NO_MEMORY),
			 ASPACE_OK);
	assert_int_equal(advise(mock, BASE, BASE + PAGE, ASPACE_ADVICE_DROP), ASPACE_NO_MEMORY);
	assert_int_equal(aspace_mock_calls(mock, ASPACE_MOCK_ADVISE), calls + 4);
	assert_int_equal(aspace_mock_injected(mock, ASPACE_MOCK_ADVISE), 1);
	assert_int_equal(aspace_mock_log_count(mock), 4);
	assert_true(aspace_mock_log_get(mock, 1, &entry));
	assert_int_equal(entry.call, ASPACE_MOCK_ADVISE);
	assert_int_equal(entry.status, ASPACE_BUSY);
	assert_int_equal(entry.range.start.value, BASE + PAGE);
	assert_int_equal(entry.range.end.value, BASE + 2 * PAGE);
	assert_int_equal(entry.old_flags, 1);
	assert_int_equal(entry.new_flags, ASPACE_ADVICE_POPULATE_READ);
	assert_int_equal(aspace_mock_violations(mock, NULL), 0);

	/* What the library must not ask. */
	assert_int_equal(advise(mock, BASE - PAGE, BASE + PAGE, ASPACE_ADVICE_COLD),
			 ASPACE_BAD_STATE);
	assert_violation(mock, 1, "advice outside");
	assert_int_equal(advise(mock, BASE, BASE + 5 * PAGE, ASPACE_ADVICE_COLD), ASPACE_BAD_STATE);
	assert_int_equal(advise(mock, BASE, BASE + 1, ASPACE_ADVICE_COLD), ASPACE_BAD_STATE);
	assert_int_equal(advise(mock, BASE, BASE, ASPACE_ADVICE_COLD), ASPACE_BAD_STATE);
	assert_int_equal(advise(mock, BASE, BASE + PAGE, (enum aspace_advice)0), ASPACE_BAD_STATE);
	unmap(mock, BASE + PAGE, BASE + 2 * PAGE, 1);
	assert_int_equal(advise(mock, BASE, BASE + 2 * PAGE, ASPACE_ADVICE_COLD), ASPACE_BAD_STATE);
	assert_int_equal(aspace_mock_violations(mock, NULL), 6);
	aspace_mock_destroy(mock);

	/* Who populates at once has nothing to empty. */
	mock = make(NULL);
	map(mock, BASE, BASE + 4 * PAGE, 1);
	assert_int_equal(advise(mock, BASE, BASE + 4 * PAGE, ASPACE_ADVICE_DROP), ASPACE_OK);
	assert_true(aspace_mock_populated(mock, aspace_va(BASE)));
	unmake(mock);
}

static void test_null(void **state)
{
	struct aspace_backend *null = aspace_null_backend();
	const struct aspace_change change = {.kind = ASPACE_CHANGE_MAP};
	const struct aspace_area area = {.backend = null};

	(void)state;
	assert_ptr_equal(null, aspace_null_backend());
	assert_int_equal(null->ops->size, sizeof(*null->ops));
	assert_true(null->flags_mask == ~ASPACE_FLAGS_RESERVED);
	assert_int_equal(null->granule, 1);
	assert_true(null->remap_restores);
	assert_int_equal(null->ops->map(null, &change), ASPACE_OK);
	assert_int_equal(null->ops->unmap(null, &change), ASPACE_OK);
	assert_int_equal(null->ops->protect(null, &change), ASPACE_OK);
	assert_int_equal(null->ops->replace(null, &change), ASPACE_OK);
	assert_int_equal(null->ops->move(null, &change), ASPACE_OK);
	assert_int_equal(null->ops->fault(null, &area, aspace_va(0), 1), ASPACE_OK);
	for (unsigned i = ASPACE_ADVICE_POPULATE_READ; i <= ASPACE_ADVICE_NORMAL; i++) {
		struct aspace_vaddr reached = {5};

		assert_int_equal(null->ops->advise(null, &area, aspace_range_of(0, 5),
						   (enum aspace_advice)i, &reached),
				 ASPACE_OK);
		assert_int_equal(reached.value, 5);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),       cmocka_unit_test(test_whole_64_bits),
		cmocka_unit_test(test_violations),    cmocka_unit_test(test_order),
		cmocka_unit_test(test_visit),         cmocka_unit_test(test_random_and_compact),
		cmocka_unit_test(test_big),           cmocka_unit_test(test_inject),
		cmocka_unit_test(test_log),           cmocka_unit_test(test_options),
		cmocka_unit_test(test_merge),         cmocka_unit_test(test_fault),
		cmocka_unit_test(test_advise),        cmocka_unit_test(test_objects),
		cmocka_unit_test(test_objects_again), cmocka_unit_test(test_readers_beside_writer),
		cmocka_unit_test(test_query_orders),  cmocka_unit_test(test_null),
	};

	return cmocka_run_group_tests_name("backend mock", tests, NULL, NULL);
}
