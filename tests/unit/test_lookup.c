/* SPDX-License-Identifier: MIT */
/*
 * Lookups: every set of functions that this CPU can run, against the areas themselves; and
 * the last hit, with signal handlers that look up between any two instructions of a lookup.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "read/last_hit.h"
#include "tree/nodes.h"
#include "read/lookup_named.h"
#include "space/space.h"
#include "update/plan.h"
#include "tree/search.h"

static const char *const names[] = {"portable", "avx2", "avx512", "neon"};

#define NAMES (sizeof(names) / sizeof(names[0]))

static struct aspace *make_space(unsigned mode)
{
	struct aspace_options options = {.size = sizeof(options), .mode = mode};
	struct aspace *space;

	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	return space;
}

static void map(struct aspace *space, uint64_t start, uint64_t end, uint64_t flags)
{
	assert_int_equal(aspace_map(space, aspace_range_of(start, end), flags,
				    aspace_null_backend(), (void *)(uintptr_t)(start + 1), 0),
			 ASPACE_OK);
}

/* ---- The sets ------------------------------------------------------------- */

#define AREAS_MAX 60000 /* a tree that is tall: see TALL */

static struct aspace_area model[AREAS_MAX];
static size_t areas;

static uint64_t draw(void)
{
	static uint64_t state = 1;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return state >> 33;
}

/* Areas up to the very top of the address space, if `high`, and from its bottom, if not:
 * keys on both sides of 2^63, where signed comparisons go wrong. */
static void fill(struct aspace *space, size_t count, bool high)
{
	uint64_t at = high ? UINT64_MAX - 64 * count : 0;

	for (areas = 0; areas < count; areas++) {
		uint64_t size = 1 + draw() % 32;

		if (high && areas + 1 == count)
			at = UINT64_MAX - size;
		if (areas == count / 2 && !high)
			at += UINT64_C(1) << 63;
		map(space, at, at + size, areas % 2);
		model[areas] = (struct aspace_area){
			{at}, {at + size}, areas % 2, aspace_null_backend(), (void *)(at + 1)};
		at += size + draw() % 31;
	}
}

static const struct aspace_area *model_find(uint64_t address)
{
	for (size_t i = 0; i < areas; i++) {
		if (address >= model[i].start.value && address < model[i].end.value)
			return &model[i];
	}
	return NULL;
}

static void assert_same(const struct aspace_area *want, enum aspace_status status,
			const struct aspace_area *got)
{
	assert_int_equal(status, want ? ASPACE_OK : ASPACE_NOT_MAPPED);
	if (!want)
		return;
	assert_int_equal(got->start.value, want->start.value);
	assert_int_equal(got->end.value, want->end.value);
	assert_int_equal(got->flags, want->flags);
	assert_ptr_equal(got->backend, want->backend);
	assert_ptr_equal(got->user, want->user);
}

#define ASKED_MAX 512

static void compare(struct aspace *space, const struct asp_lookup_set *set)
{
	struct aspace_vaddr asked[ASKED_MAX];
	struct aspace_area got[ASKED_MAX], area;
	size_t count = 0, found = 0;

	/* The ends of the address space, the borders of some areas, anywhere. */
	asked[count++] = aspace_va(0);
	asked[count++] = aspace_va(UINT64_MAX);
	asked[count++] = aspace_va(UINT64_MAX - 1);
	for (size_t i = 0; i < areas && count + 5 < ASKED_MAX; i += 1 + areas / 100) {
		asked[count++] = aspace_va(model[i].start.value - 1);
		asked[count++] = model[i].start;
		asked[count++] = aspace_va(model[i].end.value - 1);
		asked[count++] = model[i].end;
		asked[count++] = aspace_va(model[draw() % areas].start.value + draw() % 64);
	}
	asp_use_lookup_set(space, set);
	memset(got, 0xff, sizeof(got));
	for (size_t i = 0; i < count; i++) {
		const struct aspace_area *want = model_find(asked[i].value);

		memset(&area, 0xff, sizeof(area));
		assert_same(want, set->find_in(asp_root(space), asked[i], &area), &area);
		for (unsigned again = 0; again < 3; again++) {
			memset(&area, 0xff, sizeof(area));
			assert_same(want, aspace_find(space, asked[i], &area), &area);
			memset(&area, 0xff, sizeof(area));
			assert_same(want, set->find_by_calls(space, asked[i], &area), &area);
		}
		assert_same(want, aspace_find(space, asked[i], NULL), want);
		assert_same(want, set->find_by_calls(space, asked[i], NULL), want);
		found += want != NULL;
	}
	assert_int_equal(aspace_find_many(space, asked, count, got), found);
	for (size_t i = 0; i < count; i++) {
		const struct aspace_area *want = model_find(asked[i].value);

		assert_same(want, got[i].end.value ? ASPACE_OK : ASPACE_NOT_MAPPED, &got[i]);
		if (!want)
			assert_true(!got[i].start.value && !got[i].flags && !got[i].backend &&
				    !got[i].user);
	}
	assert_int_equal(aspace_find_many(space, asked, 0, NULL), 0);
}

/* Takes areas out by the set's searches, copies and comparisons of gaps, and puts them back.
 * What is said of each node is then compared with what it holds, without the set (T4). */
static void edit(struct aspace *space, const struct asp_lookup_set *set)
{
	asp_use_lookup_set(space, set);
	for (unsigned n = 0; areas && n < 600; n++) {
		const struct aspace_area *area = &model[draw() % areas];
		struct aspace_range range = {area->start, area->end};

		assert_int_equal(aspace_unmap(space, range, 0), ASPACE_OK);
		if (n % 8 == 0 || areas < 200)
			assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
		map(space, area->start.value, area->end.value, area->flags);
		if (n % 8 == 0 || areas < 200)
			assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
	}
}

/* The private copy of a node is the node, but for its birth. */
static void compare_copy(struct aspace *space, const struct asp_lookup_set *set,
			 struct asp_node *node)
{
	const struct asp_edit_need need = {.nodes = 1};
	struct asp_edit *edit = &space->plan.edit;
	struct asp_node *place = node, *copy;

	asp_use_lookup_set(space, set);
	assert_int_equal(asp_writer_enter(space, 0), ASPACE_OK);
	asp_plan_begin(space);
	assert_true(asp_edit_reserve(edit, &need));
	copy = set->vector->edit.own(edit, &place);
	assert_ptr_equal(place, copy);
	assert_ptr_not_equal(copy, node);
	assert_int_equal(copy->birth, edit->version);
	copy->birth = node->birth;
	assert_memory_equal(copy, node, sizeof(*node));
	asp_nodes_put(&space->nodes, copy);
	asp_plan_drop(&space->plan);
	asp_writer_leave(space);
}

/* The greatest gap at each place where one can be, in nodes of each size. */
static void compare_nodes(struct aspace *space, const struct asp_lookup_set *set)
{
	static const uint64_t steps[] = {1, UINT64_C(1) << 62, (UINT64_C(1) << 63) + 5};
	struct asp_node node;

	for (unsigned n = 0; n < ASP_INNER_MAX * ASP_INNER_MAX * 2 * 3; n++) {
		unsigned count = 1 + n % ASP_INNER_MAX, at = n / ASP_INNER_MAX % ASP_INNER_MAX;
		bool inside = n / ASP_INNER_MAX / ASP_INNER_MAX % 2;
		uint64_t step = steps[n / ASP_INNER_MAX / ASP_INNER_MAX / 2], address = 1;

		memset(&node, 0xff, sizeof(node));
		node.level = 1;
		node.count = (uint16_t)count;
		for (unsigned i = 0; i < count; i++) {
			address += i && i == at && !inside ? step + 9 : draw() % 9;
			node.inner.first[i] = address;
			node.inner.gap[i] = i == at && inside ? step + 9 : draw() % 9;
			address += 10;
			node.inner.last[i] = address;
		}
		assert_int_equal(set->vector->edit.inner_gap(&node), asp_inner_gap(&node));
		compare_copy(space, set, &node);
	}
}

static void test_sets(void **state)
{
	static const size_t counts[] = {0, 1, 2, 13, 14, 15, 100, 1000, 4000};
	unsigned tried = 0;

	(void)state;
	assert_null(asp_lookup_set_named("abacus"));
	for (size_t n = 0; n < NAMES; n++) {
		const struct asp_lookup_set *set = asp_lookup_set_named(names[n]);
		struct aspace *space;

		if (!set) {
			printf("not on this CPU: %s\n", names[n]);
			continue;
		}
		assert_string_equal(set->vector->name, names[n]);
		tried++;
		space = make_space(0);
		compare_nodes(space, set);
		assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
		assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
		for (size_t i = 0; i < 2 * sizeof(counts) / sizeof(counts[0]); i++) {
			space = make_space(0);
			fill(space, counts[i / 2], i % 2);
			compare(space, set);
			edit(space, set);
			compare(space, set);
			assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_OK);
			assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
		}
	}
	assert_true(tried > 0);
#if defined(__x86_64__) || defined(__aarch64__)
	printf("%u sets, the best of them %s\n", tried, asp_lookup_set_best()->vector->name);
#endif
	assert_non_null(asp_lookup_set_named(asp_lookup_set_best()->vector->name));
}

/* Leaves that are not near are looked for in another way. */
static void test_tall(void **state)
{
	struct aspace *space = make_space(0);

	(void)state;
	fill(space, AREAS_MAX, false);
	assert_int_equal(asp_root(space)->level, 4);
	for (size_t n = 0; n < NAMES; n++) {
		const struct asp_lookup_set *set = asp_lookup_set_named(names[n]);

		if (set)
			compare(space, set);
	}
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
}

static void test_leaving(void **state)
{
	struct aspace *space = make_space(ASPACE_GRACE_UNMAP);
	struct aspace_vaddr address = aspace_va(0x1000);
	struct aspace_view view;
	struct aspace_area area;

	(void)state;
	for (size_t n = 0; n < NAMES; n++) {
		const struct asp_lookup_set *set = asp_lookup_set_named(names[n]);

		if (!set)
			continue;
		map(space, 0x1000, 0x2000, 1);
		asp_use_lookup_set(space, set);
		for (unsigned again = 0; again < 3; again++)
			assert_int_equal(aspace_find(space, address, &area), ASPACE_OK);
		aspace_read_begin(space, &view); /* keeps the area leaving */
		assert_int_equal(aspace_unmap(space, aspace_range_of(0x1000, 0x2000), 0),
				 ASPACE_OK);
		assert_int_equal(aspace_find(space, address, &area), ASPACE_NOT_MAPPED);
		assert_int_equal(aspace_find_many(space, &address, 1, &area), 0);
		assert_true(aspace_overlaps(space, aspace_range_of(0x1000, 0x2000)));
		assert_int_equal(aspace_view_find(&view, address, &area), ASPACE_OK);
		assert_int_equal(aspace_view_find_many(&view, &address, 1, &area), 1);
		aspace_read_end(&view);
		assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	}
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
}

/* ---- The last hit --------------------------------------------------------- */

static bool remembers(const struct aspace *space, uint64_t start)
{
	return asp_last_hit.space == space->id && asp_last_hit.start == start && asp_last_hit.size;
}

/* Finds the address often enough that it is remembered. */
static void remember(struct aspace *space, uint64_t address)
{
	struct aspace_area area;

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(aspace_find(space, aspace_va(address), &area), ASPACE_OK);
	assert_true(remembers(space, area.start.value));
}

static void test_last_hit(void **state)
{
	struct aspace *space = make_space(0), *other = make_space(0);
	struct aspace_range range = aspace_range_of(0x1000, 0x2000);
	struct aspace_area area;
	uint64_t fills;

	(void)state;
	map(space, 0x1000, 0x2000, 1);
	map(other, 0x1000, 0x3000, 2);
	remember(space, 0x1fff);
	fills = asp_last_hit.fills;
	assert_int_equal(aspace_find(space, aspace_va(0x1000), &area), ASPACE_OK);
	assert_int_equal(area.flags, 1);
	assert_int_equal(asp_last_hit.fills, fills); /* no need for the tree */
	assert_int_equal(aspace_find(space, aspace_va(0x2000), &area), ASPACE_NOT_MAPPED);
	assert_int_equal(aspace_find(space, aspace_va(0xfff), &area), ASPACE_NOT_MAPPED);

	/* Another space at the same address. */
	assert_int_equal(aspace_find(other, aspace_va(0x1000), &area), ASPACE_OK);
	assert_int_equal(area.end.value, 0x3000);

	/* Another version. */
	remember(space, 0x1000);
	assert_int_equal(aspace_protect(space, range, 3, 0), ASPACE_OK);
	assert_int_equal(aspace_find(space, aspace_va(0x1000), &area), ASPACE_OK);
	assert_int_equal(area.flags, 3);
	remember(space, 0x1000);
	assert_int_equal(aspace_unmap(space, range, 0), ASPACE_OK);
	assert_int_equal(aspace_find(space, aspace_va(0x1000), &area), ASPACE_NOT_MAPPED);

	/* Another space with the same memory and the same version number. */
	for (unsigned i = 0; i < 20; i++) {
		map(space, 0x1000, 0x2000, i % 2);
		remember(space, 0x1000);
		assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
		space = make_space(0);
		map(space, 0x8000, 0x9000, 1);
		assert_int_equal(aspace_find(space, aspace_va(0x1000), &area), ASPACE_NOT_MAPPED);
		assert_int_equal(aspace_unmap(space, aspace_range_of(0x8000, 0x9000), 0),
				 ASPACE_OK);
	}
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	assert_int_equal(aspace_destroy(other, 0), ASPACE_OK);
}

/* Single-stepping: the CPU raises SIGTRAP after each instruction while the trap flag is
 * set, and the handler runs with the flag clear. */
#if defined(__x86_64__) && !defined(ASP_TSAN)
#define STEPS 1

static struct aspace *stepped;
static uint64_t step, act_at; /* of this lookup; when the handler is to look up */
static uint64_t acts, acts_in_filling, acts_that_filled;

static void check_found(uint64_t address)
{
	struct aspace_area area;

	if (aspace_find(stepped, aspace_va(address), &area) != ASPACE_OK ||
	    area.start.value != (address & ~UINT64_C(0xfff)) ||
	    area.end.value != area.start.value + 0x1000 ||
	    area.flags != (area.start.value >> 12 & 1) ||
	    area.user != (void *)(uintptr_t)(area.start.value + 1))
		abort();
}

static void on_step(int signal)
{
	uint64_t fills = asp_last_hit.fills;

	(void)signal;
	if (step++ != act_at)
		return;
	acts++;
	acts_in_filling += fills & 1;
	check_found(0x2345); /* what is perhaps being filled in */
	check_found(0x3210); /* or being replaced */
	for (unsigned i = 0; i < 3; i++)
		check_found(0x5000 + i);
	acts_that_filled += asp_last_hit.fills != fills;
}

static void step_through(uint64_t address)
{
	step = 0;
	__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "cc", "memory");
	check_found(address);
	__asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "cc", "memory");
}

/* A handler that looks up after the first instruction of a lookup, then after the second,
 * and so on; for a lookup that asks the tree, one that also fills, and one that hits. */
static void step_all(uint64_t count)
{
	stepped = make_space(0);
	for (uint64_t at = 0x1000; at < 0x1000 * (count + 1); at += 0x1000)
		map(stepped, at, at + 0x1000, at >> 12 & 1);
	for (unsigned known = 0; known < 3; known++) {
		/* Instrumented, a lookup has so many instructions that some must do. */
		for (act_at = 0, step = 1; act_at < step; act_at += 1 + step / 400) {
			remember(stepped, 0x3000);
			for (unsigned i = 0; i < known; i++)
				check_found(0x2000);
			step_through(0x2345);
			/* What is remembered now is right, whoever has filled it in. */
			check_found(0x2345);
			check_found(0x5432);
			check_found(0x3210);
		}
	}
}

static void test_last_hit_stepped(void **state)
{
	struct sigaction action = {.sa_handler = on_step}, before;

	(void)state;
	if (getenv("ASPACE_EMULATED")) {
		printf("skipped: no single steps under an emulator\n");
		skip();
	}
	sigemptyset(&action.sa_mask);
	assert_int_equal(sigaction(SIGTRAP, &action, &before), 0);
	/* One leaf; two levels and three, for each of which a lookup has its own way. */
	for (uint16_t level = 0, count = 8; level < 3; level++, count *= 8) {
		acts = acts_in_filling = acts_that_filled = 0;
		step_all(count);
		assert_int_equal(asp_root(stepped)->level, level);
		printf("%u areas: %llu interruptions, %llu of them in the middle of a filling; "
		       "%llu filled\n",
		       (unsigned)count, (unsigned long long)acts,
		       (unsigned long long)acts_in_filling, (unsigned long long)acts_that_filled);
		assert_true(acts_in_filling >= 8);
		assert_true(acts_that_filled > acts / 2);
		assert_int_equal(aspace_destroy(stepped, 0), ASPACE_OK);
	}
	assert_int_equal(sigaction(SIGTRAP, &before, NULL), 0);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_tall),
		cmocka_unit_test(test_leaving),
		cmocka_unit_test(test_last_hit),
#ifdef STEPS
		cmocka_unit_test(test_last_hit_stepped),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
