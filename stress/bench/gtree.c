/* SPDX-License-Identifier: MIT */
/* GLib's GTree, a balanced binary tree, behind a pthread_rwlock; with BENCH_CK behind
 * ck_rwlock. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <glib.h>
#include <malloc.h>
#include <pthread.h>

#include "bench/area.h"

#ifdef BENCH_CK
#include <ck_rwlock.h>
#define PEER_NAME       "gtree-ck"
#define read_lock(p)    ck_rwlock_read_lock(&(p)->lock)
#define read_unlock(p)  ck_rwlock_read_unlock(&(p)->lock)
#define write_lock(p)   ck_rwlock_write_lock(&(p)->lock)
#define write_unlock(p) ck_rwlock_write_unlock(&(p)->lock)
#else
#define PEER_NAME       "gtree"
#define read_lock(p)    pthread_rwlock_rdlock(&(p)->lock)
#define read_unlock(p)  pthread_rwlock_unlock(&(p)->lock)
#define write_lock(p)   pthread_rwlock_wrlock(&(p)->lock)
#define write_unlock(p) pthread_rwlock_unlock(&(p)->lock)
#endif

struct peer {
	GTree *tree;
#ifdef BENCH_CK
	ck_rwlock_t lock;
#else
	pthread_rwlock_t lock;
#endif
	size_t before;
};

static size_t allocated(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* A key is the area itself. */
static gint compare(gconstpointer a, gconstpointer b, gpointer data)
{
	const struct area *x = a, *y = b;

	(void)data;
	return (x->start > y->start) - (x->start < y->start);
}

static struct peer *peer_make(void)
{
	static struct peer peer;

	peer.before = allocated();
	peer.tree = g_tree_new_full(compare, NULL, g_free, NULL);
#ifdef BENCH_CK
	ck_rwlock_init(&peer.lock);
#else
	pthread_rwlock_init(&peer.lock, NULL);
#endif
	return &peer;
}

static void peer_free(struct peer *peer)
{
	g_tree_destroy(peer->tree);
}

/* The node of the first area above the address, or NULL. */
static inline GTreeNode *above(struct peer *peer, uint64_t address)
{
	struct area key = {.start = address};

	return g_tree_upper_bound(peer->tree, &key);
}

static inline GTreeNode *before(struct peer *peer, GTreeNode *node)
{
	return node ? g_tree_node_previous(node) : g_tree_node_last(peer->tree);
}

static inline bool peer_find(struct peer *peer, uint64_t address, struct area *area)
{
	const struct area *found = NULL;
	GTreeNode *node;

	read_lock(peer);
	node = before(peer, above(peer, address));
	if (node)
		found = g_tree_node_key(node);
	if (found && address < found->end)
		*area = *found;
	else
		found = NULL;
	read_unlock(peer);
	return found != NULL;
}

static inline void insert(struct peer *peer, const struct area *area)
{
	struct area *copy = g_new(struct area, 1);

	*copy = *area;
	g_tree_insert(peer->tree, copy, copy);
}

static inline void peer_insert(struct peer *peer, const struct area *area)
{
	write_lock(peer);
	insert(peer, area);
	write_unlock(peer);
}

static inline void peer_remove(struct peer *peer, const struct area *area)
{
	write_lock(peer);
	g_tree_remove(peer->tree, area);
	write_unlock(peer);
}

static inline void peer_protect(struct peer *peer, uint64_t lo, uint64_t hi, uint64_t flags)
{
	struct area *area, rest, *next, *previous;
	GTreeNode *node, *other;

	write_lock(peer);
	node = before(peer, above(peer, lo));
	area = g_tree_node_key(node);
	rest = *area;
	if (area->start == lo && area->end == hi) {
		area->flags = flags;
		/* Back: equal neighbours are one again. */
		other = g_tree_node_next(node);
		next = other ? g_tree_node_key(other) : NULL;
		if (next && next->start == hi && next->flags == flags) {
			area->end = next->end;
			g_tree_remove(peer->tree, next);
			node = before(peer, above(peer, lo));
		}
		other = g_tree_node_previous(node);
		previous = other ? g_tree_node_key(other) : NULL;
		if (previous && previous->end == lo && previous->flags == flags) {
			previous->end = area->end;
			g_tree_remove(peer->tree, area);
		}
	} else if (area->flags != flags) {
		struct area piece = rest;

		piece.start = lo;
		piece.end = hi;
		piece.flags = flags;
		if (area->start < lo) {
			area->end = lo;
			insert(peer, &piece);
		} else {
			*area = piece;
		}
		if (hi < rest.end) {
			rest.start = hi;
			insert(peer, &rest);
		}
	}
	write_unlock(peer);
}

static void peer_batch(struct peer *peer, const struct area *area, size_t count, bool add)
{
	write_lock(peer);
	for (size_t i = 0; i < count; i++) {
		if (add)
			insert(peer, &area[i]);
		else
			g_tree_remove(peer->tree, &area[i]);
	}
	write_unlock(peer);
}

/* It knows nothing of gaps: one area after the other. */
static inline uint64_t peer_gap(struct peer *peer, uint64_t size, uint64_t hint)
{
	GTreeNode *node, *previous;
	uint64_t from = hint;

	read_lock(peer);
	node = above(peer, hint);
	previous = before(peer, node);
	if (previous) {
		const struct area *area = g_tree_node_key(previous);

		from = area->end > hint ? area->end : hint;
	}
	for (; node; node = g_tree_node_next(node)) {
		const struct area *area = g_tree_node_key(node);

		if (area->start - from >= size)
			break;
		from = area->end;
	}
	read_unlock(peer);
	return from;
}

static uint64_t peer_iterate(struct peer *peer, size_t *count)
{
	uint64_t sum = 0;

	read_lock(peer);
	for (GTreeNode *node = g_tree_node_first(peer->tree); node; node = g_tree_node_next(node)) {
		const struct area *area = g_tree_node_key(node);

		sum += area->end - area->start;
		++*count;
	}
	read_unlock(peer);
	return sum;
}

static uint64_t peer_bytes(struct peer *peer)
{
	return allocated() - peer->before;
}

#include "bench/workload.h"
