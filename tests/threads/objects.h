/* SPDX-License-Identifier: MIT */
/*
 * A backend whose user objects are on the heap and freed by `release`, so that the
 * sanitizers see who touches one too late. Their words are plain: a reader that meets a
 * release is a data race.
 */
#ifndef THREADS_OBJECTS_H
#define THREADS_OBJECTS_H

#include "crew.h"

#define OBJECT_ALIVE UINT64_C(0xa11fea11fe)
#define OBJECT_DEAD  UINT64_C(0xdeaddeaddead)

struct object {
	uint64_t state;
	uint64_t name; /* what the area's flags say, too */
	_Atomic uint32_t references;
};

/* References that areas, or versions of them, have. */
static _Atomic int64_t objects_alive;
static _Atomic uint64_t objects_released;

static inline struct object *object_make(uint64_t name)
{
	struct object *object = malloc(sizeof(*object));

	check(object);
	*object = (struct object){OBJECT_ALIVE, name, 1};
	relaxed_add(&objects_alive, 1);
	return object;
}

static inline void object_put(struct object *object)
{
	/* Acquire and release: the last one frees what all others have done with. */
	if (atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) != 1)
		return;
	check(object->state == OBJECT_ALIVE);
	object->state = OBJECT_DEAD;
	object->name = OBJECT_DEAD;
	relaxed_add(&objects_alive, -1);
	free(object);
}

static inline void object_look(const struct aspace_area *area)
{
	const struct object *object = area->user;

	if (object->state != OBJECT_ALIVE || object->name != area->flags)
		fail("the object at %#llx, flags %#llx, has been released",
		     (unsigned long long)area->start.value, (unsigned long long)area->flags);
}

static enum aspace_status object_clone(struct aspace_backend *backend, void *user, void **copy)
{
	struct object *object = user;

	(void)backend;
	check(object->state == OBJECT_ALIVE);
	relaxed_add(&object->references, 1);
	*copy = object;
	return ASPACE_OK;
}

static void object_release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	relaxed_add(&objects_released, 1);
	object_put(user);
}

static enum aspace_status object_change(struct aspace_backend *backend,
					const struct aspace_change *change)
{
	(void)backend;
	(void)change;
	return ASPACE_OK;
}

static inline struct aspace_backend *object_backend(void)
{
	static const struct aspace_backend_ops ops = {
		.size = sizeof(ops),
		.map = object_change,
		.unmap = object_change,
		.protect = object_change,
		.replace = object_change,
		.move = object_change,
		.clone = object_clone,
		.release = object_release,
	};
	static struct aspace_backend backend = {
		.ops = &ops,
		.flags_mask = ~ASPACE_FLAGS_RESERVED,
		.granule = 1,
		.remap_restores = true,
	};

	return &backend;
}

#endif
