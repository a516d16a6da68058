/* SPDX-License-Identifier: MIT */
/*
 * See lazy.h. A new frame is zero; what is stored is the address at which it is stored; a free frame
 * holds POISON. So a page may show 0 or its own address, and anything else is a frame that
 * two addresses share, or one that is free.
 */
#include "lazy.h"

#include <stdatomic.h>

#define PAGE   UINT64_C(4096)
#define PAGES  1024
#define POOL   256 /* frames */
#define FIRST  (FRAMES + (UINT64_C(16) << 20))
#define POISON UINT64_C(0xfefefefefefefefe)

static struct aspace *space;
static struct aspace_aarch64_allocated source;
static uint64_t window;
static bool used[POOL], noted[POOL];
static size_t frames_used;
static _Atomic unsigned asking; /* faults that want a frame; relaxed: a count */

/* ---- Frames, from several CPUs ------------------------------------------------------------- */

static volatile uint64_t *word(size_t frame, size_t n)
{
	return (volatile uint64_t *)(uintptr_t)(FIRST + frame * PAGE) + n;
}

static bool take_frame(uint64_t size, struct aspace_paddr *frame)
{
	size_t pages = (size_t)(size / PAGE);

	for (size_t i = 0; i + pages <= POOL; i += pages) {
		size_t taken = 0;

		for (size_t j = i; j < i + pages; j++)
			taken += used[j];
		if (taken)
			continue;
		for (size_t j = i; j < i + pages; j++) {
			for (size_t n = 0; n < 4; n++) {
				if (*word(j, n) != POISON)
					fail("stale store: free frame %lx: %lx", FIRST + j * PAGE,
					     *word(j, n));
				*word(j, n) = 0;
			}
			used[j] = true;
		}
		frames_used += pages;
		*frame = aspace_pa(FIRST + i * PAGE);
		return true;
	}
	return false;
}

static bool frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	bool taken;

	(void)ctx;
	atomic_fetch_add_explicit(&asking, 1, memory_order_relaxed);
	memory_lock();
	taken = take_frame(size, frame);
	memory_unlock();
	atomic_fetch_sub_explicit(&asking, 1, memory_order_relaxed);
	return taken;
}

bool lazy_populates(void)
{
	return atomic_load_explicit(&asking, memory_order_relaxed);
}

static void frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	size_t first = (size_t)((frame.value - FIRST) / PAGE), end = first + (size_t)(size / PAGE);

	(void)ctx;
	memory_lock();
	for (size_t i = first; i < end; i++) {
		if (!used[i])
			fail("frame %lx is freed twice", FIRST + i * PAGE);
		used[i] = false;
		for (size_t n = 0; n < 4; n++)
			*word(i, n) = POISON;
	}
	frames_used -= end - first;
	memory_unlock();
}

void lazy_ops(struct aspace_aarch64_ops *ops)
{
	ops->frame_alloc = frame_alloc;
	ops->frame_free = frame_free;
}

/* ---- CPU 0 ---------------------------------------------------------------------------------- */

void lazy_init(struct aspace *space_, struct aspace_aarch64 *tables, uint64_t window_)
{
	space = space_;
	window = window_;
	if (aspace_aarch64_allocated_init(&source, tables, true, 16 * PAGE) != ASPACE_OK)
		fail("no source of frames");
	for (size_t i = 0; i < POOL; i++) {
		for (size_t n = 0; n < 4; n++)
			*word(i, n) = POISON;
	}
}

bool lazy_is(const struct aspace_area *area)
{
	return area->backend == &source.backend;
}

void lazy_operate(void)
{
	uint64_t first = draw(PAGES), count = 1 + draw(PAGES / 4);
	uint64_t end = first + count > PAGES ? PAGES : first + count;
	struct aspace_range range = aspace_range_of(window + first * PAGE, window + end * PAGE);
	uint64_t flags = ASPACE_AARCH64_READ | (draw(4) ? ASPACE_AARCH64_WRITE : 0);
	enum aspace_status status;

	switch (draw(4)) {
	case 0:
		status = aspace_unmap(space, range, 0);
		break;
	case 1:
		status = aspace_protect(space, range, flags, 0);
		break;
	default:
		status = aspace_map(space, range, flags, &source.backend, NULL, 0);
		if (status == ASPACE_ALREADY_EXISTS)
			status = ASPACE_OK;
		break;
	}
	/* A steady space refuses a break; a protect may need a table. */
	if (status != ASPACE_OK)
		fail("the lazy window: %s", aspace_status_string(status));
}

void lazy_clear(void)
{
	if (aspace_unmap(space, aspace_range_of(window, window + PAGES * PAGE), 0) != ASPACE_OK ||
	    aspace_quiesce(space, 0) != ASPACE_OK)
		fail("the lazy window is not unmapped");
	if (frames_used)
		fail("%lu frames are lost", (uint64_t)frames_used);
}

void lazy_forget(void)
{
	for (size_t i = 0; i < POOL; i++)
		noted[i] = false;
}

void lazy_note(const struct aspace_aarch64_mapping *leaf)
{
	size_t first = (size_t)((leaf->output.value - FIRST) / PAGE);

	for (size_t i = first; i < first + aspace_range_size(leaf->range) / PAGE; i++) {
		if (i >= POOL || !used[i] || noted[i])
			fail("frame %lx is mapped, and not in use, or twice", FIRST + i * PAGE);
		noted[i] = true;
	}
}

void lazy_compare(void)
{
	for (size_t i = 0; i < POOL; i++) {
		if (used[i] != noted[i])
			fail("frame %lx is in use, and not mapped", FIRST + i * PAGE);
	}
}

/* ---- Other CPUs ------------------------------------------------------------------------------- */

static uint64_t version_now(void)
{
	struct aspace_view view;

	aspace_read_begin(space, &view);
	aspace_read_end(&view);
	return view.version;
}

bool lazy_look(void)
{
	/* A word for each CPU, and one that all write alike. */
	uint64_t page = window + draw(PAGES) * PAGE, at = page + cpu_number() * 8;
	uint64_t version = version_now();
	struct outcome stored = attempt(STORE, false, at, at), loaded;

	loaded = attempt(LOAD, false, at, 0);
	if (loaded.faulted)
		return false;
	if (loaded.value != 0 && loaded.value != at)
		fail("CPU %u at %lx: %lx", cpu_number(), at, loaded.value);
	/* Nothing was published between: what was stored is there. */
	if (!stored.faulted && version == version_now() && loaded.value != at)
		fail("lost: CPU %u at %lx: %lx", cpu_number(), at, loaded.value);
	return !stored.faulted;
}
