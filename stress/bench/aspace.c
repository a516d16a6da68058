/* SPDX-License-Identifier: MIT */
/* This library, with the null backend. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <aspace/aspace.h>
#include <aspace/backend/null.h>

#include <stdlib.h>

#include "bench/area.h"
#include "read/lookup_named.h"

#define PEER_NAME "aspace"
#define PEER_SNAPSHOT
#define PEER_TRIM
#define PEER_SECTION
#define PEER_FIND_MANY
#define PEER_GAPS
#define PEER_OPTIONS "portable, avx2, avx512, neon: how to search"

struct peer {
	struct aspace *space;
	struct aspace_backend *backend;
	struct aspace_snapshot *snapshot;
	size_t snapshots;
};

static void must(enum aspace_status status)
{
	if (status != ASPACE_OK)
		abort();
}

static const struct asp_lookup_set *lookup_set;

static bool peer_option(const char *name)
{
	lookup_set = asp_lookup_set_named(name);
	return lookup_set;
}

static struct peer *peer_make(void)
{
	static struct peer peer;
	struct aspace_options options = {
		.size = sizeof(options),
		.granule = 4096,
		.garbage_max = (size_t)8 << 20,
	};

	must(aspace_create(&options, &peer.space));
	if (lookup_set)
		asp_use_lookup_set(peer.space, lookup_set);
	peer.backend = aspace_null_backend();
	return &peer;
}

static void peer_free(struct peer *peer)
{
	must(aspace_destroy(peer->space, 0));
}

static inline bool peer_find(struct peer *peer, uint64_t address, struct area *area)
{
	struct aspace_area found;

	if (aspace_find(peer->space, aspace_va(address), &found) != ASPACE_OK)
		return false;
	area->start = found.start.value;
	area->end = found.end.value;
	area->flags = found.flags;
	area->backend = found.backend;
	area->user = found.user;
	return true;
}

/* The arrays of the benchmark, as this library has them. */
_Static_assert(sizeof(struct area) == sizeof(struct aspace_area), "the same members");

static inline size_t peer_find_many(struct peer *peer, const uint64_t *address, size_t count,
				    struct area *area)
{
	return aspace_find_many(peer->space, (const struct aspace_vaddr *)address, count,
				(struct aspace_area *)area);
}

static inline void peer_section(struct peer *peer)
{
	struct aspace_view view;

	aspace_read_begin(peer->space, &view);
	aspace_read_end(&view);
}

static inline void peer_insert(struct peer *peer, const struct area *area)
{
	must(aspace_map(peer->space, aspace_range_of(area->start, area->end), area->flags,
			peer->backend, NULL, 0));
}

static inline void peer_remove(struct peer *peer, const struct area *area)
{
	must(aspace_unmap(peer->space, aspace_range_of(area->start, area->end), 0));
}

static inline void peer_protect(struct peer *peer, uint64_t lo, uint64_t hi, uint64_t flags)
{
	must(aspace_protect(peer->space, aspace_range_of(lo, hi), flags, 0));
}

static void peer_batch(struct peer *peer, const struct area *area, size_t count, bool insert)
{
	struct aspace_txn *txn;

	must(aspace_txn_begin(peer->space, 0, &txn));
	for (size_t i = 0; i < count; i++) {
		struct aspace_range range = aspace_range_of(area[i].start, area[i].end);

		must(insert ? aspace_txn_map(txn, range, area[i].flags, peer->backend, NULL, 0)
			    : aspace_txn_unmap(txn, range, 0));
	}
	must(aspace_txn_commit(txn));
}

static inline uint64_t peer_gap(struct peer *peer, uint64_t size, uint64_t hint)
{
	struct aspace_gap gap = {.size = size, .hint = {hint}};
	struct aspace_vaddr start;

	return aspace_find_free(peer->space, &gap, &start) == ASPACE_OK ? start.value : 0;
}

static uint64_t peer_iterate(struct peer *peer, size_t *count)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	uint64_t sum = 0;

	aspace_read_begin(peer->space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		sum += area.end.value - area.start.value;
		++*count;
	}
	aspace_read_end(&view);
	return sum;
}

static inline void peer_snapshot(struct peer *peer)
{
	struct aspace_snapshot snapshot;

	must(aspace_snapshot_take(peer->space, &snapshot));
	aspace_snapshot_release(&snapshot);
}

/* Each snapshot holds what the update before it has replaced. */
static void peer_pin(struct peer *peer, const struct area *area, size_t count)
{
	peer->snapshot = calloc(count, sizeof(*peer->snapshot));
	peer->snapshots = count;
	if (!peer->snapshot)
		abort();
	for (size_t i = 0; i < count; i++) {
		peer_protect(peer, area[i].start, area[i].end, 1);
		peer_protect(peer, area[i].start, area[i].end, area[i].flags);
		must(aspace_snapshot_take(peer->space, &peer->snapshot[i]));
	}
	must(aspace_quiesce(peer->space, 0));
}

static size_t peer_unpin(struct peer *peer)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	for (size_t i = 0; i < peer->snapshots; i += 2)
		aspace_snapshot_release(&peer->snapshot[(peer->snapshots - 1 - i)]);
	must(aspace_quiesce(peer->space, 0));
	must(aspace_stats(peer->space, &stats, 0));
	return stats.snapshots;
}

static void peer_unpin_all(struct peer *peer)
{
	for (size_t i = 0; i < peer->snapshots; i++)
		aspace_snapshot_release(&peer->snapshot[i]);
	free(peer->snapshot);
	must(aspace_quiesce(peer->space, 0));
}

/* A transaction above all areas, and its end. */
static void peer_fill(struct peer *peer, size_t count)
{
	const uint64_t base = UINT64_C(1) << 60;
	struct aspace_txn *txn;

	must(aspace_txn_begin(peer->space, 0, &txn));
	for (size_t i = 0; i < count; i++)
		must(aspace_txn_map(txn,
				    aspace_range_of(base + 2 * i * 4096, base + (2 * i + 1) * 4096),
				    3, peer->backend, NULL, 0));
	must(aspace_txn_commit(txn));
	must(aspace_unmap(peer->space, aspace_range_of(base, base + 2 * count * 4096), 0));
	must(aspace_quiesce(peer->space, 0));
}

/* Less than what the areas take, and a constant, may stay. */
static bool peer_trim(struct peer *peer)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	must(aspace_trim(peer->space, 0));
	must(aspace_stats(peer->space, &stats, 0));
	return stats.bytes_mapped < 4 * stats.bytes_live + ((size_t)16 << 20);
}

static uint64_t peer_bytes(struct peer *peer)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	must(aspace_stats(peer->space, &stats, 0));
	return stats.bytes_live;
}

#include "bench/workload.h"
