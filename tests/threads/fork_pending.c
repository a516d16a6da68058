/* SPDX-License-Identifier: MIT */
/*
 * Forks while areas are pending: a protect that takes something away has been published, and its
 * backend not yet asked. Parent and child each do it, once, each in its own memory; so they do what is leaving
 * beside it. What the backend holds, contents, references and what is told of refusals are asked of both.
 *
 * Nothing is done before the fork, because the helper is inside a callback of another space, and because
 * all was deferred by one transaction, the last operation before it. In one case out of two a fault is at work in
 * each of two areas when they come due: then it is postponed, and in the child, where no such fault is, it is due.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include <aspace/backend/host.h>

#include "../child.h"
#include "crew.h"
#include "space/space.h"

CREW_FORKS

enum {
	R = 1,
	RW = 3,
	PAGES = 16,
	LESS = 1, /* loses writing */
	NOTHING,  /* loses all, its contents too */
	REFUSED,  /* what is pending there is refused in the child */
	GONE,     /* leaves */
	FAULTED,  /* pending, with a fault at work */
	FAULTED_GONE,
	WHOLE,   /* stays as it is */
	MERGING, /* this and the next become equal: pending, then one */
};

static struct aspace *slow, *space, *real;
static struct aspace_host *host;
static _Atomic bool helper_is_in, helper_may_go, faults_may_go;
static _Atomic int faults_in, told;
static _Atomic bool refuses;

/* What the backend holds; each process has its own. */
static struct {
	_Atomic uint64_t flags;
	_Atomic bool mapped, filled;
	_Atomic uint32_t protects, unmaps, released;
	_Atomic uint32_t cloned;      /* of the object whose count is here, too */
	_Atomic uint64_t fault_flags; /* of the area that the last fault was handed on with */
} book[PAGES];

static struct aspace_range pages(uint64_t from, uint64_t count)
{
	return aspace_range_of((from + 1) * 0x1000, (from + count + 1) * 0x1000);
}

static struct aspace_range page(uint64_t number)
{
	return pages(number, 1);
}

/* ---- Backends --------------------------------------------------------------------- */

static unsigned first_page(struct aspace_range range)
{
	return (unsigned)(range.start.value / 0x1000 - 1);
}

static unsigned last_page(struct aspace_range range)
{
	return (unsigned)(range.end.value / 0x1000 - 1);
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *change)
{
	bool protects = change->kind == ASPACE_CHANGE_PROTECT;

	(void)backend;
	if (protects && refuses && first_page(change->range) == REFUSED)
		return ASPACE_NO_MEMORY;
	for (unsigned i = first_page(change->range); i < last_page(change->range); i++) {
		bool maps = change->kind == ASPACE_CHANGE_MAP;

		check(book[i].mapped == !maps);
		check(maps || book[i].flags == change->old_flags);
		book[i].mapped = maps || protects;
		book[i].flags = change->new_flags;
		book[i].filled = maps || (protects && book[i].filled && change->new_flags);
		book[i].protects += protects;
		book[i].unmaps += change->kind == ASPACE_CHANGE_UNMAP;
	}
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	unsigned at = first_page(aspace_range_of(address.value, address.value + 1));

	(void)backend;
	(void)access;
	check(book[at].mapped && book[at].flags == area->flags);
	book[at].fault_flags = area->flags;
	if (access == ASPACE_ACCESS_EXECUTE) { /* one of those that stay */
		atomic_fetch_add(&faults_in, 1);
		until(relaxed_load(&faults_may_go));
	}
	return ASPACE_OK;
}

static uint64_t fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend;
	(void)area;
	return 0x1000;
}

static unsigned loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
		      uint64_t *meanwhile)
{
	(void)backend;
	*meanwhile = from | to;
	if (!(from & ~to))
		return 0;
	return to ? ASPACE_LOSES_ACCESS : ASPACE_LOSES_ACCESS | ASPACE_LOSES_CONTENTS;
}

static void count_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	atomic_fetch_add((_Atomic uint32_t *)user, 1);
}

static enum aspace_status share(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	for (unsigned i = 0; i < PAGES; i++)
		book[i].cloned += user == &book[i].released;
	*copy = user;
	return ASPACE_OK;
}

static enum aspace_status accept(struct aspace_backend *backend, const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static void linger(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	relaxed_store(&helper_is_in, true);
	until(relaxed_load(&helper_may_go));
}

static const struct aspace_backend_ops booking_ops = {
	.size = sizeof(booking_ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.fault = populate,
	.fault_span = fault_span,
	.clone = share,
	.release = count_release,
	.loses = loses,
};
static const struct aspace_backend_ops lingering_ops = {
	.size = sizeof(lingering_ops),
	.map = accept,
	.unmap = accept,
	.protect = accept,
	.release = linger,
};
static struct aspace_backend booking = {.ops = &booking_ops, .flags_mask = 0xff};
static struct aspace_backend lingering = {.ops = &lingering_ops, .flags_mask = 0xff};

static void on_refused(void *ctx, struct aspace *of, const struct aspace_area *area,
		       enum aspace_status status)
{
	(void)ctx;
	(void)of;
	check(status == ASPACE_NO_MEMORY && first_page(page(REFUSED)) == REFUSED);
	check(area->start.value == page(REFUSED).start.value && area->flags == RW);
	atomic_fetch_add(&told, 1);
}

/* ---- What is there ------------------------------------------------------------------- */

static uint64_t shown(unsigned at)
{
	struct aspace_area area;

	return aspace_find(space, page(at).start, &area) == ASPACE_OK ? area.flags : UINT64_MAX;
}

static size_t areas_of(unsigned from, unsigned count)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	size_t areas = 0;

	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, page(from).start, &iter);
	while (aspace_iter_next(&iter, &area) && area.start.value < page(from + count).start.value)
		areas++;
	aspace_read_end(&view);
	return areas;
}

/* Each call of `change` that was deferred has come `times` times. */
static void check_calls(uint32_t times, bool faulted)
{
	check(book[LESS].protects == times && book[NOTHING].protects == times);
	check(book[MERGING].protects == times && book[MERGING + 1].protects == times);
	check(book[GONE].unmaps == times && book[GONE].released == times);
	check(book[FAULTED].protects == (faulted ? 0 : times));
	check(book[FAULTED_GONE].unmaps == (faulted ? 0 : times));
	check(book[FAULTED_GONE].released == (faulted ? 0 : times));
	check(book[WHOLE].protects == 0 && book[WHOLE].unmaps == 0);
}

/* What everybody sees from the moment on when the transaction is through. */
static void check_shown(void)
{
	check(shown(LESS) == R && shown(NOTHING) == 0 && shown(FAULTED) == R && shown(WHOLE) == RW);
	check(shown(GONE) == UINT64_MAX && shown(FAULTED_GONE) == UINT64_MAX);
	check(shown(MERGING) == R && shown(MERGING + 1) == R);
}

/* Nothing has been done: access and contents are there, in real memory, too. */
static void check_held(void)
{
	check_shown();
	check_calls(0, false);
	check(book[LESS].flags == RW && book[NOTHING].flags == RW && book[NOTHING].filled);
	check(book[GONE].mapped && book[FAULTED].flags == RW && book[REFUSED].flags == RW);
	check(areas_of(MERGING, 2) == 2);
}

/* All has. */
static void check_done(bool refused)
{
	check_shown();
	check_calls(1, false);
	check(book[LESS].flags == R && book[LESS].filled);
	check(book[NOTHING].flags == 0 && !book[NOTHING].filled);
	check(!book[GONE].mapped && !book[FAULTED_GONE].mapped);
	check(shown(REFUSED) == (refused ? RW : R) && book[REFUSED].flags == shown(REFUSED));
	check(areas_of(MERGING, 2) == 1);
	check(told == (refused ? 1 : 0));
	check(stats_of(space).pending == 0 && stats_of(space).leaving == 0);
	check_space(space);
}

/* ---- Real memory ----------------------------------------------------------------------- */

static char *real_page(unsigned number)
{
	return (char *)(uintptr_t)aspace_host_window(host).start.value +
	       number * (size_t)sysconf(_SC_PAGESIZE);
}

static struct aspace_range real_range(unsigned number)
{
	uint64_t start = (uintptr_t)real_page(number);

	return aspace_range_of(start, start + (uint64_t)sysconf(_SC_PAGESIZE));
}

/* Without a signal. */
static bool is_writable(char *at)
{
	int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	bool writable = read(fd, at + 1, 1) == 1;

	check(writable || errno == EFAULT);
	close(fd);
	return writable;
}

static void check_real_held(void)
{
	check(is_writable(real_page(0)) && is_writable(real_page(1)));
	check(real_page(0)[0] == 'a' && real_page(1)[0] == 'b');
}

static void check_real_done(void)
{
	check(!is_writable(real_page(0)) && real_page(0)[0] == 'a');
	check(!is_writable(real_page(1)));
	check_ok(aspace_protect(real, real_range(1), ASPACE_HOST_READ | ASPACE_HOST_WRITE, 0));
	check(real_page(1)[0] == 0);
	check(is_writable(real_page(1)));
}

/* ---- The child -------------------------------------------------------------------------- */

/* It is due, with nobody at work there. */
static void finish(bool refused)
{
	refuses = refused;
	check_status(aspace_quiesce(space, 0), refused ? ASPACE_BAD_STATE : ASPACE_OK);
	check_done(refused);
	check_ok(aspace_quiesce(real, 0));
	check_real_done();
}

/* Updates that meet what is pending wait for readers, which nobody but they can. */
static void finish_by_updates(bool refused)
{
	refuses = refused;
	check_ok(aspace_protect(space, page(LESS), RW, 0));
	check(book[LESS].protects == 2);
	check_ok(aspace_map(space, page(GONE), RW, &booking, &book[WHOLE + 4].released, 0));
	check_ok(aspace_unmap(space, page(GONE), 0));
	check_ok(aspace_protect(space, page(FAULTED), RW, 0));
	check(book[FAULTED].protects == 2);
	check_ok(aspace_protect(space, page(MERGING), RW, 0));
	check(book[MERGING].protects == 2 && book[MERGING + 1].protects == 1);
	check(book[NOTHING].protects == 1 && !book[NOTHING].filled);
	check(told == (refused ? 1 : 0));
	check_ok(aspace_protect(real, real_range(0), ASPACE_HOST_READ | ASPACE_HOST_WRITE, 0));
	check(is_writable(real_page(0)) && real_page(0)[0] == 'a');
	check_space(space);
}

static void finish_by_destroying(bool refused)
{
	refuses = refused;
}

static void destroy_all(void)
{
	static const unsigned objects[] = {LESS,    NOTHING,      REFUSED, GONE,
					   FAULTED, FAULTED_GONE, WHOLE};

	check_ok(aspace_destroy(space, 0));
	for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++)
		check(!book[objects[i]].mapped && book[objects[i]].released == 1);
	/* Two that were cut out of one area, and have perhaps merged. */
	check(!book[MERGING].mapped && !book[MERGING + 1].mapped);
	check(book[MERGING].cloned && book[MERGING].released == 1 + book[MERGING].cloned);
	check_ok(aspace_destroy(real, 0));
	check(!is_writable(real_page(0)));
	aspace_host_destroy(host);
	check_ok(aspace_destroy(slow, 0)); /* its release was cut off, and counts as run */
}

static bool by_hand;

static pid_t fork_one(void)
{
	pid_t pid;

	if (by_hand)
		aspace_before_fork();
	pid = fork();
	if (by_hand && pid)
		aspace_after_fork_parent();
	else if (by_hand)
		aspace_after_fork_child();
	return pid;
}

static void live(int deep, void (*end)(bool refused), bool refused)
{
	pid_t pid = 0;

	end_if_hung();
	for (;;) {
		/* Faults go by what is held. */
		check_held();
		check_real_held();
		check_ok(aspace_fault(space, page(LESS).start, ASPACE_ACCESS_WRITE, 0));
		check(book[LESS].fault_flags == RW);
		check(stats_of(space).pending == 6 && stats_of(space).leaving == 2);
		check(stats_of(real).pending == 2);
		if (!deep--)
			break;
		pid = fork_one();
		if (pid)
			break; /* and goes on beside its child */
		end_if_hung();
	}
	end(refused);
	destroy_all();
	if (pid)
		check_child(pid);
	end_child(0);
}

/* ---- The parent -------------------------------------------------------------------------- */

static void *fault(void *number)
{
	check_ok(aspace_fault(space, page((unsigned)(uintptr_t)number).start, ASPACE_ACCESS_EXECUTE,
			      0));
	return NULL;
}

static void map_page(unsigned at)
{
	check_ok(aspace_map(space, page(at), RW, &booking, &book[at].released, 0));
}

static void prepare(pthread_t *faults)
{
	struct aspace_host_options window = {
		.size = sizeof(window),
		.window = 2 * (uint64_t)sysconf(_SC_PAGESIZE),
	};

	relaxed_store(&helper_is_in, false);
	relaxed_store(&helper_may_go, false);
	relaxed_store(&faults_may_go, false);
	atomic_store(&faults_in, 0);
	atomic_store(&told, 0);
	refuses = false;
	memset(book, 0, sizeof(book));
	slow = make_space(NULL);
	space = make_space(
		&(struct aspace_options){.mode = ASPACE_GRACE_UNMAP, .refused = on_refused});
	check_ok(aspace_host_create(&window, &host));
	real = make_space(&(struct aspace_options){
		.mode = ASPACE_GRACE_UNMAP,
		.granule = (uint64_t)sysconf(_SC_PAGESIZE),
		.limits = aspace_host_window(host),
	});
	check_ok(aspace_map(slow, page(0), 1, &lingering, slow, 0));
	check_ok(aspace_unmap(slow, page(0), 0));
	until(relaxed_load(&helper_is_in));

	for (unsigned at = LESS; at <= WHOLE; at++)
		map_page(at);
	check_ok(aspace_map(space, pages(MERGING, 2), RW, &booking, &book[MERGING].released, 0));
	for (unsigned i = 0; i < 2; i++) {
		check_ok(aspace_map(real, real_range(i), ASPACE_HOST_READ | ASPACE_HOST_WRITE,
				    aspace_host_backend(host), NULL, 0));
		real_page(i)[0] = (char)('a' + i);
	}
	if (!faults)
		return;
	faults[0] = spawn(fault, (void *)(uintptr_t)FAULTED);
	faults[1] = spawn(fault, (void *)(uintptr_t)FAULTED_GONE);
	until(atomic_load(&faults_in) == 2);
}

/* In one version each: whoever becomes the writer next may do it. */
static void defer(void)
{
	struct aspace_txn *txn;

	check_ok(aspace_txn_begin(real, 0, &txn));
	check_ok(aspace_txn_protect(txn, real_range(0), ASPACE_HOST_READ, 0));
	check_ok(aspace_txn_protect(txn, real_range(1), ASPACE_HOST_DECOMMITTED, 0));
	check_ok(aspace_txn_commit(txn));
	check_ok(aspace_txn_begin(space, 0, &txn));
	check_ok(aspace_txn_protect(txn, page(LESS), R, 0));
	check_ok(aspace_txn_protect(txn, page(NOTHING), 0, 0));
	check_ok(aspace_txn_protect(txn, page(REFUSED), R, 0));
	check_ok(aspace_txn_unmap(txn, page(GONE), 0));
	check_ok(aspace_txn_protect(txn, page(FAULTED), R, 0));
	check_ok(aspace_txn_unmap(txn, page(FAULTED_GONE), 0));
	/* One after the other: two areas, which are not one before they are done. */
	check_ok(aspace_txn_protect(txn, page(MERGING), R, 0));
	check_ok(aspace_txn_protect(txn, page(MERGING + 1), R, 0));
	check_ok(aspace_txn_commit(txn));
}

static void run(int deep, void (*end)(bool refused), bool refused)
{
	pid_t pid;

	prepare(NULL);
	defer();
	pid = fork_one();
	if (!pid)
		live(deep, end, refused);
	/* Beside the child, and not by its hand. */
	check_held();
	check_child(pid);
	check_held();
	check_real_held();
	refuses = !refused;
	relaxed_store(&helper_may_go, true);
	finish(!refused);
	destroy_all();
}

/* With faults at work where it comes due: all but that is done before the fork. */
static void run_postponed(void)
{
	pthread_t faults[2];
	pid_t pid;

	prepare(faults);
	defer();
	relaxed_store(&helper_may_go, true);
	do {
		check_status(aspace_quiesce(space, ASPACE_NOWAIT), ASPACE_BUSY);
		sched_yield();
	} while (stats_of(space).pending != 1 || stats_of(space).leaving != 1 ||
		 !atomic_load(&book[GONE].released));
	check_calls(1, true);
	pid = fork_one();
	if (!pid) {
		end_if_hung();
		check(book[FAULTED].flags == RW && book[FAULTED_GONE].mapped);
		check(stats_of(space).pending == 1 && stats_of(space).leaving == 1);
		finish(false);
		destroy_all();
		end_child(0);
	}
	check_child(pid);
	check_calls(1, true);
	check_shown();
	relaxed_store(&faults_may_go, true);
	join(faults[0]);
	join(faults[1]);
	finish(false);
	destroy_all();
}

static void run_all(void)
{
	static void (*const ends[])(bool refused) = {finish, finish_by_updates,
						     finish_by_destroying};
	long children = 0;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		for (int deep = 0; deep < 3; deep++, children++)
			run(deep, ends[i], deep & 1);
	}
	run_postponed();
	printf("%ld children and their children\n", children + 1);
	fflush(stdout);
}

int main(void)
{
	if (!may_fork_beside_threads())
		return 77;
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid) {
			end_if_hung();
			by_hand = i;
			if (!by_hand)
				check_ok(aspace_install_fork_hooks());
			run_all();
			end_child(0);
		}
		check_child(pid);
	}
	return 0;
}
