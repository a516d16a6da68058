/* SPDX-License-Identifier: MIT */
#include "guests.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "update/pins.h"

static _Thread_local struct guest *self;

struct guest *guest_self(void)
{
	return self;
}

/* Does the model's thread sleep, or is it about to, because of somebody on the list? */
static bool is_awaited(struct guests *guests)
{
	struct asp_pins *pins = &guests->space->pins;
	bool awaited = false;

	asp_mutex_acquire(&pins->lock);
	for (const struct asp_pin *pin = pins->first; pin; pin = pin->next)
		awaited |= pin->thread == guests->host && pin->awaits;
	asp_mutex_release(&pins->lock);
	return awaited;
}

static void set_state(struct guest *guest, enum guest_state state)
{
	guest->state = state;
	pthread_cond_broadcast(&guest->all->changed);
}

/* Under the lock. True: it has been told to go, or waited for where it may be. Where it may not be, it looks now and
 * then: that is for saying so instead of hanging, and measures nothing. */
static bool is_to_go(struct guest *guest)
{
	struct guests *all = guest->all;
	struct timespec until;

	switch (all->mode) {
	case GUESTS_GO:
		return true;
	case GUESTS_YIELD:
		pthread_mutex_unlock(&all->lock);
		sched_yield();
		guest->yielded = is_awaited(all);
		pthread_mutex_lock(&all->lock);
		return guest->yielded;
	default:
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&all->changed, &all->lock, &until);
		if (all->mode == GUESTS_STAY && is_awaited(all))
			all->wrong(all->ctx, "it waits for a fault or advice that is elsewhere");
		return false;
	}
}

enum aspace_status guest_enter(struct guest *guest, const struct aspace_area *area)
{
	struct guests *all = guest->all;

	pthread_mutex_lock(&all->lock);
	guest->area = *area;
	guest->entered = true;
	set_state(guest, GUEST_INSIDE);
	while (!is_to_go(guest))
		;
	guest->left = true;
	set_state(guest, GUEST_CALLING);
	pthread_mutex_unlock(&all->lock);
	return guest->answer;
}

static enum aspace_status call(const struct guest *guest)
{
	struct aspace *space = guest->all->space;

	if (guest->advises)
		return aspace_advise(space, aspace_range_of(guest->address, guest->end),
				     (enum aspace_advice)guest->what, 0);
	return aspace_fault(space, aspace_va(guest->address), guest->what, 0);
}

static void *live(void *ctx)
{
	struct guest *guest = ctx;
	struct guests *all = guest->all;

	self = guest;
	atomic_store(&guest->self, asp_thread_self());
	pthread_mutex_lock(&all->lock);
	while (!all->closing) {
		enum aspace_status status;

		if (guest->state != GUEST_CALLING) {
			pthread_cond_wait(&all->changed, &all->lock);
			continue;
		}
		pthread_mutex_unlock(&all->lock);
		status = call(guest);
		pthread_mutex_lock(&all->lock);
		guest->status = status;
		set_state(guest, GUEST_BACK);
	}
	pthread_mutex_unlock(&all->lock);
	return NULL;
}

void guest_call(struct guest *guest)
{
	struct guests *all = guest->all;

	pthread_mutex_lock(&all->lock);
	guest->entered = guest->left = guest->yielded = false;
	set_state(guest, GUEST_CALLING);
	pthread_mutex_unlock(&all->lock);
	if (!guest->has_thread && pthread_create(&guest->thread, NULL, live, guest))
		all->wrong(all->ctx, "there is no thread to be had");
	guest->has_thread = true;
}

void guest_await(struct guest *guest, enum guest_state least)
{
	struct guests *all = guest->all;

	pthread_mutex_lock(&all->lock);
	while (guest->state < least)
		pthread_cond_wait(&all->changed, &all->lock);
	pthread_mutex_unlock(&all->lock);
}

static bool is_listed(struct guest *guest)
{
	struct asp_pins *pins = &guest->all->space->pins;
	bool listed = false;

	asp_mutex_acquire(&pins->lock);
	for (const struct asp_pin *pin = pins->first; pin; pin = pin->next)
		listed |= pin->thread == atomic_load(&guest->self);
	asp_mutex_release(&pins->lock);
	return listed;
}

/* Whoever does deferred work may be on the list, too, so entries are not counted. */
void guest_await_listed(struct guest *guest)
{
	while (!is_listed(guest))
		sched_yield();
}

void guests_set_mode(struct guests *guests, enum guest_mode mode)
{
	pthread_mutex_lock(&guests->lock);
	guests->mode = mode;
	pthread_cond_broadcast(&guests->changed);
	pthread_mutex_unlock(&guests->lock);
}

bool guest_has_left(struct guest *guest)
{
	bool left;

	pthread_mutex_lock(&guest->all->lock);
	left = guest->left || !guest->entered;
	pthread_mutex_unlock(&guest->all->lock);
	return left;
}

void guests_open(struct guests *guests)
{
	pthread_mutex_init(&guests->lock, NULL);
	pthread_cond_init(&guests->changed, NULL);
	guests->host = asp_thread_self();
	guests->mode = GUESTS_STAY;
	guests->closing = false;
	memset(guests->at, 0, sizeof(guests->at));
	for (int i = 0; i < GUESTS; i++)
		guests->at[i].all = guests;
}

void guests_close(struct guests *guests)
{
	pthread_mutex_lock(&guests->lock);
	guests->closing = true;
	pthread_cond_broadcast(&guests->changed);
	pthread_mutex_unlock(&guests->lock);
	for (int i = 0; i < GUESTS; i++) {
		if (guests->at[i].has_thread)
			pthread_join(guests->at[i].thread, NULL);
	}
	pthread_cond_destroy(&guests->changed);
	pthread_mutex_destroy(&guests->lock);
}
