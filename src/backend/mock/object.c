/* SPDX-License-Identifier: MIT */
/*
 * Objects whose references are counted (invariant 7), and which a reader may look at after their
 * last one has gone: a dead object is not used again before many others have died.
 */
#include "private.h"

/* So many dead objects wait before the first of them is used again. */
#define QUARANTINE 4096

static void object_put(struct aspace_mock *mock, struct aspace_mock_object *object)
{
	if (object->owner != mock || !atomic_load(&object->references)) {
		asp_mock_violate(mock, "release of a reference that does not exist");
		return;
	}
	atomic_fetch_sub(&mock->references, 1);
	if (atomic_fetch_sub(&object->references, 1) > 1)
		return;
	atomic_store(&object->id, 0);
	object->next = NULL;
	if (mock->quarantine_tail)
		mock->quarantine_tail->next = object;
	else
		mock->quarantine_head = object;
	mock->quarantine_tail = object;
	mock->quarantined++;
}

static struct aspace_mock_object *object_get(struct aspace_mock *mock)
{
	struct aspace_mock_object *object = mock->quarantine_head;

	if (mock->quarantined <= QUARANTINE)
		return asp_mock_arena_alloc(&mock->objects, sizeof(*object));
	mock->quarantine_head = object->next;
	mock->quarantined--;
	return object;
}

static enum aspace_status do_clone(struct aspace_mock *mock, struct aspace_mock_object *object)
{
	if (object->owner != mock || !atomic_load(&object->references))
		return asp_mock_violate(mock, "clone of a dead object");
	atomic_fetch_add(&object->references, 1);
	atomic_fetch_add(&mock->references, 1);
	return ASPACE_OK;
}

enum aspace_status asp_mock_clone(struct aspace_backend *backend, void *user, void **copy)
{
	struct aspace_mock *mock = asp_mock_of(backend);
	enum aspace_status status;

	pthread_mutex_lock(&mock->lock);
	status = asp_mock_enter(mock, ASPACE_MOCK_CLONE);
	if (status == ASPACE_OK)
		status = do_clone(mock, user);
	if (status == ASPACE_OK)
		*copy = user;
	pthread_mutex_unlock(&mock->lock);
	return status;
}

void asp_mock_release(struct aspace_backend *backend, void *user)
{
	struct aspace_mock *mock = asp_mock_of(backend);

	pthread_mutex_lock(&mock->lock);
	atomic_fetch_add(&mock->calls[ASPACE_MOCK_RELEASE], 1);
	object_put(mock, user);
	pthread_mutex_unlock(&mock->lock);
}

enum aspace_status aspace_mock_object_create(struct aspace_mock *mock,
					     struct aspace_mock_object **out)
{
	struct aspace_mock_object *object;

	if (!(mock->mode & ASPACE_MOCK_OBJECTS))
		return ASPACE_NOT_SUPPORTED;
	pthread_mutex_lock(&mock->lock);
	object = object_get(mock);
	if (object) {
		object->owner = mock;
		atomic_store(&object->references, 1);
		atomic_store(&object->id, ++mock->next_id);
		atomic_fetch_add(&mock->references, 1);
	}
	pthread_mutex_unlock(&mock->lock);
	if (!object)
		return ASPACE_NO_MEMORY;
	*out = object;
	return ASPACE_OK;
}

void aspace_mock_object_put(struct aspace_mock *mock, struct aspace_mock_object *object)
{
	pthread_mutex_lock(&mock->lock);
	object_put(mock, object);
	pthread_mutex_unlock(&mock->lock);
}

uint64_t aspace_mock_object_id(const struct aspace_mock_object *object)
{
	return atomic_load(&object->id);
}

uint64_t aspace_mock_object_references(const struct aspace_mock_object *object)
{
	return atomic_load(&object->references);
}

uint64_t aspace_mock_references(const struct aspace_mock *mock)
{
	return atomic_load(&mock->references);
}
