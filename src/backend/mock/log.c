/* SPDX-License-Identifier: MIT */
/* The log: a ring of entries, the newest over the oldest. */
#include "private.h"

void asp_mock_log(struct aspace_mock *mock, const struct aspace_mock_entry *entry)
{
	if (mock->log)
		mock->log[mock->log_count % mock->log_capacity] = *entry;
	mock->log_count++;
}

void asp_mock_log_change(struct aspace_mock *mock, enum aspace_mock_call call,
			 const struct aspace_change *change, enum aspace_status status)
{
	const struct aspace_mock_entry entry = {
		.call = call,
		.status = status,
		.undo = change->undo,
		.kind = change->kind,
		.range = change->range,
		.destination = change->destination,
		.old_flags = change->old_flags,
		.new_flags = change->new_flags,
	};

	asp_mock_log(mock, &entry);
}

uint64_t asp_mock_log_bytes(uint64_t capacity)
{
	return capacity * sizeof(struct aspace_mock_entry);
}

uint64_t aspace_mock_log_count(struct aspace_mock *mock)
{
	uint64_t count;

	pthread_mutex_lock(&mock->lock);
	count = mock->log_count;
	pthread_mutex_unlock(&mock->lock);
	return count;
}

bool aspace_mock_log_get(struct aspace_mock *mock, uint64_t index, struct aspace_mock_entry *entry)
{
	bool there;

	pthread_mutex_lock(&mock->lock);
	there = mock->log && index < mock->log_count &&
		mock->log_count - index <= mock->log_capacity;
	if (there)
		*entry = mock->log[index % mock->log_capacity];
	pthread_mutex_unlock(&mock->lock);
	return there;
}

void aspace_mock_log_clear(struct aspace_mock *mock)
{
	pthread_mutex_lock(&mock->lock);
	mock->log_count = 0;
	pthread_mutex_unlock(&mock->lock);
}
