/* SPDX-License-Identifier: MIT */
#include "gate.h"

#include <time.h>

void gate_make(struct gate *gate, unsigned expected)
{
	pthread_condattr_t monotonic;

	*gate = (struct gate){.expected = expected};
	pthread_mutex_init(&gate->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&gate->arrival, &monotonic);
	pthread_cond_init(&gate->departure, NULL);
	pthread_condattr_destroy(&monotonic);
}

void gate_free(struct gate *gate)
{
	pthread_cond_destroy(&gate->departure);
	pthread_cond_destroy(&gate->arrival);
	pthread_mutex_destroy(&gate->lock);
}

void gate_arrive(struct gate *gate)
{
	uint64_t turn;

	pthread_mutex_lock(&gate->lock);
	turn = gate->turn;
	if (++gate->arrived == gate->expected)
		pthread_cond_signal(&gate->arrival);
	while (gate->turn == turn)
		pthread_cond_wait(&gate->departure, &gate->lock);
	pthread_mutex_unlock(&gate->lock);
}

bool gate_await(struct gate *gate, double seconds)
{
	struct timespec until;
	bool all;
	int error = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)seconds + 1;
	pthread_mutex_lock(&gate->lock);
	while (gate->arrived < gate->expected && !error)
		error = pthread_cond_timedwait(&gate->arrival, &gate->lock, &until);
	all = gate->arrived == gate->expected;
	pthread_mutex_unlock(&gate->lock);
	return all;
}

void gate_open(struct gate *gate)
{
	pthread_mutex_lock(&gate->lock);
	gate->arrived = 0;
	gate->turn++;
	pthread_cond_broadcast(&gate->departure);
	pthread_mutex_unlock(&gate->lock);
}
