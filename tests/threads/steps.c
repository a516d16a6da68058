/* SPDX-License-Identifier: MIT */
/*
 * Updates that are interrupted after each of their instructions by a handler that looks at
 * the space in every way that a handler may, and readers that are interrupted so by a handler
 * that updates it. What lies between two stores of a publication, or between two loads of a
 * reader, is met for certain, which beside another thread is a matter of luck.
 *
 * All is one thread: nothing is shown of memory orders. The versions tell of themselves: in
 * version number n the first and the last page have the flags n, and a page between them is
 * mapped if n is odd, otherwise it is the lowest gap.
 */
#include <signal.h>

#include "crew.h"

#if defined(__x86_64__) && !SANITIZED_THREAD /* which keeps signals back */

#define PAGES  64 /* a tree of two levels */
#define MIDDLE 3

static struct aspace *space;
static uint64_t first;  /* version of the number 0 */
static uint64_t number; /* of the newest version that a completed update has made */
static uint64_t seen;   /* the newest that was met */
static uint64_t steps, looks_before, looks_after, updates, busy;

static struct aspace_range page(uint64_t at)
{
	return aspace_range_of(at * 0x1000, (at + 1) * 0x1000);
}

static bool is_mapped(uint64_t at, uint64_t n)
{
	return at >= 1 && at <= PAGES && (at != MIDDLE || n % 2);
}

static uint64_t flags_of(uint64_t at, uint64_t n)
{
	return at == 1 || at == PAGES ? n : 0;
}

static void *user_of(uint64_t at) /* others than the neighbours': nothing merges */
{
	return (void *)(uintptr_t)at;
}

static void check_area(const struct aspace_area *area, uint64_t at, uint64_t n)
{
	check(area->start.value == page(at).start.value && area->end.value == page(at).end.value);
	check(area->flags == flags_of(at, n) && area->user == user_of(at));
}

/* Everything that the view shows is the version that it says it is. */
static void check_view(const struct aspace_view *view)
{
	static const uint64_t places[] = {1, MIDDLE, MIDDLE + 1, PAGES};
	struct aspace_gap gap = {.size = 0x1000};
	uint64_t n = view->version - first, at;
	struct aspace_vaddr start = {0};
	struct aspace_iter iter;
	struct aspace_area area;

	aspace_iter_begin(view, aspace_va(0), &iter);
	for (at = 1; at <= PAGES; at++) {
		if (!is_mapped(at, n))
			continue;
		check(aspace_iter_next(&iter, &area));
		check_area(&area, at, n);
	}
	check(!aspace_iter_next(&iter, &area));
	for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		at = places[i];
		check(aspace_view_overlaps(view, page(at)) == is_mapped(at, n));
		if (aspace_view_find(view, page(at).start, &area) == ASPACE_OK)
			check_area(&area, at, n);
		else
			check(!is_mapped(at, n));
	}
	check_ok(aspace_view_find_free(view, &gap, &start));
	check(start.value == page(n % 2 ? PAGES + 1 : MIDDLE).start.value);
}

static void look(void)
{
	struct aspace_view view;
	struct aspace_area area;
	uint64_t n;

	aspace_read_begin(space, &view);
	n = view.version - first;
	check(n >= seen && n <= number + 1);
	seen = n;
	check_view(&view);
	aspace_read_end(&view);
	/* Nobody has gone on meanwhile. */
	check_ok(aspace_find(space, page(1).start, &area));
	check_area(&area, 1, n);
	check((aspace_find(space, page(MIDDLE).start, &area) == ASPACE_OK) == n % 2);
	check_ok(aspace_find(space, page(PAGES).start, &area));
	check_area(&area, PAGES, n);
	n == number ? looks_before++ : looks_after++;
}

/* The next version. False: there is too much garbage. */
static bool update(void)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, 0, &txn);
	uint64_t n = number + 1;

	if (status == ASPACE_BUSY)
		return false;
	check_ok(status);
	check_ok(aspace_txn_protect(txn, page(1), flags_of(1, n), 0));
	check_ok(aspace_txn_protect(txn, page(PAGES), flags_of(PAGES, n), 0));
	check_ok(n % 2 ? aspace_txn_map(txn, page(MIDDLE), 0, aspace_null_backend(),
					user_of(MIDDLE), 0)
		       : aspace_txn_unmap(txn, page(MIDDLE), ASPACE_STRICT));
	check_ok(aspace_txn_commit(txn));
	number = n;
	return true;
}

static void set_up(void)
{
	space = make_space(&(struct aspace_options){
		.limits = aspace_range_of(0x1000, 0x1000 * (2 * PAGES)),
		.garbage_max = 64 << 20,
	});
	for (uint64_t at = 1; at <= PAGES; at++) {
		if (is_mapped(at, 0))
			check_ok(aspace_map(space, page(at), 0, aspace_null_backend(), user_of(at),
					    0));
	}
	first = stats_of(space).version;
	number = seen = 0;
	aspace_thread_prepare(space);
}

/* ---- Single steps: the CPU raises SIGTRAP after each instruction while the trap flag is
 * set, and the handler runs with the flag clear. ---------------------------------- */

static void (*act)(void);

static void on_step(int signal)
{
	(void)signal;
	steps++;
	act();
}

#define STEP_THROUGH(call)                                                                         \
	do {                                                                                       \
		__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "cc", "memory");         \
		call;                                                                              \
		__asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "cc", "memory");       \
	} while (0)

static void test_stepped_updates(void)
{
	steps = 0;
	act = look;
	for (int i = 0; i < 6; i++) {
		STEP_THROUGH(update());
		look();
		check(seen == number);
	}
	printf("%-40s %9llu steps, looked at %llu times before, %llu after the publication\n",
	       "updates", (unsigned long long)steps, (unsigned long long)looks_before,
	       (unsigned long long)looks_after);
	check(looks_before > 1000 && looks_after > 1000);
}

static uint64_t each; /* so many steps lie between two updates */

/* And whatever waits for readers is recycled, if it does not wait for this one. */
static void change(void)
{
	if (steps % each)
		return;
	if (update())
		updates++;
	busy += aspace_quiesce(space, ASPACE_NOWAIT) == ASPACE_BUSY;
}

static void read_all(void)
{
	struct aspace_gap gap = {.size = 0x1000};
	struct aspace_vaddr start;
	struct aspace_view view;
	struct aspace_area area;
	uint64_t before = number;

	aspace_read_begin(space, &view);
	check(view.version - first >= before && view.version - first <= number);
	check_view(&view);
	aspace_read_end(&view);

	for (uint64_t at = 1; at <= PAGES; at += PAGES - 1) {
		before = number;
		check_ok(aspace_find(space, page(at).start, &area));
		check(area.flags >= before && area.flags <= number);
		check_area(&area, at, area.flags);
	}
	check_ok(aspace_find_free(space, &gap, &start));
	check(start.value == page(MIDDLE).start.value ||
	      start.value == page(PAGES + 1).start.value);
}

static void test_stepped_readers(void)
{
	static const uint64_t distances[] = {1, 10, 101};

	steps = 0;
	act = change;
	for (unsigned i = 0; i < sizeof(distances) / sizeof(distances[0]); i++) {
		each = distances[i];
		for (int round = 0; round < 2; round++) {
			STEP_THROUGH(read_all());
			check_ok(aspace_quiesce(space, 0));
		}
	}
	printf("%-40s %9llu steps, %llu updates between them, %llu times readers in the way\n",
	       "readers", (unsigned long long)steps, (unsigned long long)updates,
	       (unsigned long long)busy);
	check(updates > 1000 && busy > 1000);
}

int main(void)
{
	struct sigaction action = {.sa_handler = on_step};

	if (getenv("ASPACE_EMULATED")) {
		printf("skipped: no single steps under an emulator\n");
		return 77;
	}
	sigemptyset(&action.sa_mask);
	check(!sigaction(SIGTRAP, &action, NULL));
	set_up();
	test_stepped_updates();
	test_stepped_readers();
	end_space(space);
	return 0;
}

#else

int main(void)
{
	printf("skipped: single steps need an x86-64, without ThreadSanitizer\n");
	return 77;
}

#endif
