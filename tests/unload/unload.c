/* SPDX-License-Identifier: MIT */
/*
 * dlopen() and dlclose() of libaspace.so while grace periods are pending and another thread
 * looks up: the library stays (it is linked with -z nodelete), its helper thread with it,
 * and what was pending is done.
 *
 *     unload LIBRARY [ROUNDS]
 */
#include <dlfcn.h>

#include "../threads/crew.h"

/* The library's calls, as dlsym() finds them: this program is not linked with it. */
static struct {
	__typeof__(&aspace_create) create;
	__typeof__(&aspace_destroy) destroy;
	__typeof__(&aspace_map) map;
	__typeof__(&aspace_unmap) unmap;
	__typeof__(&aspace_find) find;
	__typeof__(&aspace_quiesce) quiesce;
} lib;

static struct aspace *space; /* lives through all rounds */
static _Atomic uint64_t made, released, lookups;
static _Atomic bool stop;

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *what)
{
	(void)backend;
	(void)what;
	return ASPACE_OK;
}

static void release(struct aspace_backend *backend, void *user)
{
	(void)backend;
	(void)user;
	relaxed_add(&released, 1);
}

static const struct aspace_backend_ops ops = {
	.size = sizeof(ops),
	.map = change,
	.unmap = change,
	.protect = change,
	.replace = change,
	.release = release,
};
static struct aspace_backend backend = {.ops = &ops};

static void find_symbol(void *handle, const char *name, void *function)
{
	void *found = dlsym(handle, name);

	if (!found)
		fail("%s: %s", name, dlerror());
	memcpy(function, &found, sizeof(found));
}

static void *open_library(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		fail("%s", dlerror());
	find_symbol(handle, "aspace_create", &lib.create);
	find_symbol(handle, "aspace_destroy", &lib.destroy);
	find_symbol(handle, "aspace_map", &lib.map);
	find_symbol(handle, "aspace_unmap", &lib.unmap);
	find_symbol(handle, "aspace_find", &lib.find);
	find_symbol(handle, "aspace_quiesce", &lib.quiesce);
	return handle;
}

/* Leaves something pending behind: nodes and user objects. */
static void use(struct aspace *what, long round)
{
	for (uint64_t i = 0; i < 8; i++) {
		uint64_t at = ((uint64_t)round * 8 + i) % 512 * 16;

		check_ok(lib.map(what, aspace_range_of(at, at + 12), 0, &backend, &backend,
				 ASPACE_REPLACE));
		relaxed_add(&made, 1);
	}
	check_ok(lib.unmap(what, aspace_range_of((uint64_t)round % 512 * 16, 512 * 16), 0));
}

static void *reader(void *unused)
{
	(void)unused;
	while (!relaxed_load(&stop)) {
		for (uint64_t at = 0; at < 512 * 16; at += 100)
			lib.find(space, aspace_va(at), NULL);
		relaxed_add(&lookups, 1);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	long rounds = argc > 2 ? strtol(argv[2], NULL, 0) : 500;
	struct aspace_options options = {.size = sizeof(options)};
	struct aspace *brief;
	pthread_t thread;
	void *handle;

	check(argc > 1);
	handle = open_library(argv[1]);
	check_ok(lib.create(&options, &space));
	thread = spawn(reader, NULL);
	until(relaxed_load(&lookups) > 0);
	for (long i = 0; i < rounds; i++) {
		use(space, i);
		check(!dlclose(handle));
		handle = open_library(argv[1]);
		/* And one that comes and goes while the library is open. */
		check_ok(lib.create(&options, &brief));
		use(brief, i);
		check_ok(lib.destroy(brief, 0));
	}
	check(!dlclose(handle));
	/* Still there. */
	check_ok(lib.quiesce(space, 0));
	relaxed_store(&stop, true);
	join(thread);
	check_ok(lib.destroy(space, 0));
	check(relaxed_load(&made) == relaxed_load(&released));
	printf("%ld rounds, %llu objects released, %llu sweeps of lookups\n", rounds,
	       (unsigned long long)released, (unsigned long long)lookups);
	return 0;
}
