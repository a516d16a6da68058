/* SPDX-License-Identifier: MIT */
/*
 * The last hit: each thread keeps a copy of the area that it found last, and while the
 * version is the same, an address in that area needs neither a descent nor a read section.
 *
 * Why it needs no section: nothing of the space is followed. What is compared is the number
 * of the newest version (space->version), which is stored before the root of that version.
 * Whoever reads the number of the copy has read it before the next version was published,
 * and at that moment the copy is the right answer. A number of the space, unique in the
 * process, stands beside it: spaces, their roots and their versions' numbers come again.
 *
 * A signal handler may look up in the middle of all this, in the same thread. So all
 * accesses are volatile, in the order in which they stand (C11 5.1.2.3; no other thread
 * looks, and a CPU keeps its own order), and `fills` is odd while the copy is being written
 * and changes with every filling: a handler that meets it odd leaves the copy alone, and a
 * reader whose copy was replaced meanwhile asks the tree. A handler that leaves by a jump
 * may leave it odd for ever: then the thread has no last hit any more.
 *
 * The copy is made when an area is found for the second time running, so that lookups that
 * jump about pay for it with one look at the copy, to see that it is about something else, and
 * one store.
 */
#ifndef ASPACE_LAST_HIT_H
#define ASPACE_LAST_HIT_H

#include "space/space.h"

#ifdef ASP_THREAD_LOCAL
struct asp_last_hit {
	uint64_t fills;
	uint64_t space, version;
	uint64_t start, size, flags;
	struct aspace_backend *backend;
	void *user;
	uint64_t found; /* where the area starts that was found last; no part of the copy */
} __attribute__((aligned(64)));

extern ASP_THREAD_LOCAL volatile struct asp_last_hit asp_last_hit;

/* Does the copy seem to hold the address? The two words may be of two areas, and of another
 * space or version. */
static inline bool asp_last_hit_covers(uint64_t address)
{
	uint64_t start = asp_last_hit.start;

	return address - start < asp_last_hit.size;
}

static inline bool asp_last_hit_find(struct aspace *space, uint64_t address,
				     struct aspace_area *area)
{
	volatile struct asp_last_hit *hit = &asp_last_hit;
	uint64_t fills = hit->fills, start = hit->start, size = hit->size;
	struct aspace_area copy;

	/* Relaxed: nothing is read through it. Completed operations are seen all the same,
	 * because their store of the number comes before what the caller knows them by. */
	if (address - start >= size ||
	    hit->version != atomic_load_explicit(&space->version, memory_order_relaxed) ||
	    hit->space != space->id || fills & 1)
		return false;
	copy = (struct aspace_area){{start}, {start + size}, hit->flags, hit->backend, hit->user};
	if (hit->fills != fills)
		return false;
	if (area)
		*area = copy;
	return true;
}

/* Is the area that starts there the one that was found last, too? Now it is. */
static inline bool asp_last_hit_again(uint64_t start)
{
	if (asp_last_hit.found == start)
		return true;
	asp_last_hit.found = start;
	return false;
}

/* Remember an area of a version that the caller's section keeps. */
static inline void asp_last_hit_fill(const struct aspace *space, const struct asp_node *root,
				     uint64_t start, const struct asp_slot *slot)
{
	volatile struct asp_last_hit *hit = &asp_last_hit;
	uint64_t fills;

	fills = hit->fills;
	if (fills & 1)
		return;
	hit->fills = fills + 1;
	hit->space = space->id;
	hit->version = root->birth;
	hit->start = start;
	hit->size = slot->end - start;
	hit->flags = slot->flags & ~ASPACE_FLAGS_RESERVED;
	hit->backend = slot->backend;
	hit->user = slot->user;
	hit->fills = fills + 2;
}
#else
static inline bool asp_last_hit_find(struct aspace *space, uint64_t address,
				     struct aspace_area *area)
{
	(void)space, (void)address, (void)area;
	return false;
}

static inline bool asp_last_hit_covers(uint64_t address)
{
	(void)address;
	return false;
}

static inline bool asp_last_hit_again(uint64_t start)
{
	(void)start;
	return false;
}

static inline void asp_last_hit_fill(const struct aspace *space, const struct asp_node *root,
				     uint64_t start, const struct asp_slot *slot)
{
	(void)space, (void)root, (void)start, (void)slot;
}
#endif

#endif
