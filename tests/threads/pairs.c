/* SPDX-License-Identifier: MIT */
/*
 * Everything beside everything else: each pair of things that a thread may do with a space, and
 * triples of them, at random in the same few areas. Whoever waits for whom, no circle may close: here that shows
 * by not ending. So does who starves, because each does its number of things, however often the others
 * are in its way.
 *
 * Two spaces are shared. Who has the newer one, or is at work in it, goes on to the older one, as it
 * must. In each round all threads do the things of their roles at once; then the spaces are looked at.
 *
 * Arguments: the seed; how many threads at once (2: all pairs; more: at random); rounds.
 */
#include <signal.h>

#include "../child.h"
#include "crew.h"

CREW_FORKS

#define PAGE   UINT64_C(0x1000)
#define PAGES  24
#define THINGS 12 /* of each thread in a round */

static struct aspace *older, *newer;
static bool may_fork, sections_played; /* in this round */

static struct aspace_range pages(uint64_t first, uint64_t end)
{
	return aspace_range_of(first * PAGE, end * PAGE);
}

static struct aspace_range some(struct dice *dice)
{
	uint64_t first = roll_below(dice, PAGES);

	return pages(first, first + 1 + roll_below(dice, PAGES - first));
}

/* ---- What may be answered ------------------------------------------------------- */

/* Contention, and what is where. */
static bool is_usual(enum aspace_status status)
{
	return status == ASPACE_OK || status == ASPACE_BUSY || status == ASPACE_NOT_MAPPED ||
	       status == ASPACE_ALREADY_EXISTS || status == ASPACE_NO_SPACE;
}

#define check_usual(call)                                                                          \
	do {                                                                                       \
		enum aspace_status status_ = (call);                                               \
		if (!is_usual(status_))                                                            \
			fail("%s: %s", #call, aspace_status_string(status_));                      \
	} while (0)
/* In a callback, or in a handler. */
#define check_nested(call)                                                                         \
	do {                                                                                       \
		enum aspace_status status_ = (call);                                               \
		if (!is_usual(status_) && status_ != ASPACE_DEADLOCK)                              \
			fail("%s: %s", #call, aspace_status_string(status_));                      \
	} while (0)

/* ---- The backend ----------------------------------------------------------------- */

/* What the thread does in callbacks beneath what it is doing. */
enum beneath {
	NOTHING,
	FAULT_ELSEWHERE,
	UPDATE_OLDER,
	UPDATE_SAME, /* which is refused */
	FORK,
	SIGNAL, /* a handler that faults */
	YIELD,
};

static _Thread_local struct dice *dice_of_thread; /* NULL on the helper */
static _Thread_local enum beneath beneath;
static _Thread_local struct aspace *of_thread; /* the space that it is at work in */

static struct aspace_backend plain;

static void update_plainly(struct dice *dice, struct aspace *space, unsigned how)
{
	if (roll_below(dice, 2))
		check_usual(aspace_map(space, some(dice), roll_below(dice, 4), &plain, NULL,
				       how | ASPACE_REPLACE));
	else
		check_usual(aspace_unmap(space, some(dice), how));
}

static void fork_once(void)
{
	pid_t pid;

	if (!may_fork) {
		aspace_before_fork();
		aspace_after_fork_parent();
		return;
	}
	pid = fork();
	check(pid >= 0);
	if (!pid) {
		struct aspace_area area;

		end_if_hung();
		/* Amid what its own thread is at, perhaps; nobody else has anything. */
		check_nested(aspace_find(newer, aspace_va(0), &area));
		check_nested(aspace_validate(newer, NULL, ASPACE_NOWAIT));
		check_nested(aspace_validate(older, NULL, ASPACE_NOWAIT));
		check_nested(aspace_unmap(newer, pages(0, 1), ASPACE_NOWAIT));
		check_nested(aspace_protect(older, pages(0, PAGES), 1, ASPACE_NOWAIT));
		end_child(0);
	}
	check_child(pid);
}

static void handle(int number)
{
	int saved = errno;

	(void)number;
	check_nested(aspace_find(of_thread, aspace_va(PAGE), NULL));
	check_nested(aspace_fault(of_thread, aspace_va(roll_below(dice_of_thread, PAGES) * PAGE),
				  ASPACE_ACCESS_READ, 0));
	errno = saved;
}

static void go_on_beneath(void)
{
	struct dice *dice = dice_of_thread;
	enum beneath what = beneath;

	if (!dice || what == NOTHING)
		return;
	beneath = NOTHING;
	switch (what) {
	case FAULT_ELSEWHERE:
		check_nested(aspace_fault(of_thread, aspace_va(roll_below(dice, PAGES) * PAGE),
					  ASPACE_ACCESS_READ, 0));
		break;
	case UPDATE_OLDER:
		if (of_thread == newer)
			update_plainly(dice, older, 0);
		break;
	case UPDATE_SAME:
		check_status(aspace_unmap(of_thread, pages(0, 1), 0), ASPACE_DEADLOCK);
		break;
	case FORK:
		if (roll_below(dice, 4) == 0)
			fork_once();
		break;
	case SIGNAL:
		check(!raise(SIGUSR1));
		break;
	default:
		sched_yield();
	}
	beneath = what;
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *made)
{
	(void)backend, (void)made;
	go_on_beneath();
	return ASPACE_OK;
}

static enum aspace_status populate(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	(void)backend, (void)area, (void)address, (void)access;
	go_on_beneath();
	return ASPACE_OK;
}

/* With the writer lock, a fork must not wait for readers who want that. */
static enum aspace_status populate_locked(struct aspace_backend *backend,
					  const struct aspace_area *area,
					  struct aspace_vaddr address, unsigned access)
{
	return beneath == FORK ? ASPACE_OK : populate(backend, area, address, access);
}

static uint64_t span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	return 4 * PAGE;
}

static uint64_t no_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)backend, (void)area;
	return 0;
}

static enum aspace_status share(struct aspace_backend *backend, void *user, void **copy)
{
	(void)backend;
	*copy = user;
	return ASPACE_OK;
}

static void release(struct aspace_backend *backend, void *user)
{
	(void)backend, (void)user;
}

static const struct aspace_backend_ops plain_ops = {
	.size = sizeof(plain_ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.move = change,
	.fault = populate,
	.fault_span = span,
};
/* Its areas are pinned whole. */
static const struct aspace_backend_ops counted_ops = {
	.size = sizeof(counted_ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.move = change,
	.fault = populate,
	.fault_span = span,
	.clone = share,
	.release = release,
};
/* Its faults take the writer lock. */
static const struct aspace_backend_ops locked_ops = {
	.size = sizeof(locked_ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.move = change,
	.fault = populate_locked,
	.fault_span = no_span,
};
static struct aspace_backend plain = {.ops = &plain_ops, .flags_mask = 3};
static struct aspace_backend counted = {.ops = &counted_ops, .flags_mask = 3};
static struct aspace_backend locked = {.ops = &locked_ops, .flags_mask = 3};

static struct aspace_backend *any_backend(struct dice *dice)
{
	return roll_below(dice, 8) == 0 ? &locked : roll_below(dice, 3) == 0 ? &counted : &plain;
}

/* ---- The roles -------------------------------------------------------------------- */

static void do_fault(struct dice *dice, struct aspace *space)
{
	check_usual(aspace_fault(space, aspace_va(roll_below(dice, PAGES) * PAGE),
				 1 + (unsigned)roll_below(dice, 3), 0));
}

static void do_fault_now(struct dice *dice, struct aspace *space)
{
	check_usual(aspace_fault(space, aspace_va(roll_below(dice, PAGES) * PAGE),
				 ASPACE_ACCESS_READ, ASPACE_NOWAIT));
}

static void do_map(struct dice *dice, struct aspace *space)
{
	check_usual(aspace_map(space, some(dice), roll_below(dice, 4), any_backend(dice), &plain,
			       roll_below(dice, 4) ? ASPACE_REPLACE : 0));
}

static void do_unmap(struct dice *dice, struct aspace *space)
{
	check_usual(aspace_unmap(space, some(dice), 0));
}

static bool flip(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	(void)ctx, (void)area;
	go_on_beneath();
	*flags ^= 1;
	return true;
}

static void do_protect(struct dice *dice, struct aspace *space)
{
	check_usual(aspace_protect_with(space, some(dice), flip, NULL, 0));
}

static void do_move(struct dice *dice, struct aspace *space)
{
	uint64_t from = roll_below(dice, PAGES / 2), to = roll_below(dice, PAGES / 2);

	check_usual(
		aspace_move(space, pages(from, from + 1), aspace_va((PAGES / 2 + to) * PAGE), 0));
}

static void do_resize(struct dice *dice, struct aspace *space)
{
	check_usual(aspace_resize(space, aspace_va(roll_below(dice, PAGES) * PAGE),
				  (1 + roll_below(dice, 4)) * PAGE, 0));
}

static void do_clear(struct dice *dice, struct aspace *space)
{
	(void)dice;
	check_usual(aspace_clear(space, 0));
}

static void do_update_now(struct dice *dice, struct aspace *space)
{
	update_plainly(dice, space, ASPACE_NOWAIT);
}

static void transact(struct dice *dice, struct aspace *space, unsigned how)
{
	struct aspace_txn *txn;
	enum aspace_status status = aspace_txn_begin(space, how, &txn);

	check_usual(status);
	if (status != ASPACE_OK)
		return;
	check_usual(aspace_txn_protect(txn, some(dice), roll_below(dice, 4), 0));
	check_usual(aspace_txn_unmap(txn, some(dice), 0));
	check_usual(aspace_txn_map(txn, some(dice), 1, any_backend(dice), NULL, ASPACE_REPLACE));
	sched_yield();
	if (roll_below(dice, 8) == 0)
		aspace_txn_abort(txn);
	else
		check_usual(aspace_txn_commit(txn));
}

static void do_transaction(struct dice *dice, struct aspace *space)
{
	transact(dice, space, 0);
}

static void do_transaction_now(struct dice *dice, struct aspace *space)
{
	transact(dice, space, ASPACE_NOWAIT);
}

static void do_transaction_over_another(struct dice *dice, struct aspace *space)
{
	struct aspace_txn *txn;

	(void)space;
	check_ok(aspace_txn_begin(newer, 0, &txn));
	check_usual(aspace_txn_unmap(txn, some(dice), 0));
	update_plainly(dice, older, 0);
	transact(dice, older, 0);
	check_usual(aspace_fault(older, aspace_va(PAGE), ASPACE_ACCESS_READ, 0));
	check_usual(aspace_txn_commit(txn));
}

static void do_section(struct dice *dice, struct aspace *space)
{
	struct aspace_view view;

	aspace_read_begin(space, &view);
	switch (roll_below(dice, 3)) {
	case 0:
		do_fault(dice, space);
		break;
	case 1:
		update_plainly(dice, space, 0);
		break;
	default:
		transact(dice, space, 0);
	}
	aspace_read_end(&view);
}

static void do_quiesce(struct dice *dice, struct aspace *space)
{
	(void)dice;
	check_usual(aspace_quiesce(space, 0));
}

static void do_look(struct dice *dice, struct aspace *space)
{
	(void)dice;
	check_space(space);
	stats_of(space);
	check_usual(aspace_trim(space, 0));
}

static void do_snapshot(struct dice *dice, struct aspace *space)
{
	struct aspace_snapshot snapshot;

	(void)dice;
	check_ok(aspace_snapshot_take(space, &snapshot));
	sched_yield();
	aspace_snapshot_release(&snapshot);
}

static void do_fork(struct dice *dice, struct aspace *space)
{
	struct aspace_txn *txn = NULL;

	/* Of its own: then nobody may wait for that space in a section. */
	if (space == newer && !sections_played && roll_below(dice, 4) == 0) {
		check_ok(aspace_txn_begin(newer, 0, &txn));
		check_usual(aspace_txn_unmap(txn, some(dice), 0));
	}
	fork_once();
	if (txn)
		aspace_txn_abort(txn);
}

static void *look_up(void *space)
{
	aspace_overlaps(space, pages(0, PAGES));
	return NULL;
}

static void do_thread(struct dice *dice, struct aspace *space)
{
	(void)dice;
	join(spawn(look_up, space));
}

static void do_space(struct dice *dice, struct aspace *space)
{
	struct aspace *made = make_space(NULL);

	(void)space;
	update_plainly(dice, made, 0);
	end_space(made);
}

static const struct role {
	const char *name;
	void (*act)(struct dice *dice, struct aspace *space);
	enum beneath beneath;
} roles[] = {
	{"faults", do_fault, YIELD},
	{"faults with a fault beneath", do_fault, FAULT_ELSEWHERE},
	{"faults with an update of another space beneath", do_fault, UPDATE_OLDER},
	{"faults with an update beneath", do_fault, UPDATE_SAME},
	{"faults with fork beneath", do_fault, FORK},
	{"faults with a signal", do_fault, SIGNAL},
	{"faults that do not wait", do_fault_now, YIELD},
	{"maps", do_map, YIELD},
	{"maps with a fault beneath", do_map, FAULT_ELSEWHERE},
	{"maps with an update of another space beneath", do_map, UPDATE_OLDER},
	{"maps with a signal", do_map, SIGNAL},
	{"unmaps", do_unmap, YIELD},
	{"protects", do_protect, YIELD},
	{"protects with a fault beneath", do_protect, FAULT_ELSEWHERE},
	{"moves", do_move, YIELD},
	{"resizes", do_resize, YIELD},
	{"clears", do_clear, YIELD},
	{"updates that do not wait", do_update_now, YIELD},
	{"transactions", do_transaction, YIELD},
	{"transactions with a fault beneath", do_transaction, FAULT_ELSEWHERE},
	{"transactions with a signal", do_transaction, SIGNAL},
	{"transactions that do not wait", do_transaction_now, YIELD},
	{"transactions over another space", do_transaction_over_another, YIELD},
	{"sections", do_section, YIELD},
	{"quiesce", do_quiesce, NOTHING},
	{"looks inside", do_look, NOTHING},
	{"snapshots", do_snapshot, NOTHING},
	{"forks", do_fork, NOTHING},
	{"threads", do_thread, NOTHING},
	{"spaces", do_space, NOTHING},
};
#define ROLES (sizeof(roles) / sizeof(*roles))

/* ---- Rounds ------------------------------------------------------------------------ */

struct player {
	const struct role *role;
	uint64_t seed;
	pthread_t thread;
};

static _Atomic unsigned ready;
static unsigned players;

static void *play(void *arg)
{
	struct player *player = arg;
	struct dice dice = {.state = player->seed};

	dice_of_thread = &dice;
	relaxed_add(&ready, 1);
	until(relaxed_load(&ready) == players);
	for (int i = 0; i < THINGS; i++) {
		of_thread = roll_below(&dice, 3) ? newer : older;
		beneath = player->role->beneath;
		player->role->act(&dice, of_thread);
		beneath = NOTHING;
	}
	return NULL;
}

static void play_round(struct dice *dice, struct player *player, unsigned count)
{
	relaxed_store(&ready, 0);
	players = count;
	sections_played = false;
	for (unsigned i = 0; i < count; i++)
		sections_played |= player[i].role->act == do_section;
	for (unsigned i = 0; i < count; i++) {
		player[i].seed = roll(dice);
		player[i].thread = spawn(play, &player[i]);
	}
	for (unsigned i = 0; i < count; i++)
		join(player[i].thread);
	check_space(older);
	check_space(newer);
}

#define MOST 8

static void all_pairs(struct dice *dice)
{
	struct player player[2];

	for (size_t a = 0; a < ROLES; a++) {
		printf("%s\n", roles[a].name);
		fflush(stdout);
		for (size_t b = a; b < ROLES; b++) {
			player[0].role = &roles[a];
			player[1].role = &roles[b];
			play_round(dice, player, 2);
		}
	}
}

static void at_random(struct dice *dice, unsigned count, long rounds)
{
	struct player player[MOST];

	for (long i = 0; i < rounds; i++) {
		for (unsigned k = 0; k < count; k++)
			player[k].role = &roles[roll_below(dice, ROLES)];
		if (getenv("PAIRS_VERBOSE")) {
			for (unsigned k = 0; k < count; k++)
				printf("%s%s", k ? ", " : "", player[k].role->name);
			printf("\n");
			fflush(stdout);
		}
		play_round(dice, player, count);
	}
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = handle};
	struct dice dice = {.state = seed_from(argc, argv)};
	unsigned count = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
	long rounds = argc > 3 ? atol(argv[3]) : scaled(100);

	may_fork = may_fork_beside_threads(); /* else the hooks alone */
	check(count <= MOST);
	check(!sigaction(SIGUSR1, &action, NULL));
	check_ok(aspace_install_fork_hooks());
	older = make_space(NULL);
	newer = make_space(NULL);
	if (!count || count == 2)
		all_pairs(&dice);
	if (!count || count > 2)
		at_random(&dice, count ? count : 3, rounds);
	end_space(newer);
	end_space(older);
	return 0;
}
