/* SPDX-License-Identifier: MIT */
/*
 * What becomes of references while a plan is made; see references.c.
 */
#ifndef ASPACE_UPDATE_REFERENCES_H
#define ASPACE_UPDATE_REFERENCES_H

#include "space/space.h"

/* One more reference, for a piece that asp_plan_cut() or asp_plan_set_flags() will make;
 * the record has been reserved. */
enum aspace_status asp_clone_ahead(struct asp_plan *plan, struct aspace_backend *backend,
				   void *user);
/* A reference for a new piece of an area: the one that was cloned ahead. Only the
 * repair of a failed commit may have to clone anew; a piece without a reference is
 * then the best that is left. */
void *asp_take_clone(struct asp_plan *plan, struct aspace_backend *backend, void *user);
/* The area has a reference that is new. The record has been reserved, as for the others. */
void asp_note_birth(struct asp_plan *plan, const struct aspace_area *area);
/* The area starts elsewhere, with the reference that it had. */
void asp_note_move(struct asp_plan *plan, const struct aspace_area *area, uint64_t start);
/* The area is going, and its reference with it. */
void asp_give_up_reference(struct asp_plan *plan, const struct aspace_area *area);

#endif
