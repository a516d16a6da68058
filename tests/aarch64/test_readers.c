/* SPDX-License-Identifier: MIT */
/*
 * Lockless walks beside a writer, on memory and with C11 atomics: for the sanitizers.
 *
 * A space maps, protects, splits, replaces and unmaps; readers walk its tables all the while. What
 * stays mapped is found by each of them, or is in the middle of a break; what comes and goes
 * is found with frames and flags that it has at some time. Tables are overwritten and freed as
 * soon as no reader can be in them.
 *
 * The grace period is the program's: each reader counts its sections, and who retires a
 * table notes where each of them is. It is made of plain atomics, so that ThreadSanitizer sees
 * what it orders and nothing more. No TLB here: test_random is about those.
 */
#include "threads/crew.h"

#include <aspace/backend/aarch64.h>

#define READERS 2
#define PAGE    UINT64_C(0x1000)
#define BLOCK   UINT64_C(0x200000)
#define SPAN    (8 * BLOCK)
#define STEADY  (BLOCK + 0x100000) /* a page that stays, among others that do not */

#define RW ((uint64_t)(ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE))
#define R  ((uint64_t)ASPACE_AARCH64_READ)

static const uint64_t offsets[2] = {UINT64_C(0x40000000), UINT64_C(0x80001000)};

static struct aspace *space;
static struct aspace_aarch64 *tables;
static struct aspace_aarch64_linear sources[2];
static struct traffic traffic;
static _Atomic uint64_t busy, retired,
	freed; /* counts; read for good after the threads have ended */

/* ---- Grace periods --------------------------------------------------------------------- */

/* Odd: inside. Only its reader changes it; the writer adds 0. */
static _Alignas(64) _Atomic uint64_t sections[READERS];
static _Thread_local int reader = -1; /* the writer reads too, and waits for nobody */

static void read_enter(void *ctx)
{
	(void)ctx;
	/* Acquire and release, as in bare_metal.c: if the writer's addition came first, we see what
	 * it had unlinked; else it sees us inside. */
	if (reader >= 0)
		atomic_fetch_add_explicit(&sections[reader], 1, memory_order_acq_rel);
}

static void read_leave(void *ctx)
{
	(void)ctx;
	if (reader >= 0)
		atomic_fetch_add_explicit(&sections[reader], 1, memory_order_release);
}

struct waiting {
	struct waiting *next;
	uint64_t *table;
	uint64_t seen[READERS];
};

static struct waiting *waiting;

static bool is_over(const struct waiting *w)
{
	for (int i = 0; i < READERS; i++) {
		uint64_t now = atomic_fetch_add_explicit(&sections[i], 0, memory_order_acq_rel);

		if ((w->seen[i] & 1) && now == w->seen[i])
			return false;
	}
	return true;
}

static void free_what_is_over(bool all)
{
	struct waiting **link = &waiting;

	while (*link) {
		struct waiting *w = *link;

		if (!all && !is_over(w)) {
			link = &w->next;
			continue;
		}
		/* Valid descriptors, to nowhere. */
		for (size_t i = 0; i < PAGE / 8; i++)
			w->table[i] = UINT64_C(0xffffffffffff);
		*link = w->next;
		free(w->table);
		free(w);
		relaxed_add(&freed, 1);
	}
}

/* ---- The machine -------------------------------------------------------------------------- */

static bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	void *page = aligned_alloc(size, size);

	(void)ctx;
	if (!page)
		return false;
	*table = aspace_pa((uintptr_t)memset(page, 0, size));
	return true;
}

static void table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	(void)ctx;
	(void)size;
	free((void *)(uintptr_t)table.value);
}

static void table_retire(void *ctx, struct aspace_paddr table, size_t size)
{
	struct waiting *w = malloc(sizeof(*w));

	(void)ctx;
	(void)size;
	check(w);
	w->table = (uint64_t *)(uintptr_t)table.value;
	for (int i = 0; i < READERS; i++)
		w->seen[i] = atomic_fetch_add_explicit(&sections[i], 0, memory_order_acq_rel);
	w->next = waiting;
	waiting = w;
	relaxed_add(&retired, 1);
}

static uint64_t *table_pointer(void *ctx, struct aspace_paddr table)
{
	(void)ctx;
	return (uint64_t *)(uintptr_t)table.value;
}

static void dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		enum aspace_aarch64_shareability shareability)
{
	(void)ctx;
	(void)barrier;
	(void)shareability;
	sched_yield(); /* so that readers meet what is in the middle */
}

static void isb(void *ctx)
{
	(void)ctx;
}

static void tlbi(void *ctx, const struct aspace_aarch64_tlbi *what)
{
	(void)ctx;
	(void)what;
}

static const struct aspace_aarch64_ops ops = {
	.size = sizeof(ops),
	.table_alloc = table_alloc,
	.table_free = table_free,
	.table_retire = table_retire,
	.table_pointer = table_pointer,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi,
	.read_enter = read_enter,
	.read_leave = read_leave,
};

/* ---- Readers --------------------------------------------------------------------------------- */

static void check_mapping(uint64_t address, uint64_t output, uint64_t flags)
{
	if (output != address + offsets[0] && output != address + offsets[1])
		fail("%#llx: frame %#llx", (unsigned long long)address, (unsigned long long)output);
	if (flags != R && flags != RW)
		fail("%#llx: flags %#llx", (unsigned long long)address, (unsigned long long)flags);
}

static void look(uint64_t address)
{
	struct aspace_aarch64_mapping mapping;
	enum aspace_status status = aspace_aarch64_query(tables, aspace_va(address), &mapping);

	if (status == ASPACE_OK)
		check_mapping(address, mapping.output.value, mapping.flags);
	else if (status == ASPACE_BUSY)
		relaxed_add(&busy, 1);
	else if (status != ASPACE_NOT_MAPPED || (address & ~(PAGE - 1)) == STEADY)
		fail("%#llx: %s", (unsigned long long)address, aspace_status_string(status));
}

static bool visit(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	uint64_t *end = ctx;

	check(mapping->range.start.value >= *end);
	*end = mapping->range.end.value;
	check_mapping(mapping->range.start.value, mapping->output.value, mapping->flags);
	return true;
}

static void *read_on(void *arg)
{
	struct dice dice = {(uint64_t)(uintptr_t)arg};

	reader = (int)(uintptr_t)arg;
	while (!relaxed_load(&traffic.stop)) {
		struct glimpse glimpse = lookup_begins(&traffic);
		uint64_t end = 0;

		look(STEADY + roll_below(&dice, PAGE));
		look(roll_below(&dice, SPAN));
		if (!roll_below(&dice, 64))
			aspace_aarch64_walk(tables, aspace_range_of(0, SPAN), visit, &end);
		lookup_ends(&traffic, glimpse);
	}
	return NULL;
}

/* ---- The writer -------------------------------------------------------------------------------- */

/* Is this so? Then the tables say it too. */
static void compare(uint64_t address)
{
	struct aspace_area area;
	struct aspace_aarch64_mapping mapping;
	enum aspace_status status = aspace_find(space, aspace_va(address), &area);

	check(aspace_aarch64_query(tables, aspace_va(address), &mapping) == status);
	if (status != ASPACE_OK)
		return;
	check(mapping.flags == (area.flags & ASPACE_AARCH64_KEPT_MASK));
	check(mapping.output.value ==
	      address + ((struct aspace_aarch64_linear *)area.backend)->offset);
}

/* A range that does not touch the steady page, half of the time at its side. */
static struct aspace_range draw_range(struct dice *dice)
{
	uint64_t start = roll_below(dice, SPAN / PAGE) * PAGE, end;

	if (roll_below(dice, 2))
		start = STEADY + PAGE + roll_below(dice, 4) * PAGE;
	end = start + (1 + roll_below(dice, roll_below(dice, 4) ? 20 : 1500)) * PAGE;
	end = end > SPAN ? SPAN : end;
	if (start <= STEADY && end > STEADY) {
		if (start == STEADY)
			start += PAGE;
		else
			end = STEADY;
	}
	return aspace_range_of(start, end);
}

static void update(struct dice *dice)
{
	struct aspace_range range = draw_range(dice);
	/* What is beside the steady page keeps its source: its leaf may be one with it. */
	struct aspace_backend *backend = &sources[roll_below(dice, 2)].backend;

	if (range.start.value >= range.end.value)
		return;
	switch (roll_below(dice, 4)) {
	case 0:
		check_ok(aspace_unmap(space, range, 0));
		break;
	case 1:
		check_ok(aspace_protect(space, range, roll_below(dice, 2) ? R : RW, 0));
		break;
	case 2:
		check_ok(aspace_map(space, range, RW, backend, NULL, ASPACE_REPLACE));
		break;
	default: /* all but the steady page, as large as it gets: to be cut again */
		check_ok(aspace_unmap(space, aspace_range_of(0, STEADY), 0));
		check_ok(aspace_unmap(space, aspace_range_of(STEADY + PAGE, SPAN), 0));
		check_ok(aspace_map(space, aspace_range_of(2 * BLOCK, SPAN), RW,
				    &sources[0].backend, NULL, 0));
		break;
	}
	/* The steady page changes too, but is always there. */
	if (!roll_below(dice, 4))
		check_ok(aspace_protect(space, aspace_range_of(STEADY, STEADY + PAGE),
					roll_below(dice, 2) ? R : RW, 0));
	for (int i = 0; i < 8; i++)
		compare(roll_below(dice, SPAN));
}

int main(int argc, char **argv)
{
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config =
			{
				.size = sizeof(struct aspace_aarch64_config),
				.regime = ASPACE_AARCH64_EL1_LOWER,
				.granule_shift = 12,
				.input_bits = 39,
				.output_bits = 48,
				.start_level = ASPACE_AARCH64_START_ANY,
				.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
				/* So that readers look at all of a contiguous group. */
				.hardware_access = true,
				.hardware_dirty = true,
			},
		.ops = &ops,
	};
	struct aspace_options space_options = {.size = sizeof(space_options), .granule = PAGE};
	struct dice dice = {seed_from(argc, argv)};
	pthread_t threads[READERS];
	long done = 0;

	check_ok(aspace_aarch64_create(&options, &tables));
	for (int i = 0; i < 2; i++)
		check_ok(aspace_aarch64_linear_init(&sources[i], tables, offsets[i]));
	space_options.limits = aspace_aarch64_range(&options.config);
	check_ok(aspace_create(&space_options, &space));
	check_ok(aspace_map(space, aspace_range_of(STEADY, STEADY + PAGE), RW, &sources[0].backend,
			    NULL, 0));
	for (int i = 0; i < READERS; i++)
		threads[i] = spawn(read_on, (void *)(uintptr_t)i);
	while (!enough(&traffic, done, scaled(1000)) || !relaxed_load(&busy) ||
	       relaxed_load(&freed) < 100) {
		update_begins(&traffic);
		update(&dice);
		update_ends(&traffic);
		free_what_is_over(false);
		done++;
	}
	relaxed_store(&traffic.stop, true);
	for (int i = 0; i < READERS; i++)
		join(threads[i]);
	check_ok(aspace_unmap(space, aspace_range_of(0, SPAN), 0));
	check(aspace_aarch64_table_count(tables) == 1);
	check_ok(aspace_destroy(space, 0));
	free_what_is_over(true);
	aspace_aarch64_destroy(tables);
	printf("%ld updates, %llu reads met one, %llu met a break; %llu tables retired\n", done,
	       (unsigned long long)relaxed_load(&traffic.overlaps),
	       (unsigned long long)relaxed_load(&busy), (unsigned long long)relaxed_load(&retired));
	return 0;
}
