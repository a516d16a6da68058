/* SPDX-License-Identifier: MIT */
/*
 * Who holds whom off: faults and advice beside writers.
 *
 * What changes no area takes no writer lock. It is *pinned* instead: noted on a short list of the
 * space, with the range that it is at work in, and the backend is called with no lock held. A
 * writer that would change that range waits for it, at its *place* on the same list, without the
 * writer lock. The list is a queue: who comes waits for those before it that it meets (whose
 * ranges overlap with its own), and for nobody else.
 *
 * Entries lie on the stacks of the threads that they are about. Nothing is allocated.
 *
 * Invariants (N2, N3 and the count of N4 are asked by aspace_validate, as S10):
 *  N1  The list is in the order of arrival. (A writer that finds itself held up came before the
 *      faults that wait for what it is about to do, and goes before these.)
 *  N2  Entries at work do not meet. An entry is at work only if nothing before it meets it, and
 *      nothing behind it that is at work.
 *  N3  A pin that is at work is in an area of the newest version, of the backend that is called.
 *  N4  `used` is the number of entries. An entry is counted, by a read-modify-write, before its
 *      thread looks at the writer lock.
 *  N5  Whoever holds the writer lock says what it changes, at once, once, and before it looks
 *      at `used`; and takes it back before it gives the lock back. An open transaction, and who
 *      runs deferred work, say "nothing", and put claims on the list instead before they call
 *      a backend. Who runs deferred work and goes on to an operation takes that back first.
 *  N6  A fault that waits for the operation that holds the writer lock is counted in `behind`
 *      before it looks whether that still holds it. Who gives the lock back looks at
 *      `behind` after that. It waits so for one operation only: the one that held the lock
 *      when it came on the list with the range that it has (`ticket`). Later ones see it there,
 *      and wait for it.
 *  N7  A thread that is the space's writer, or is in its list already, never waits here: it gets
 *      ASPACE_DEADLOCK. One that holds the writer lock of any other space, or a pin there, gets
 *      ASPACE_BUSY. Who holds a pin never becomes the writer, and counts as one that others
 *      may wait for (asp_writer_locks()): it waits for no reader. So whoever is waited for
 *      here waits for nothing here, and no circle closes. An open transaction that
 *      commits is the exception: it keeps the writer lock while it waits, since that is what a
 *      transaction is. No fault that is at work waits for that lock, and forks do without (halt.c).
 *      (Of several spaces: who is at work in one becomes the writer of earlier ones only, as who has
 *      its lock; that is the program's to keep.) A thread that holds a pin and forks is the other: liburcu's locks wait for readers. While it is
 *      about to (`forkers`), nobody waits for it whom a reader may wait for: it gets ASPACE_BUSY.
 *  N8  While a pin is at work no reference to the user object of its area is released, and the
 *      area's memory does not go: deferred things that meet it are postponed.
 *
 * Why a writer needs no more than one load where there are no pins (N4, N5). The load of `used`,
 * the read-modify-writes and loads of the writer lock, and those of a fault are sequentially
 * consistent. A fault counts itself, and then looks at the lock.
 *   It finds it free: any writer that comes takes its ticket after that, and its load of `used`
 *   comes later still: it sees the fault.
 *   It finds it held, with ticket t: those with later tickets wait for `serving` to advance, which
 *   it had not: they, too, see the fault, and it need never look at them, however long it waits for
 *   others. Whether t does is not known, so the fault looks what t
 *   has said. If t has not said anything yet the fault waits for that: it goes on only beside a
 *   writer whose range it has read. If t is through, its version is visible. What it reads is t's:
 *   what others said was taken back before t was served, and `serving` is looked at once more.
 *   Where t has said "nothing" and will say something else, it takes that back by an exchange before;
 *   the fault's load of it is sequentially consistent, too. Either the fault reads what comes after
 *   the exchange, or it was counted before it, and so before t looks at `used`.
 * So the fault never relies on t's seeing it, and t never on being seen at once.
 */
#include "update/pending.h"
#include "update/pins.h"

/* Nobody waits for what a handler or a NOWAIT call may not wait for longer than this many looks:
 * a writer has just come and not yet said what it changes. */
#define LOOKS_AT_ONCE 256

static bool meets(uint64_t lo, uint64_t hi, uint64_t other_lo, uint64_t other_hi)
{
	return lo < other_hi && other_lo < hi;
}

/* ---- The list, under its lock -------------------------------------------------- */

/* At the end, or before `next`. */
static void put(struct aspace *space, struct asp_pin *pin, struct asp_pin *next)
{
	struct asp_pins *pins = &space->pins;

	pin->next = next;
	pin->before = next ? next->before : pins->last;
	if (pin->before)
		pin->before->next = pin;
	else
		pins->first = pin;
	if (next)
		next->before = pin;
	else
		pins->last = pin;
	pin->listed = true;
	/* Sequentially consistent: N4. */
	atomic_fetch_add(&pins->used, 1);
}

static void count_behind(struct aspace *space, struct asp_pin *pin, bool behind)
{
	if (pin->behind == behind)
		return;
	pin->behind = behind;
	/* Sequentially consistent: N6. */
	if (behind)
		atomic_fetch_add(&space->pins.behind, 1);
	else
		atomic_fetch_sub(&space->pins.behind, 1);
}

static void count_sleeper(struct aspace *space, struct asp_pin *pin, bool sleeps)
{
	if (pin->counted == sleeps)
		return;
	pin->counted = sleeps;
	space->pins.sleepers += sleeps ? 1 : -1u;
}

/* True: somebody is to be woken, after the lock has been given back. */
static bool take_out(struct aspace *space, struct asp_pin *pin)
{
	struct asp_pins *pins = &space->pins;

	if (!pin->listed)
		return false;
	if (pin->before)
		pin->before->next = pin->next;
	else
		pins->first = pin->next;
	if (pin->next)
		pin->next->before = pin->before;
	else
		pins->last = pin->before;
	pin->listed = false;
	count_behind(space, pin, false);
	count_sleeper(space, pin, false);
	atomic_fetch_sub(&pins->used, 1);
	if (!pins->sleepers)
		return false;
	/* Release and acquire: who reads the new number finds the entry gone. (Under the lock it
	 * does anyway; but the word is waited upon without.) */
	atomic_fetch_add(&pins->turn, 1);
	return true;
}

void asp_pins_tell(struct aspace *space)
{
	/* Acquire and release: who reads the new number finds the writer lock given back. */
	atomic_fetch_add(&space->pins.turn, 1);
	asp_wake_all(&space->pins.turn);
}

/* Until `turn` is another one than `seen`, or for a while; the stall hook is told. No lock held. False:
 * it has made the thread one that others may wait for. */
static bool sleep_upon_turn(struct aspace *space, uint32_t seen, struct asp_stall *stall)
{
	asp_wait(&space->pins.turn, seen, asp_stall_left(space, stall));
	return !asp_stall_is_due(space, stall) || asp_stall_tell(space, stall);
}

/* The same with the writer lock held, at rest. The hook may do what it may in a callback. */
static bool sleep_at_rest(struct aspace *space, uint32_t seen, struct asp_stall *stall)
{
	if (!stall->begin)
		*stall = asp_stall_begin();
	asp_wait_holding(&space->pins.turn, seen, asp_stall_left(space, stall));
	if (!asp_stall_is_due(space, stall))
		return true;
	asp_stall_tell(space, stall);
	return !asp_grace_in_section(space->grace);
}

static bool changes(const struct asp_plan *plan, uint64_t lo, uint64_t hi)
{
	for (unsigned phases = plan->phases; phases; phases &= phases - 1) {
		const struct asp_action *action = plan->actions[__builtin_ctz(phases)].head;

		for (; action; action = action->next) {
			if (meets(lo, hi, action->change.range.start.value,
				  action->change.range.end.value))
				return true;
		}
	}
	return false;
}

static bool meet(const struct asp_pin *a, const struct asp_pin *b)
{
	if (!meets(a->lo, a->hi, b->lo, b->hi))
		return false;
	if (a->plan)
		return changes(a->plan, b->lo, b->hi);
	return !b->plan || changes(b->plan, a->lo, a->hi);
}

/* The ticket of whoever holds the writer lock, or gets it next. */
static uint32_t writer_ticket(struct aspace *space)
{
	return atomic_load(&space->lock.serving);
}

/* Does it wait for the writer with that ticket? Then that does not wait for it. */
static bool waits_for(const struct asp_pin *pin, uint32_t ticket)
{
	return pin->behind && pin->ticket == ticket;
}

/* Who is in the way of the pin (or would be, of one that is not listed and came now). `ticket`:
 * that of a writer that asks, or NULL. */
static const struct asp_pin *obstacle(struct aspace *space, const struct asp_pin *pin,
				      const uint32_t *ticket)
{
	bool before = true;

	for (const struct asp_pin *other = space->pins.first; other; other = other->next) {
		if (other == pin)
			before = false;
		else if ((before || other->at_work) && meet(other, pin) &&
			 !(ticket && waits_for(other, *ticket)))
			return other;
	}
	return NULL;
}

/* Is somebody at work in the claim of who holds the writer lock? */
static bool is_met(struct aspace *space, const struct asp_pin *claim)
{
	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (pin != claim && pin->at_work && meet(pin, claim))
			return true;
	}
	return false;
}

/* Does it wait for the writer lock, or for somebody before it who does? Those before it have been
 * asked. */
static bool wants_lock(const struct asp_pin *pin)
{
	if (pin->at_work)
		return false;
	if (pin->kind == ASP_CLAIM)
		return true;
	for (const struct asp_pin *other = pin->before; other; other = other->before) {
		if (other->wants_lock && meet(other, pin))
			return true;
	}
	return false;
}

/* The same for a claim on the list, which keeps its place: is somebody before it? But it passes
 * those that want the lock, which its writer holds. */
static bool is_preceded(struct aspace *space, const struct asp_pin *claim)
{
	for (struct asp_pin *pin = space->pins.first; pin != claim; pin = pin->next) {
		pin->wants_lock = wants_lock(pin);
		if (!pin->wants_lock && meet(pin, claim))
			return true;
	}
	return is_met(space, claim);
}

static bool is_listed(struct aspace *space, const struct asp_pin *but)
{
	uintptr_t self = asp_thread_self();

	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (pin != but && pin->thread == self)
			return true;
	}
	return false;
}

bool asp_pins_mine(struct aspace *space)
{
	bool mine;

	if (!asp_pins_any(space)) /* one of ours would be counted */
		return false;
	if (asp_is_forking(space))
		return is_listed(space, NULL);
	asp_lock_acquire(&space->pins.lock);
	mine = is_listed(space, NULL);
	asp_lock_release(&space->pins.lock);
	return mine;
}

/* ---- Beside the writers ------------------------------------------------------ */

enum verdict {
	GO,
	SERVED,  /* somebody else has done it */
	AGAIN,   /* the area is another one by now */
	QUEUE,   /* something on the list is in the way */
	BEHIND,  /* the writer at work is */
	UNKNOWN, /* perhaps it is */
};

/* What a look has found. */
struct found {
	const struct asp_node *root;
	struct aspace_area area; /* with the flags that its backend holds */
	uint64_t shown;          /* those that the version shows */
	uint64_t lo, hi;         /* to be pinned */
	uint64_t span;           /* 0: not known */
};

static bool counts_references(const struct aspace_backend *backend)
{
	return asp_op(backend, clone) || asp_op(backend, release);
}

/* What a fault at the address is at work in; false: under the writer lock. */
static bool span_of(uint64_t address, struct found *found)
{
	struct aspace_backend *backend = found->area.backend;
	const struct aspace_backend_ops *ops = backend->ops;

	/* Of tables that are shorter nothing is known: they were written for an older library,
	 * which called them under the lock. */
	if (ops->size < offsetof(struct aspace_backend_ops, fault_span) + sizeof(ops->fault_span))
		return false;
	found->lo = found->area.start.value;
	found->hi = found->area.end.value;
	found->span = 0;
	if (!ops->fault_span)
		return true;
	found->span = ops->fault_span(backend, &found->area);
	if (!found->span)
		return false;
	if (found->span & (found->span - 1))
		found->span = 0;
	/* Where references are counted the whole area, whatever part of it a writer would cut. */
	if (!found->span || counts_references(backend))
		return true;
	address &= ~(found->span - 1);
	if (found->lo < address)
		found->lo = address;
	if (found->hi - address > found->span)
		found->hi = address + found->span;
	return true;
}

bool asp_pins_find(const struct asp_node *root, uint64_t address, struct aspace_area *area)
{
	struct asp_cursor cursor;

	if (!asp_cursor_seek(&cursor, root, address) || asp_cursor_start(&cursor) > address)
		return false;
	*area = asp_public_area(asp_cursor_area(&cursor));
	return true;
}

static uint64_t higher(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t lower(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

enum aspace_status asp_pins_find_piece(const struct asp_node *root, uint64_t from, uint64_t end,
				       struct aspace_area *area)
{
	struct asp_cursor cursor;
	bool found = asp_cursor_seek(&cursor, root, from);
	uint64_t granule, ends;

	while (found && asp_cursor_slot(&cursor)->flags & ASP_FLAG_LEAVING)
		found = asp_cursor_next(&cursor);
	if (!found || asp_cursor_start(&cursor) >= end)
		return ASPACE_NOT_MAPPED;
	*area = asp_public_area(asp_cursor_area(&cursor));
	granule = area->backend->granule;
	ends = higher(from, area->start.value) | lower(end, area->end.value);
	if (granule && (ends & (granule - 1)))
		return ASPACE_INVALID_PARAM;
	return asp_op(area->backend, advise) ? ASPACE_OK : ASPACE_NOT_SUPPORTED;
}

/* Is there still what was found? Under the lock of the list: see Q3 of pending.c. */
static bool is_still_there(struct aspace *space, uint64_t address, const struct found *found)
{
	const struct asp_node *root = asp_root(space);
	const struct aspace_area *area = &found->area;
	struct aspace_area now = *area;

	now.flags = found->shown;
	if (root != found->root &&
	    (!asp_pins_find(root, address, &now) || now.start.value != area->start.value ||
	     now.end.value != area->end.value || now.backend != area->backend ||
	     now.user != area->user))
		return false;
	return asp_held_flags(space, now.start.value, now.flags) == area->flags;
}

/* What does the writer at work change, if it is one that may not know of us? See the head. */
static enum verdict beside_writer(struct aspace *space, const struct asp_pin *pin)
{
	uint64_t lo, hi;

	if (writer_ticket(space) != pin->ticket || atomic_load(&space->lock.next) == pin->ticket)
		return GO;
	/* If this is of a later writer, the load of the ticket says so; see the head. */
	hi = atomic_load(&space->change_hi);
	lo = atomic_load_explicit(&space->change_lo, memory_order_acquire);
	if (writer_ticket(space) != pin->ticket)
		return GO;
	if (!hi)
		return UNKNOWN;
	return meets(pin->lo, pin->hi, lo, hi) ? BEHIND : GO;
}

/* Under the lock of the list, and in a section. */
static enum verdict judge(struct aspace *space, struct asp_pin *pin, const struct found *found)
{
	enum verdict verdict;

	if (obstacle(space, pin, NULL))
		return QUEUE;
	verdict = beside_writer(space, pin);
	if (verdict != GO)
		return verdict;
	/* No writer changes it from here on; but one may have, since it was found. */
	if (!is_still_there(space, pin->address, found))
		return AGAIN;
	pin->area = found->area;
	pin->at_work = true;
	return GO;
}

/* May a fork that somebody here waits for wait for us? */
static bool is_waited_for_by_fork(const struct aspace *space, const struct asp_pin *pin)
{
	return space->pins.forkers && pin->in_section;
}

/* It has to wait: may it? */
static enum aspace_status may_wait(struct aspace *space, const struct asp_pin *pin, unsigned how)
{
	if (asp_is_owner(space) || is_listed(space, pin))
		return ASPACE_DEADLOCK;
	if (is_waited_for_by_fork(space, pin))
		return ASPACE_BUSY;
	return how & ASPACE_NOWAIT || *asp_writer_locks() ? ASPACE_BUSY : ASPACE_OK;
}

/* Counts the pin among those that are told, or no longer: true if it was counted as it should be
 * when the lock of the list was taken, so that it may sleep. */
static bool is_counted(struct aspace *space, struct asp_pin *pin, enum verdict verdict)
{
	bool behind = verdict == BEHIND || verdict == UNKNOWN, sleeps = verdict == QUEUE;
	bool counted = pin->behind >= behind && pin->counted >= sleeps;

	count_behind(space, pin, behind);
	count_sleeper(space, pin, sleeps);
	return counted;
}

void asp_pins_drop(struct aspace *space, struct asp_pin *pin)
{
	bool wake;

	if (!pin->listed)
		return;
	asp_lock_acquire(&space->pins.lock);
	wake = take_out(space, pin);
	asp_lock_release(&space->pins.lock);
	if (wake)
		asp_wake_all(&space->pins.turn);
}

/* What the fault is going to be at work in. Whoever takes the writer lock after this sees it. */
static void list_fault(struct aspace *space, struct asp_pin *pin, const struct found *found)
{
	bool is_seen = pin->listed && pin->lo <= found->lo && found->hi <= pin->hi;
	bool is_same = pin->lo == found->lo && pin->hi == found->hi;

	/* It meets others than before, and so may wait for the writer lock now: a transaction that
	 * waits for it, with that lock, looks again. */
	if (pin->listed && !is_same && space->pins.sleepers)
		asp_pins_tell(space);
	pin->lo = found->lo;
	pin->hi = found->hi;
	pin->span = found->span;
	if (!pin->listed)
		put(space, pin, NULL);
	if (!is_seen)
		pin->ticket = writer_ticket(space);
}

/* One look; ASPACE_BUSY with *seen set where there is something to wait for. */
static enum aspace_status try_to_pin(struct aspace *space, struct asp_pin *pin,
				     const struct found *found, unsigned how, enum verdict *verdict,
				     uint32_t *seen)
{
	enum aspace_status status = ASPACE_OK;

	asp_lock_acquire(&space->pins.lock);
	list_fault(space, pin, found);
	/* Before the look: whatever changes after it changes this. */
	*seen = atomic_load(&space->pins.turn);
	*verdict = pin->served ? SERVED : judge(space, pin, found);
	if (*verdict == GO || *verdict == SERVED || *verdict == AGAIN) {
		is_counted(space, pin, *verdict);
	} else {
		status = may_wait(space, pin, how);
		if (status == ASPACE_OK && !is_counted(space, pin, *verdict))
			*verdict = AGAIN;
	}
	asp_lock_release(&space->pins.lock);
	return status;
}

/* The area is as its backend has it. */
static void see_held(struct aspace *space, struct found *found)
{
	struct aspace_area *area = &found->area;

	found->shown = area->flags;
	if (!asp_pending_any(space))
		return;
	asp_lock_acquire(&space->pins.lock);
	area->flags = asp_held_flags(space, area->start.value, area->flags);
	asp_lock_release(&space->pins.lock);
}

/* What an advice is at work in: its piece; where references are counted the whole area, as of a
 * fault. */
static enum aspace_status look_for_piece(struct asp_pin *pin, struct found *found)
{
	enum aspace_status status =
		asp_pins_find_piece(found->root, pin->address, pin->end, &found->area);

	if (status != ASPACE_OK)
		return status;
	found->span = 0;
	found->lo = found->area.start.value;
	found->hi = found->area.end.value;
	pin->address = higher(pin->address, found->lo);
	if (counts_references(found->area.backend))
		return ASPACE_OK;
	found->lo = pin->address;
	found->hi = lower(found->hi, pin->end);
	return ASPACE_OK;
}

static enum aspace_status look(struct aspace *space, struct asp_pin *pin, struct found *found,
			       bool *under_lock)
{
	enum aspace_status status;

	if (pin->kind == ASP_ADVICE) {
		status = look_for_piece(pin, found);
		if (status == ASPACE_OK)
			see_held(space, found);
		return status;
	}
	if (!asp_pins_find(found->root, pin->address, &found->area))
		return ASPACE_NOT_MAPPED;
	see_held(space, found);
	if (!asp_op(found->area.backend, fault))
		return ASPACE_NOT_SUPPORTED;
	*under_lock = !span_of(pin->address, found);
	return ASPACE_OK;
}

enum aspace_status asp_pins_pin(struct aspace *space, struct asp_pin *pin, unsigned how,
				bool *under_lock)
{
	struct asp_stall stall = {.begin = 0};
	enum aspace_status status;
	enum verdict verdict;
	unsigned looks = 0;

	pin->thread = asp_thread_self();
	pin->in_section = asp_in_section_of_fork();
	*under_lock = false;
	if (asp_is_forking(space))
		return ASPACE_DEADLOCK;
	for (;;) {
		struct found found;
		uint32_t seen = 0;

		/* The section keeps the user object until the pin does (N8). */
		asp_read_lock(space->grace);
		found.root = asp_root(space);
		verdict = AGAIN;
		status = look(space, pin, &found, under_lock);
		if (status == ASPACE_OK && !*under_lock)
			status = try_to_pin(space, pin, &found, how, &verdict, &seen);
		asp_read_unlock(space->grace);

		if (verdict == UNKNOWN && status != ASPACE_OK && looks++ < LOOKS_AT_ONCE)
			continue;
		if (status != ASPACE_OK || *under_lock || verdict == SERVED) {
			asp_pins_drop(space, pin);
			if (*under_lock)
				pin->area.backend = found.area.backend;
			return status;
		}
		if (verdict == GO) {
			++*asp_writer_locks();
			return ASPACE_OK;
		}
		if (!stall.begin)
			stall = asp_stall_begin();
		/* What a writer has to say it says at once, and tells nobody. */
		if (verdict == UNKNOWN) {
			asp_wait(&space->pins.turn, seen, 1);
		} else if (verdict != AGAIN && !sleep_upon_turn(space, seen, &stall)) {
			asp_pins_drop(space, pin);
			return ASPACE_BUSY;
		}
	}
}

/* Those that wait to do what has just been done need not. */
static void serve(struct asp_pin *done)
{
	uint64_t same = done->span ? ~(done->span - 1) : UINT64_MAX;

	for (struct asp_pin *pin = done->next; pin; pin = pin->next) {
		if (pin->kind != ASP_FAULT && meet(pin, done))
			break; /* who waits behind that is to find what it leaves */
		if (pin->kind == ASP_FAULT && !pin->at_work && meet(pin, done) &&
		    pin->address >= done->lo && pin->address < done->hi && /* its own may be old */
		    !((pin->address ^ done->address) & same) && !(pin->access & ~done->access))
			pin->served = true;
	}
}

void asp_pins_unpin(struct aspace *space, struct asp_pin *pin, enum aspace_status status)
{
	bool wake, postponed;

	asp_lock_acquire(&space->pins.lock);
	if (pin->kind == ASP_FAULT && status == ASPACE_OK)
		serve(pin);
	wake = take_out(space, pin);
	postponed = space->pins.leaving.head || space->pins.deferred.head;
	/* Sequentially consistent, before the request: whom the helper finds in its way sees it
	 * when it leaves. */
	if (postponed)
		atomic_store(&space->pins.resumable, true);
	asp_lock_release(&space->pins.lock);
	--*asp_writer_locks();
	if (wake)
		asp_wake_all(&space->pins.turn);
	if (postponed)
		asp_grace_request(space->grace, &space->client, 1);
}

/* ---- Writers ------------------------------------------------------------------- */

/* At rest under the writer lock: see N7. */
bool asp_pins_claim_plan(struct asp_plan *plan, struct asp_pin *claim)
{
	struct aspace *space = plan->space;
	struct asp_pins *pins = &space->pins;
	struct asp_stall stall = {.begin = 0};
	bool wake = false, go_on = true;

	*claim = (struct asp_pin){
		.kind = ASP_CLAIM, .plan = plan, .thread = asp_thread_self(), .hi = UINT64_MAX};
	if (!plan->phases) /* no backend is asked */
		return true;
	asp_lock_acquire(&pins->lock);
	put(space, claim, NULL);
	/* What a fork has must come back first. */
	while (pins->lent || is_preceded(space, claim)) {
		uint32_t seen;

		plan->pinned = !pins->lent &&
			       (!go_on || plan->nowait || *asp_writer_locks() > 1 || pins->forkers);
		if (plan->pinned) {
			wake = take_out(space, claim);
			break;
		}
		count_sleeper(space, claim, true);
		seen = asp_rest_begin(space);
		asp_lock_release(&pins->lock);
		go_on = sleep_at_rest(space, seen, &stall);
		asp_lock_acquire(&pins->lock);
	}
	pins->resting = false;
	if (claim->listed) {
		count_sleeper(space, claim, false);
		claim->at_work = true;
	}
	asp_lock_release(&pins->lock);
	if (wake)
		asp_wake_all(&pins->turn);
	return !plan->pinned;
}

/* A claim of what the calling writer has said. */
static struct asp_pin claim_of_said(struct aspace *space)
{
	/* Relaxed: our own. */
	return (struct asp_pin){
		.kind = ASP_CLAIM,
		.thread = asp_thread_self(),
		.lo = atomic_load_explicit(&space->change_lo, memory_order_relaxed),
		.hi = atomic_load_explicit(&space->change_hi, memory_order_relaxed),
	};
}

bool asp_pins_hold_off(struct asp_plan *plan)
{
	struct aspace *space = plan->space;
	struct asp_pin said, *place = plan->place;
	uint32_t ticket;

	/* Once: who comes now waits for us, so it must not be in our way when we ask again. */
	if (plan->held_off)
		return true;
	said = claim_of_said(space);
	asp_lock_acquire(&space->pins.lock);
	if (place) {
		place->lo = said.lo;
		place->hi = said.hi;
	}
	ticket = writer_ticket(space);
	plan->pinned = obstacle(space, place ? place : &said, &ticket);
	if (place)
		place->at_work = !plan->pinned;
	asp_lock_release(&space->pins.lock);
	plan->held_off = !plan->pinned;
	return plan->held_off;
}

void asp_pins_close(struct aspace *space, struct asp_pin *claim)
{
	asp_lock_acquire(&space->pins.lock);
	claim->plan = NULL;
	asp_lock_release(&space->pins.lock);
}

void asp_pins_queue(struct aspace *space, struct asp_pin *place)
{
	struct asp_pin *next;
	uint32_t ticket;

	*place = claim_of_said(space);
	place->in_section = asp_in_section_of_fork();
	asp_lock_acquire(&space->pins.lock);
	ticket = writer_ticket(space);
	for (next = space->pins.first; next && !waits_for(next, ticket); next = next->next)
		;
	put(space, place, next);
	asp_lock_release(&space->pins.lock);
}

bool asp_pins_wait(struct aspace *space, struct asp_pin *place)
{
	struct asp_stall stall = asp_stall_begin();
	bool go_on = true;

	asp_lock_acquire(&space->pins.lock);
	place->at_work = false;
	while (go_on && obstacle(space, place, NULL)) {
		uint32_t seen = atomic_load(&space->pins.turn);

		go_on = !is_waited_for_by_fork(space, place);
		if (!go_on)
			break;
		count_sleeper(space, place, true);
		asp_lock_release(&space->pins.lock);
		go_on = sleep_upon_turn(space, seen, &stall);
		asp_lock_acquire(&space->pins.lock);
	}
	count_sleeper(space, place, false);
	asp_lock_release(&space->pins.lock);
	return go_on;
}

bool asp_pins_claim(struct aspace *space, struct asp_pin *claim, struct aspace_range range,
		    struct aspace_record *record)
{
	bool free;

	*claim = (struct asp_pin){
		.kind = ASP_CLAIM,
		.thread = asp_thread_self(),
		.lo = range.start.value,
		.hi = range.end.value,
		.at_work = true,
	};
	asp_lock_acquire(&space->pins.lock);
	free = !is_met(space, claim);
	/* Under the same lock: the pin looks there when it goes. */
	if (free)
		put(space, claim, NULL);
	else
		asp_list_push(&space->pins.leaving, record);
	asp_lock_release(&space->pins.lock);
	return free;
}

/* ---- What a pin keeps ------------------------------------------------------------ */

bool asp_pins_keep(struct aspace *space, struct aspace_record *record)
{
	const struct asp_pin *pin;

	/* A pin that showed the object was on the list before its section ended, and the grace
	 * period has waited for that. */
	if (__builtin_expect(!asp_pins_any(space), 1))
		return false;
	asp_lock_acquire(&space->pins.lock);
	for (pin = space->pins.first; pin; pin = pin->next) {
		if (pin->at_work && pin->kind != ASP_CLAIM && pin->area.user == record->user &&
		    pin->area.backend == record->backend)
			break;
	}
	if (pin)
		asp_list_push(&space->pins.deferred, record);
	asp_lock_release(&space->pins.lock);
	return pin;
}

static void put_back(struct aspace_record_list *list, struct aspace_record_list *postponed)
{
	asp_list_splice(postponed, list);
	*list = *postponed;
	*postponed = (struct aspace_record_list){0};
}

void asp_pins_resume(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;
	bool wake;

	/* Relaxed: who must not miss it looks when it has given the writer lock back. */
	if (__builtin_expect(!atomic_load_explicit(&pins->resumable, memory_order_relaxed), 1))
		return;
	asp_lock_acquire(&pins->lock);
	/* Under both locks; the next pin that goes stores it anew. */
	atomic_store(&pins->resumable, false);
	put_back(&space->leaving, &pins->leaving);
	put_back(&space->deferred, &pins->deferred);
	pins->resumed++;
	wake = pins->sleepers;
	if (wake)
		atomic_fetch_add(&pins->turn, 1);
	asp_lock_release(&pins->lock);
	if (wake)
		asp_wake_all(&pins->turn);
}

bool asp_pins_postpone(const struct aspace *space, struct aspace_range range)
{
	const struct aspace_record *record = space->pins.leaving.head;

	while (record && (asp_late_start(record) < range.start.value ||
			  asp_late_start(record) >= range.end.value))
		record = record->next;
	return record;
}

bool asp_pins_await(struct aspace *space, uint32_t resumed)
{
	struct asp_stall stall = asp_stall_begin();
	struct asp_pins *pins = &space->pins;
	bool go_on = true;

	asp_lock_acquire(&pins->lock);
	pins->sleepers++;
	while (go_on && pins->resumed == resumed && !atomic_load(&pins->resumable)) {
		uint32_t seen = atomic_load(&pins->turn);

		asp_lock_release(&pins->lock);
		go_on = sleep_upon_turn(space, seen, &stall);
		asp_lock_acquire(&pins->lock);
	}
	pins->sleepers--;
	asp_lock_release(&pins->lock);
	return go_on;
}

/* ---- Validation, fork ------------------------------------------------------------ */

static const char *check(struct aspace *space, uint64_t *where)
{
	const struct asp_pin *before = NULL;
	struct aspace_area area;
	uint32_t count = 0;

	for (const struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		*where = pin->lo;
		count++;
		if (pin->before != before || pin->lo >= pin->hi)
			return "the list of pins is damaged";
		before = pin;
		if (!pin->at_work)
			continue;
		for (const struct asp_pin *other = pin->next; other; other = other->next) {
			if (other->at_work && meet(pin, other))
				return "two are at work in one place";
		}
		if (pin->kind != ASP_CLAIM &&
		    (!asp_pins_find(asp_root(space), pin->address, &area) ||
		     area.backend != pin->area.backend))
			return "a pin is where no area of its backend is";
	}
	return count == atomic_load(&space->pins.used) ? NULL : "pins are not as many as counted";
}

const char *asp_pins_check(struct aspace *space, uint64_t *where)
{
	const char *what;

	asp_lock_acquire(&space->pins.lock);
	what = check(space, where);
	asp_lock_release(&space->pins.lock);
	return what;
}

void asp_pins_begin_fork(struct aspace *space)
{
	struct asp_pins *pins = &space->pins;
	uintptr_t self = asp_thread_self();
	bool any = false;

	asp_lock_acquire(&pins->lock);
	for (struct asp_pin *pin = pins->first; pin; pin = pin->next) {
		if (pin->thread != self || pin->kind == ASP_CLAIM || pin->forks)
			continue;
		pin->forks = any = true;
		pins->forkers++;
	}
	/* As take_out(): who waits looks again. */
	if (any)
		atomic_fetch_add(&pins->turn, 1);
	asp_lock_release(&pins->lock);
	if (any)
		asp_wake_all(&pins->turn);
}

/* It is over. In the child the other threads that were about to fork are gone. */
static void end_fork(struct aspace *space, bool child)
{
	uintptr_t self = asp_thread_self();

	for (struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		if (!pin->forks || pin->thread != self)
			continue;
		pin->forks = false;
		space->pins.forkers--;
	}
	if (child)
		space->pins.forkers = 0;
}

void asp_pins_before_fork(struct aspace *space)
{
	asp_lock_acquire(&space->pins.lock);
	space->pins.forking = true;
}

/* Of the threads that are gone some were counted that have no entry. */
static void count_again(struct aspace *space)
{
	uint32_t behind = 0, sleepers = 0;

	for (struct asp_pin *pin = space->pins.first; pin; pin = pin->next) {
		behind += pin->behind;
		sleepers += pin->counted;
	}
	atomic_store_explicit(&space->pins.behind, behind, memory_order_relaxed);
	space->pins.sleepers = sleepers;
}

void asp_pins_after_fork(struct aspace *space, bool child)
{
	uintptr_t self = asp_thread_self();
	struct asp_pin *next;

	space->pins.forking = false;
	end_fork(space, child);
	if (child) {
		asp_lock_forget_waiters(&space->pins.lock);
		/* The others are gone, and with them the stacks that their entries were on. */
		for (struct asp_pin *pin = space->pins.first; pin; pin = next) {
			next = pin->next;
			if (pin->thread != self)
				take_out(space, pin);
		}
		count_again(space);
		if (space->pins.leaving.head || space->pins.deferred.head)
			atomic_store(&space->pins.resumable, true);
	}
}
