/* SPDX-License-Identifier: MIT */
/*
 * Lookups beside writers: every answer is a state that there was, none is older than what
 * was known before, and none is torn. Gap searches beside writers. A replace is never a
 * hole.
 */
#include "flip.h"

static uint64_t seed;

static void flip_with(const char *what, unsigned writers, bool ordered, long updates,
		      size_t garbage_max)
{
	struct flip flip = {
		.space = make_space(&(struct aspace_options){.garbage_max = garbage_max}),
		.ordered = ordered,
		.updates = scaled(updates) / writers,
		.writers = writers,
		.seed = seed,
	};

	flip_run(&flip, what, 2);
	end_space(flip.space);
}

/* ---- Replace storms -------------------------------------------------------- */

#define STORM_LO    UINT64_C(0x100000)
#define STORM_PAGES 256
#define STORM_HI    (STORM_LO + STORM_PAGES * 4096)

static struct aspace *storm_space;
static struct traffic storm_traffic;

static void *storm_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&storm_traffic.stop)) {
		uint64_t address = STORM_LO + roll_below(&dice, STORM_PAGES * 4096);
		struct glimpse glimpse = lookup_begins(&storm_traffic);
		struct aspace_area area;

		check_ok(aspace_find(storm_space, aspace_va(address), &area));
		lookup_ends(&storm_traffic, glimpse);
		check(area.start.value <= address && address < area.end.value);
		check(aspace_overlaps(storm_space, aspace_range_of(address, address + 1)));
	}
	return NULL;
}

/* Replaces, moves there and back, protects: never a page without an area. */
static void *storm_writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	for (long i = 0; !enough(&storm_traffic, i, scaled(20000)); i++) {
		uint64_t from = roll_below(&dice, STORM_PAGES);
		uint64_t to = from + 1 +
			      roll_below(&dice, STORM_PAGES - from < 40 ? STORM_PAGES - from : 40);
		struct aspace_range range =
			aspace_range_of(STORM_LO + from * 4096, STORM_LO + to * 4096);

		update_begins(&storm_traffic);
		if (roll_below(&dice, 3))
			check_ok(aspace_map(storm_space, range, roll_below(&dice, 4),
					    aspace_null_backend(), NULL, ASPACE_REPLACE));
		else
			check_ok(aspace_protect(storm_space, range, roll_below(&dice, 4),
						ASPACE_STRICT));
		update_ends(&storm_traffic);
	}
	return NULL;
}

static void test_replace_storm(void)
{
	pthread_t readers[2], writers[2];

	storm_space = make_space(NULL);
	check_ok(aspace_map(storm_space, aspace_range_of(STORM_LO, STORM_HI), 0,
			    aspace_null_backend(), NULL, 0));
	for (uintptr_t i = 0; i < 2; i++)
		readers[i] = spawn(storm_reader, (void *)i);
	for (uintptr_t i = 0; i < 2; i++)
		writers[i] = spawn(storm_writer, (void *)(i + 2));
	for (int i = 0; i < 2; i++)
		join(writers[i]);
	relaxed_store(&storm_traffic.stop, true);
	for (int i = 0; i < 2; i++)
		join(readers[i]);
	report("replace storm", &storm_traffic);
	end_space(storm_space);
}

/* ---- Gap searches ---------------------------------------------------------- */

/* One big gap stays; the others come and go. Small areas all around. */
#define GAP_BASE  UINT64_C(0x10000000)
#define GAP_SIZE  UINT64_C(0x100000)
#define GAP_AREAS 400
#define GAP_STEP  UINT64_C(0x4000)

static struct aspace *gap_space;
static struct traffic gap_traffic;

static void *gap_reader(void *arg)
{
	const uint64_t low = GAP_BASE - GAP_AREAS / 2 * GAP_STEP;
	const uint64_t high = GAP_BASE + GAP_SIZE + GAP_AREAS / 2 * GAP_STEP;
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&gap_traffic.stop)) {
		struct aspace_gap gap = {
			.size = 0x1000 << roll_below(&dice, 8),
			.align = UINT64_C(0x1000) << roll_below(&dice, 4),
			.limits = aspace_range_of(low, high),
			.downward = roll_below(&dice, 2),
			.guard = roll_below(&dice, 2) * 0x1000,
		};
		struct glimpse glimpse = lookup_begins(&gap_traffic);
		struct aspace_vaddr start, again;
		struct aspace_view view;

		/* The gap that stays is large enough, so there is always an answer. */
		check_ok(aspace_find_free(gap_space, &gap, &start));
		lookup_ends(&gap_traffic, glimpse);
		check(start.value % gap.align == 0);
		check(start.value >= low && start.value + gap.size <= high);

		aspace_read_begin(gap_space, &view);
		check_ok(aspace_view_find_free(&view, &gap, &start));
		check(!aspace_view_overlaps(&view,
					    aspace_range_of(start.value - gap.guard,
							    start.value + gap.size + gap.guard)));
		check_ok(aspace_view_find_free(&view, &gap, &again));
		check(again.value == start.value);
		aspace_read_end(&view);
	}
	return NULL;
}

static void *gap_writer(void *unused)
{
	struct dice dice = {seed + 7};

	(void)unused;
	for (long i = 0; !enough(&gap_traffic, i, scaled(30000)); i++) {
		uint64_t area = roll_below(&dice, GAP_AREAS);
		uint64_t at = area < GAP_AREAS / 2
				      ? GAP_BASE - (area + 1) * GAP_STEP
				      : GAP_BASE + GAP_SIZE + (area - GAP_AREAS / 2) * GAP_STEP;
		struct aspace_range range =
			aspace_range_of(at, at + 0x1000 * (1 + roll_below(&dice, 4)));

		update_begins(&gap_traffic);
		if (roll_below(&dice, 2))
			check_ok(aspace_map(gap_space, range, roll_below(&dice, 4),
					    aspace_null_backend(), NULL, ASPACE_REPLACE));
		else
			check_ok(aspace_unmap(gap_space, range, 0));
		update_ends(&gap_traffic);
	}
	return NULL;
}

static void test_gap_search(void)
{
	pthread_t readers[2], writer;

	gap_space = make_space(NULL);
	for (uintptr_t i = 0; i < 2; i++)
		readers[i] = spawn(gap_reader, (void *)i);
	writer = spawn(gap_writer, NULL);
	join(writer);
	relaxed_store(&gap_traffic.stop, true);
	for (int i = 0; i < 2; i++)
		join(readers[i]);
	report("gap search beside a writer", &gap_traffic);
	end_space(gap_space);
}

/* Writers that search and map in one operation never get the same place. */
#define CLAIM_PAGES 20
static _Atomic unsigned claimed[CLAIM_PAGES];
static struct aspace *claim_space;
static _Atomic uint64_t claims, full;

static void *claimer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	for (long i = 0; i < scaled(16000); i++) {
		struct aspace_gap gap = {
			.size = 0x1000 * (1 + roll_below(&dice, 8)),
			.downward = roll_below(&dice, 2),
			.hint = {0x1000 * roll_below(&dice, CLAIM_PAGES)},
			.wrap = true,
		};
		struct aspace_vaddr start;
		enum aspace_status status = aspace_map_anywhere(
			claim_space, &gap, (uintptr_t)arg, aspace_null_backend(), arg, 0, &start);
		uint64_t first = start.value / 0x1000 - 1, pages = gap.size / 0x1000;

		if (status == ASPACE_NO_SPACE) {
			relaxed_add(&full, 1);
			continue;
		}
		check_ok(status);
		for (uint64_t page = first; page < first + pages; page++)
			check(!relaxed_add(&claimed[page], 1));
		relaxed_add(&claims, 1);
		for (uint64_t page = first; page < first + pages; page++)
			check(relaxed_add(&claimed[page], -1u) == 1);
		check_ok(aspace_unmap(claim_space,
				      aspace_range_of(start.value, start.value + gap.size),
				      ASPACE_STRICT));
	}
	return NULL;
}

static void test_map_anywhere(void)
{
	pthread_t threads[4];

	claim_space = make_space(&(struct aspace_options){
		.granule = 4096,
		.limits = aspace_range_of(0x1000, 0x1000 * (CLAIM_PAGES + 1)),
	});
	for (uintptr_t i = 0; i < 4; i++)
		threads[i] = spawn(claimer, (void *)(i + 1));
	for (int i = 0; i < 4; i++)
		join(threads[i]);
	check(aspace_count(claim_space) == 0);
	printf("%-40s %9llu claims, %llu found no room\n", "map anywhere, four threads",
	       (unsigned long long)claims, (unsigned long long)full);
	end_space(claim_space);
}

int main(int argc, char **argv)
{
	seed = seed_from(argc, argv);
	flip_with("lookups beside a writer", 1, false, 40000, 0);
	flip_with("lookups beside four writers", 4, false, 40000, 0);
	/* So small that every node comes back at once. */
	flip_with("lookups, nodes recycled at once", 1, false, 2000, 4096);
	flip_with("lookups, linearizable", 2, true, 40000, 0);
	test_replace_storm();
	test_gap_search();
	test_map_anywhere();
	return 0;
}
