/* SPDX-License-Identifier: MIT */
/*
 * One image while it is replayed: the library's space, its backend, and the
 * clock that says how far its history has come.
 */
#ifndef REPLAY_SPACE_H
#define REPLAY_SPACE_H

#include <aspace/aspace.h>
#include <aspace/backend/host.h>
#include <aspace/backend/mock.h>
#include <stdatomic.h>

#include "stage.h"
#include "tables.h"

enum backend_kind {
	BACKEND_MOCK,
	BACKEND_HOST,
	BACKEND_NULL,
	BACKEND_AARCH64,
};

struct playing {
	const struct scene *scene;
	enum backend_kind kind;
	struct aspace *space;
	struct aspace_backend *backend;
	struct aspace_mock *mock;
	struct aspace_host *host;
	struct tables *tables;
	uint64_t base; /* of the window */

	/*
	 * Step number n (from 1) is under way while ended < n <= begun. Stored by the
	 * replaying thread only. A reader loads `ended`, looks up, loads `begun`: its
	 * answer must have been true at a time between the two.
	 *
	 * That needs no more than release and acquire. ended: a reader that sees n
	 * sees what step n published. begun is stored before the library publishes
	 * (release), and loaded after the lookup's load of the root (acquire): who
	 * has found step n's version sees begun >= n.
	 */
	_Atomic uint32_t begun, ended;
	/* The number of the version that step n left behind; [times + 1]. Stored
	 * before `ended` is. */
	_Atomic uint64_t *versions;
};

/* Make the space for `scene`. `base` is where the window is to be, for backends
 * that do not care; a multiple of LAYOUT_ALIGN. `page` is the granule. `pages` is where the
 * library has its memory from; may be NULL. */
enum aspace_status playing_open(struct playing *playing, const struct scene *scene,
				enum backend_kind kind, uint64_t base, uint64_t page,
				const struct aspace_page_ops *pages);

/* Only the host backend's part of it: a window of `size` bytes and its base. */
enum aspace_status playing_open_host(struct playing *playing, uint64_t size);

/* Take the next step, which must not be END. */
enum aspace_status playing_step(struct playing *playing, const struct step *step);

/* The library's part of it, without the clock: there must be no reader. */
enum aspace_status playing_do(struct playing *playing, const struct step *step);

/*
 * Compare what is there with the history at this time: the library's areas, its
 * own invariants, and the backend's memory. On false, `reason` says what differs.
 */
bool playing_check(struct playing *playing, char reason[200]);

/* Compare what a step has changed in the backend with the library: only for tables, and only in the
 * replaying thread. On false, `reason` says what differs. */
bool playing_check_step(struct playing *playing, const struct step *step, char reason[200]);

/* Unmap all, see that nothing is left, free. False: something is; see `reason`. */
bool playing_close(struct playing *playing, char reason[200]);

/* The protection that the replay gives an area: the flags of every backend. */
static inline uint64_t flags_of(unsigned protection)
{
	_Static_assert((int)ASPACE_HOST_READ == (int)TRACE_READ &&
			       (int)ASPACE_HOST_WRITE == (int)TRACE_WRITE &&
			       (int)ASPACE_HOST_EXECUTE == (int)TRACE_EXEC &&
			       (int)ASPACE_AARCH64_READ == (int)TRACE_READ &&
			       (int)ASPACE_AARCH64_WRITE == (int)TRACE_WRITE &&
			       (int)ASPACE_AARCH64_EXECUTE == (int)TRACE_EXEC,
		       "protections are flags");
	return protection;
}

#endif
