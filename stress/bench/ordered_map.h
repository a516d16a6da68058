/* SPDX-License-Identifier: MIT */
/* Peers over an ordered map of C++, MAP<uint64_t, struct value>, behind a
 * std::shared_mutex: what an allocator's author writes first. */
#include <malloc.h>

#include <cstdint>
#include <mutex>
#include <shared_mutex>

#include "bench/area.h"

struct value {
	uint64_t end, flags;
	void *backend, *user;
};

struct peer {
	MAP<uint64_t, value> map;
	std::shared_mutex lock;
};

static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

static size_t before;

static struct peer *peer_make(void)
{
	peer *made = new peer;

	before = allocated();
	return made;
}

static void peer_free(struct peer *peer)
{
	delete peer;
}

static inline bool peer_find(struct peer *peer, uint64_t address, struct area *area)
{
	std::shared_lock<std::shared_mutex> guard(peer->lock);
	auto at = peer->map.upper_bound(address);

	if (at == peer->map.begin())
		return false;
	--at;
	if (address >= at->second.end)
		return false;
	area->start = at->first;
	area->end = at->second.end;
	area->flags = at->second.flags;
	area->backend = at->second.backend;
	area->user = at->second.user;
	return true;
}

static inline void insert(struct peer *peer, const struct area *area)
{
	peer->map.insert({area->start, {area->end, area->flags, area->backend, area->user}});
}

static inline void peer_insert(struct peer *peer, const struct area *area)
{
	std::unique_lock<std::shared_mutex> guard(peer->lock);

	insert(peer, area);
}

static inline void peer_remove(struct peer *peer, const struct area *area)
{
	std::unique_lock<std::shared_mutex> guard(peer->lock);

	peer->map.erase(area->start);
}

static inline void peer_protect(struct peer *peer, uint64_t lo, uint64_t hi, uint64_t flags)
{
	std::unique_lock<std::shared_mutex> guard(peer->lock);
	auto at = --peer->map.upper_bound(lo);
	value whole = at->second;

	if (at->first == lo && whole.end == hi) {
		at->second.flags = flags;
		/* Back: equal neighbours are one again. */
		auto next = std::next(at);
		if (next != peer->map.end() && next->first == hi && next->second.flags == flags) {
			at->second.end = next->second.end;
			peer->map.erase(next);
			at = peer->map.find(lo);
		}
		if (at != peer->map.begin()) {
			auto previous = std::prev(at);

			if (previous->second.end == lo && previous->second.flags == flags) {
				previous->second.end = at->second.end;
				peer->map.erase(at);
			}
		}
		return;
	}
	if (whole.flags == flags)
		return;
	if (at->first < lo) {
		at->second.end = lo;
		peer->map.insert({lo, {hi, flags, whole.backend, whole.user}});
	} else {
		at->second.end = hi;
		at->second.flags = flags;
	}
	if (hi < whole.end)
		peer->map.insert({hi, whole});
}

static void peer_batch(struct peer *peer, const struct area *area, size_t count, bool add)
{
	std::unique_lock<std::shared_mutex> guard(peer->lock);

	for (size_t i = 0; i < count; i++) {
		if (add)
			insert(peer, &area[i]);
		else
			peer->map.erase(area[i].start);
	}
}

/* These maps know nothing of gaps: one after the other. */
static inline uint64_t peer_gap(struct peer *peer, uint64_t size, uint64_t hint)
{
	std::shared_lock<std::shared_mutex> guard(peer->lock);
	auto at = peer->map.upper_bound(hint);
	uint64_t from = hint;

	if (at != peer->map.begin()) {
		auto previous = std::prev(at);

		from = previous->second.end > hint ? previous->second.end : hint;
	}
	for (; at != peer->map.end() && at->first - from < size; ++at)
		from = at->second.end;
	return from;
}

static uint64_t peer_iterate(struct peer *peer, size_t *count)
{
	std::shared_lock<std::shared_mutex> guard(peer->lock);
	uint64_t sum = 0;

	for (const auto &entry : peer->map) {
		sum += entry.second.end - entry.first;
		++*count;
	}
	return sum;
}

static uint64_t peer_bytes(struct peer *peer)
{
	(void)peer;
	return allocated() - before;
}

#include "bench/workload.h"
