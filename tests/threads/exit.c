/* SPDX-License-Identifier: MIT */
/*
 * Threads and processes that end without a word, while others read and write and grace
 * periods are pending: nothing has to be unregistered, and nothing hangs.
 *
 * The processes are children of one that has not used the library, so that they may do what
 * they like, under sanitizers too.
 */
#include <signal.h>
#include <sys/wait.h>

#include "../child.h"
#include "flip.h"

static uint64_t seed;
static struct flip flip;

/* How a child ends. */
enum end {
	END_EXIT,        /* exit(), its other threads at work */
	END_THREAD_EXIT, /* the same from another thread */
	END_QUICK,       /* _exit() */
	END_MAIN,        /* the main thread first, the others after it */
	END_DESTROYED,   /* in order, but for the helper's last grace period */
	ENDS,
};

static const char *const names[ENDS] = {
	"exit", "exit by another thread", "_exit", "the main thread ends first", "destroyed",
};

/* flip_writer() does not stop before it has done what it is to do. */
static void *writer(void *unused)
{
	struct dice dice = {seed};

	(void)unused;
	while (!relaxed_load(&flip.traffic.stop))
		flip_update(&flip, (unsigned)roll_below(&dice, FLIP_SLOTS));
	return NULL;
}

static void *exiting_thread(void *unused)
{
	(void)unused;
	exit(0);
}

/* Waits for the others: the process ends with its last thread. */
static void *last_thread(void *arg)
{
	pthread_t *threads = arg;

	relaxed_store(&flip.traffic.stop, true);
	for (int i = 0; i < 2; i++)
		join(threads[i]);
	end_space(flip.space);
#if SANITIZED_THREAD
	exit(0); /* it has a thread of its own, which would be the last */
#endif
	return NULL;
}

static void start_space(void)
{
	flip = (struct flip){
		.space = make_space(&(struct aspace_options){.stall_ms = 1}),
		.writers = 1,
		.seed = seed,
	};
	for (unsigned slot = 0; slot < 32; slot++)
		flip_update(&flip, slot);
}

/* Never returns. Threads are detached or left behind on purpose. */
__attribute__((noreturn)) static void live_and_end(enum end end)
{
	static pthread_t threads[2]; /* not on a stack that ends */

	end_if_hung();
	start_space();
	threads[0] = spawn(flip_reader, &flip);
	threads[1] = spawn(writer, NULL);
	until(relaxed_load(&flip.hits) >= 20);
	switch (end) {
	case END_EXIT:
		exit(0);
	case END_THREAD_EXIT:
		join(spawn(exiting_thread, NULL));
		break;
	case END_QUICK:
		_exit(0);
	case END_MAIN:
		spawn(last_thread, threads);
		pthread_exit(NULL);
	default:
		relaxed_store(&flip.traffic.stop, true);
		join(threads[0]);
		join(threads[1]);
		end_space(flip.space);
		break;
	}
	exit(end == END_THREAD_EXIT); /* not reached there */
}

static void test_processes(long rounds)
{
	for (long i = 0; i < rounds; i++) {
		enum end end = (enum end)(i % ENDS);
		int status;
		pid_t pid;

		fflush(stdout);
		seed++;
		pid = fork();
		check(pid >= 0);
		if (!pid)
			live_and_end(end);
		check(waitpid(pid, &status, 0) == pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			fail("%s: the child ended with %#x", names[end], (unsigned)status);
	}
	printf("%ld processes ended in %d ways\n", rounds, ENDS);
}

/* ---- Threads ------------------------------------------------------------------ */

static _Atomic uint64_t ended_inside;

/* Looks up and updates, then ends: returns, or is cancelled at a point of its own. */
static void *brief_thread(void *arg)
{
	struct dice dice = {(uintptr_t)arg};
	uint32_t seen[FLIP_SLOTS] = {0};

	flip_read(&flip, &dice, seen);
	flip_update(&flip, (unsigned)(uintptr_t)arg % FLIP_SLOTS);
	if ((uintptr_t)arg & 1)
		return NULL;
	relaxed_add(&ended_inside, 1);
	for (;;)
		pause(); /* until it is cancelled */
}

static void test_threads(long rounds)
{
	struct aspace_stats stats;

	start_space();
	for (long i = 0; i < rounds; i++) {
		uint64_t before = relaxed_load(&ended_inside);
		pthread_t thread = spawn(brief_thread, (void *)(uintptr_t)i);

		if (!(i & 1)) {
			until(relaxed_load(&ended_inside) > before);
			check(!pthread_cancel(thread));
		}
		join(thread);
	}
	/* Grace periods do not wait for those that are gone. */
	check_ok(aspace_quiesce(flip.space, 0));
	stats = stats_of(flip.space);
	check(stats.bytes_retired == 0);
	end_space(flip.space);
	printf("%ld threads ended, %llu by cancellation\n", rounds,
	       (unsigned long long)ended_inside);
}

int main(int argc, char **argv)
{
	/* The second argument: rounds of each. */
	long rounds = argc > 2 ? strtol(argv[2], NULL, 0) : 0;

	if (getenv("ASPACE_EMULATED")) {
		printf("skipped: qemu-user does not survive processes that end beside threads\n");
		return 77;
	}
	seed = seed_from(argc, argv);
	/* First: these must be children of a process without threads. */
	test_processes(rounds ? rounds : scaled(scaled(200)));
	test_threads(rounds ? rounds : scaled(2000));
	return 0;
}
