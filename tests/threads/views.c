/* SPDX-License-Identifier: MIT */
/*
 * Views and snapshots: one version, whole, whatever writers do.
 *
 * Tokens lie in the slots of a small space. Writers move them, each step one transaction,
 * so every version has the same tokens, each once, and the same number of bytes. A token
 * is one area, or two neighbours with different flags.
 */
#include "crew.h"

#define SLOTS  192
#define TOKENS 64
#define SLOT   UINT64_C(0x1000)

static uint64_t seed;
static struct aspace *space;
static struct traffic traffic;
static long updates;

static struct aspace_range range_of_slot(uint64_t slot)
{
	return aspace_range_of((slot + 1) * SLOT, (slot + 2) * SLOT);
}

static void put_token(struct aspace_txn *txn, struct aspace_range range, uint64_t token,
		      uint64_t cut)
{
	struct aspace_range low = range, high = range;

	low.end.value = high.start.value = range.start.value + cut;
	if (cut)
		check_ok(aspace_txn_map(txn, low, token << 1 | 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_txn_map(txn, high, token << 1, aspace_null_backend(), NULL, 0));
}

static void lay_out(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	for (uint64_t token = 0; token < TOKENS; token++)
		put_token(txn, range_of_slot(token * 3), token, 0);
	check_ok(aspace_txn_commit(txn));
}

/* Checks all there is to check of one version; answers a sum of it. */
static uint64_t check_view(const struct aspace_view *view)
{
	struct aspace_area areas[2 * TOKENS + 1], area, found;
	struct aspace_gap gap = {.size = SLOT, .limits = aspace_range_of(SLOT, (SLOTS + 1) * SLOT)};
	struct aspace_iter iter;
	struct aspace_vaddr start;
	uint64_t tokens[TOKENS] = {0}, bytes = 0, sum = view->version, end = 0, hole = 0;
	unsigned count = 0;

	aspace_iter_begin(view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		check(count < 2 * TOKENS);
		check(area.start.value >= end && area.start.value < area.end.value);
		if (!hole && area.start.value - (end ? end : SLOT) >= SLOT)
			hole = end ? end : SLOT;
		areas[count++] = area;
		end = area.end.value;
		bytes += end - area.start.value;
		check(area.flags >> 1 < TOKENS);
		tokens[area.flags >> 1] += end - area.start.value;
		sum = sum * 31 + area.start.value + area.flags;
	}
	check(bytes == TOKENS * SLOT);
	for (unsigned i = 0; i < TOKENS; i++)
		check(tokens[i] == SLOT);
	check(!aspace_iter_next(&iter, &area));

	/* The same from the other end. */
	aspace_iter_begin(view, aspace_va(UINT64_MAX), &iter);
	for (unsigned i = count; i > 0; i--) {
		check(aspace_iter_prev(&iter, &area));
		check(area.start.value == areas[i - 1].start.value &&
		      area.end.value == areas[i - 1].end.value && area.flags == areas[i - 1].flags);
	}
	check(!aspace_iter_prev(&iter, &area));

	/* What lookups and gap searches say is what iteration said. */
	for (unsigned i = 0; i < count; i += 5) {
		check_ok(aspace_view_find(view, areas[i].start, &found));
		check(found.start.value == areas[i].start.value && found.flags == areas[i].flags);
	}
	check_ok(aspace_view_find_free(view, &gap, &start));
	check(start.value == (hole ? hole : end));
	return sum;
}

static void *view_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	uint64_t newest = 0;

	while (!relaxed_load(&traffic.stop)) {
		struct glimpse glimpse = lookup_begins(&traffic);
		struct aspace_view outer, inner;
		uint64_t sum;

		aspace_read_begin(space, &outer);
		check(outer.version >= newest);
		newest = outer.version;
		sum = check_view(&outer);
		if (!roll_below(&dice, 4)) {
			sched_yield();
			aspace_read_begin(space, &inner);
			check(inner.version >= outer.version);
			check_view(&inner);
			aspace_read_end(&inner);
			check(check_view(&outer) == sum);
		}
		aspace_read_end(&outer);
		lookup_ends(&traffic, glimpse);
	}
	return NULL;
}

static void *snapshot_reader(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	while (!relaxed_load(&traffic.stop)) {
		struct aspace_snapshot snapshots[4];
		struct aspace_view view;
		uint64_t sums[4], begun = relaxed_load(&traffic.begun);
		struct glimpse glimpse = lookup_begins(&traffic);
		uint64_t first;

		for (int i = 0; i < 4; i++) {
			check_ok(aspace_snapshot_take(space, &snapshots[i]));
			check(!i || snapshots[i].version >= snapshots[i - 1].version);
			aspace_snapshot_view(&snapshots[i], &view);
			sums[i] = check_view(&view);
		}
		/* Long enough for nodes of these versions to have been retired, and others
		 * recycled. */
		until(relaxed_load(&traffic.begun) > begun + roll_below(&dice, 200) ||
		      relaxed_load(&traffic.stop));
		first = roll_below(&dice, 4);
		for (uint64_t i = 0; i < 4; i++) {
			uint64_t n = (first + 3 * i) % 4;

			aspace_snapshot_view(&snapshots[n], &view);
			check(check_view(&view) == sums[n]);
			aspace_snapshot_release(&snapshots[n]);
		}
		lookup_ends(&traffic, glimpse);
	}
	return NULL;
}

/* One or two tokens go to free slots. */
static void move_tokens(struct dice *dice)
{
	struct aspace_txn *txn;
	struct aspace_area area;
	unsigned moves = 1 + (unsigned)roll_below(dice, 3);

	check_ok(aspace_txn_begin(space, 0, &txn));
	while (moves) {
		struct aspace_range from = range_of_slot(roll_below(dice, SLOTS));
		struct aspace_range to = range_of_slot(roll_below(dice, SLOTS));

		if (aspace_txn_find(txn, from.start, &area) != ASPACE_OK ||
		    aspace_txn_find(txn, to.start, NULL) == ASPACE_OK)
			continue;
		check_ok(aspace_txn_unmap(txn, from, ASPACE_STRICT));
		put_token(txn, to, area.flags >> 1, roll_below(dice, 3) * SLOT / 4);
		moves--;
	}
	/* Some change their mind. */
	if (roll_below(dice, 10))
		check_ok(aspace_txn_commit(txn));
	else
		aspace_txn_abort(txn);
}

static void *writer(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};

	for (long i = 0; !enough(&traffic, i, updates); i++) {
		update_begins(&traffic);
		move_tokens(&dice);
		update_ends(&traffic);
	}
	return NULL;
}

static void run(const char *what, void *(*first)(void *), void *(*second)(void *), unsigned writers,
		long count, size_t garbage_max)
{
	pthread_t readers[2], threads[2];
	struct aspace_view view;

	traffic = (struct traffic){0};
	updates = scaled(count);
	space = make_space(&(struct aspace_options){.garbage_max = garbage_max});
	lay_out();
	readers[0] = spawn(first, (void *)1);
	readers[1] = spawn(second, (void *)2);
	for (uintptr_t i = 0; i < writers; i++)
		threads[i] = spawn(writer, (void *)(i + 3));
	for (unsigned i = 0; i < writers; i++)
		join(threads[i]);
	relaxed_store(&traffic.stop, true);
	for (int i = 0; i < 2; i++)
		join(readers[i]);
	aspace_read_begin(space, &view);
	check_view(&view);
	aspace_read_end(&view);
	report(what, &traffic);
	check(stats_of(space).bytes_snapshots == 0);
	end_space(space);
}

int main(int argc, char **argv)
{
	seed = seed_from(argc, argv);
	run("views beside two writers", view_reader, view_reader, 2, 8000, 0);
	run("views, nodes recycled at once", view_reader, view_reader, 1, 1000, 16384);
	run("snapshots beside two writers", snapshot_reader, snapshot_reader, 2, 8000, 0);
	run("both, nodes recycled at once", view_reader, snapshot_reader, 1, 1000, 16384);
	return 0;
}
