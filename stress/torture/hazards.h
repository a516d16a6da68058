/* SPDX-License-Identifier: MIT */
/*
 * What one more thread of a scenario does, again and again, beside readers and writers.
 */
#ifndef TORTURE_HAZARDS_H
#define TORTURE_HAZARDS_H

#include "worker.h"

void hazard_sleep(struct worker *worker);  /* in a section, now and then into the next round */
void hazard_pin(struct worker *worker);    /* a snapshot, for some rounds */
void hazard_churn(struct worker *worker);  /* a thread starts, looks up once, exits */
void hazard_cancel(struct worker *worker); /* a thread is cancelled in a call */
void hazard_fork(struct worker *worker);
void hazard_shoot(struct worker *worker);  /* a signal, whose handler looks up */
void hazard_beside(struct worker *worker); /* a space comes and goes */
void hazard_hold(struct worker *worker);   /* a section, until garbage is at its bound */
void hazard_audit(struct worker *worker);  /* was what is deferred done in time? */

/* Before the first thread, after the last. */
void hazards_begin(void);
void hazards_end(struct worker *worker);

#endif
