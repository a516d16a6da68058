/* SPDX-License-Identifier: MIT */
/*
 * Deferred things that meet a pin.
 *
 * They are *postponed*: off the lists of what has come due, so that nothing else that is deferred waits
 * for them, until a pin goes; then whoever becomes the writer puts all of them back.
 *
 * Invariants (numbers of pins.c):
 *  N8  While a pin is at work the reference of its area to its user object is not released, and the
 *      area's memory does not go: deferred things that meet it are postponed. (Of equal pointers any
 *      reference may be that one, if the pin was at work when the grace period of the reference was over.)
 */
#include "update/pin_list.h"

bool asp_pins_claim(struct aspace *space, struct asp_pin *claim, struct aspace_range range,
		    struct aspace_record *record)
{
	struct asp_pin *met;

	*claim = (struct asp_pin){
		.kind = ASP_CLAIM,
		.thread = asp_thread_self(),
		.lo = range.start.value,
		.hi = range.end.value,
		.at_work = true,
	};
	asp_mutex_acquire(&space->pins.lock);
	met = asp_pin_met(space, claim);
	if (met) {
		met->keeps = true;
		asp_list_push(&space->pins.leaving, record);
	} else {
		asp_pin_put(space, claim, NULL);
	}
	asp_mutex_release(&space->pins.lock);
	return !met;
}

/*
 * A record that has been here before has no `retired` any more, since no snapshot shows it, and notes in
 * `birth` which pins were at work by then. Others have found the object later, in an area that has a
 * reference of its own: for them nothing is kept, or a stream of them would keep it for ever.
 */
bool asp_pins_keep(struct aspace *space, struct aspace_record *record)
{
	uint64_t works = record->retired ? UINT64_MAX : record->birth;
	struct asp_pin *pin;

	/* A pin that showed the object was on the list before its section ended, and the grace
	 * period has waited for that. */
	if (__builtin_expect(!asp_pins_any(space), 1))
		return false;
	asp_mutex_acquire(&space->pins.lock);
	for (pin = space->pins.first; pin; pin = pin->next) {
		if (pin->at_work && pin->kind != ASP_CLAIM && pin->number <= works &&
		    pin->area.user == record->user && pin->area.backend == record->backend)
			break;
	}
	if (pin && record->retired) {
		record->retired = 0;
		record->birth = space->pins.works;
	}
	if (pin) {
		pin->keeps = true;
		asp_list_push(&space->pins.deferred, record);
	}
	asp_mutex_release(&space->pins.lock);
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
	asp_mutex_acquire(&pins->lock);
	/* Under both locks; the next pin that goes stores it anew. */
	atomic_store(&pins->resumable, false);
	put_back(&space->leaving, &pins->leaving);
	put_back(&space->deferred, &pins->deferred);
	pins->resumed++;
	wake = pins->waiters;
	if (wake)
		atomic_fetch_add(&pins->turn, 1);
	asp_mutex_release(&pins->lock);
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

/* With the lock, which is given back meanwhile. */
static void sleep_once(struct aspace *space, const struct asp_stall *stall)
{
	struct asp_pins *pins = &space->pins;
	uint32_t seen = atomic_load(&pins->turn);

	pins->waiters++;
	asp_mutex_release(&pins->lock);
	asp_wait(&pins->turn, seen, asp_stall_left(space, stall));
	asp_mutex_acquire(&pins->lock);
	pins->waiters--;
}

bool asp_pins_await(struct aspace *space, uint32_t resumed)
{
	struct asp_stall stall = asp_stall_begin();
	struct asp_pins *pins = &space->pins;
	bool go_on = true;

	asp_mutex_acquire(&pins->lock);
	while (go_on && pins->resumed == resumed && !atomic_load(&pins->resumable)) {
		sleep_once(space, &stall);
		asp_mutex_release(&pins->lock);
		/* Not counted: the hook may fork. */
		go_on = !asp_stall_is_due(space, &stall) || asp_stall_tell(space, &stall);
		asp_mutex_acquire(&pins->lock);
	}
	asp_mutex_release(&pins->lock);
	return go_on;
}
