/* SPDX-License-Identifier: MIT */
/*
 * Objects that come and go beside a snapshot that is being taken: it keeps those that it shows, and
 * no other. Short: it is here to meet the faults of this directory.
 */
#include "../threads/crew.h"

enum { WANTED = 300, AT_LEAST = 30 };

static struct aspace *space;
static struct aspace_snapshot snapshot;
static _Atomic unsigned released;
static _Atomic unsigned round_begun, round_taken;
static _Atomic unsigned mapped; /* in this round */
static _Atomic bool done;

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static void release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	released++;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.release = release,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 1};
static int object;

static void map(uint64_t start, uint64_t end)
{
	check_ok(aspace_map(space, aspace_range_of(start, end), 0, &backend, &object, 0));
}

static void unmap(uint64_t start, uint64_t end)
{
	check_ok(aspace_unmap(space, aspace_range_of(start, end), 0));
}

static void expect_released(unsigned count)
{
	check_ok(aspace_quiesce(space, 0));
	check(released == count);
	check_space(space);
}

/* An object that is younger than the snapshot, and starts elsewhere when it goes. */
static void lose_the_head(void)
{
	check_ok(aspace_snapshot_take(space, &snapshot));
	map(0x1000, 0x4000);
	unmap(0x1000, 0x2000);
	unmap(0x2000, 0x4000);
	expect_released(1);
	aspace_snapshot_release(&snapshot);
}

static void *take_snapshots(void *ignored)
{
	struct dice dice = {1};

	for (unsigned round = 1;; round++) {
		unsigned wanted = (unsigned)roll_below(&dice, AT_LEAST);

		until(done || (round_begun == round && mapped >= wanted));
		if (done)
			return ignored;
		check_ok(aspace_snapshot_take(space, &snapshot));
		round_taken = round;
	}
}

/* Answers whether the snapshot was taken in the middle of maps. */
static bool map_meanwhile(unsigned round)
{
	uint64_t before;
	unsigned count = 0, shown;
	struct aspace_view view;

	aspace_read_begin(space, &view);
	before = view.version;
	aspace_read_end(&view);
	released = 0;
	mapped = 0;
	round_begun = round;
	while (round_taken != round || count < AT_LEAST) {
		map(0x1000 + count * UINT64_C(0x2000), 0x2000 + count * UINT64_C(0x2000));
		mapped = ++count;
	}
	check_ok(aspace_clear(space, 0));
	/* Each map was a version. */
	shown = (unsigned)(snapshot.version - before);
	expect_released(count - shown);
	aspace_snapshot_release(&snapshot);
	expect_released(count);
	return shown && shown < count;
}

int main(void)
{
	unsigned meetings = 0;
	pthread_t taker;

	space = make_space(NULL);
	lose_the_head();
	taker = spawn(take_snapshots, NULL);
	for (unsigned round = 1; meetings < WANTED; round++)
		meetings += map_meanwhile(round);
	done = true;
	join(taker);
	end_space(space);
	return 0;
}
