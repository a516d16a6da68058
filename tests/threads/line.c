/* SPDX-License-Identifier: MIT */
/*
 * Who waits at a bound keeps its place. Writers queue one after the other while a reader holds its
 * section; then it ends that, and the order in which they get through must be that in which they came. Each
 * goes on to other operations, which come later than all that wait by then.
 *
 *  1. At the bound on garbage, and at that on leaving memory.
 *  2. Who may not wait goes past. So does who uses none of what is waited for.
 *  3. Who gives up, because the stall hook has left a section open, is no longer there for the others.
 *  4. A map onto leaving areas is passed by who comes meanwhile, but not for ever.
 *  5. Who is next is woken.
 *  6. A fork in the hook of one that waits: in the child it goes on, and nobody else is there.
 */
#include "crew.h"

CREW_FORKS

#define PAGE     UINT64_C(0x1000)
#define WRITERS  16
#define ROUNDS   4
#define NOTES    (WRITERS * ROUNDS + 1)
#define GIVES_UP 7
#define FORKS    5

static struct aspace *space;

static struct aspace_range pages(uint64_t first, uint64_t count)
{
	return aspace_range_of(first * PAGE, (first + count) * PAGE);
}

/* ---- What happened ------------------------------------------------------------- */

/* Operations, as they begin. The one of this thread. */
static _Atomic unsigned begun;

struct operation {
	unsigned writer, number; /* the number when it began */
	bool waits, noted;
	unsigned seen; /* how many had begun when it was known to wait */
};

static _Thread_local struct operation now;
static _Thread_local bool hook_leaves_section, hook_forks;
static _Thread_local pid_t child = -1;
static _Thread_local struct aspace_view left_open;
static _Atomic unsigned waiting, about_to_fork;

/* Written under the writer lock. */
static struct operation got_through[NOTES];
static unsigned through, passed;

/* Under the writer lock, where nothing is waited for any more. */
static void note(void)
{
	if (!now.writer || now.noted)
		return;
	now.noted = true;
	for (unsigned i = 0; now.waits && i < through; i++)
		passed += got_through[i].number >= now.seen;
	check(through < NOTES);
	got_through[through++] = now;
}

static void stalled(void *ctx, struct aspace *of, uint64_t waited_ms)
{
	(void)ctx, (void)waited_ms;
	if (now.waits || !now.writer)
		return;
	now.waits = true;
	now.seen = relaxed_load(&begun);
	if (hook_leaves_section)
		aspace_read_begin(of, &left_open);
	relaxed_add(&waiting, 1);
	if (hook_forks) {
		relaxed_store(&about_to_fork, 1);
		child = fork();
	}
}

static void begin_operation(unsigned writer)
{
	now = (struct operation){.writer = writer, .number = relaxed_add(&begun, 1)};
}

/* ---- The backend ----------------------------------------------------------------- */

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *made)
{
	(void)backend;
	if (made->kind == ASPACE_CHANGE_MAP)
		note();
	return ASPACE_OK;
}

/* For an unmap of a page in the middle of an area, when there is room for it. */
static enum aspace_status clone_object(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	*copy = user;
	note();
	return ASPACE_OK;
}

static void release(struct aspace_backend *backend, void *user)
{
	(void)backend, (void)user;
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.clone = clone_object,
	.release = release,
};
static struct aspace_backend backend = {.ops = &ops, .flags_mask = 7};

/* ---- Writers --------------------------------------------------------------------- */

static bool at_leaving_bound;
static enum aspace_status first_status[WRITERS + 1];

static enum aspace_status use_room(unsigned writer, unsigned round, unsigned how)
{
	uint64_t first = writer * 64 + 2 * round;

	if (at_leaving_bound)
		return aspace_unmap(space, pages(first + 1, 1), how);
	return aspace_map(space, pages(first, 1), 1, &backend, NULL, how);
}

static void *write_in_line(void *number)
{
	unsigned writer = (unsigned)(uintptr_t)number;

	hook_leaves_section = writer == GIVES_UP;
	for (unsigned round = 0; round < ROUNDS; round++) {
		enum aspace_status status;

		begin_operation(writer);
		status = use_room(writer, round, 0);
		if (!round)
			first_status[writer] = status;
		if (hook_leaves_section) {
			aspace_read_end(&left_open);
			return NULL;
		}
		check_ok(status);
	}
	return NULL;
}

static void make(bool leaving, bool tells)
{
	at_leaving_bound = leaving;
	begun = waiting = through = passed = 0;
	space = make_space(&(struct aspace_options){
		.mode = leaving ? ASPACE_GRACE_UNMAP : 0,
		.garbage_max = leaving ? 0 : 1,
		.leaving_max = 1,
		.stalled = tells ? stalled : NULL,
		.stall_ms = tells ? 1 : 1u << 30,
	});
	for (uint64_t writer = 0; leaving && writer <= WRITERS; writer++)
		check_ok(aspace_map(space, pages(writer * 64, 64), 1, &backend, &backend, 0));
}

/* In a section. */
static void fill_up(void)
{
	enum aspace_status status = ASPACE_OK;

	for (unsigned round = 0; status == ASPACE_OK; round++)
		status = use_room(0, round, 0);
	check_status(status, ASPACE_BUSY);
}

static void test_order(bool leaving)
{
	pthread_t threads[WRITERS + 1];
	struct aspace_view view;
	unsigned expected = 1;

	make(leaving, true);
	aspace_read_begin(space, &view);
	fill_up();
	for (uintptr_t writer = 1; writer <= WRITERS; writer++) {
		threads[writer] = spawn(write_in_line, (void *)writer);
		until(relaxed_load(&waiting) == writer);
		if (writer == GIVES_UP)
			join(threads[writer]);
	}
	check_status(use_room(0, 20, 0), ASPACE_BUSY);
	check_status(use_room(0, 20, ASPACE_NOWAIT), ASPACE_BUSY);
	if (leaving) { /* a map adds nothing to what is leaving */
		check_ok(aspace_map(space, pages(5000, 1), 1, &backend, NULL, 0));
		check_ok(aspace_map(space, pages(5002, 1), 1, &backend, NULL, ASPACE_NOWAIT));
	}
	check(!through);
	aspace_read_end(&view);
	for (uintptr_t writer = 1; writer <= WRITERS; writer++) {
		if (writer != GIVES_UP)
			join(threads[writer]);
	}
	check_status(first_status[GIVES_UP], ASPACE_BUSY);
	check(through == (WRITERS - 1) * ROUNDS);
	for (unsigned i = 0; i < WRITERS - 1; i++, expected++) {
		expected += expected == GIVES_UP;
		if (got_through[i].writer != expected)
			fail("number %u is writer %u, not %u", i, got_through[i].writer, expected);
		check(got_through[i].waits);
	}
	if (passed)
		fail("%u times was one that waited passed by one that came later", passed);
	end_space(space);
	printf("at the bound on %s: %u in order, %u operations\n",
	       leaving ? "leaving memory" : "garbage", WRITERS - 1, through);
}

/* ---- Without a look meanwhile ----------------------------------------------------- */

/* Who is not woken sleeps for ever. */
static void test_woken(bool leaving)
{
	pthread_t threads[WRITERS + 1];
	struct aspace_view view;

	make(leaving, false);
	aspace_read_begin(space, &view);
	fill_up();
	for (uintptr_t writer = GIVES_UP + 1; writer <= WRITERS; writer++)
		threads[writer] = spawn(write_in_line, (void *)writer);
	aspace_read_end(&view);
	for (uintptr_t writer = GIVES_UP + 1; writer <= WRITERS; writer++)
		join(threads[writer]);
	end_space(space);
}

/* ---- A map onto leaving areas ------------------------------------------------------- */

static _Atomic unsigned told, let_go;
static _Atomic bool b_waits;
static _Thread_local unsigned told_here;
static _Thread_local bool is_b;

/* Holds the thread that waits for the area, until it has been passed. */
static void stalled_at_area(void *ctx, struct aspace *of, uint64_t waited_ms)
{
	(void)ctx, (void)of, (void)waited_ms;
	if (is_b)
		relaxed_store(&b_waits, true);
	if (is_b || !now.writer)
		return;
	told_here = relaxed_add(&told, 1) + 1;
	until(relaxed_load(&let_go) >= told_here);
}

static void *map_area(void *number)
{
	is_b = (uintptr_t)number == 2;
	now.writer = (unsigned)(uintptr_t)number;
	return (void *)(uintptr_t)aspace_map(space, pages(1, 1), 1, &backend, NULL, 0);
}

#define PASSES 8 /* as many as src/update/verbs.c lets pass */

static void test_area(void)
{
	struct aspace_view view;
	pthread_t a, b;

	through = 0;
	space = make_space(&(struct aspace_options){
		.mode = ASPACE_GRACE_UNMAP, .stalled = stalled_at_area, .stall_ms = 1});
	check_ok(aspace_map(space, pages(1, 1), 1, &backend, NULL, 0));
	aspace_read_begin(space, &view);
	check_ok(aspace_unmap(space, pages(1, 1), 0));
	a = spawn(map_area, (void *)1);
	for (unsigned i = 1; i <= PASSES; i++) {
		until(relaxed_load(&told) == i);
		aspace_read_end(&view);
		/* It is in the hook, and is passed. */
		check_ok(aspace_map(space, pages(1, 1), 1, &backend, NULL, 0));
		aspace_read_begin(space, &view);
		check_ok(aspace_unmap(space, pages(1, 1), 0));
		relaxed_store(&let_go, i);
	}
	until(relaxed_load(&told) == PASSES + 1);
	aspace_read_end(&view);
	b = spawn(map_area, (void *)2);
	until(relaxed_load(&b_waits));
	relaxed_store(&let_go, UINT32_MAX);
	check((uintptr_t)join(a) == ASPACE_OK);
	check((uintptr_t)join(b) == ASPACE_ALREADY_EXISTS);
	check(relaxed_load(&told) >= PASSES + 1);
	end_space(space);
	printf("at leaving areas: passed %u times, and no more\n", PASSES);
}

/* ---- fork ---------------------------------------------------------------------------- */

static void *write_and_fork(void *number)
{
	unsigned writer = (unsigned)(uintptr_t)number;

	hook_forks = writer == FORKS;
	begin_operation(writer);
	check_ok(use_room(writer, 0, 0));
	if (child)
		return (void *)(intptr_t)child;
	/* The only thread of its process. */
	hook_forks = false;
	now = (struct operation){0};
	for (unsigned round = 1; round < ROUNDS; round++)
		check_ok(use_room(writer, round, 0));
	check_space(space);
	_exit(0);
}

static void test_fork(bool leaving)
{
	pthread_t threads[WRITERS + 1];
	struct aspace_view view;

	make(leaving, true);
	about_to_fork = 0;
	aspace_read_begin(space, &view);
	fill_up();
	for (uintptr_t writer = 1; writer <= WRITERS; writer++) {
		threads[writer] = spawn(write_and_fork, (void *)writer);
		until(relaxed_load(&waiting) == writer);
	}
	until(relaxed_load(&about_to_fork));
	aspace_read_end(&view);
	for (unsigned writer = 1; writer <= WRITERS; writer++) {
		pid_t pid = (pid_t)(intptr_t)join(threads[writer]);

		if (writer == FORKS)
			check_child(pid);
	}
	end_space(space);
}

int main(void)
{
	check_ok(aspace_install_fork_hooks());
	test_order(false);
	test_order(true);
	test_woken(false);
	test_woken(true);
	test_area();
	if (may_fork_beside_threads()) {
		test_fork(false);
		test_fork(true);
	}
	printf("ok\n");
	return 0;
}
