/* SPDX-License-Identifier: MIT */
/*
 * Contract W5: after aspace_create() no call of the library allocates with malloc.
 *
 * The program defines the allocator's functions itself, so that calls from any shared
 * library and from the C library come here, too; they are handed on to glibc. They are
 * counted while `watching` is set, whoever the thread is: it is set once everything is
 * made, threads included, and nothing of the test's own allocates until it is cleared.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>

#include <aspace/backend/host.h>
#include <aspace/backend/mock.h>

#include "../threads/crew.h"

#define OPERATIONS 120000
#define THREADS    3
#define SLOTS      96
#define SLOT       UINT64_C(0x10000)

/* ---- The interposer ----------------------------------------------------------- */

/* Compiled with hidden visibility, they would be ours alone. */
#pragma GCC visibility push(default)

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *block);

/* Looked at in every allocator call of any thread. Sequentially consistent, the default: what is
 * called between two stores of `watching` counts. */
static _Atomic bool watching, testing;
static _Atomic uint64_t calls, seen_ever; /* counts */

static void note(const char *what, size_t size)
{
	char line[80];
	int length;

	relaxed_add(&seen_ever, 1);
	if (!relaxed_load(&watching))
		return;
	if (relaxed_add(&calls, 1) >= 10 || relaxed_load(&testing))
		return;
	length = snprintf(line, sizeof(line), "%s of %zu bytes\n", what, size);
	if (write(STDERR_FILENO, line, (size_t)length) < 0)
		_exit(1);
}

void *malloc(size_t size)
{
	note("malloc", size);
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	note("calloc", count * size);
	return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	note("realloc", size);
	return __libc_realloc(old, size);
}

void *reallocarray(void *old, size_t count, size_t size)
{
	note("reallocarray", count * size);
	return __libc_realloc(old, count * size);
}

void *memalign(size_t align, size_t size);
void *memalign(size_t align, size_t size)
{
	note("memalign", size);
	return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
	note("aligned_alloc", size);
	return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
	note("posix_memalign", size);
	*out = __libc_memalign(align, size);
	return *out ? 0 : ENOMEM;
}

void *valloc(size_t size)
{
	note("valloc", size);
	return __libc_memalign(4096, size);
}

void free(void *block)
{
	if (block)
		note("free", 0);
	__libc_free(block);
}

#pragma GCC visibility pop

/* The counter counts: calls of ours, and one from inside the C library. */
static void control(void)
{
	void *volatile block; /* or the compiler sees through all of it */
	char *volatile text;
	uint64_t before;

	testing = watching = true;
	before = calls;
	block = malloc(16);
	free(block);
	check(calls == before + 2);
	block = calloc(2, 16);
	block = realloc(block, 64);
	free(block);
	check(calls == before + 5);
	check(!posix_memalign((void **)(uintptr_t)&block, 64, 64));
	free(block);
	block = aligned_alloc(64, 64);
	free(block);
	check(calls == before + 9);
	text = strdup("the C library's own");
	free(text);
	check(calls == before + 11);
	testing = watching = false;
	calls = 0;
	printf("control: the interposer counts\n");
}

/* ---- The operations -------------------------------------------------------------- */

static uint64_t seed;
static struct aspace *spaces[3]; /* plain, grace-unmap, host */
static struct aspace_backend *backends[3];
static struct aspace_mock *mocks[2];
static struct aspace_host *host;
static uint64_t origin[3];
/* By default order: threads start when all are ready, and say when they have ended. */
static _Atomic bool go, stop;
static _Atomic unsigned ready, ended;
static _Atomic uint64_t operations, statuses[16]; /* counts */

static struct aspace_range pick(struct dice *dice, unsigned which)
{
	uint64_t from = origin[which] + roll_below(dice, SLOTS * 4) * SLOT / 4;
	uint64_t to = from + (1 + roll_below(dice, 8)) * SLOT / 4;
	uint64_t end = origin[which] + SLOTS * SLOT;

	return aspace_range_of(from, to < end ? to : end);
}

static uint64_t flags_of(struct dice *dice, unsigned which)
{
	return which == 2 ? roll_below(dice, 4) : roll_below(dice, 8);
}

/* A reference for an area of a mock. */
static struct aspace_mock_object *make_object(unsigned which)
{
	struct aspace_mock_object *object = NULL;

	if (which < 2 && aspace_mock_object_create(mocks[which], &object) != ASPACE_OK)
		return NULL;
	return object;
}

static void end_object(unsigned which, struct aspace_mock_object *object, enum aspace_status status)
{
	if (object && status != ASPACE_OK)
		aspace_mock_object_put(mocks[which], object);
}

static bool leave_flags(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx;
	*flags = area->flags ^ 1;
	return area->start.value & SLOT;
}

static bool drop_text(void *ctx, const char *text, size_t length)
{
	(void)text;
	*(size_t *)ctx += length;
	return true;
}

static enum aspace_status transaction(struct dice *dice, unsigned which)
{
	struct aspace *space = spaces[which];
	struct aspace_gap gap = {.size = SLOT};
	struct aspace_mock_object *object = make_object(which), *other = make_object(which);
	enum aspace_status status, first, second;
	struct aspace_vaddr start;
	struct aspace_txn *txn;

	status = aspace_txn_begin(space, 0, &txn);
	if (status != ASPACE_OK) {
		end_object(which, object, status);
		end_object(which, other, status);
		return status;
	}
	aspace_txn_unmap(txn, pick(dice, which), 0);
	first = aspace_txn_map(txn, pick(dice, which), flags_of(dice, which), backends[which],
			       object, which == 1 ? 0 : ASPACE_REPLACE);
	second = aspace_txn_map_anywhere(txn, &gap, flags_of(dice, which), backends[which], other,
					 0, &start);
	aspace_txn_protect(txn, pick(dice, which), flags_of(dice, which), 0);
	aspace_txn_protect_with(txn, pick(dice, which), leave_flags, NULL, 0);
	aspace_txn_find(txn, pick(dice, which).start, NULL);
	aspace_txn_find_free(txn, &gap, &start);
	aspace_txn_check_range(txn, pick(dice, which), NULL, &start);
	aspace_txn_bytes_in(txn, pick(dice, which), NULL, &(uint64_t){0});
	if (roll_below(dice, 4)) {
		status = aspace_txn_commit(txn);
	} else {
		aspace_txn_abort(txn);
		status = ASPACE_BUSY;
	}
	end_object(which, object, first != ASPACE_OK ? first : status);
	end_object(which, other, second != ASPACE_OK ? second : status);
	return status;
}

static void read_around(struct dice *dice, unsigned which)
{
	struct aspace *space = spaces[which];
	struct aspace_gap gap = {.size = SLOT, .downward = roll_below(dice, 2)};
	struct aspace_snapshot snapshot;
	struct aspace_view view;
	struct aspace_vaddr start;
	struct aspace_iter iter;
	struct aspace_area area, areas[8];
	struct aspace_vaddr at[8];
	size_t length = 0;

	for (int i = 0; i < 8; i++)
		at[i] = pick(dice, which).start;
	aspace_find(space, at[0], &area);
	aspace_find_many(space, at, 8, areas);
	aspace_overlaps(space, pick(dice, which));
	aspace_check_range(space, pick(dice, which), NULL, &at[0]);
	aspace_bytes_in(space, pick(dice, which), NULL);
	aspace_count(space);
	aspace_find_free(space, &gap, &start);
	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, pick(dice, which).start, &iter);
	for (int i = 0; i < 4 && aspace_iter_next(&iter, &area); i++)
		;
	aspace_iter_prev(&iter, &area);
	aspace_view_find_free(&view, &gap, &start);
	aspace_view_find_many(&view, at, 8, areas);
	aspace_read_end(&view);
	if (aspace_snapshot_take(space, &snapshot) == ASPACE_OK) {
		aspace_snapshot_view(&snapshot, &view);
		aspace_view_find(&view, pick(dice, which).start, &area);
		aspace_view_overlaps(&view, pick(dice, which));
		aspace_snapshot_release(&snapshot);
	}
	if (!roll_below(dice, 100))
		aspace_dump(space, roll_below(dice, 2) ? ASPACE_DUMP_MAPS : ASPACE_DUMP_DOT,
			    drop_text, &length);
}

static enum aspace_status operate(struct dice *dice)
{
	unsigned which = (unsigned)roll_below(dice, 3);
	struct aspace *space = spaces[which];
	struct aspace_range range = pick(dice, which);
	struct aspace_gap gap = {.size = SLOT, .wrap = true, .hint = range.start};
	struct aspace_mock_object *object;
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct aspace_vaddr start;
	enum aspace_status status;

	switch (roll_below(dice, 20)) {
	case 0:
	case 1:
	case 2:
		object = make_object(which);
		status = aspace_map(space, range, flags_of(dice, which), backends[which], object,
				    which == 1 ? ASPACE_NOWAIT : ASPACE_REPLACE);
		end_object(which, object, status);
		return status;
	case 3:
	case 4:
		object = make_object(which);
		status = aspace_map_anywhere(space, &gap, flags_of(dice, which), backends[which],
					     object, 0, &start);
		end_object(which, object, status);
		return status;
	case 5:
	case 6:
	case 7:
		return aspace_unmap(space, range, 0);
	case 8:
		return aspace_protect(space, range, flags_of(dice, which), 0);
	case 9:
		return aspace_protect_with(space, range, leave_flags, NULL, ASPACE_STRICT);
	case 10:
		return aspace_move(space, range, pick(dice, which).start, 0);
	case 11:
		return aspace_resize(space, range.start, 2 * SLOT, 0);
	case 12:
		if (roll_below(dice, 2))
			return aspace_fault(space, range.start, ASPACE_ACCESS_READ, 0);
		return aspace_advise(
			space, range,
			(enum aspace_advice)(1 + roll_below(dice, ASPACE_ADVICE_NORMAL)), 0);
	case 13:
	case 14:
		return transaction(dice, which);
	case 15:
		if (roll_below(dice, 200))
			return aspace_stats(space, &stats, 0);
		return aspace_quiesce(space, 0);
	case 16:
		if (!roll_below(dice, 200))
			aspace_trim(space, 0);
		if (!roll_below(dice, 200))
			return aspace_clear(space, 0);
		return aspace_validate(space, NULL, 0);
	case 17:
		/* Something fails now and then, and is taken back. */
		if (which < 2)
			aspace_mock_inject(mocks[which], ASPACE_MOCK_ANY, 1 + roll_below(dice, 8),
					   false, ASPACE_NO_MEMORY);
		return ASPACE_OK;
	default:
		read_around(dice, which);
		return ASPACE_OK;
	}
}

static void *worker(void *arg)
{
	struct dice dice = {seed + (uintptr_t)arg};
	bool last = (uintptr_t)arg == THREADS;

	if ((uintptr_t)arg & 1)
		aspace_thread_prepare(spaces[0]);
	atomic_fetch_add(&ready, 1);
	until(atomic_load(&go));
	/* The last thread's first lookup of all happens under watch; so does, of the others,
	 * that of those that have not been prepared. */
	if (last)
		aspace_find(spaces[0], aspace_va(origin[0]), NULL);
	while (relaxed_add(&operations, 1) < OPERATIONS) {
		enum aspace_status status = operate(&dice);

		relaxed_add(&statuses[status], 1);
	}
	atomic_fetch_add(&ended, 1);
	/* A thread's end is the C library's affair. */
	until(atomic_load(&stop));
	return NULL;
}

static void on_signal(int number)
{
	(void)number;
	aspace_find(spaces[0], aspace_va(origin[0]), NULL);
	aspace_find(spaces[2], aspace_va(origin[2]), NULL);
}

static void make_all(void)
{
	struct aspace_host_options window = {.size = sizeof(window), .window = SLOTS * SLOT};

	for (int i = 0; i < 2; i++) {
		struct aspace_mock_options options = {
			.size = sizeof(options),
			.mode = ASPACE_MOCK_OBJECTS | (i ? 0u : ASPACE_MOCK_REMAP_RESTORES),
			.log_capacity = 1024,
		};

		check_ok(aspace_mock_create(&options, &mocks[i]));
		backends[i] = aspace_mock_backend(mocks[i]);
		origin[i] = SLOT;
		spaces[i] = make_space(&(struct aspace_options){
			.granule = 4096,
			.limits = aspace_range_of(SLOT, SLOT + SLOTS * SLOT),
			.mode = i ? ASPACE_GRACE_UNMAP : 0,
			.garbage_max = i ? 0 : 0x100000,
		});
	}
	check_ok(aspace_host_create(&window, &host));
	backends[2] = aspace_host_backend(host);
	origin[2] = aspace_host_window(host).start.value;
	spaces[2] = make_space(&(struct aspace_options){
		.granule = 4096,
		.limits = aspace_host_window(host),
	});
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_signal};
	pthread_t threads[THREADS];

	seed = seed_from(argc, argv);
	control();
	make_all();
	check(!sigaction(SIGUSR1, &action, NULL));
	for (uintptr_t i = 0; i < THREADS; i++)
		threads[i] = spawn(worker, (void *)(i + 1));
	until(atomic_load(&ready) == THREADS);

	atomic_store(&watching, true);
	atomic_store(&go, true);
	while (atomic_load(&ended) < THREADS) {
		pthread_kill(threads[0], SIGUSR1);
		sched_yield();
	}
	for (int i = 0; i < 2; i++)
		aspace_mock_heal(mocks[i]);
	/* What is deferred, too; the hooks of fork; and the ends of the spaces, of which the last joins
	 * the helper. */
	for (int i = 0; i < 3; i++) {
		enum aspace_status status = aspace_quiesce(spaces[i], 0);

		check(status == ASPACE_OK || status == ASPACE_BAD_STATE);
		check_ok(aspace_validate(spaces[i], NULL, 0));
	}
	aspace_before_fork();
	aspace_after_fork_parent();
	for (int i = 0; i < 3; i++)
		check_ok(aspace_destroy(spaces[i], 0));
	atomic_store(&watching, false);

	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		join(threads[i]);
	for (unsigned i = 0; i < 16; i++) {
		if (statuses[i])
			printf("%9llu %s\n", (unsigned long long)statuses[i],
			       aspace_status_string((enum aspace_status)i));
	}
	for (int i = 0; i < 2; i++) {
		const char *what = NULL;

		if (aspace_mock_violations(mocks[i], &what))
			fail("mock %d: %s", i, what);
		check(aspace_mock_references(mocks[i]) == 0);
		aspace_mock_destroy(mocks[i]);
	}
	aspace_host_destroy(host);
	printf("%d operations, %llu calls of the allocator meanwhile, %llu in all\n", OPERATIONS,
	       (unsigned long long)calls, (unsigned long long)seen_ever);
	if (calls)
		fail("the library allocates");
	return 0;
}
