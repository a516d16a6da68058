/* SPDX-License-Identifier: MIT */
/*
 * The workloads, and main(): one source for this library and for everything that it is
 * measured beside. A peer defines the functions below for itself, inlined, and then
 * includes this file; it is C and C++.
 *
 *   PEER_NAME                       a string
 *   struct peer
 *   peer_make(), peer_free(p)
 *   peer_find(p, address, &area)    under the peer's read lock; copies the whole area
 *   peer_build(p, areas, n)         PEER_STATIC: all at once, ascending, never changed
 *
 * and unless PEER_STATIC, each under the peer's write lock:
 *   peer_insert(p, &area), peer_remove(p, &area)
 *   peer_protect(p, lo, hi, flags)  of a part of one area, or back
 *   peer_batch(p, areas, n, insert) n neighbours under one lock, as one transaction
 *   peer_gap(p, size, hint)         the lowest free place at or above hint; 0: none
 *                                   PEER_GAPS: it is quick at that
 *   peer_iterate(p, &count)         the sum of all sizes
 *   peer_bytes(p)                   memory in use
 *   peer_snapshot(p)                PEER_SNAPSHOT: take one and release it
 *   peer_pin(p, areas, n)           and n of them, each after an update of one area;
 *   peer_unpin(p)                   release every second one, the newest first, and reclaim what
 *                                   only they held; how many are left
 *   peer_unpin_all(p)               the rest
 *   peer_fill(p, n)                 PEER_TRIM: make free memory of n areas, beside those there;
 *   peer_trim(p)                    give it back; how many bytes are left
 *   peer_section(p)                 PEER_SECTION: an empty read section
 *   peer_find_many(p, address, n, areas)
 *                                   PEER_FIND_MANY: n lookups at once; how many were found
 *   peer_option(name)               PEER_OPTIONS, a text for --help: --with NAME; false: unknown
 *
 * Every workload is a function of its own that is not inlined: where a compiler merges two
 * loops with a conditional move, independent lookups become a chain.
 *
 * Every answer is added up, and the sum compared with the one that is right.
 */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif
#ifdef __cplusplus
#include <atomic>
#define atomic_both(type) std::atomic<type>
#else
#include <stdatomic.h>
#define atomic_both(type) _Atomic(type)
#endif

#define BASE UINT64_C(0x10000000000)
#define PAGE 4096

/* Lookups in one timed batch: enough to hide the clock. */
#define QUERIES (1u << 16)

static struct {
	struct peer *peer;
	struct area *area; /* ascending; the last one has a gap of 17 pages below it */
	uint32_t *order;   /* a random permutation */
	uint64_t *query;   /* QUERIES addresses ... */
	uint32_t *holder;  /* ... and which areas hold them */
	size_t count;
	unsigned cpu[2];
	double seconds; /* at least, for each figure */
	bool wrong, inject;
	uint64_t random;
} bench;

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014 */
static inline uint64_t draw(void)
{
	uint64_t z = bench.random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fprintf(stderr, PEER_NAME ": not pinned to CPU %u\n", cpu);
}

static void expect(uint64_t got, uint64_t want, const char *what)
{
	if (bench.inject) {
		got++;
		bench.inject = false;
	}
	if (got == want)
		return;
	fprintf(stderr, PEER_NAME ": %s: wrong answers (%llx, not %llx)\n", what,
		(unsigned long long)got, (unsigned long long)want);
	bench.wrong = true;
}

static void *get(size_t count, size_t size)
{
	void *block = calloc(count, size);

	if (!block) {
		perror(PEER_NAME);
		exit(2);
	}
	return block;
}

/* Areas of 1 to 16 pages, gaps of 1 to 16. */
static void draw_areas(void)
{
	uint64_t at = BASE;
	size_t n = bench.count;

	bench.area = (struct area *)get(n, sizeof(*bench.area));
	bench.order = (uint32_t *)get(n, sizeof(*bench.order));
	bench.query = (uint64_t *)get(QUERIES, sizeof(*bench.query));
	bench.holder = (uint32_t *)get(QUERIES, sizeof(*bench.holder));
	for (size_t i = 0; i < n; i++) {
		if (i + 1 == n)
			at += 17 * PAGE - (at - bench.area[i - 1].end);
		bench.area[i].start = at;
		bench.area[i].end = at += PAGE * (1 + draw() % 16);
		bench.area[i].flags = 3;
		at += PAGE * (1 + draw() % 16);
		bench.order[i] = (uint32_t)i;
	}
	for (size_t i = n; i > 1; i--) {
		size_t j = draw() % i;
		uint32_t other = bench.order[j];

		bench.order[j] = bench.order[i - 1];
		bench.order[i - 1] = other;
	}
	for (size_t i = 0; i < QUERIES; i++) {
		size_t k = draw() % n;
		const struct area *area = &bench.area[k];

		bench.holder[i] = (uint32_t)k;
		bench.query[i] = area->start + draw() % (area->end - area->start);
	}
}

static void fill(bool ascending)
{
	bench.peer = peer_make();
#ifdef PEER_STATIC
	(void)ascending;
	peer_build(bench.peer, bench.area, bench.count);
#else
	for (size_t i = 0; i < bench.count; i++)
		peer_insert(bench.peer, &bench.area[ascending ? i : bench.order[i]]);
#endif
}

/* ---- Results -------------------------------------------------------------- */

static bool any_result;

static void result(const char *name, double value)
{
	printf("%s\"%s\": %.4g", any_result ? ", " : "", name, value);
	any_result = true;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

#define BATCHES_MAX 4096

/* Repeats a batch for bench.seconds; nanoseconds for each of its `count` steps, from the
 * median batch: whatever else the machine does now and then is not in it. The first batch
 * warms up. */
static double repeat(void (*batch)(void), double count)
{
	static double took[BATCHES_MAX];
	double begin, end;
	size_t batches = 0;

	batch();
	end = begin = now();
	do {
		double then = end;

		batch();
		end = now();
		took[batches++] = end - then;
	} while (end - begin < bench.seconds * 1e9 && batches < BATCHES_MAX);
	qsort(took, batches, sizeof(*took), compare_doubles);
	return took[batches / 2] / count;
}

/* ---- Lookups -------------------------------------------------------------- */

static uint64_t right_sum;

static __attribute__((noinline)) uint64_t random_sum(void)
{
	struct peer *peer = bench.peer;
	struct area area;
	uint64_t sum = 0;

	for (size_t i = 0; i < QUERIES; i++) {
		if (peer_find(peer, bench.query[i], &area))
			sum += area.end ^ area.flags;
	}
	return sum;
}

static __attribute__((noinline)) void random_batch(void)
{
	expect(random_sum(), right_sum, "random lookups");
}

static void set_right_sum(void)
{
	right_sum = 0;
	for (size_t i = 0; i < QUERIES; i++)
		right_sum += bench.area[bench.holder[i]].end ^ 3;
}

static void run_random(void)
{
	set_right_sum();
	result("ns", repeat(random_batch, QUERIES));
}

/* Two threads: each says how many batches it did while both were running. */
static atomic_both(int) ready;
static double thread_rate[2];

static void *lookup_thread(void *arg)
{
	size_t me = (size_t)arg;
	double begin, end, batches = 0;

	pin(bench.cpu[me]);
	if (random_sum() != right_sum)
		bench.wrong = true;
	ready++;
	while (ready < 2)
		;
	begin = now();
	do {
		if (random_sum() != right_sum)
			bench.wrong = true;
		batches++;
		end = now();
	} while (end - begin < bench.seconds * 1e9);
	thread_rate[me] = batches * QUERIES / (end - begin);
	return NULL;
}

static void run_random2(void)
{
	pthread_t thread[2];

	set_right_sum();
	for (size_t i = 0; i < 2; i++)
		pthread_create(&thread[i], NULL, lookup_thread, (void *)i);
	for (size_t i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	expect(bench.wrong, false, "two threads");
	/* Nanoseconds for each lookup of the process. */
	result("ns", 1 / (thread_rate[0] + thread_rate[1]));
}

/* The next address depends on the answer before: half of them fall into gaps. */
static inline uint64_t next_address(uint64_t start, uint64_t step)
{
	uint64_t span = bench.area[bench.count - 1].end - BASE;
	uint64_t mixed = (start ^ step) * UINT64_C(0x9e3779b97f4a7c15);

	return BASE + (uint64_t)((unsigned __int128)mixed * span >> 64);
}

static uint64_t right_end;

static __attribute__((noinline)) void dependent_batch(void)
{
	struct area area;

	area.start = 0;
	for (size_t i = 0; i < QUERIES; i++)
		peer_find(bench.peer, next_address(area.start, i), &area);
	expect(area.start, right_end, "dependent lookups");
}

/* The same by bisection of the areas themselves. */
static uint64_t dependent_end(void)
{
	uint64_t start = 0;

	for (size_t i = 0; i < QUERIES; i++) {
		uint64_t address = next_address(start, i);
		size_t low = 0, high = bench.count;

		while (high - low > 1) {
			size_t middle = low + (high - low) / 2;

			if (bench.area[middle].start <= address)
				low = middle;
			else
				high = middle;
		}
		if (address < bench.area[low].end)
			start = bench.area[low].start;
	}
	return start;
}

static void run_dependent(void)
{
	right_end = dependent_end();
	result("ns", repeat(dependent_batch, QUERIES));
}

static __attribute__((noinline)) void local_batch(void)
{
	uint64_t sum = 0, right = 0;
	struct area area;

	for (size_t i = 0; i < QUERIES / 64; i++) {
		uint64_t address = bench.query[i];

		for (size_t k = 0; k < 64; k++) {
			if (peer_find(bench.peer, address ^ (k << 3), &area))
				sum += area.end;
		}
		right += 64 * bench.area[bench.holder[i]].end;
	}
	expect(sum, right, "local lookups");
}

static void run_local(void)
{
	result("ns", repeat(local_batch, QUERIES));
}

#ifdef PEER_FIND_MANY
static __attribute__((noinline)) void many_batch(void)
{
	static struct area area[64];
	uint64_t sum = 0;

	for (size_t i = 0; i < QUERIES; i += 64) {
		peer_find_many(bench.peer, &bench.query[i], 64, area);
		for (size_t k = 0; k < 64; k++)
			sum += area[k].end ^ area[k].flags;
	}
	expect(sum, right_sum, "many lookups at once");
}

static void run_many(void)
{
	set_right_sum();
	result("ns", repeat(many_batch, QUERIES));
}
#endif

#ifdef PEER_SECTION
static __attribute__((noinline)) void section_batch(void)
{
	for (size_t i = 0; i < QUERIES; i++)
		peer_section(bench.peer);
}

static void run_section(void)
{
	result("ns", repeat(section_batch, QUERIES));
}
#endif

#ifndef PEER_STATIC

/* ---- Updates -------------------------------------------------------------- */

#define UPDATES 4096u

static size_t turn;

static void some_updates(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct area *area = &bench.area[bench.holder[turn++ % QUERIES]];

		peer_remove(bench.peer, area);
		peer_insert(bench.peer, area);
	}
}

static __attribute__((noinline)) void update_batch(void)
{
	some_updates(UPDATES);
}

/* Afterwards everything is where it was. */
static void expect_all(const char *what)
{
	set_right_sum();
	expect(random_sum(), right_sum, what);
}

static void run_update(void)
{
	result("ns", repeat(update_batch, 2 * UPDATES));
	expect_all("after updates");
}

static __attribute__((noinline)) void protect_batch(void)
{
	for (size_t i = 0; i < UPDATES; i++) {
		const struct area *area = &bench.area[bench.holder[turn++ % QUERIES]];
		uint64_t third = (area->end - area->start) / PAGE / 3 * PAGE;

		peer_protect(bench.peer, area->start + third, area->end - third, 1);
		peer_protect(bench.peer, area->start + third, area->end - third, 3);
	}
}

static void run_protect(void)
{
	result("ns", repeat(protect_batch, 2 * UPDATES));
	expect_all("after protects");
}

static size_t batch_size;

static __attribute__((noinline)) void transaction_batch(void)
{
	for (size_t done = 0; done < UPDATES; done += 2 * batch_size) {
		size_t from = bench.holder[turn++ % QUERIES];

		if (from + batch_size > bench.count)
			from = bench.count - batch_size;
		peer_batch(bench.peer, &bench.area[from], batch_size, false);
		peer_batch(bench.peer, &bench.area[from], batch_size, true);
	}
}

static void run_transaction(size_t size)
{
	batch_size = size;
	result("ns", repeat(transaction_batch, UPDATES));
	expect_all("after transactions");
}

static void run_transaction8(void)
{
	run_transaction(8);
}

static void run_transaction64(void)
{
	run_transaction(64);
}

/* ---- Lookups beside a writer ---------------------------------------------- */

/* Updates a second that the writer keeps to, where it can. */
#define STEADY 3e6

static atomic_both(unsigned long) updates;
static atomic_both(int) stop;

static void *writer_thread(void *arg)
{
	double next;

	pin(bench.cpu[1]);
	ready++;
	for (next = now(); !stop; next += 128e9 / STEADY) {
		double late = now() - next;

		if (late > 1e7) /* what has been missed is not made up for */
			next += late;
		some_updates(64);
		updates += 128;
		while (!stop && now() < next)
			;
	}
	return arg;
}

static uint64_t ticks(void)
{
#if defined(__x86_64__)
	return __rdtsc();
#else
	return (uint64_t)now();
#endif
}

static int compare_ticks(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Behind a lock that starves readers a lookup takes as long as a thousand elsewhere: batches
 * are small, and so may the sample be. */
#define BESIDE  1024u
#define SAMPLES (1u << 20)

/* An area that is being replaced may be missing: only answers that contradict count. */
static __attribute__((noinline)) void beside_batch(void)
{
	static size_t at;
	struct area area;

	for (size_t i = 0; i < BESIDE; i++, at++) {
		if (peer_find(bench.peer, bench.query[at % QUERIES], &area) &&
		    area.end != bench.area[bench.holder[at % QUERIES]].end)
			bench.wrong = true;
	}
}

/* The mean of all lookups, not of the median batch: it is the disturbed ones that matter. */
static void measure_mean_beside(void)
{
	unsigned long done;
	double begin, end, count = 0;

	beside_batch();
	begin = now();
	done = updates;
	do {
		beside_batch();
		count += BESIDE;
		end = now();
	} while (end - begin < bench.seconds * 1e9);
	done = updates - done;
	result("ns", (end - begin) / count);
	result("updates_per_s", (double)done * 1e9 / (end - begin));
}

/* Each lookup by itself, in ticks, ascending; nanoseconds a tick. */
static size_t sample_beside(uint32_t *sample, double *tick)
{
	uint64_t first, overhead = UINT64_MAX;
	double begin, limit;
	struct area area;
	size_t count = 0;

	for (size_t i = 0; i < 1000; i++) {
		uint64_t t = ticks();

		t = ticks() - t;
		overhead = t < overhead ? t : overhead;
	}
	begin = now();
	limit = begin + 25e9 * bench.seconds;
	first = ticks();
	while (count < SAMPLES && (count % 256 || now() < limit)) {
		uint64_t t = ticks();

		peer_find(bench.peer, bench.query[count % QUERIES], &area);
		t = ticks() - t;
		t = t > overhead ? t - overhead : 0;
		sample[count++] = t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
	}
	*tick = (now() - begin) / (double)(ticks() - first);
	qsort(sample, count, sizeof(*sample), compare_ticks);
	return count;
}

static void run_beside(void)
{
	uint32_t *sample = (uint32_t *)get(SAMPLES, sizeof(*sample));
	pthread_t thread;
	size_t count;
	double tick;

	pthread_create(&thread, NULL, writer_thread, NULL);
	while (!ready)
		;
	measure_mean_beside();
	count = sample_beside(sample, &tick);
	stop = 1;
	pthread_join(thread, NULL);
	result("p50", sample[count / 2] * tick);
	result("p99", sample[count * 99 / 100] * tick);
	result("p99.9", sample[count * 999 / 1000] * tick);
	result("max", sample[count - 1] * tick);
	free(sample);
	expect(bench.wrong, false, "beside a writer");
	expect_all("after the writer");
}

/* ---- The rest ------------------------------------------------------------- */

/* From some nanoseconds to many milliseconds. */
#ifdef PEER_GAPS
#define GAP_CALLS 1024u
#else
#define GAP_CALLS 1u
#endif

static __attribute__((noinline)) void lowest_gap_batch(void)
{
	uint64_t want = bench.area[bench.count - 1].start - 17 * PAGE;

	for (size_t i = 0; i < GAP_CALLS; i++)
		expect(peer_gap(bench.peer, 17 * PAGE, BASE), want, "lowest gap");
}

static void run_lowest_gap(void)
{
	result("ns", repeat(lowest_gap_batch, GAP_CALLS));
}

static __attribute__((noinline)) void hinted_gap_batch(void)
{
	uint64_t sum = 0, right = 0;

	for (size_t i = 0; i < UPDATES; i++)
		sum += peer_gap(bench.peer, PAGE, bench.query[i] & ~(uint64_t)(PAGE - 1));
	for (size_t i = 0; i < UPDATES; i++)
		right += bench.area[bench.holder[i]].end;
	expect(sum, right, "gap from a hint");
}

static void run_hinted_gap(void)
{
	result("ns", repeat(hinted_gap_batch, UPDATES));
}

static __attribute__((noinline)) void iterate_batch(void)
{
	uint64_t right = 0, sum;
	size_t count = 0;

	sum = peer_iterate(bench.peer, &count);
	for (size_t i = 0; i < bench.count; i++)
		right += bench.area[i].end - bench.area[i].start;
	expect(sum, right, "iteration");
	expect(count, bench.count, "iteration");
}

static void run_iterate(void)
{
	result("ns", repeat(iterate_batch, (double)bench.count));
}

#ifdef PEER_SNAPSHOT
static __attribute__((noinline)) void snapshot_batch(void)
{
	for (size_t i = 0; i < UPDATES; i++)
		peer_snapshot(bench.peer);
}

static void run_snapshot(void)
{
	result("ns", repeat(snapshot_batch, UPDATES));
}
#endif

#ifdef PEER_SNAPSHOT
static __attribute__((noinline)) void unpin_batch(void)
{
	expect(peer_unpin(bench.peer), bench.count / 2, "releases");
}

/* Of as many snapshots as there are areas. What is timed is the release alone: so once. */
static void run_releases(void)
{
	double begin, spent = 0;

	for (unsigned i = 0; i < 2; i++) { /* the first time is for warming up */
		peer_pin(bench.peer, bench.area, bench.count);
		begin = now();
		unpin_batch();
		spent = now() - begin;
		peer_unpin_all(bench.peer);
	}
	expect_all("releases");
	result("ns", spent / (double)(bench.count - bench.count / 2));
}
#endif

#ifdef PEER_TRIM
static __attribute__((noinline)) void trim_batch(void)
{
	expect(peer_trim(bench.peer), true, "trim");
}

static void run_trim(void)
{
	double begin, spent = 0;

	for (unsigned i = 0; i < 2; i++) {
		peer_fill(bench.peer, bench.count);
		begin = now();
		trim_batch();
		spent = now() - begin;
	}
	expect_all("trim");
	result("ns", spent / (double)bench.count);
}
#endif

static void run_bytes(void)
{
	result("bytes", (double)peer_bytes(bench.peer) / (double)bench.count);
	expect_all("bytes");
}

#endif

/* ---- main ----------------------------------------------------------------- */

static const struct workload {
	const char *name;
	void (*run)(void);
	bool ascending;
	const char *what;
} workloads[] = {
	{"random", run_random, false, "independent lookups of random addresses"},
	{"random2", run_random2, false, "the same in two threads, a core each"},
	{"dependent", run_dependent, false, "each address depends on the answer before"},
	{"local", run_local, false, "64 lookups in a row in one area"},
#ifdef PEER_FIND_MANY
	{"many", run_many, false, "independent lookups, 64 in one call"},
#endif
#ifdef PEER_SECTION
	{"section", run_section, false, "an empty read section"},
#endif
#ifndef PEER_STATIC
	{"update", run_update, false, "unmap and map of random areas"},
	{"protect", run_protect, false, "of the middle third of an area, and back"},
	{"transaction8", run_transaction8, false, "8 neighbours unmapped at once, then mapped"},
	{"transaction64", run_transaction64, false, "64 of them"},
	{"beside", run_beside, false, "lookups while another thread updates"},
	{"lowest-gap", run_lowest_gap, false, "of 17 pages, before the last area only"},
	{"hinted-gap", run_hinted_gap, false, "of one page, above a random address"},
	{"iterate", run_iterate, false, "over all areas, for each of them"},
#ifdef PEER_SNAPSHOT
	{"snapshot", run_snapshot, false, "take one, release it"},
	{"releases", run_releases, false, "of every second of as many snapshots as areas"},
#endif
#ifdef PEER_TRIM
	{"trim", run_trim, false, "memory of as many areas given back, for each of them"},
#endif
	{"bytes-random", run_bytes, false, "memory an area, inserted in random order"},
	{"bytes-ascending", run_bytes, true, "the same in ascending order"},
#endif
};

#define WORKLOADS (sizeof(workloads) / sizeof(workloads[0]))

static void usage(FILE *to)
{
	fputs("usage: bench-" PEER_NAME " [OPTION...] WORKLOAD\n"
	      "\n"
	      "Runs one workload once and prints its figures as a line of JSON.\n"
	      "stress/bench/run interleaves all programs and makes tables of it.\n"
	      "\n"
	      "  --areas N       how many areas (1000; at least 64)\n"
	      "  --seconds S     how long each figure is measured at least (0.2)\n"
	      "  --cpus A,B      which CPUs the threads are pinned to (0,1)\n"
	      "  --seed N        of areas and addresses (1)\n"
#ifdef PEER_OPTIONS
	      "  --with NAME     " PEER_OPTIONS "\n"
#endif
	      "  --inject-mismatch   make one answer wrong, to see that it is found\n"
	      "  --help\n"
	      "\n"
	      "Exit: 0, 1 if an answer was wrong, 2 if the arguments were.\n"
	      "\n"
	      "Workloads of this program:\n",
	      to);
	for (size_t i = 0; i < WORKLOADS; i++)
		fprintf(to, "  %-16s %s\n", workloads[i].name, workloads[i].what);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"areas", required_argument, NULL, 'n'},
		{"seconds", required_argument, NULL, 's'},
		{"cpus", required_argument, NULL, 'c'},
		{"seed", required_argument, NULL, 'r'},
		{"with", required_argument, NULL, 'w'},
		{"inject-mismatch", no_argument, NULL, 'i'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const struct workload *workload = NULL;
	unsigned long long seed = 1;
	int option;

	bench.count = 1000;
	bench.seconds = 0.2;
	bench.cpu[1] = 1;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			bench.count = strtoul(optarg, NULL, 0);
			break;
		case 's':
			bench.seconds = strtod(optarg, NULL);
			break;
		case 'c':
			if (sscanf(optarg, "%u,%u", &bench.cpu[0], &bench.cpu[1]) != 2)
				bench.count = 0;
			break;
		case 'r':
			seed = strtoull(optarg, NULL, 0);
			break;
		case 'w':
#ifdef PEER_OPTIONS
			if (peer_option(optarg))
				break;
#endif
			bench.count = 0;
			break;
		case 'i':
			bench.inject = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			bench.count = 0;
		}
	}
	for (size_t i = 0; optind + 1 == argc && i < WORKLOADS; i++) {
		if (!strcmp(workloads[i].name, argv[optind]))
			workload = &workloads[i];
	}
	if (!workload || bench.count < 64 || bench.count > UINT32_MAX) {
		usage(stderr);
		return 2;
	}

	bench.random = seed;
	draw_areas();
	fill(workload->ascending);
	/* Not before: threads that the peer has made may run where they like. */
	pin(bench.cpu[0]);
	printf("{\"peer\": \"" PEER_NAME
	       "\", \"workload\": \"%s\", \"areas\": %zu, \"seed\": %llu, ",
	       workload->name, bench.count, seed);
	workload->run();
	printf("}\n");
	peer_free(bench.peer);
	free(bench.area);
	free(bench.order);
	free(bench.query);
	free(bench.holder);
	return bench.wrong ? 1 : 0;
}

#endif
