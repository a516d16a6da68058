/* SPDX-License-Identifier: MIT */
/*
 * Guests: threads beside the model's own, that fault and advise, and stay inside the backend until they
 * are told to go. So what they are at work in stands still while the model goes on, and the order of events is the
 * model's: it waits until a guest is inside, or has come back, or is on the library's list behind another.
 */
#ifndef TESTS_MODEL_GUESTS_H
#define TESTS_MODEL_GUESTS_H

#include <aspace/aspace.h>
#include <pthread.h>

enum { GUESTS = 2 };

enum guest_state {
	GUEST_IDLE,
	GUEST_CALLING, /* in a call of the library, not inside, or no longer */
	GUEST_INSIDE,  /* in the backend */
	GUEST_BACK,    /* the call has returned */
};

/* How those that are inside go. */
enum guest_mode {
	GUESTS_STAY,  /* they do not; nobody waits for them meanwhile */
	GUESTS_YIELD, /* when they see that the model's thread sleeps in the library */
	GUESTS_GO,
};

struct guest {
	/* The call, and what the backend is to answer. */
	bool advises;
	uint64_t address, end;
	unsigned what; /* enum aspace_access, or aspace_advice */
	enum aspace_status answer;
	/* What has come of it. */
	enum guest_state state;
	enum aspace_status status;
	bool entered, left;      /* it has been inside; and has gone on from there */
	bool yielded;            /* because it was waited for */
	struct aspace_area area; /* as the backend got it */
	struct guests *all;
	pthread_t thread;
	/* It, as the library knows it; 0 until it runs. Names entries of the library's list, and orders
	 * nothing. */
	_Atomic uintptr_t self;
	bool has_thread;
};

struct guests {
	struct aspace *space;
	uintptr_t host; /* the model's thread, as the library knows it */
	enum guest_mode mode;
	bool closing;
	struct guest at[GUESTS];
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Called, and does not return, when the model's thread waits for those that stay. */
	void (*wrong)(void *ctx, const char *what);
	void *ctx;
};

/* `space`, and whom to tell what is wrong, are set. */
void guests_open(struct guests *guests);
/* None is in a call. */
void guests_close(struct guests *guests);
/* Makes its call. */
void guest_call(struct guest *guest);
/* Waits until it is inside, or back; or only for the latter. */
void guest_await(struct guest *guest, enum guest_state least);
/* Waits until it is on the library's list. */
void guest_await_listed(struct guest *guest);
void guests_set_mode(struct guests *guests, enum guest_mode mode);
/* Has it gone on from inside, or never been there? */
bool guest_has_left(struct guest *guest);
/* In a backend: the guest that calls, or NULL; and it is inside, until it is to go. */
struct guest *guest_self(void);
enum aspace_status guest_enter(struct guest *guest, const struct aspace_area *area);

#endif
