/* SPDX-License-Identifier: MIT */
/* Making and unmaking a mock, and giving back what its table no longer needs. */
#include "private.h"

#include <stddef.h>

#include "options.h"

#define PAGES_MAX_DEFAULT (UINT64_C(1) << 28)
#define LOG_MAX           (UINT64_C(1) << 32)

static bool mock_can_merge(struct aspace_backend *backend, const struct aspace_area *left,
			   const struct aspace_area *right)
{
	struct aspace_mock *mock = asp_mock_of(backend);

	atomic_fetch_add(&mock->calls[ASPACE_MOCK_CAN_MERGE], 1);
	if (left->backend != backend || right->backend != backend || left->flags != right->flags ||
	    left->end.value != right->start.value)
		asp_mock_violate(mock, "can_merge of areas that are no equal neighbours");
	return mock->mode & ASPACE_MOCK_MERGE_ALWAYS;
}

static bool options_usable(const struct aspace_mock_options *o)
{
	const unsigned order = ASPACE_MOCK_CHECK_ORDER;
	const unsigned merge = ASPACE_MOCK_MERGE_ALWAYS | ASPACE_MOCK_MERGE_NEVER;

	if ((o->granule & (o->granule - 1)) || (o->flags_mask & ASPACE_FLAGS_RESERVED) ||
	    o->log_capacity > LOG_MAX || o->mode >= ASPACE_MOCK_LOSES << 1)
		return false;
	if ((o->mode & merge) == merge)
		return false;
	return !(o->mode & order) || !(o->mode & (ASPACE_MOCK_NO_PREPARE | ASPACE_MOCK_NO_FLUSH));
}

static struct aspace_backend_ops ops_for(unsigned mode)
{
	return (struct aspace_backend_ops){
		.size = sizeof(struct aspace_backend_ops),
		.map = asp_mock_map,
		.unmap = asp_mock_unmap,
		.protect = asp_mock_protect,
		.prepare = mode & ASPACE_MOCK_NO_PREPARE ? NULL : asp_mock_prepare,
		.replace = mode & ASPACE_MOCK_NO_REPLACE ? NULL : asp_mock_replace,
		.move = mode & ASPACE_MOCK_NO_MOVE ? NULL : asp_mock_move,
		.flush = mode & ASPACE_MOCK_NO_FLUSH ? NULL : asp_mock_flush,
		.fault = mode & ASPACE_MOCK_NO_FAULT ? NULL : asp_mock_fault,
		.fault_span = asp_mock_fault_span,
		.advise = mode & ASPACE_MOCK_NO_ADVISE ? NULL : asp_mock_advise,
		.loses = mode & ASPACE_MOCK_LOSES ? asp_mock_loses : NULL,
		.can_merge = mode & (ASPACE_MOCK_MERGE_ALWAYS | ASPACE_MOCK_MERGE_NEVER)
				     ? mock_can_merge
				     : NULL,
		.clone = mode & ASPACE_MOCK_OBJECTS ? asp_mock_clone : NULL,
		.release = mode & ASPACE_MOCK_OBJECTS ? asp_mock_release : NULL,
	};
}

static void mock_init(struct aspace_mock *mock, const struct aspace_mock_options *o)
{
	uint64_t granule = o->granule ? o->granule : 4096;

	mock->ops = ops_for(o->mode);
	mock->backend.ops = &mock->ops;
	mock->backend.flags_mask = o->flags_mask ? o->flags_mask : ~ASPACE_FLAGS_RESERVED;
	mock->backend.granule = granule;
	mock->backend.remap_restores = o->mode & ASPACE_MOCK_REMAP_RESTORES;
	mock->mode = o->mode;
	mock->shift = (unsigned)__builtin_ctzll(granule);
	mock->pages_max = o->pages_max ? o->pages_max : PAGES_MAX_DEFAULT;
	mock->table = &mock->table_storage;
	pthread_mutex_init(&mock->lock, NULL);
}

enum aspace_status aspace_mock_create(const struct aspace_mock_options *options,
				      struct aspace_mock **out)
{
	struct aspace_mock_options known = {0};
	const struct aspace_mock_options *o = &known;
	struct aspace_mock *mock;

	if (!out ||
	    (options && !asp_copy_options(&known, sizeof(known), options,
					  offsetof(struct aspace_mock_options, flags_mask))))
		return ASPACE_INVALID_PARAM;
	if (!options_usable(o))
		return ASPACE_INVALID_PARAM;
	mock = asp_mock_memory(sizeof(*mock));
	if (!mock)
		return ASPACE_NO_MEMORY;
	mock_init(mock, o);
	if (!asp_mock_table_init(mock->table, 1024))
		goto fail;
	if (o->log_capacity) {
		mock->log = asp_mock_memory(asp_mock_log_bytes(o->log_capacity));
		if (!mock->log)
			goto fail;
		mock->log_capacity = o->log_capacity;
	}
	*out = mock;
	return ASPACE_OK;

fail:
	aspace_mock_destroy(mock);
	return ASPACE_NO_MEMORY;
}

void aspace_mock_destroy(struct aspace_mock *mock)
{
	if (!mock)
		return;
	asp_mock_table_free(mock->table);
	asp_mock_arena_free(&mock->objects);
	if (mock->log)
		asp_mock_memory_free(mock->log, asp_mock_log_bytes(mock->log_capacity));
	pthread_mutex_destroy(&mock->lock);
	asp_mock_memory_free(mock, sizeof(*mock));
}

struct aspace_backend *aspace_mock_backend(struct aspace_mock *mock)
{
	return &mock->backend;
}

enum aspace_status aspace_mock_compact(struct aspace_mock *mock)
{
	enum aspace_status status = ASPACE_NO_MEMORY;
	struct asp_mock_table fresh;

	pthread_mutex_lock(&mock->lock);
	if (asp_mock_table_init(&fresh, 1024) && asp_mock_table_copy(&fresh, mock->table)) {
		asp_mock_table_free(mock->table);
		*mock->table = fresh;
		status = ASPACE_OK;
	} else {
		asp_mock_table_free(&fresh);
	}
	pthread_mutex_unlock(&mock->lock);
	return status;
}
