/* SPDX-License-Identifier: MIT */
/*
 * Faults and drops side by side and beside a writer, in threads that run freely, on memory and with C11 atomics: for
 * the sanitizers. test_beside is about the order of events, and about TLBs; here there are none.
 *
 * Areas for faults lie between areas of the writer's, in the same tables. The threads share each of them, by spans;
 * the writer maps, unmaps and protects its own, compacts and harvests everything, and now and then unmaps an area for
 * faults, after it has seen to it that none is in there, as the space does.
 *
 * The allocators order nothing: theirs are relaxed atomics alone, so that ThreadSanitizer sees what the tables order.
 * A frame that comes back otherwise than it went, or that nobody has, ends the program. A table that is freed is
 * overwritten with pointers to nowhere first.
 */
#include "threads/crew.h"

#include <aspace/backend/aarch64.h>

#define THREADS    3
#define PAGE       UINT64_C(0x1000)
#define BLOCK      UINT64_C(0x200000)
#define GIGA       UINT64_C(0x40000000)
#define FRAMES     16384 /* granules */
#define FRAME_BASE UINT64_C(0x100000000)
#define AREAS      12 /* for faults; and as many for the writer */
#define AREA_PAGES 640

#define RW ((uint64_t)(ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE))
#define R  ((uint64_t)ASPACE_AARCH64_READ)

static struct aspace_aarch64 *tables;
static struct aspace_aarch64_linear linear;
static struct aspace_aarch64_allocated eager, lazy;
static uint64_t span;
static struct traffic traffic;
static _Atomic uint64_t tables_in_use, refused, populated, dropped, cleared, held_off;

/* ---- Frames ----------------------------------------------------------------------------- */

/* Granules of the piece that begins here; TAKEN: in one that began before; 0: free. Relaxed: what a frame
 * is handed on by is the tables' to order, not ours. */
#define TAKEN UINT32_MAX
static _Atomic uint32_t pieces[FRAMES];
static _Thread_local struct dice mine;
static _Thread_local bool stingy; /* refuses now and then */
static _Thread_local bool drops;

static bool claim(uint32_t first, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t nothing = 0;

		if (atomic_compare_exchange_strong_explicit(&pieces[first + i], &nothing,
							    i ? TAKEN : count, memory_order_relaxed,
							    memory_order_relaxed))
			continue;
		while (i--)
			relaxed_store(&pieces[first + i], 0);
		return false;
	}
	return true;
}

static bool frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	uint32_t count = (uint32_t)(size / PAGE);
	uint32_t start = (uint32_t)roll_below(&mine, FRAMES) / count * count;

	(void)ctx;
	if (count > 512 || (stingy && !roll_below(&mine, 20))) {
		relaxed_add(&refused, 1);
		return false;
	}
	for (uint32_t i = 0; i < FRAMES; i += count) {
		uint32_t first = (start + i) % FRAMES;

		if (!relaxed_load(&pieces[first]) && claim(first, count)) {
			*frame = aspace_pa(FRAME_BASE + first * PAGE);
			return true;
		}
	}
	relaxed_add(&refused, 1);
	return false;
}

static void frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	uint32_t first = (uint32_t)((frame.value - FRAME_BASE) / PAGE);
	uint32_t count = (uint32_t)(size / PAGE);

	(void)ctx;
	check(frame.value >= FRAME_BASE && first + count <= FRAMES);
	if (drops)
		relaxed_add(&dropped, count);
	if (relaxed_load(&pieces[first]) != count)
		fail("frame %u comes back as %u granules, and is %u", first, count,
		     relaxed_load(&pieces[first]));
	for (uint32_t i = count; i--;) {
		check(relaxed_load(&pieces[first + i]) == (i ? TAKEN : count));
		relaxed_store(&pieces[first + i], 0);
	}
}

static void frame_split(void *ctx, struct aspace_paddr frame, uint64_t size, uint64_t part)
{
	uint32_t first = (uint32_t)((frame.value - FRAME_BASE) / PAGE);
	uint32_t count = (uint32_t)(size / PAGE), step = (uint32_t)(part / PAGE);

	(void)ctx;
	check(relaxed_load(&pieces[first]) == count && !(count % step) && step < count);
	for (uint32_t i = 0; i < count; i += step)
		relaxed_store(&pieces[first + i], step);
}

/* Of pieces that are not free. */
static void frame_clear(void *ctx, struct aspace_paddr start, uint64_t size)
{
	uint32_t first = (uint32_t)((start.value - FRAME_BASE) / PAGE);

	(void)ctx;
	check(drops && start.value >= FRAME_BASE && first + size / PAGE <= FRAMES);
	for (uint32_t i = 0; i < size / PAGE; i++)
		check(relaxed_load(&pieces[first + i]) != 0);
	relaxed_add(&cleared, (uint32_t)(size / PAGE));
}

/* ---- Tables -------------------------------------------------------------------------------- */

static bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	void *page = stingy && !roll_below(&mine, 20) ? NULL : aligned_alloc(size, size);

	(void)ctx;
	if (!page) {
		relaxed_add(&refused, 1);
		return false;
	}
	relaxed_add(&tables_in_use, 1);
	*table = aspace_pa((uintptr_t)memset(page, 0, size));
	return true;
}

static void table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	uint64_t *entries = (uint64_t *)(uintptr_t)table.value;

	(void)ctx;
	for (size_t i = 0; i < size / 8; i++)
		entries[i] = UINT64_C(0xffffffffffff);
	free(entries);
	relaxed_add(&tables_in_use, UINT64_MAX);
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
	sched_yield(); /* so that others meet what is in the middle */
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
	.table_pointer = table_pointer,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi,
	.frame_alloc = frame_alloc,
	.frame_free = frame_free,
	.frame_split = frame_split,
	.frame_clear = frame_clear,
};

/* ---- Areas ---------------------------------------------------------------------------------- */

/* What the space sees to. Sequentially consistent: a thread counts itself in and looks whether the area is closed,
 * the writer closes it and looks whether somebody is in there. */
struct area {
	struct aspace_area area;
	bool mapped;
	_Atomic unsigned inside;
	_Atomic bool closed;
	/* Each page's by the thread whose span it is in; the writer's while nobody is in there. */
	bool populated[AREA_PAGES];
};

static struct area for_faults[AREAS], of_writer[AREAS];

static size_t pages_of(const struct area *a)
{
	return (size_t)((a->area.end.value - a->area.start.value) / PAGE);
}

/* Some small, close to each other; some of a block; around a boundary of the level above. */
static void place_areas(struct dice *dice)
{
	uint64_t at = GIGA - 3 * BLOCK - 40 * PAGE;

	for (unsigned i = 0; i < AREAS; i++) {
		struct area *both[] = {&of_writer[i], &for_faults[i]};

		for (unsigned j = 0; j < 2; j++) {
			uint64_t pages = 1 + roll_below(dice, 60);

			if (i % 4 == 1 + j * 2) {
				at = aspace_align_up(at, BLOCK);
				pages = 512 + roll_below(dice, 100);
			}
			both[j]->area = (struct aspace_area){
				.start = {at},
				.end = {at + pages * PAGE},
				.flags = RW,
				.backend = j       ? &lazy.backend
					   : i % 2 ? &eager.backend
						   : &linear.backend,
			};
			at += pages * PAGE;
		}
	}
}

static struct aspace_change change_of(const struct area *a, enum aspace_change_kind kind,
				      uint64_t flags)
{
	return (struct aspace_change){
		.kind = kind,
		.range = {a->area.start, a->area.end},
		.old_flags = a->area.flags,
		.new_flags = flags,
	};
}

static void batch(struct area *a, enum aspace_change_kind kind, uint64_t flags)
{
	const struct aspace_change change = change_of(a, kind, flags);
	struct aspace_backend *backend = a->area.backend;
	enum aspace_status status = backend->ops->prepare(backend, &change);

	if (status == ASPACE_OK) {
		check_ok(kind == ASPACE_CHANGE_MAP     ? backend->ops->map(backend, &change)
			 : kind == ASPACE_CHANGE_UNMAP ? backend->ops->unmap(backend, &change)
						       : backend->ops->protect(backend, &change));
		if (kind != ASPACE_CHANGE_PROTECT)
			a->mapped = kind == ASPACE_CHANGE_MAP;
		a->area.flags = kind == ASPACE_CHANGE_UNMAP ? a->area.flags : flags;
	} else {
		check(status == ASPACE_NO_MEMORY);
	}
	backend->ops->flush(backend);
}

/* ---- Threads ------------------------------------------------------------------------------------ */

static void fault(unsigned me)
{
	struct area *a = &for_faults[roll_below(&mine, AREAS)];
	uint64_t page = roll_below(&mine, pages_of(a));
	uint64_t address = a->area.start.value + page * PAGE;

	if (address / span % THREADS != me)
		return;
	atomic_fetch_add(&a->inside, 1);
	if (!atomic_load(&a->closed)) {
		struct glimpse glimpse = lookup_begins(&traffic);
		enum aspace_status status = a->area.backend->ops->fault(
			a->area.backend, &a->area, aspace_va(address), ASPACE_ACCESS_READ);

		check(status == ASPACE_OK || status == ASPACE_NO_MEMORY);
		if (status == ASPACE_OK) {
			a->populated[page] = true;
			relaxed_add(&populated, 1);
		}
		lookup_ends(&traffic, glimpse);
	}
	atomic_fetch_sub(&a->inside, 1);
}

/* Pages of a span, which is alone ours, and of an area: they go, but for what reaches out. */
static void drop_pages(struct area *a, uint64_t first, uint64_t end)
{
	uint64_t at = a->area.start.value + first * PAGE, to = a->area.start.value + end * PAGE;

	while (at < to) {
		struct aspace_vaddr reached = {to};
		enum aspace_status status = a->area.backend->ops->advise(
			a->area.backend, &a->area, aspace_range_of(at, to), ASPACE_ADVICE_DROP,
			&reached);

		if (status == ASPACE_BUSY) {
			relaxed_add(&held_off, 1); /* the writer makes leaves larger or smaller */
			sched_yield();
			continue;
		}
		check_ok(status);
		check(reached.value > at && reached.value <= to);
		at = reached.value;
	}
	for (uint64_t page = first; page < end; page++)
		a->populated[page] = false;
}

static void drop(unsigned me)
{
	struct area *a = &for_faults[roll_below(&mine, AREAS)];
	uint64_t first = roll_below(&mine, pages_of(a));
	uint64_t address = a->area.start.value + first * PAGE;
	uint64_t end = first + 1 + roll_below(&mine, 40);
	uint64_t span_end = first + (span - address % span) / PAGE;

	if (address / span % THREADS != me)
		return;
	if (end > span_end)
		end = span_end;
	if (end > pages_of(a))
		end = pages_of(a);
	atomic_fetch_add(&a->inside, 1);
	if (!atomic_load(&a->closed)) {
		struct glimpse glimpse = lookup_begins(&traffic);

		drops = true;
		drop_pages(a, first, end);
		drops = false;
		lookup_ends(&traffic, glimpse);
	}
	atomic_fetch_sub(&a->inside, 1);
}

static void *fault_on(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	mine.state = me * UINT64_C(0x123456789);
	stingy = true;
	while (!relaxed_load(&traffic.stop)) {
		fault(me);
		if (!roll_below(&mine, 4))
			drop(me);
	}
	return NULL;
}

static bool ignore(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	(void)ctx;
	(void)mapping;
	return true;
}

/* An area for faults goes, and comes back empty. */
static void renew(struct area *a)
{
	atomic_store(&a->closed, true);
	until(!atomic_load(&a->inside));
	batch(a, ASPACE_CHANGE_UNMAP, 0);
	memset(a->populated, 0, sizeof(a->populated));
	batch(a, ASPACE_CHANGE_MAP, RW);
	check(a->mapped);
	atomic_store(&a->closed, false);
}

static void update(struct dice *dice)
{
	struct aspace_range all = aspace_range_of(0, 2 * GIGA);
	struct area *a = &of_writer[roll_below(dice, AREAS)];

	if (!roll_below(dice, 20))
		check_ok(aspace_aarch64_compact(tables, all, 0));
	else if (!roll_below(dice, 20))
		check_ok(
			aspace_aarch64_harvest(tables, all, ASPACE_AARCH64_ACCESSED, ignore, NULL));
	else if (!roll_below(dice, 3))
		renew(&for_faults[roll_below(dice, AREAS)]);
	else if (!a->mapped)
		batch(a, ASPACE_CHANGE_MAP, RW);
	else if (roll_below(dice, 3))
		batch(a, ASPACE_CHANGE_UNMAP, 0);
	else
		batch(a, ASPACE_CHANGE_PROTECT, roll_below(dice, 2) ? R : RW);
}

/* ---- Afterwards ----------------------------------------------------------------------------------- */

struct sweep {
	unsigned next;
	uint64_t pages;
};

static bool next_area(void *ctx, struct aspace_area *area)
{
	struct sweep *sweep = ctx;

	for (; sweep->next < 2 * AREAS; sweep->next++) {
		const struct area *a = sweep->next % 2 ? &for_faults[sweep->next / 2]
						       : &of_writer[sweep->next / 2];

		if (a->mapped) {
			*area = a->area;
			sweep->next++;
			return true;
		}
	}
	return false;
}

static bool count_pages(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct sweep *sweep = ctx;

	if (mapping->output.value >= FRAME_BASE)
		sweep->pages += aspace_range_size(mapping->range) / PAGE;
	return true;
}

static uint64_t frames_in_use(void)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < FRAMES; i++)
		count += relaxed_load(&pieces[i]) != 0;
	return count;
}

static void check_all(void)
{
	struct aspace_aarch64_difference difference;
	struct aspace_aarch64_mapping mapping;
	struct sweep sweep = {0};

	if (aspace_aarch64_check(tables, next_area, &sweep, &difference) != ASPACE_OK)
		fail("%#llx: %s", (unsigned long long)difference.address.value, difference.what);
	check_ok(aspace_aarch64_walk(tables, aspace_range_of(0, 2 * GIGA), count_pages, &sweep));
	check(sweep.pages == frames_in_use());
	for (unsigned i = 0; i < AREAS; i++) {
		for (size_t page = 0; page < pages_of(&for_faults[i]); page++) {
			uint64_t at = for_faults[i].area.start.value + page * PAGE;

			if (for_faults[i].populated[page])
				check_ok(aspace_aarch64_query(tables, aspace_va(at), &mapping));
		}
	}
	check(aspace_aarch64_table_count(tables) + 1 == relaxed_load(&tables_in_use));
}

static void run(struct dice *dice, bool dirty, uint64_t pages, long rounds)
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
				.hardware_access = true,
				.hardware_dirty = dirty,
				.bbm_level = dirty ? 2 : 0,
				.conflicts_tolerated = true,
			},
		.ops = &ops,
	};
	pthread_t threads[THREADS];
	uint64_t before = relaxed_load(&populated), dropped_before = relaxed_load(&dropped);
	long done = 0;

	span = pages * PAGE;
	traffic = (struct traffic){0};
	check_ok(aspace_aarch64_create(&options, &tables));
	check_ok(aspace_aarch64_linear_init(&linear, tables, 0));
	check_ok(aspace_aarch64_allocated_init(&eager, tables, false, 0));
	check_ok(aspace_aarch64_allocated_init(&lazy, tables, true, span));
	place_areas(dice);
	for (unsigned i = 0; i < AREAS; i++)
		batch(&for_faults[i], ASPACE_CHANGE_MAP, RW);
	for (unsigned i = 0; i < THREADS; i++)
		threads[i] = spawn(fault_on, (void *)(uintptr_t)i);
	while (!enough(&traffic, done, rounds) ||
	       relaxed_load(&populated) - before < (uint64_t)rounds ||
	       relaxed_load(&dropped) - dropped_before < (uint64_t)rounds / 4) {
		update_begins(&traffic);
		update(dice);
		update_ends(&traffic);
		done++;
	}
	relaxed_store(&traffic.stop, true);
	for (unsigned i = 0; i < THREADS; i++)
		join(threads[i]);
	check_all();
	for (unsigned i = 0; i < AREAS; i++) {
		batch(&for_faults[i], ASPACE_CHANGE_UNMAP, 0);
		memset(for_faults[i].populated, 0, sizeof(for_faults[i].populated));
		if (of_writer[i].mapped)
			batch(&of_writer[i], ASPACE_CHANGE_UNMAP, 0);
	}
	check(aspace_aarch64_table_count(tables) == 1);
	check(!frames_in_use());
	aspace_aarch64_destroy(tables);
	check(!relaxed_load(&tables_in_use));
	report(dirty ? "sizes change live" : "break before make", &traffic);
}

int main(int argc, char **argv)
{
	struct dice dice = {seed_from(argc, argv)};

	run(&dice, false, 1, scaled(1200));
	run(&dice, true, 16, scaled(1200));
	run(&dice, false, 512, scaled(1200));
	printf("%llu pages populated, %llu dropped, %llu cleared, %llu drops held off, %llu "
	       "requests refused\n",
	       (unsigned long long)relaxed_load(&populated),
	       (unsigned long long)relaxed_load(&dropped),
	       (unsigned long long)relaxed_load(&cleared),
	       (unsigned long long)relaxed_load(&held_off),
	       (unsigned long long)relaxed_load(&refused));
	check(relaxed_load(&refused) > 0);
	return 0;
}
