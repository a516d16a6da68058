/* SPDX-License-Identifier: MIT */
/*
 * The child of a fork, and its child: no call makes a thread there but the two that say so.
 * Nothing that was deferred, before the fork or after, is lost or done twice, with a helper
 * and without.
 *
 * What is deferred is still so at the fork, because the helper is inside a callback of another
 * space.
 */
#include <fcntl.h>

#include "../child.h"
#include "crew.h"
#include "space/space.h"

CREW_FORKS

#define OBJECTS 64

static struct aspace *slow, *plain, *leaving, *small;
static _Atomic bool helper_is_in, helper_may_go;
static _Atomic uint32_t released[OBJECTS]; /* counts; objects are their places here */
static struct aspace_snapshot left_behind[3];

static struct aspace_range page(uint64_t number)
{
	return aspace_range_of((number + 1) * 0x1000, (number + 2) * 0x1000);
}

/* ---- Backends --------------------------------------------------------------------- */

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)backend;
	(void)area;
	(void)address;
	(void)access;
	return ASPACE_OK;
}

static void count_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	atomic_fetch_add((_Atomic uint32_t *)user, 1);
}

static void linger(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	relaxed_store(&helper_is_in, true);
	until(relaxed_load(&helper_may_go));
}

static const struct aspace_backend_ops counting_ops = {
	.size = sizeof(counting_ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.fault = populate,
	.release = count_release,
};
static const struct aspace_backend_ops lingering_ops = {
	.size = sizeof(lingering_ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.release = linger,
};
static struct aspace_backend counting = {.ops = &counting_ops, .flags_mask = 0xff};
static struct aspace_backend lingering = {.ops = &lingering_ops, .flags_mask = 0xff};

static unsigned next_object;

static void map_object(struct aspace *space, uint64_t at)
{
	check(next_object < OBJECTS);
	check_ok(aspace_map(space, page(at), 1, &counting, &released[next_object++], 0));
}

/* All objects that no area has any more have been released, once; others not at all. */
static void check_released(unsigned areas)
{
	uint64_t once = 0;

	for (unsigned i = 0; i < next_object; i++) {
		if (atomic_load(&released[i]) > 1)
			fail("object %u of %u was released %u times", i, next_object,
			     atomic_load(&released[i]));
		once += atomic_load(&released[i]);
	}
	check(once == next_object - areas);
}

/* ---- Threads of the process --------------------------------------------------------- */

/* From /proc/self/status, without malloc; the sanitizers' own threads included. */
static long count_threads(void)
{
	static char text[8192];
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t length = read(fd, text, sizeof(text) - 1);
	const char *line;

	check(length > 0);
	close(fd);
	text[length] = 0;
	line = strstr(text, "\nThreads:");
	check(line);
	return strtol(line + 9, NULL, 10);
}

static long alone; /* so many there are when there is no helper */
#define HELPERS 2  /* one runs work, one turns grace periods over */

#define check_alone() check(count_threads() == alone)

/* ---- What a child does ---------------------------------------------------------------- */

static void read_all_ways(struct aspace *space)
{
	struct aspace_view view;
	struct aspace_area area;
	struct aspace_iter iter;
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr at;

	aspace_thread_prepare(space);
	aspace_find(space, page(3).start, &area);
	check_ok(aspace_find_free(space, &gap, &at));
	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area))
		;
	aspace_read_end(&view);
	check_alone();
}

static void write_all_ways(struct aspace *space)
{
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr at;
	struct aspace_txn *txn;

	map_object(space, 20);
	check_ok(aspace_fault(space, page(20).start, ASPACE_ACCESS_WRITE, 0));
	check_ok(aspace_protect(space, page(20), 3, 0));
	check_ok(aspace_unmap(space, page(20), 0));
	check_ok(aspace_map_anywhere(space, &gap, 1, aspace_null_backend(), NULL, 0, &at));
	check_ok(aspace_unmap(space, aspace_range_of(at.value, at.value + 0x1000), 0));
	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_map(txn, page(22), 1, aspace_null_backend(), NULL, 0));
	check_ok(aspace_txn_commit(txn));
	check_ok(aspace_unmap(space, page(22), 0));
	check_ok(aspace_trim(space, 0));
	check_space(space);
	check_alone();
}

static void use_snapshots(void)
{
	struct aspace_snapshot snapshot;

	check_ok(aspace_snapshot_take(plain, &snapshot));
	map_object(plain, 23);
	check_ok(aspace_unmap(plain, page(23), 0));
	aspace_snapshot_release(&snapshot);
	check_alone();
	/* Those of threads that are gone: had one been made, it had got their stacks. */
	for (int i = 0; i < 3; i++)
		aspace_snapshot_release(&left_behind[i]);
	check_alone();
}

/* Nobody turns grace periods over but these updates, at the bound. */
static void fill_with_garbage(void)
{
	for (int i = 0; i < 2000; i++) {
		check_ok(aspace_map(small, page(1), 1, aspace_null_backend(), NULL, 0));
		check_ok(aspace_unmap(small, page(1), 0));
	}
	check(stats_of(small).bytes_retired_max < 4 * small->options.garbage_max);
	check_alone();
}

/* Waits for all that leaves. */
static void map_where_areas_leave(void)
{
	check(stats_of(leaving).leaving >= 2);
	map_object(leaving, 22); /* was the last to go: write_all_ways() */
	check(stats_of(leaving).leaving == 0);
	check_alone();
}

static void use(bool parents_child)
{
	if (parents_child) {
		check(stats_of(plain).releases_pending >= 2);
		check(stats_of(leaving).leaving == 2);
	}
	read_all_ways(plain);
	read_all_ways(leaving);
	write_all_ways(plain);
	write_all_ways(leaving);
	if (parents_child)
		use_snapshots();
	fill_with_garbage();
	/* Runs what is due, and leaves what is not. */
	check_status(aspace_quiesce(plain, ASPACE_NOWAIT), ASPACE_BUSY);
	check_status(aspace_destroy(plain, ASPACE_NOWAIT), ASPACE_BUSY);
	check_alone();
}

static void destroy_all(void)
{
	check_ok(aspace_destroy(plain, 0));
	check_ok(aspace_destroy(leaving, 0));
	check_ok(aspace_destroy(small, 0));
	/* Cut off in the middle of its release, which counts as run. */
	check_ok(aspace_destroy(slow, 0));
	check_released(0);
}

/* Its own helper: by quiesce, in the midst of all. */
static void ask_for_a_helper(void)
{
	struct aspace_txn *txn;
	struct aspace *fresh;

	/* Not with a lock held, nor in a section; nor without waiting. */
	check_ok(aspace_txn_begin(leaving, 0, &txn));
	check_status(aspace_quiesce(plain, 0), ASPACE_BUSY);
	fresh = make_space(NULL);
	aspace_txn_abort(txn);
	check_alone();

	map_object(leaving, 7);
	check_ok(aspace_unmap(leaving, page(7), 0));
	check_ok(aspace_quiesce(leaving, 0));
	check(count_threads() == alone + HELPERS);
	check_ok(aspace_quiesce(plain, 0));
	check_ok(aspace_quiesce(small, 0));
	end_space(fresh);
	check(count_threads() == alone + HELPERS);

	/* It works. */
	map_object(plain, 8);
	check_ok(aspace_unmap(plain, page(8), 0));
	until(atomic_load(&released[next_object - 1]));
	check_released(2); /* pages 4 and 3 */
	destroy_all();
	check_alone(); /* and was joined */
}

/* The same by creating a space. */
static void create_with_a_helper(void)
{
	struct aspace *fresh = make_space(NULL);

	check(count_threads() == alone + HELPERS);
	map_object(plain, 8);
	check_ok(aspace_unmap(plain, page(8), 0));
	until(atomic_load(&released[next_object - 1]));
	end_space(fresh);
	check(count_threads() == alone + HELPERS);
	destroy_all();
	check_alone();
}

/* Runs everything without a helper. */
static void do_without(void)
{
	map_where_areas_leave();
	destroy_all();
	check_alone();
}

/* `deep`: so many more generations. */
static void live(int deep, void (*end)(void))
{
	pid_t pid;

	end_if_hung();
	alone = count_threads();
	use(true);
	for (; deep; deep--) {
		pid = fork();
		if (pid) {
			check_child(pid);
			end_child(0);
		}
		end_if_hung();
		alone = count_threads();
		use(false);
	}
	end();
	end_child(0);
}

/* ---- The parent ------------------------------------------------------------------------ */

static _Atomic int holding;

static void *hold_snapshot(void *snapshot)
{
	check_ok(aspace_snapshot_take(plain, snapshot));
	atomic_fetch_add(&holding, 1);
	until(relaxed_load(&helper_may_go));
	aspace_snapshot_release(snapshot);
	return NULL;
}

/* In one version: whoever becomes the writer next may do what it has deferred. */
static void unmap_both(struct aspace *space, uint64_t first, uint64_t second)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_unmap(txn, page(first), 0));
	check_ok(aspace_txn_unmap(txn, page(second), 0));
	check_ok(aspace_txn_commit(txn));
}

static void prepare(pthread_t *holders)
{
	relaxed_store(&helper_is_in, false);
	relaxed_store(&helper_may_go, false);
	atomic_store(&holding, 0);
	for (unsigned i = 0; i < OBJECTS; i++)
		atomic_store(&released[i], 0);
	next_object = 0;
	slow = make_space(NULL);
	plain = make_space(NULL);
	leaving = make_space(&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP});
	small = make_space(&(struct aspace_options){.garbage_max = 65536});
	check_ok(aspace_map(slow, page(0), 1, &lingering, slow, 0));
	check_ok(aspace_unmap(slow, page(0), 0));
	until(relaxed_load(&helper_is_in));

	map_object(plain, 0);
	map_object(plain, 2);
	map_object(leaving, 3); /* these two stay */
	map_object(plain, 4);
	for (int i = 0; i < 3; i++)
		holders[i] = spawn(hold_snapshot, &left_behind[i]);
	until(atomic_load(&holding) == 3);
	map_object(leaving, 5);
	map_object(leaving, 6);
	unmap_both(plain, 0, 2);
	unmap_both(leaving, 5, 6);
}

static void finish(pthread_t *holders)
{
	relaxed_store(&helper_may_go, true);
	for (int i = 0; i < 3; i++)
		join(holders[i]);
	destroy_all();
}

int main(void)
{
	void (*const ends[])(void) = {do_without, ask_for_a_helper, create_with_a_helper};
	pthread_t holders[3];
	long children = 0;

	if (!may_fork_beside_threads())
		return 77;
	check_ok(aspace_install_fork_hooks());
	for (int i = 0; i < 3; i++) {
		for (int deep = 0; deep < 3; deep++, children++) {
			pid_t pid;

			prepare(holders);
			pid = fork();
			if (!pid)
				live(deep, ends[i]);
			check_child(pid);
			finish(holders);
		}
	}
	printf("%ld children and their children\n", children);
	return 0;
}
