/* SPDX-License-Identifier: MIT */
/*
 * The grace periods of bare metal (src/platform/bare_metal.[ch]) on the C11 memory model, explored
 * by Relacy: two CPUs that read and go offline at times, one that writes, and one that polls beside
 * it.
 *
 * What is modelled, with the memory orders of the sources:
 *  - the counts of a CPU: `begun`, changed by read-modify-writes alone, and `ended`;
 *  - its online flag;
 *  - the poller: the lock that is only tried, the visit, the looks that follow;
 *  - stamps, and the numbers of grace periods.
 * Not modelled: interrupts. They come between two steps of one thread, and are tested by stepping
 * through the instructions (tests/unit/test_bare_metal.c).
 *
 * Two boxes take turns in being the one that the root names. The other one is written to by plain
 * stores after a grace period: while a section may still read it, Relacy reports a race. What a
 * section reads is a whole version, not older than the one that it read before.
 *
 *     bare FAULT ITERATIONS      exit 0: no error was found; 1: one was
 */
#include <relacy/relacy.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>

enum fault {
	NONE,
	ONE_WORD,        /* sections are ended by a store to the word of their begin */
	RELAXED_BEGIN,   /* begun is advanced without acquire */
	PLAIN_VISIT,     /* the visit loads begun */
	RELAXED_VISIT,   /* or adds 0 to it without release */
	RELAXED_END,     /* ended is stored without release */
	RELAXED_LOOK,    /* and loaded without acquire */
	NO_LOOK,         /* or not at all */
	PLAIN_ONLINE,    /* a CPU comes online by a store */
	RELAXED_OFFLINE, /* and goes without release */
	PLAIN_FLAG,      /* the visit loads the online flag */
	RELAXED_POLLING, /* the poller's lock is given back without release */
	RELAXED_ELAPSED, /* the end of a grace period is stored without release */
	STALE_STAMP,     /* a grace period that may have begun before will do */
	FAULTS,
};

static const char *const fault_names[FAULTS] = {
	"none",        "one-word",        "relaxed-begin",   "plain-visit",  "relaxed-visit",
	"relaxed-end", "relaxed-look",    "no-look",         "plain-online", "relaxed-offline",
	"plain-flag",  "relaxed-polling", "relaxed-elapsed", "stale-stamp",
};

static fault seeded;

/* Over all executions: did it happen at all? Nothing depends on these. */
static unsigned long recycled, held_up, found_offline, old_looks, newest;

enum {
	READERS = 2,
	WRITER = READERS,
	POLLER,
	THREADS,
	SECTIONS = 3, /* of each reader */
	VERSIONS = 4,
	NESTING = 15, /* ONE_WORD: how many are open; above it, how many have begun */
	SECTION = 16,
};

/* `$` is the place in the source, for reports. */
struct protocol : rl::test_suite<protocol, THREADS> {
	struct cpu {
		rl::atomic<int> begun, ended, online;
		rl::var<int> awaited; /* the poller's */
	} cpus[READERS];
	rl::var<int> box[2][2]; /* a version, twice */
	rl::atomic<int> root;   /* the box */
	rl::atomic<int> started, elapsed, requested, polling;
	rl::atomic<int> done;

	void before()
	{
		for (int i = 0; i < READERS; i++) {
			cpus[i].begun($).store(0, rl::mo_relaxed);
			cpus[i].ended($).store(0, rl::mo_relaxed);
			cpus[i].online($).store(0, rl::mo_relaxed);
			cpus[i].awaited($) = 0;
		}
		box[0][0]($) = box[0][1]($) = 0;
		root($).store(0, rl::mo_relaxed);
		started($).store(1, rl::mo_relaxed);
		elapsed($).store(1, rl::mo_relaxed);
		requested($).store(1, rl::mo_relaxed);
		polling($).store(0, rl::mo_relaxed);
		done($).store(0, rl::mo_relaxed);
		newest = 0;
	}

	/* ---- Readers ---------------------------------------------------------- */

	void lock(cpu &c)
	{
		if (!c.online($).load(rl::mo_relaxed)) {
			if (seeded == PLAIN_ONLINE)
				c.online($).store(1, rl::mo_release);
			else
				c.online($).exchange(1, rl::mo_acq_rel);
		}
		if (seeded == ONE_WORD)
			c.begun($).fetch_add(SECTION + 1, rl::mo_acq_rel);
		else
			c.begun($).fetch_add(1, seeded == RELAXED_BEGIN ? rl::mo_relaxed
									: rl::mo_acquire);
	}

	void unlock(cpu &c)
	{
		if (seeded == ONE_WORD)
			c.begun($).store(c.begun($).load(rl::mo_relaxed) - 1, rl::mo_release);
		else
			c.ended($).store(c.ended($).load(rl::mo_relaxed) + 1,
					 seeded == RELAXED_END ? rl::mo_relaxed : rl::mo_release);
	}

	void read(cpu &c)
	{
		int seen = 0;

		for (int i = 0; i < SECTIONS; i++) {
			int at, version;

			lock(c);
			at = root($).load(rl::mo_acquire);
			version = box[at][0]($);
			RL_ASSERT(box[at][1]($) == version && version >= seen);
			old_looks += (unsigned long)version < newest;
			seen = version;
			unlock(c);
			if (rl::rand(3) == 0)
				c.online($).exchange(0, seeded == RELAXED_OFFLINE ? rl::mo_acquire
										  : rl::mo_acq_rel);
		}
	}

	/* ---- The poller --------------------------------------------------------- */

	bool is_offline(cpu &c)
	{
		int offline = 0;

		if (seeded == PLAIN_FLAG)
			return !c.online($).load(rl::mo_acquire);
		return c.online($).compare_exchange_strong(offline, 0, rl::mo_acq_rel,
							   rl::mo_acquire);
	}

	void visit(cpu &c)
	{
		if (is_offline(c)) {
			c.awaited($) = 0;
			found_offline++;
		} else if (seeded == PLAIN_VISIT) {
			c.awaited($) = c.begun($).load(rl::mo_acquire);
		} else if (seeded == ONE_WORD) {
			int sections = c.begun($).fetch_add(0, rl::mo_acq_rel);

			c.awaited($) = sections & NESTING ? sections : 0;
		} else {
			c.awaited($) = c.begun($).fetch_add(
				0, seeded == RELAXED_VISIT ? rl::mo_relaxed : rl::mo_release);
		}
	}

	bool holds_up(cpu &c)
	{
		int awaited = c.awaited($);

		if (seeded == NO_LOOK)
			return false;
		if (seeded == ONE_WORD) {
			int sections;

			if (!awaited)
				return false;
			sections = c.begun($).fetch_add(0, rl::mo_acq_rel);
			return (sections & NESTING) && sections / SECTION == awaited / SECTION;
		}
		return c.ended($).load(seeded == RELAXED_LOOK ? rl::mo_relaxed : rl::mo_acquire) <
		       awaited;
	}

	bool step()
	{
		int begun = started($).load(rl::mo_relaxed);
		int over = elapsed($).load(rl::mo_relaxed);

		if (begun == over) {
			if (requested($).load(rl::mo_acquire) <= over)
				return false;
			begun = started($).fetch_add(1, rl::mo_acq_rel) + 1;
			for (int i = 0; i < READERS; i++)
				visit(cpus[i]);
		}
		for (int i = 0; i < READERS; i++) {
			if (holds_up(cpus[i])) {
				held_up++;
				return false;
			}
		}
		elapsed($).store(begun,
				 seeded == RELAXED_ELAPSED ? rl::mo_relaxed : rl::mo_release);
		return true;
	}

	void advance()
	{
		if (polling($).exchange(1, rl::mo_acquire))
			return;
		while (step())
			;
		polling($).store(0, seeded == RELAXED_POLLING ? rl::mo_relaxed : rl::mo_release);
	}

	/* ---- The writer --------------------------------------------------------- */

	void write()
	{
		for (int version = 1; version <= VERSIONS; version++) {
			int at = version % 2, stamp;

			/* What the grace period was for: the box was the root's before. */
			box[at][0]($) = version;
			box[at][1]($) = version;
			newest++;
			root($).store(at, rl::mo_release);
			stamp = started($).fetch_add(0, rl::mo_acq_rel) + (seeded != STALE_STAMP);
			/* As raise_to() does it, alone. */
			requested($).exchange(stamp, rl::mo_acq_rel);
			while (elapsed($).load(rl::mo_acquire) < stamp) {
				advance();
				rl::yield(1, $);
			}
			recycled++;
		}
		done($).store(1, rl::mo_release);
	}

	void poll()
	{
		while (!done($).load(rl::mo_acquire)) {
			advance();
			rl::yield(1, $);
		}
	}

	void thread(unsigned index)
	{
		if (index < READERS)
			read(cpus[index]);
		else if (index == WRITER)
			write();
		else
			poll();
	}
};

int main(int argc, char **argv)
{
	rl::test_params params;
	bool fine;

	if (argc != 3) {
		fputs("usage: bare FAULT ITERATIONS\n", stderr);
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
	params.output_stream = params.progress_stream = &std::cerr;
	fine = rl::simulate<protocol>(params);
	if (fine)
		printf("%s: no error in %llu executions; %lu grace periods waited for, %lu looks "
		       "found "
		       "one held up, %lu a CPU offline, %lu sections read an old version\n",
		       argv[1], (unsigned long long)params.stop_iteration, recycled, held_up,
		       found_offline, old_looks);
	else
		printf("%s: %s, in execution %llu\n", argv[1],
		       rl::test_result_str(params.test_result),
		       (unsigned long long)params.stop_iteration);
	return !fine || (seeded == NONE && (!held_up || !found_offline || !old_looks));
}
