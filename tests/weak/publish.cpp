/* SPDX-License-Identifier: MIT */
/*
 * The protocol of publishing, reading and retiring, on the C11 memory model, explored by
 * Relacy: two readers, a writer, and the thread that turns grace periods over.
 *
 * What is modelled, with the memory orders of the sources:
 *  - the root, published with release and read with acquire (src/update/publish.c, src/space/space.h);
 *  - nodes filled in with plain stores, never written again, recycled last in, first out;
 *  - stamps and grace periods: `started` is read and advanced by read-modify-writes only,
 *    `ended` stored with release and read with acquire (src/platform/linux/turn.c and numbers.c);
 *  - a tree that splits, shrinks and merges: a root over one or two leaves.
 * Not modelled: liburcu. Its guarantee is provided by sections that count with full fences, as
 * its flavour mb does it.
 *
 * Relacy reports a race where a plain field is written while somebody may read it, whatever
 * the order of events, and lets loads with acquire read any value that the model allows. A
 * reader's answers must be those of the version that its root names.
 *
 *     publish FAULT ITERATIONS      exit 0: no error was found; 1: one was
 */
#include <relacy/relacy.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

enum fault {
	NONE,
	RELAXED_PUBLISH, /* the root is stored without release */
	RELAXED_READ,    /* and read without acquire */
	WRITE_PUBLISHED, /* a leaf that readers can reach is changed in place */
	NO_GRACE,        /* nodes are recycled at once */
	STALE_STAMP,     /* a grace period that may have begun before will do */
	PLAIN_STAMP,     /* the stamp is a load: it may come before the publication */
	RELAXED_END,     /* the end of a grace period is stored without release */
	LATE_READER,     /* a reader goes on after its section */
	FAULTS,
};

static const char *const fault_names[FAULTS] = {
	"none",        "relaxed-publish", "relaxed-read", "write-published", "no-grace",
	"stale-stamp", "plain-stamp",     "relaxed-end",  "late-reader",
};

static fault seeded;

/* Over all executions: did it happen at all? Nothing depends on these. */
static unsigned long recycled, looks, old_looks, newest;

enum {
	READERS = 2,
	WRITER = READERS,
	DRIVER,
	THREADS,
	NODES = 7, /* two versions and what waits; fewer than all versions make */
	KEYS = 3,
	VERSIONS = 6,
	LEAF_MOST = 2,
};

/* Which keys a version holds: splits at 3, shrinks, merges at 5. */
static const bool holds[VERSIONS + 1][KEYS + 1] = {
	{},
	{false, true, false, false},
	{false, true, true, false},
	{false, true, true, true},
	{false, true, false, true},
	{false, false, false, true},
	{false, true, false, true},
};

struct node {
	rl::var<int> birth;
	rl::var<int> count;
	rl::var<int> key[LEAF_MOST];   /* inner: the first key of each child */
	rl::var<int> value[LEAF_MOST]; /* leaf: key * 100 + version that made the leaf */
	rl::var<node *> child[LEAF_MOST];
};

/* `$` is the place in the source, for reports. */
struct protocol : rl::test_suite<protocol, THREADS> {
	node nodes[NODES];
	rl::atomic<node *> root;
	rl::atomic<int> started, ended, requested;
	rl::atomic<int> section[READERS]; /* odd: inside */
	rl::atomic<int> done;

	/* The writer's own. */
	node *pool[NODES];
	int pooled;
	node *retired[2 * NODES];
	int retired_count;
	node *waiting[2 * NODES];
	int waiting_count, stamp;

	void before()
	{
		pooled = retired_count = waiting_count = stamp = 0;
		for (int i = 0; i < NODES; i++)
			pool[pooled++] = &nodes[i];
		started($).store(0, rl::mo_relaxed);
		ended($).store(0, rl::mo_relaxed);
		requested($).store(0, rl::mo_relaxed);
		done($).store(0, rl::mo_relaxed);
		for (int i = 0; i < READERS; i++)
			section[i]($).store(0, rl::mo_relaxed);
		root($).store(build(1), rl::mo_relaxed);
		newest = 1;
	}

	/* ---- Readers ---------------------------------------------------------- */

	void begin_section(int i)
	{
		int count = section[i]($).load(rl::mo_relaxed);

		section[i]($).store(count + 1, rl::mo_relaxed);
		rl::atomic_thread_fence(rl::mo_seq_cst, $);
	}

	void end_section(int i)
	{
		int count = section[i]($).load(rl::mo_relaxed);

		rl::atomic_thread_fence(rl::mo_seq_cst, $);
		section[i]($).store(count + 1, rl::mo_release);
	}

	/* A lookup; the value, or 0. */
	int find(node *top, int key)
	{
		int count = top->count($), at = 0;
		node *leaf;

		while (at + 1 < count && top->key[at + 1]($) <= key)
			at++;
		leaf = top->child[at]($);
		count = leaf->count($);
		for (int i = 0; i < count; i++) {
			if (leaf->key[i]($) == key)
				return leaf->value[i]($);
		}
		return 0;
	}

	void look(node *top, int *seen)
	{
		int version = top->birth($);

		RL_ASSERT(version >= *seen && version <= VERSIONS);
		*seen = version;
		looks++;
		old_looks += (unsigned long)version < newest;
		for (int key = 1; key <= KEYS; key++) {
			int value = find(top, key);

			RL_ASSERT(holds[version][key] ? value / 100 == key && value % 100 <= version
						      : value == 0);
		}
	}

	void read(int i)
	{
		int seen = 1;

		for (int turn = 0; turn < 2; turn++) {
			node *top;

			begin_section(i);
			top = root($).load(seeded == RELAXED_READ ? rl::mo_relaxed
								  : rl::mo_acquire);
			if (seeded == LATE_READER)
				end_section(i);
			look(top, &seen);
			if (seeded != LATE_READER)
				end_section(i);
		}
	}

	/* ---- The thread that turns grace periods over --------------------------- */

	/* Every section that is open now has ended. (liburcu's has a fence at its end, too.
	 * Nothing here is to rely on it.) */
	void synchronize()
	{
		rl::atomic_thread_fence(rl::mo_seq_cst, $);
		for (int i = 0; i < READERS; i++) {
			int count = section[i]($).load(rl::mo_acquire);

			while ((count & 1) && section[i]($).load(rl::mo_acquire) == count)
				rl::yield(1, $);
		}
	}

	void drive()
	{
		while (!done($).load(rl::mo_acquire)) {
			int number;

			/* Other spaces ask for grace periods of their own. */
			if (requested($).load(rl::mo_acquire) <= started($).load(rl::mo_relaxed) &&
			    rl::rand(3)) {
				rl::yield(1, $);
				continue;
			}
			number = started($).fetch_add(1, rl::mo_acq_rel) + 1;
			synchronize();
			ended($).store(number,
				       seeded == RELAXED_END ? rl::mo_relaxed : rl::mo_release);
		}
	}

	/* ---- The writer --------------------------------------------------------- */

	int take_stamp()
	{
		if (seeded == PLAIN_STAMP)
			return started($).load(rl::mo_relaxed) + 1;
		return started($).fetch_add(0, rl::mo_acq_rel) + (seeded != STALE_STAMP);
	}

	void recycle(node *gone)
	{
		pool[pooled++] = gone;
		recycled++;
	}

	void reclaim()
	{
		if (waiting_count && ended($).load(rl::mo_acquire) >= stamp) {
			while (waiting_count)
				recycle(waiting[--waiting_count]);
		}
		if (!waiting_count && retired_count) {
			while (retired_count)
				waiting[waiting_count++] = retired[--retired_count];
			stamp = take_stamp();
			requested($).store(stamp, rl::mo_release);
		}
	}

	/* As at the bound on garbage: wait until there is room. */
	node *get()
	{
		while (!pooled) {
			reclaim();
			if (!pooled)
				rl::yield(1, $);
		}
		return pool[--pooled];
	}

	void retire(node *gone)
	{
		if (seeded == NO_GRACE)
			recycle(gone);
		else
			retired[retired_count++] = gone;
	}

	node *make_leaf(int version, const int *keys, int count)
	{
		node *leaf = get();

		leaf->birth($) = version;
		leaf->count($) = count;
		for (int i = 0; i < count; i++) {
			leaf->key[i]($) = keys[i];
			leaf->value[i]($) = keys[i] * 100 + version;
		}
		return leaf;
	}

	/* Leaves of at most two keys below a new root. */
	node *build(int version)
	{
		int keys[KEYS], count = 0, half;
		node *top = get();

		for (int key = 1; key <= KEYS; key++) {
			if (holds[version][key])
				keys[count++] = key;
		}
		half = count > LEAF_MOST ? count / 2 : count;
		top->birth($) = version;
		top->key[0]($) = keys[0];
		top->child[0]($) = make_leaf(version, keys, half);
		top->count($) = half < count ? 2 : 1;
		if (half < count) {
			top->key[1]($) = keys[half];
			top->child[1]($) = make_leaf(version, keys + half, count - half);
		}
		return top;
	}

	void publish(node *top)
	{
		newest++;
		root($).store(top, seeded == RELAXED_PUBLISH ? rl::mo_relaxed : rl::mo_release);
	}

	void write()
	{
		for (int version = 2; version <= VERSIONS; version++) {
			node *old = root($).load(rl::mo_relaxed), *top;
			int children = old->count($);

			reclaim();
			if (seeded == WRITE_PUBLISHED && version == 2) {
				node *leaf = old->child[0]($);

				leaf->key[1]($) = 2;
				leaf->value[1]($) = 202;
				leaf->count($) = 2;
			}
			top = build(version);
			publish(top);
			for (int i = 0; i < children; i++)
				retire(old->child[i]($));
			retire(old);
		}
		done($).store(1, rl::mo_release);
	}

	void thread(unsigned index)
	{
		if (index < READERS)
			read((int)index);
		else if (index == WRITER)
			write();
		else
			drive();
	}
};

int main(int argc, char **argv)
{
	rl::test_params params;
	bool fine;

	if (argc != 3) {
		fputs("usage: publish FAULT ITERATIONS\n", stderr);
		return 2;
	}
	for (seeded = NONE; seeded < FAULTS && strcmp(argv[1], fault_names[seeded]);)
		seeded = (fault)(seeded + 1);
	if (seeded == FAULTS) {
		for (int i = 0; i < FAULTS; i++)
			puts(fault_names[i]);
		return 2;
	}
	params.iteration_count = strtoull(argv[2], NULL, 0);
	params.search_type = rl::random_scheduler_type;
	/* How it came to that; not to a string: Relacy has replaced operator new. */
	params.output_stream = params.progress_stream = &std::cerr;
	fine = rl::simulate<protocol>(params);
	if (fine)
		printf("%s: no error in %llu executions; %lu nodes recycled, %lu looks, %lu of "
		       "them "
		       "at a version that was not the newest\n",
		       argv[1], (unsigned long long)params.stop_iteration, recycled, looks,
		       old_looks);
	else
		printf("%s: %s, in execution %llu\n", argv[1],
		       rl::test_result_str(params.test_result),
		       (unsigned long long)params.stop_iteration);
	return !fine || (seeded == NONE && (!recycled || !old_looks));
}
