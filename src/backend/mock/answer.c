/* SPDX-License-Identifier: MIT */
/*
 * What a call is to answer: counted, refused as the test has asked, or told that it breaks
 * the backend's contract.
 */
#include "private.h"

#include <string.h>

enum aspace_status asp_mock_violate(struct aspace_mock *mock, const char *what)
{
	const char *none = NULL;

	atomic_compare_exchange_strong(&mock->first_violation, &none, what);
	atomic_fetch_add(&mock->violations, 1);
	return ASPACE_BAD_STATE;
}

static bool fires(struct asp_mock_injection *injection)
{
	if (!injection->countdown)
		return false;
	if (injection->countdown > 1) {
		injection->countdown--;
		return false;
	}
	if (!injection->forever)
		injection->countdown = 0;
	return true;
}

enum aspace_status asp_mock_enter(struct aspace_mock *mock, enum aspace_mock_call call)
{
	const enum aspace_mock_call order[] = {ASPACE_MOCK_ANY, call};
	enum aspace_status status = ASPACE_OK;

	for (int i = 0; i < 2; i++) {
		enum aspace_mock_call kind = order[i];

		atomic_fetch_add(&mock->calls[kind], 1);
		/* Both injections count every call, also one that the other refuses. */
		if (fires(&mock->injection[kind]) && status == ASPACE_OK) {
			status = mock->injection[kind].status;
			atomic_fetch_add(&mock->injected[kind], 1);
		}
	}
	return status;
}

enum aspace_status aspace_mock_inject(struct aspace_mock *mock, enum aspace_mock_call call,
				      uint64_t nth, bool forever, enum aspace_status status)
{
	if ((unsigned)call > ASPACE_MOCK_ANY && call != ASPACE_MOCK_ADVISE)
		return ASPACE_INVALID_PARAM;
	if (status == ASPACE_OK)
		nth = 0;
	pthread_mutex_lock(&mock->lock);
	mock->injection[call] = (struct asp_mock_injection){nth, forever, status};
	pthread_mutex_unlock(&mock->lock);
	return ASPACE_OK;
}

void aspace_mock_heal(struct aspace_mock *mock)
{
	pthread_mutex_lock(&mock->lock);
	memset(mock->injection, 0, sizeof(mock->injection));
	pthread_mutex_unlock(&mock->lock);
}

static uint64_t count_of(const _Atomic uint64_t *counts, enum aspace_mock_call call)
{
	return (unsigned)call < ASPACE_MOCK_CALLS ? atomic_load(&counts[call]) : 0;
}

uint64_t aspace_mock_calls(const struct aspace_mock *mock, enum aspace_mock_call call)
{
	return count_of(mock->calls, call);
}

uint64_t aspace_mock_injected(const struct aspace_mock *mock, enum aspace_mock_call call)
{
	return count_of(mock->injected, call);
}

uint64_t aspace_mock_violations(const struct aspace_mock *mock, const char **what)
{
	if (what)
		*what = atomic_load(&mock->first_violation);
	return atomic_load(&mock->violations);
}
