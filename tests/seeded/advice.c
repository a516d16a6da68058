/* SPDX-License-Identifier: MIT */
/*
 * What aspace_advise() promises, once each, for faults that are seeded into it: what it reaches, what it
 * refuses beforehand, who is held off meanwhile and what is kept, who comes in between, and what
 * readers keep in a grace-unmap space. No chance is in it: what must wait is known to wait.
 */
#include "../listed.h"
#include "../threads/crew.h"

#include "space/space.h" /* who waits */

#define PAGE UINT64_C(0x1000)

static struct aspace *space;
static struct {
	unsigned calls;
	struct aspace_range last;
	uint64_t part;           /* bytes that one call does; 0: all */
	void (*meanwhile)(void); /* in the first call */
} now;
static _Atomic unsigned released;

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

static enum aspace_status note_advice(struct aspace_backend *backend,
				      const struct aspace_area *area, struct aspace_range range,
				      enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)backend, (void)advice;
	if (range.start.value < area->start.value || range.end.value > area->end.value)
		fail("advice reaches out of its area");
	now.last = range;
	if (!now.calls++ && now.meanwhile)
		now.meanwhile();
	if (now.part && range.end.value - range.start.value > now.part)
		reached->value = range.start.value + now.part;
	return ASPACE_OK;
}

static void count_release(struct aspace_backend *backend, void *user)
{
	(void)backend, (void)user;
	relaxed_add(&released, 1);
}

static bool merge_all(struct aspace_backend *backend, const struct aspace_area *left,
		      const struct aspace_area *right)
{
	(void)backend, (void)left, (void)right;
	return true;
}

static struct aspace_backend_ops ops;
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 3, .granule = PAGE};

static void open_space(const struct aspace_options *options)
{
	ops = *aspace_null_backend()->ops;
	ops.advise = note_advice;
	now.calls = 0;
	now.part = 0;
	now.meanwhile = NULL;
	check_ok(aspace_create(options, &space));
}

static void close_space(void)
{
	struct aspace_violation violation = {.what = ""};

	if (aspace_validate(space, &violation, 0) != ASPACE_OK)
		fail("%u: %s", violation.invariant, violation.what);
	check_ok(aspace_destroy(space, 0));
}

static void map(uint64_t first, uint64_t end, void *user)
{
	check_ok(aspace_map(space, pages(first, end), 1, &backend, user, 0));
}

static enum aspace_status advise(uint64_t first, uint64_t end, enum aspace_advice advice,
				 unsigned how)
{
	return aspace_advise(space, pages(first, end), advice, how);
}

/* ---- What it reaches ---------------------------------------------------------- */

static void reach(void)
{
	int left, right;

	open_space(NULL);
	map(2, 4, &left);
	map(4, 8, &right);
	check_ok(advise(3, 5, ASPACE_ADVICE_COLD, 0));
	check(now.calls == 2);
	check(now.last.start.value == 4 * PAGE && now.last.end.value == 5 * PAGE);
	check_ok(advise(0, 3, ASPACE_ADVICE_COLD, 0));
	check(now.last.start.value == 2 * PAGE && now.last.end.value == 3 * PAGE);
	now.calls = 0;
	check_status(advise(1, 3, ASPACE_ADVICE_COLD, ASPACE_STRICT), ASPACE_NOT_MAPPED);
	check_status(advise(6, 9, ASPACE_ADVICE_COLD, ASPACE_STRICT), ASPACE_NOT_MAPPED);
	check_status(aspace_advise(space, aspace_range_of(2 * PAGE, 3 * PAGE + 1),
				   ASPACE_ADVICE_COLD, 0),
		     ASPACE_INVALID_PARAM);
	check(!now.calls);
	close_space();
}

static void leaving(void)
{
	const struct aspace_options options = {.size = sizeof(options), .mode = ASPACE_GRACE_UNMAP};
	struct aspace_view view;

	open_space(&options);
	map(0, 2, NULL);
	map(4, 6, NULL);
	aspace_read_begin(space, &view);
	check_ok(aspace_unmap(space, pages(0, 2), 0));
	check_ok(advise(0, 6, ASPACE_ADVICE_COLD, 0));
	if (now.calls != 1)
		fail("advice about a leaving area");
	aspace_read_end(&view);
	close_space();
}

/* ---- Who is held off ------------------------------------------------------------ */

static void *try_others(void *ignored)
{
	check_status(aspace_unmap(space, pages(2, 3), ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_protect(space, pages(0, 8), 2, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_fault(space, aspace_va(2 * PAGE), ASPACE_ACCESS_READ, ASPACE_NOWAIT),
		     ASPACE_BUSY);
	check_status(advise(1, 3, ASPACE_ADVICE_COLD, ASPACE_NOWAIT), ASPACE_BUSY);
	/* And who is not. */
	check_ok(aspace_unmap(space, pages(6, 8), ASPACE_NOWAIT));
	check_ok(aspace_map(space, pages(20, 21), 0, &backend, NULL, ASPACE_NOWAIT));
	check_ok(advise(4, 6, ASPACE_ADVICE_COLD, ASPACE_NOWAIT));
	return ignored;
}

static void let_others_try(void)
{
	join(spawn(try_others, NULL));
	check_status(aspace_unmap(space, pages(20, 21), 0), ASPACE_DEADLOCK);
}

static void held_off(void)
{
	open_space(NULL);
	map(0, 8, NULL);
	now.meanwhile = let_others_try;
	check_ok(advise(2, 4, ASPACE_ADVICE_DROP, 0));
	check(now.calls == 2);
	close_space();
}

/* A merge gives the object's reference up, and it is not released under the advice. */
static void *merge_and_run(void *ignored)
{
	int left;

	map(0, 2, &left);
	check(aspace_count(space) == 1);
	/* Until it would have been released, and waits for the advice instead. */
	for (bool waits = false; !waits; sched_yield()) {
		check_status(aspace_quiesce(space, ASPACE_NOWAIT), ASPACE_BUSY);
		if (relaxed_load(&released))
			fail("a user object is released under an advice");
		asp_mutex_acquire(&space->pins.lock);
		waits = space->pins.deferred.head;
		asp_mutex_release(&space->pins.lock);
	}
	return ignored;
}

static void let_merge(void)
{
	join(spawn(merge_and_run, NULL));
}

static void kept(void)
{
	int right;

	open_space(NULL);
	ops.release = count_release;
	ops.can_merge = merge_all;
	map(2, 4, &right);
	now.meanwhile = let_merge;
	check_ok(advise(2, 4, ASPACE_ADVICE_COLD, 0));
	check_ok(aspace_quiesce(space, 0));
	check(relaxed_load(&released) == 1);
	close_space();
}

/* ---- Who comes in between --------------------------------------------------------- */

static pthread_t unmapper;

static void *unmap_middle(void *ignored)
{
	check_ok(aspace_unmap(space, pages(2, 6), 0));
	return ignored;
}

static void let_unmap_wait(void)
{
	bool waits = false;

	unmapper = spawn(unmap_middle, NULL);
	while (!waits) {
		sched_yield();
		asp_mutex_acquire(&space->pins.lock);
		waits = count_awaiting(space) == 1;
		asp_mutex_release(&space->pins.lock);
	}
}

static void in_between(void)
{
	open_space(NULL);
	map(0, 8, NULL);
	now.part = 4 * PAGE;
	now.meanwhile = let_unmap_wait;
	check_ok(advise(0, 8, ASPACE_ADVICE_DROP, 0));
	join(unmapper);
	check(now.calls == 2);
	if (now.last.start.value != 6 * PAGE)
		fail("who waits does not come in between");
	close_space();
}

/* ---- Readers --------------------------------------------------------------------- */

static _Atomic bool reading, stalled, dropped;

static enum aspace_status must_be_alone(struct aspace_backend *ignored,
					const struct aspace_area *area, struct aspace_range range,
					enum aspace_advice advice, struct aspace_vaddr *reached)
{
	(void)ignored, (void)area, (void)range, (void)advice, (void)reached;
	if (relaxed_load(&reading))
		fail("contents are dropped under a reader");
	relaxed_store(&dropped, true);
	return ASPACE_OK;
}

static void note_stall(void *ctx, struct aspace *ignored, uint64_t waited_ms)
{
	(void)ctx, (void)ignored, (void)waited_ms;
	relaxed_store(&stalled, true);
}

static void *drop_all(void *ignored)
{
	check_ok(advise(0, 4, ASPACE_ADVICE_DROP, 0));
	return ignored;
}

static void readers(void)
{
	const struct aspace_options options = {
		.size = sizeof(options),
		.mode = ASPACE_GRACE_UNMAP,
		.stalled = note_stall,
		.stall_ms = 1,
	};
	struct aspace_view view;
	pthread_t dropper;

	open_space(&options);
	ops.advise = must_be_alone;
	map(0, 4, NULL);
	aspace_read_begin(space, &view);
	relaxed_store(&reading, true);
	check_status(advise(0, 4, ASPACE_ADVICE_FREE, 0), ASPACE_BUSY);
	dropper = spawn(drop_all, NULL);
	until(relaxed_load(&stalled));
	/* It holds nothing meanwhile. */
	check_ok(aspace_protect(space, pages(0, 4), 2, ASPACE_NOWAIT));
	relaxed_store(&reading, false);
	aspace_read_end(&view);
	join(dropper);
	check(relaxed_load(&dropped));
	close_space();
}

int main(void)
{
	reach();
	leaving();
	held_off();
	kept();
	in_between();
	readers();
	return 0;
}
