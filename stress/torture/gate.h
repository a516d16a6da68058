/* SPDX-License-Identifier: MIT */
/*
 * Where the threads of a round meet: they all arrive, the coordinator does what needs
 * them to stand still, then lets them go on.
 *
 * It orders everything before with everything after, but is passed only between rounds:
 * within a round threads are ordered by the library alone.
 */
#ifndef TORTURE_GATE_H
#define TORTURE_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t arrival, departure;
	unsigned arrived, expected;
	uint64_t turn;
};

void gate_make(struct gate *gate, unsigned expected);
void gate_free(struct gate *gate);
/* A thread: wait until the gate is opened. */
void gate_arrive(struct gate *gate);
/* The coordinator: wait until all are there; false: not within `seconds`. */
bool gate_await(struct gate *gate, double seconds);
void gate_open(struct gate *gate);

#endif
