/* SPDX-License-Identifier: MIT */
/*
 * A random walk along the limit on mappings: maps, cuts, whole areas unmapped, decommits,
 * recommits, replaces, moves, transactions; beside them the program takes mappings, up to
 * the limit and one above, and gives them back.
 *
 * At every step a whole area can be unmapped, and every walk is taken again and again, each time
 * one step further, and ended: by clear, by unmapping one area after the other, or by destroy
 * with all that there is. None of these may be refused. Then the program gives back what it has,
 * and the window is one mapping again, the ballast full, and a cut works.
 *
 * After each step every page is compared with a model of the test's own: who may read it (as
 * the kernel says, so a free page is inaccessible whatever it is made of), and what is there.
 *
 * Against a simulated kernel (host_kernel.h) with a low limit, with guard pages and
 * without; then against the real one at its real limit.
 *
 * Then whole areas of which the program has locked or sealed a part.
 *
 *     test_host_limit [seed [walks]]
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include <aspace/aspace.h>
#include <aspace/backend/host.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "child.h"
#include "../../stress/common/sanitizers.h"
#include "host_kernel.h"
#include "host_maps.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#ifndef __NR_mseal
#define __NR_mseal 462 /* everywhere but on Alpha */
#endif

#define R         ASPACE_HOST_READ
#define RW        (R | ASPACE_HOST_WRITE)
#define GUARD     ASPACE_HOST_GUARD
#define DECOMMIT  ASPACE_HOST_DECOMMITTED
#define FREE      (~UINT64_C(0))
#define PAGES     160
#define STEPS     80
#define SIM_LIMIT 240
/* Of the program's own mappings; more than either kernel lets it have beside the rest. */
#define PROGRAM_PAGES 400

static uint64_t page, seed = 1;
static unsigned walks = 4;

/* ---- Random numbers -------------------------------------------------------- */

static uint64_t random_state;

static unsigned draw(unsigned below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (unsigned)((random_state >> 16) % below);
}

/* ---- The program beside the library ---------------------------------------- */

static struct {
	char *region;
	size_t units; /* mappings more than one */
} program;

static int program_protection(size_t step)
{
	return step & 1 ? PROT_READ : PROT_READ | PROT_WRITE;
}

static bool program_end_at(size_t step, bool by_mmap)
{
	char *start = program.region + step * page;
	size_t size = (PROGRAM_PAGES - step) * page;

	if (by_mmap ? mmap(start, size, program_protection(step),
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED
		    : mprotect(start, size, program_protection(step)) != 0)
		return false;
	program.units = step;
	return true;
}

static void program_open(void)
{
	program.region = mmap(NULL, PROGRAM_PAGES * page, program_protection(0),
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(program.region != MAP_FAILED);
	program.units = 0;
}

static void program_take(unsigned most, bool one_above)
{
	while (most-- && program_end_at(program.units + 1, false))
		;
	assert_true(program.units + 2 < PROGRAM_PAGES);
	if (one_above)
		program_end_at(program.units + 1, true);
}

/* In every second world the program leaves nothing. */
static bool greedy;

static void program_is_greedy(void)
{
	if (greedy)
		program_take(PROGRAM_PAGES, draw(2));
}

static void program_give(size_t units)
{
	if (units > program.units)
		units = program.units;
	if (units)
		assert_true(program_end_at(program.units - units, false));
}

/* ---- The world ------------------------------------------------------------- */

struct model {
	struct {
		uint64_t flags;
		unsigned char value;
	} page[PAGES];
};

static void model_set(struct model *m, unsigned first, unsigned count, uint64_t flags)
{
	for (unsigned n = first; n < first + count; n++) {
		m->page[n].flags = flags;
		m->page[n].value = 0;
	}
}

static struct aspace_host *host;
static struct aspace *space;
static struct aspace_range window;
static struct model model;
static unsigned char stamp;
static unsigned done, refused, whole, held_least;

static char *pool;
static size_t pool_used;
#define POOL_SIZE ((size_t)256 << 20)

/* Nodes and the like must not be what is refused. */
static void *pages_alloc(void *ctx, size_t size)
{
	char *block = pool + pool_used;

	(void)ctx;
	pool_used += (size + 4095) & ~(size_t)4095;
	assert_true(pool_used <= POOL_SIZE);
	return memset(block, 0, size);
}

static void pages_free(void *ctx, void *block, size_t size)
{
	(void)ctx;
	(void)block;
	(void)size;
}

static struct aspace_range pages(unsigned first, unsigned count)
{
	return aspace_range_of(window.start.value + first * page,
			       window.start.value + (first + count) * page);
}

static char *address(unsigned n)
{
	return (char *)(uintptr_t)(window.start.value + n * page);
}

static void open_world(unsigned mode)
{
	static const struct aspace_page_ops page_ops = {pages_alloc, pages_free};
	const struct aspace_host_options o = {.size = sizeof(o), .window = PAGES * page};
	struct aspace_options options = {
		.size = sizeof(options), .granule = page, .pages = &page_ops, .mode = mode};

	pool_used = 0;
	program_open();
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	window = options.limits = aspace_host_window(host);
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	for (unsigned n = 0; n < PAGES; n++)
		model_set(&model, n, 1, FREE);
}

static bool can_read(unsigned n, unsigned char *value)
{
	struct iovec here = {value, 1}, there = {address(n), 1};

	return process_vm_readv(getpid(), &here, 1, &there, 1, 0) == 1;
}

static void check_world(const char *after)
{
	struct aspace_host_ballast ballast = aspace_host_ballast(host);

	for (unsigned n = 0; n < PAGES; n++) {
		uint64_t flags = model.page[n].flags;
		struct aspace_area area;
		unsigned char value = 0;
		enum aspace_status status = aspace_find(space, pages(n, 1).start, &area);
		bool readable = can_read(n, &value);

		if (status != (flags == FREE ? ASPACE_NOT_MAPPED : ASPACE_OK) ||
		    (status == ASPACE_OK && area.flags != flags) ||
		    readable != (flags != FREE && (flags & R)) ||
		    (readable && value != model.page[n].value))
			fail_msg("after %s: page %u is %s and %sreadable with %u, not %llx with %u",
				 after, n, aspace_status_string(status), readable ? "" : "not ",
				 value, (unsigned long long)flags, model.page[n].value);
	}
	assert_true(ballast.held <= ballast.full);
	if (ballast.held < held_least)
		held_least = ballast.held;
}

static void write_to_pages(void)
{
	stamp = (unsigned char)(stamp % 250 + 1);
	for (unsigned n = 0; n < PAGES; n++) {
		if (model.page[n].flags != RW || draw(3))
			continue;
		*address(n) = (char)stamp;
		model.page[n].value = stamp;
		host_kernel_touch((uintptr_t)address(n), (uintptr_t)address(n) + page);
	}
}

/* ---- Operations ------------------------------------------------------------ */

static uint64_t draw_flags(void)
{
	static const uint64_t flags[] = {RW, RW, RW, R, 0, GUARD, DECOMMIT};

	return flags[draw(sizeof(flags) / sizeof(flags[0]))];
}

static void model_protect(struct model *m, unsigned first, unsigned count, uint64_t flags)
{
	for (unsigned n = first; n < first + count; n++) {
		if (m->page[n].flags == FREE)
			continue;
		m->page[n].flags = flags;
		if (flags == DECOMMIT)
			m->page[n].value = 0;
	}
}

/* What may become of an operation here. True: it was done. */
static bool is_done(enum aspace_status status)
{
	if (status != ASPACE_OK && status != ASPACE_NO_MEMORY && status != ASPACE_ALREADY_EXISTS)
		fail_msg("an operation answers %s", aspace_status_string(status));
	done += status == ASPACE_OK;
	refused += status == ASPACE_NO_MEMORY;
	return status == ASPACE_OK;
}

static void draw_range(unsigned *first, unsigned *count)
{
	*first = draw(PAGES);
	*count = 1 + draw(draw(3) ? 2 : 6);
	if (*first + *count > PAGES)
		*count = PAGES - *first;
}

static void step_map(unsigned how)
{
	uint64_t flags = draw_flags();
	unsigned first, count;

	draw_range(&first, &count);
	if (is_done(aspace_map(space, pages(first, count), flags, aspace_host_backend(host), NULL,
			       how)))
		model_set(&model, first, count, flags);
}

static void step_protect(uint64_t flags)
{
	unsigned first, count;

	draw_range(&first, &count);
	if (is_done(aspace_protect(space, pages(first, count), flags, 0)))
		model_protect(&model, first, count, flags);
}

static void step_cut(void)
{
	unsigned first, count;

	draw_range(&first, &count);
	if (is_done(aspace_unmap(space, pages(first, count), 0)))
		model_set(&model, first, count, FREE);
}

/* An area at a page or above; false: there is none. */
static bool find_area(unsigned from, unsigned *first, unsigned *count)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	bool found;

	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, pages(from, 1).start, &iter);
	found = aspace_iter_next(&iter, &area);
	aspace_read_end(&view);
	if (found) {
		*first = (unsigned)((area.start.value - window.start.value) / page);
		*count = (unsigned)((area.end.value - area.start.value) / page);
	}
	return found;
}

/* Is something mapped at both ends? Without guard pages such a one may be refused. */
static bool is_enclosed(unsigned first, unsigned count)
{
	return first && model.page[first - 1].flags != FREE && first + count < PAGES &&
	       model.page[first + count].flags != FREE;
}

static void unmap_whole(unsigned first, unsigned count)
{
	enum aspace_status status = aspace_unmap(space, pages(first, count), ASPACE_STRICT);

	if (status == ASPACE_NO_MEMORY && !host_kernel.guards && is_enclosed(first, count))
		return;
	if (status != ASPACE_OK)
		fail_msg("a whole area at page %u cannot be unmapped: %s", first,
			 aspace_status_string(status));
	whole++;
	model_set(&model, first, count, FREE);
}

static void step_whole(void)
{
	unsigned first, count;

	if (find_area(draw(PAGES), &first, &count))
		unmap_whole(first, count);
}

static void step_move(void)
{
	unsigned first, count, to = draw(PAGES);
	struct model moved = model;
	enum aspace_status status;

	if (!find_area(draw(PAGES), &first, &count))
		return;
	if (count > 1 && draw(2))
		count = 1 + draw(count);
	if (to + count > PAGES || (to < first + count && first < to + count))
		return;
	status = aspace_move(space, pages(first, count), pages(to, 1).start, 0);
	if (!is_done(status))
		return;
	model_set(&moved, first, count, FREE);
	memcpy(moved.page + to, model.page + first, count * sizeof(moved.page[0]));
	model = moved;
}

static void step_transaction(void)
{
	struct model changed = model;
	unsigned changes = 2 + draw(4);
	struct aspace_txn *txn;

	assert_int_equal(aspace_txn_begin(space, 0, &txn), ASPACE_OK);
	while (changes--) {
		uint64_t flags = draw_flags();
		unsigned first, count, kind = draw(3);
		enum aspace_status status;

		draw_range(&first, &count);
		if (kind == 0) {
			status = aspace_txn_unmap(txn, pages(first, count), 0);
			model_set(&changed, first, count, FREE);
		} else if (kind == 1) {
			status = aspace_txn_protect(txn, pages(first, count), flags, 0);
			model_protect(&changed, first, count, flags);
		} else {
			status = aspace_txn_map(txn, pages(first, count), flags,
						aspace_host_backend(host), NULL, ASPACE_REPLACE);
			model_set(&changed, first, count, flags);
		}
		assert_int_equal(status, ASPACE_OK);
	}
	if (is_done(aspace_txn_commit(txn)))
		model = changed;
}

/* Decommitting what is not: contents that a transaction would drop, and get back. */
static void step(void)
{
	switch (greedy && draw(2) ? 3 : draw(19)) {
	case 0:
	case 1:
	case 2:
		step_map(0);
		break;
	case 3:
	case 4:
	case 16:
	case 17:
		step_cut();
		break;
	case 5:
	case 6:
		step_whole();
		break;
	case 7:
		step_protect(draw_flags());
		break;
	case 8:
		step_protect(DECOMMIT);
		break;
	case 9:
		step_protect(RW);
		break;
	case 10:
		step_map(ASPACE_REPLACE);
		break;
	case 11:
		step_move();
		break;
	case 12:
	case 13:
		step_transaction();
		break;
	case 14:
	case 15:
		program_take(PROGRAM_PAGES, draw(2));
		break;
	default:
		program_give(greedy ? 0 : draw(6) ? 1 + draw(5) : PROGRAM_PAGES);
	}
}

/* ---- Walks ----------------------------------------------------------------- */

static unsigned window_mappings(void)
{
	static char text[32 << 20];
	struct host_mapping mapping;
	const char *cursor = text;
	unsigned count = 0;

	if (host_kernel.simulated)
		return (unsigned)host_kernel_mappings(window.start.value, window.end.value);
	assert_true(host_maps_read("/proc/self/maps", text, sizeof(text)));
	while (host_maps_next(&cursor, window.start.value, window.end.value, &mapping))
		count++;
	return count;
}

/* The model of what has been mapped, all empty. */
static void take_flags(void)
{
	for (unsigned n = 0; n < PAGES; n++) {
		struct aspace_area area;

		if (aspace_find(space, pages(n, 1).start, &area) == ASPACE_OK)
			model.page[n].flags = area.flags;
	}
}

/* Everything works again. */
static void check_recovery(void)
{
	struct aspace_backend *backend = aspace_host_backend(host);

	model_set(&model, 0, PAGES, FREE);
	check_world("clear");
	assert_int_equal(aspace_count(space), 0);
	greedy = false;
	program_give(PROGRAM_PAGES);
	assert_int_equal(aspace_map(space, pages(1, 3), RW, backend, NULL, 0), ASPACE_OK);
	assert_int_equal(aspace_unmap(space, pages(2, 1), 0), ASPACE_OK);
	assert_int_equal(aspace_move(space, pages(1, 1), pages(9, 1).start, 0), ASPACE_OK);
	assert_int_equal(aspace_unmap(space, window, 0), ASPACE_OK);
	assert_int_equal(aspace_host_ballast(host).held, aspace_host_ballast(host).full);
	assert_int_equal(window_mappings(), 1);
}

static void unmap_all_in_any_order(void)
{
	unsigned first, count;

	for (unsigned tries = 0; find_area(0, &first, &count) && tries < 100000; tries++) {
		unsigned at = draw(PAGES);

		if (find_area(at, &first, &count))
			unmap_whole(first, count);
		program_is_greedy();
	}
}

static void end_walk(unsigned how)
{
	struct aspace_violation violation;

	assert_int_equal(aspace_validate(space, &violation, 0), ASPACE_OK);
	if (how == 0)
		assert_int_equal(aspace_clear(space, 0), ASPACE_OK);
	else if (how == 1)
		unmap_all_in_any_order();
	if (how < 2)
		check_recovery();
	assert_int_equal(aspace_destroy(space, 0), ASPACE_OK);
	aspace_host_destroy(host);
	if (host_kernel.simulated)
		assert_int_equal(host_kernel.count, program.units + 1);
	munmap(program.region, PROGRAM_PAGES * page);
}

/* The same walk, `steps` of it. */
static void walk(uint64_t of, unsigned mode, unsigned steps)
{
	random_state = of * UINT64_C(0x9e3779b97f4a7c15) + 1;
	stamp = 0;
	open_world(mode);
	greedy = draw(2);
	for (unsigned n = 0, count; n < PAGES; n += count) {
		count = 1 + draw(4);
		if (n + count > PAGES)
			count = PAGES - n;
		assert_int_equal(aspace_map(space, pages(n, count), draw(3) ? RW : draw_flags(),
					    aspace_host_backend(host), NULL, 0),
				 ASPACE_OK);
	}
	take_flags();
	program_take(PROGRAM_PAGES, draw(2));
	program_give(greedy ? 0 : draw(16));
	/* The shorter walks have looked at what comes before the last step. */
	for (unsigned n = 0; n < steps; n++) {
		step();
		if (n + 1 == steps)
			check_world("a step");
		write_to_pages();
		program_is_greedy();
	}
	random_state += steps; /* not the next step's */
	end_walk(steps % 3);
}

static void reset_counts(void)
{
	done = refused = whole = host_kernel.guarded = host_kernel.refused = 0;
	held_least = UINT32_MAX;
}

static void print_counts(const char *what)
{
	print_message("%s, seed %llu: %u operations done, %u refused; %u whole areas unmapped; the "
		      "kernel refused %u calls; %u ranges by guard pages; at least %u held\n",
		      what, (unsigned long long)seed, done, refused, whole, host_kernel.refused,
		      host_kernel.guarded, held_least);
}

static void walk_simulated(bool guards, unsigned mode, const char *what)
{
	reset_counts();
	for (uint64_t w = seed; w < seed + walks; w++) {
		for (unsigned steps = 1; steps <= STEPS; steps++) {
			host_kernel_begin(true, guards, SIM_LIMIT);
			walk(w, mode, steps);
		}
	}
	host_kernel_begin(false, false, 0);
	print_counts(what);
	assert_true(done > 100 * walks);
	assert_true(refused > 100 * walks);
	assert_true(host_kernel.refused > 100 * walks);
}

static void simulated_with_guard_pages(void **state)
{
	(void)state;
	walk_simulated(true, 0, "simulated, with guard pages");
	walk_simulated(true, ASPACE_NEVER_MERGE, "the same, nothing merges");
	assert_true(host_kernel.guarded > 10 * walks);
	assert_true(held_least >= 8); /* what an undo needs */
}

static void simulated_without(void **state)
{
	(void)state;
	walk_simulated(false, 0, "simulated, without");
	walk_simulated(false, ASPACE_NEVER_MERGE, "the same, nothing merges");
}

/* ---- Destroying, with nothing left ----------------------------------------- */

/* The window is in the midst of a mapping of the program's; the program has taken all the
 * ballast, during an undo, and one mapping more than there should be. */
static void destroy_without_ballast(void **state)
{
	struct aspace_host_options o = {.size = sizeof(o), .window = 8 * page};
	struct aspace_change change = {
		.kind = ASPACE_CHANGE_PROTECT, .undo = true, .old_flags = RW, .new_flags = R};
	struct aspace_backend *backend;
	char *fence, *around, *arena;

	(void)state;
	host_kernel_begin(true, true, SIM_LIMIT);
	program_open();
	/* Three pieces of this stay, so that nothing is next to anything by chance. */
	fence = mmap(NULL, 260 * page, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(fence != MAP_FAILED);
	around = mmap(fence + 10 * page, 24 * page, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_true(around != MAP_FAILED);
	assert_int_equal(munmap(around + 8 * page, 8 * page), 0);
	o.address.value = (uintptr_t)around + 8 * page;
	/* The host's own pages, too, have equal neighbours at both ends. */
	arena = mmap(fence + 50 * page, 200 * page, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_true(arena != MAP_FAILED);
	host_kernel.below = (uintptr_t)arena + 199 * page;
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	assert_true(host_kernel.below > (uintptr_t)arena + page);
	assert_int_equal(mprotect(arena, host_kernel.below - (uintptr_t)arena, PROT_NONE), 0);
	host_kernel.below = 0;
	window = aspace_host_window(host);
	backend = aspace_host_backend(host);
	change.range = window;
	change.kind = ASPACE_CHANGE_MAP;
	change.new_flags = RW;
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
	program_take(PROGRAM_PAGES, true);
	change.kind = ASPACE_CHANGE_PROTECT;
	change.range = pages(3, 1);
	change.new_flags = R;
	assert_int_equal(backend->ops->protect(backend, &change), ASPACE_OK);
	program_take(PROGRAM_PAGES, true);
	/* One mapping with its surroundings again; what that gives, the program has first. */
	program_give(1);
	change.kind = ASPACE_CHANGE_UNMAP;
	change.range = window;
	change.old_flags = 0;
	assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	program_take(PROGRAM_PAGES, true);
	backend->ops->flush(backend);
	program_take(PROGRAM_PAGES, true);
	assert_int_equal(aspace_host_ballast(host).held, 0);
	assert_int_equal(host_kernel.count, host_kernel.limit + 1);
	assert_int_equal(host_kernel_mappings((uintptr_t)around, (uintptr_t)around + 24 * page), 1);
	aspace_host_destroy(host);
	assert_int_equal(host_kernel_mappings(window.start.value, window.end.value), 0);
	/* The program's, the fence, the surroundings, and the two ends of the arena. */
	assert_int_equal(host_kernel.count, program.units + 1 + 3 + 2 + 2);
	munmap(fence, 260 * page);
	munmap(program.region, PROGRAM_PAGES * page);
	host_kernel_begin(false, false, 0);
}

/* ---- Areas that are several mappings to the kernel ------------------------- */

/*
 * What drops contents goes from mapping to mapping, and stops at one that is locked or sealed. An
 * unmap that is refused there has not emptied those before it.
 *
 * The area is pages 10 to 19, between two that share its mapping.
 */
enum { BUSY = 30, AREA = 10, AREA_PAGES = 10 };

enum obstacle {
	NO_BALLAST, /* at the limit: neither mmap nor mprotect can cut */
	NO_MMAP,    /* mprotect can */
};

static void open_several(bool guards, enum obstacle obstacle, uint64_t flags)
{
	struct aspace_host_options o = {.size = sizeof(o), .window = 40 * page};
	struct aspace_change change = {.kind = ASPACE_CHANGE_MAP, .new_flags = RW};
	struct aspace_backend *backend;

	host_kernel_begin(true, guards, SIM_LIMIT);
	program_open();
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	window = aspace_host_window(host);
	backend = aspace_host_backend(host);
	change.range = pages(0, BUSY);
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
	for (unsigned n = 0; n < BUSY; n++)
		*address(n) = (char)(n + 1);
	change.kind = ASPACE_CHANGE_PROTECT;
	change.old_flags = RW;
	change.new_flags = flags;
	assert_int_equal(backend->ops->protect(backend, &change), ASPACE_OK);
	if (obstacle == NO_MMAP) {
		host_kernel.no_mmap = true;
		return;
	}
	program_take(PROGRAM_PAGES, true);
	change.undo = true;
	change.range = pages(3, 1);
	change.old_flags = flags;
	change.new_flags = 0;
	assert_int_equal(backend->ops->protect(backend, &change), ASPACE_OK);
	program_take(PROGRAM_PAGES, false);
	assert_int_equal(aspace_host_ballast(host).held, 0);
	assert_int_equal(host_kernel.count, host_kernel.limit);
}

static enum aspace_status unmap_several(uint64_t flags)
{
	struct aspace_backend *backend = aspace_host_backend(host);
	struct aspace_change change = {.kind = ASPACE_CHANGE_UNMAP,
				       .range = pages(AREA, AREA_PAGES),
				       .old_flags = flags,
				       .borders = 2};

	return backend->ops->unmap(backend, &change);
}

/* What there was is there, or the area is free; lost: it may be empty, but is an area still. */
static void check_several(enum aspace_status status, bool writable)
{
	for (unsigned n = AREA; n < BUSY; n++) {
		bool in_area = n < AREA + AREA_PAGES;
		unsigned char value = 0;

		assert_int_equal(can_read(n, &value), !in_area || status != ASPACE_OK);
		if (!in_area || status == ASPACE_NO_MEMORY)
			assert_int_equal(value, n + 1);
		if (writable && (!in_area || status != ASPACE_OK))
			*address(n) = (char)(n + 1);
	}
}

static void close_several(void)
{
	aspace_host_destroy(host);
	munmap(program.region, PROGRAM_PAGES * page);
	host_kernel_begin(false, false, 0);
}

/* The kernel's own calls: sanitizers make nothing of the C library's. */
static void lock(unsigned n)
{
	assert_int_equal(syscall(SYS_mlock, address(n), page), 0);
}

static void unlock(unsigned n)
{
	assert_int_equal(syscall(SYS_munlock, address(n), page), 0);
}

static void locked_in_part(void **state)
{
	static const struct {
		bool guards;
		enum obstacle obstacle;
		enum aspace_status locked, raced;
	} kernels[] = {
		{true, NO_BALLAST, ASPACE_NO_MEMORY, ASPACE_BAD_STATE},
		{false, NO_BALLAST, ASPACE_NO_MEMORY, ASPACE_OK /* not met */},
		{true, NO_MMAP, ASPACE_OK, ASPACE_OK},
		{false, NO_MMAP, ASPACE_NO_MEMORY, ASPACE_BAD_STATE},
	};

	(void)state;
	for (size_t k = 0; k < sizeof(kernels) / sizeof(kernels[0]); k++) {
		for (unsigned first = AREA + 1; first < AREA + AREA_PAGES; first += 4) {
			bool can_free = kernels[k].guards || kernels[k].obstacle == NO_MMAP;
			enum aspace_status status;

			open_several(kernels[k].guards, kernels[k].obstacle, RW);
			lock(first);
			status = unmap_several(RW);
			assert_int_equal(status, kernels[k].locked);
			check_several(status, true);
			unlock(first);
			if (status != ASPACE_OK) {
				status = unmap_several(RW);
				assert_int_equal(status, can_free ? ASPACE_OK : ASPACE_NO_MEMORY);
				check_several(status, true);
			}
			close_several();
			if (!can_free)
				continue;
			/* Locked by somebody else during the call. */
			open_several(kernels[k].guards, kernels[k].obstacle, RW);
			host_kernel.lock = address(first);
			status = unmap_several(RW);
			assert_null(host_kernel.lock);
			assert_int_equal(status, kernels[k].raced);
			check_several(status, true);
			close_several();
		}
	}
}

/* At the limit, with the ballast at its floor, where cuts are refused. A whole area between two that share
 * its mapping goes by guard pages, which take no mapping; without these by two units from below the
 * floor. */
static void whole_below_the_floor(void **state)
{
	struct aspace_host_options o = {.size = sizeof(o), .window = 128 * page};

	(void)state;
	for (unsigned guards = 0; guards < 2; guards++) {
		struct aspace_change change = {.kind = ASPACE_CHANGE_MAP, .new_flags = RW};
		enum aspace_status status = ASPACE_OK;
		struct aspace_backend *backend;
		uint64_t held;

		host_kernel_begin(true, guards, SIM_LIMIT);
		program_open();
		assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
		window = aspace_host_window(host);
		backend = aspace_host_backend(host);
		change.range = pages(0, 128);
		assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
		for (unsigned n = 0; n < BUSY; n++)
			*address(n) = (char)(n + 1);
		program_take(PROGRAM_PAGES, true);
		change = (struct aspace_change){
			.kind = ASPACE_CHANGE_UNMAP, .old_flags = RW, .cuts = 2, .borders = 2};
		for (unsigned n = BUSY + 1; n < 127 && status == ASPACE_OK; n += 2) {
			change.range = pages(n, 1);
			status = backend->ops->unmap(backend, &change);
		}
		assert_int_equal(status, ASPACE_NO_MEMORY);
		held = aspace_host_ballast(host).held;
		host_kernel.guarded = 0;
		status = unmap_several(RW);
		assert_int_equal(status, ASPACE_OK);
		check_several(status, true);
		assert_int_equal(host_kernel.guarded, guards);
		assert_int_equal(aspace_host_ballast(host).held, held - (guards ? 0 : 2));
		close_several();
	}
}

/* Three scars; the first to be healed leaves a hole, which is made free addresses.
 * The others are healed all the same. */
static void a_hole_in_healing(void **state)
{
	struct aspace_change change = {.kind = ASPACE_CHANGE_UNMAP, .old_flags = RW, .borders = 2};
	struct aspace_backend *backend;

	(void)state;
	open_several(true, NO_MMAP, RW);
	backend = aspace_host_backend(host);
	for (unsigned n = 10; n <= 18; n += 4) {
		change.range = pages(n, 2);
		assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	}
	host_kernel.no_mmap = false;
	host_kernel.holes = 2; /* and the one that is to close it */
	backend->ops->flush(backend);
	assert_int_equal(host_kernel.holes, 0);
	backend->ops->flush(backend);
	/* All between them goes, so that nothing but scars can be in the way. */
	for (unsigned n = 0; n < BUSY; n++) {
		change.range = pages(n, 1);
		if (n < 10 || n >= 20 || (n - 10) % 4 >= 2)
			assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
	}
	backend->ops->flush(backend);
	assert_int_equal(window_mappings(), 1);
	close_several();
}

/* More areas than the list of scars has room for, each between two that share its mapping. */
static void many_scars(void **state)
{
	enum { PAGES_MAPPED = 1201 };
	struct aspace_host_options o = {.size = sizeof(o), .window = 1210 * page};
	struct aspace_change change = {.kind = ASPACE_CHANGE_MAP, .new_flags = RW};
	struct aspace_backend *backend;

	(void)state;
	host_kernel_begin(true, true, SIM_LIMIT);
	program_open();
	assert_int_equal(aspace_host_create(&o, &host), ASPACE_OK);
	window = aspace_host_window(host);
	backend = aspace_host_backend(host);
	change.range = pages(0, PAGES_MAPPED);
	assert_int_equal(backend->ops->map(backend, &change), ASPACE_OK);
	for (unsigned n = 0; n < PAGES_MAPPED; n++)
		*address(n) = (char)n;
	program_take(PROGRAM_PAGES, true);
	change.kind = ASPACE_CHANGE_UNMAP;
	change.old_flags = RW;
	change.borders = 2;
	for (unsigned n = 1; n < PAGES_MAPPED; n += 2) {
		change.range = pages(n, 1);
		assert_int_equal(backend->ops->unmap(backend, &change), ASPACE_OK);
		backend->ops->flush(backend);
	}
	for (unsigned n = 0; n < PAGES_MAPPED; n++) {
		unsigned char value = 0;

		assert_int_equal(can_read(n, &value), n % 2 == 0);
		assert_int_equal(value, n % 2 ? 0 : (unsigned char)n);
	}
	close_several();
}

/* A child's: it ends with what it has sealed. 77: the kernel cannot. */
static int sealed_in_part(enum obstacle obstacle)
{
	open_several(true, obstacle, R);
	if (syscall(__NR_mseal, address(AREA + 4), 3 * page, 0UL))
		return errno == ENOSYS || errno == EPERM ? 77 : 1;
	if (unmap_several(R) != ASPACE_NO_MEMORY)
		return 2;
	for (unsigned n = AREA; n < BUSY; n++) {
		unsigned char value = 0;

		if (!can_read(n, &value) || value != n + 1)
			return 3;
	}
	return 0;
}

static void sealed(void **state)
{
	(void)state;
	for (enum obstacle obstacle = NO_BALLAST; obstacle <= NO_MMAP; obstacle++) {
		pid_t child = fork();
		int status;

		assert_true(child >= 0);
		if (!child) {
			end_if_hung();
			end_child(sealed_in_part(obstacle));
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			print_message("skipped: the kernel cannot seal\n");
			skip();
		}
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

/* ---- The real kernel ------------------------------------------------------- */

/* Mappings for a world and its program. */
#define SPARE 300

static uint64_t mapping_limit(void)
{
	char text[32] = "";

	assert_true(host_maps_read("/proc/sys/vm/max_map_count", text, sizeof(text)));
	return strtoull(text, NULL, 10);
}

/* Cuts a region in pieces until the kernel refuses, then makes some pieces whole again. */
static char *take_all_but(uint64_t spare, size_t size)
{
	char *region = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t pairs = 0;

	assert_true(region != MAP_FAILED);
	while (!mprotect(region + (2 * pairs + 1) * page, page, PROT_READ))
		pairs++;
	assert_int_equal(errno, ENOMEM);
	assert_true(pairs > spare);
	/* The one that was refused may have cut. */
	assert_int_equal(mprotect(region + (2 * (pairs - spare / 2) + 1) * page, (spare + 2) * page,
				  PROT_NONE),
			 0);
	return region;
}

/* Does this kernel know MADV_GUARD_INSTALL? */
static bool has_guards(void)
{
	char *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool has;

	assert_true(p != MAP_FAILED);
	has = !madvise(p, page, MADV_GUARD_INSTALL);
	munmap(p, page);
	return has;
}

static void at_the_real_limit(void **state)
{
	uint64_t limit = mapping_limit();
	size_t size = (2 * limit + 10) * page;
	bool guards = has_guards();
	unsigned worlds = 0;
	char *others;

	(void)state;
	if (SANITIZED || limit > 2000000) {
		print_message("skipped: a sanitizer, or a limit of %llu mappings\n",
			      (unsigned long long)limit);
		skip();
	}
	/* What happens only once: threads, and memory for the test's own texts. */
	host_kernel_begin(false, guards, 0);
	open_world(0);
	end_walk(0);
	others = take_all_but(SPARE, size);
	reset_counts();
	for (uint64_t w = seed; w < seed + 1 + walks / 4; w++) {
		for (unsigned steps = 1; steps <= STEPS; steps += 7, worlds++)
			walk(w, worlds & 1 ? ASPACE_NEVER_MERGE : 0, steps);
	}
	print_counts("the real kernel");
	munmap(others, size);
	assert_true(done > 10 * worlds);
	assert_true(refused > worlds);
	assert_true(host_kernel.refused > 10 * worlds);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simulated_with_guard_pages),
		cmocka_unit_test(simulated_without),
		cmocka_unit_test(destroy_without_ballast),
		cmocka_unit_test(whole_below_the_floor),
		cmocka_unit_test(locked_in_part),
		cmocka_unit_test(a_hole_in_healing),
		cmocka_unit_test(many_scars),
		cmocka_unit_test(sealed),
		cmocka_unit_test(at_the_real_limit),
	};

	if (getenv("ASPACE_EMULATED")) {
		puts("skipped: the emulator is a kernel of its own kind");
		return 77;
	}
	if (argc > 1)
		seed = strtoull(argv[1], NULL, 0);
	if (argc > 2)
		walks = (unsigned)strtoul(argv[2], NULL, 0);
	page = (uint64_t)sysconf(_SC_PAGESIZE);
	pool = mmap(NULL, POOL_SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests_name("host limit", tests, NULL, NULL);
}
