/* SPDX-License-Identifier: MIT */
/*
 * The host backend: areas as real mappings inside a reserved window. What its parts are, and the
 * invariants that they keep, is in private.h; here are its life and one batch of changes.
 */
#include "private.h"

#include <string.h>
#include <unistd.h>

#include "options.h"

static struct aspace_host *host_of(struct aspace_backend *backend)
{
	return (struct aspace_host *)backend;
}

/* ---- Preparing ---- */

static bool loses_contents(enum aspace_change_kind kind)
{
	return kind == ASPACE_CHANGE_REPLACE || kind == ASPACE_CHANGE_UNMAP;
}

/* Units that the ballast must hold before the first change is made; 0: any number. One change
 * that loses contents, if refused, has changed nothing; of several, only the first may be. */
static size_t ballast_wanted(const struct aspace_host *host, const struct aspace_change *change)
{
	bool several = host->losses > 1 && host->additions;
	size_t wanted = change->kind == ASPACE_CHANGE_UNMAP ? 0 : ASP_BALLAST_NEEDED;

	if (several && change->kind == ASPACE_CHANGE_UNMAP)
		wanted = ASP_BALLAST_FLOOR + host->additions;
	else if (several && host->units_before > ASP_BALLAST_KEPT + wanted)
		wanted = host->units_before - ASP_BALLAST_KEPT + host->additions;
	return wanted ? ASP_BALLAST_KEPT + wanted : 0;
}

static enum aspace_status prepare(struct aspace_host *host, const struct aspace_change *change)
{
	const size_t full = ASP_BALLAST_KEPT + ASP_BALLAST_FULL;
	size_t late = host->late_promised + asp_late_needed(change), wanted;

	if (!asp_host_usable(host, change))
		return ASPACE_INVALID_PARAM;
	/* A map that is prepared after one of these is made after it. */
	if (loses_contents(change->kind) || (host->losses && change->kind == ASPACE_CHANGE_MAP)) {
		host->losses++;
		host->additions += change->kind == ASPACE_CHANGE_UNMAP
					   ? asp_host_unmap_additions(host, change)
					   : 2;
	}
	asp_ballast_fill(host, full);
	if (!host->begun)
		host->units_before = host->ballast_units;
	host->begun = true;
	wanted = ballast_wanted(host, change);
	asp_ballast_fill(host, wanted);
	if (host->ballast_units < wanted || !asp_late_reserve(host, host->late_count + late))
		return ASPACE_NO_MEMORY;
	host->late_promised = late;
	return ASPACE_OK;
}

static enum aspace_status host_prepare(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	int saved = errno;
	enum aspace_status status = prepare(host_of(backend), change);

	errno = saved;
	return status;
}

/* ---- Changing ---- */

/* Down to how many units may a change that has been refused go? An unmap has seen to itself; an
 * undo has all, and what flush can take back it will; what prepare has filled the ballast
 * for, these. The only replace of a batch can be refused without harm. */
static size_t units_left(const struct aspace_host *host, const struct aspace_change *change)
{
	if (change->undo)
		return ASP_BALLAST_KEPT;
	if (host->losses > 1 && (change->kind == ASPACE_CHANGE_REPLACE || host->lost))
		return ASP_BALLAST_KEPT + ASP_BALLAST_FLOOR;
	return host->ballast_units;
}

/* Once more on the ballast, an undo on all of it, others unit by unit. */
static enum aspace_status apply_on_ballast(struct aspace_host *host,
					   const struct aspace_change *change)
{
	size_t left = units_left(host, change);
	enum aspace_status status = ASPACE_NO_MEMORY;

	for (int tries = 0; status == ASPACE_NO_MEMORY && tries < 3 && host->ballast_units > left;
	     tries++) {
		host->ballast_given_up += !tries;
		asp_ballast_keep(host, change->undo ? left : host->ballast_units - 1);
		status = asp_host_apply(host, change);
	}
	return status;
}

/* What all changes have in common around asp_host_apply(). */
static enum aspace_status change_with(struct aspace_backend *backend,
				      const struct aspace_change *change,
				      enum aspace_change_kind kind)
{
	struct aspace_host *host = host_of(backend);
	enum aspace_status status;
	int saved = errno;

	if (change->kind != kind || !asp_host_usable(host, change))
		return ASPACE_INVALID_PARAM;
	asp_late_settle(host, change->range, change->undo);
	status = asp_host_apply(host, change);
	if (status == ASPACE_NO_MEMORY && kind != ASPACE_CHANGE_UNMAP)
		status = apply_on_ballast(host, change);
	if (status == ASPACE_OK && !change->undo)
		host->lost |= loses_contents(kind);
	errno = saved;
	return status;
}

static enum aspace_status host_map(struct aspace_backend *backend,
				   const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_MAP);
}

static enum aspace_status host_unmap(struct aspace_backend *backend,
				     const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_UNMAP);
}

static enum aspace_status host_protect(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_PROTECT);
}

static enum aspace_status host_replace(struct aspace_backend *backend,
				       const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_REPLACE);
}

static enum aspace_status host_move(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_CHANGE_MOVE);
}

/* ---- Flushing ---- */

static void host_flush(struct aspace_backend *backend)
{
	struct aspace_host *host = host_of(backend);
	const size_t full = ASP_BALLAST_KEPT + ASP_BALLAST_FULL;
	int saved = errno;

	asp_late_run(host);
	asp_ballast_keep(host, full);
	asp_ballast_fill(host, full);
	if (host->scar_count) {
		/* Most of them give mappings back. */
		asp_scars_heal(host);
		asp_ballast_fill(host, full);
	}
	if (host->begun)
		asp_ballast_take_back(host, host->units_before < full ? host->units_before : full);
	host->losses = host->additions = 0;
	host->begun = host->lost = false;
	errno = saved;
}

/* ---- Faults ---- */

/* Only system calls, so signal-safe. Needs none of the host's state that changes. */
static enum aspace_status host_fault(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_vaddr address, unsigned access)
{
	struct aspace_host *host = host_of(backend);
	struct aspace_vaddr page = {address.value & ~(host->page - 1)};
	bool writes = (access & ASPACE_ACCESS_WRITE) || !(area->flags & ASPACE_HOST_READ);
	enum aspace_status status = ASPACE_OK;
	int saved = errno;

	if (address.value < area->start.value || address.value >= area->end.value ||
	    page.value < host->window.start.value || page.value >= host->window.end.value)
		return ASPACE_INVALID_PARAM;
	/* The access bits are the flags' bits. */
	if ((access & ~area->flags & ASP_HOST_ACCESS) || !(area->flags & ASP_HOST_ACCESS))
		return ASPACE_ACCESS_DENIED;
	if (!(area->flags & (ASPACE_HOST_READ | ASPACE_HOST_WRITE)))
		return ASPACE_OK; /* execute-only: nothing populates it but the access itself */
	if (madvise(asp_host_pointer(page), host->page,
		    writes ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) &&
	    errno != EINVAL) /* before 5.14: the access will populate it */
		status = asp_host_status(errno == EFAULT ? ENOMEM : errno);
	errno = saved;
	return status;
}

/* madvise() of one page at a time: the kernel sees to it that each is populated once. */
static uint64_t host_fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)area;
	return host_of(backend)->page;
}

/* Access, or contents. What is neither (advice, a guard that was inaccessible before) is not missed. */
static unsigned host_loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
			   uint64_t *meanwhile)
{
	unsigned loses = 0;

	(void)backend;
	if (from & ~to & ASP_HOST_ACCESS)
		loses |= ASPACE_LOSES_ACCESS;
	if (to & ~from & ASPACE_HOST_DECOMMITTED)
		loses |= ASPACE_LOSES_CONTENTS;
	/* The kernel has all combinations. A guard or decommitted area gives nothing. */
	if (to & ASP_HOST_ACCESS)
		*meanwhile = to | (from & ASP_HOST_ACCESS);
	return loses;
}

static const struct aspace_backend_ops host_ops = {
	.size = sizeof(host_ops),
	.map = host_map,
	.unmap = host_unmap,
	.protect = host_protect,
	.prepare = host_prepare,
	.replace = host_replace,
	.move = host_move,
	.flush = host_flush,
	.fault = host_fault,
	.fault_span = host_fault_span,
	.advise = asp_host_advise,
	.loses = host_loses,
};

/* ---- Making and unmaking ---- */

static enum aspace_status reserve_window(struct aspace_host *host,
					 const struct aspace_host_options *o)
{
	void *wanted = asp_host_pointer(o->address);
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (wanted ? MAP_FIXED_NOREPLACE : 0);
	char *p = mmap(wanted, o->window, PROT_NONE, flags, -1, 0);

	if (p == MAP_FAILED && errno == EEXIST)
		return ASPACE_ALREADY_EXISTS;
	if (p == MAP_FAILED)
		/* EINVAL, EPERM: not an address for user space */
		return asp_host_status(errno) == ASPACE_NO_MEMORY ? ASPACE_NO_MEMORY
								  : ASPACE_INVALID_PARAM;
	if (wanted && p != wanted) {
		/* Before 4.17, NOREPLACE was a hint. */
		munmap(p, o->window);
		return ASPACE_ALREADY_EXISTS;
	}
	host->window = aspace_range_of((uintptr_t)p, (uintptr_t)p + o->window);
	return ASPACE_OK;
}

static void *own_pages(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static enum aspace_status host_init(struct aspace_host *host, const struct aspace_host_options *o)
{
	const size_t full = ASP_BALLAST_KEPT + ASP_BALLAST_FULL;
	enum aspace_status status;

	host->backend.ops = &host_ops;
	host->backend.flags_mask = ASP_HOST_FLAGS;
	host->backend.granule = host->page;
	status = reserve_window(host, o);
	if (status != ASPACE_OK)
		return status;
	host->late = own_pages(host->page);
	if (!host->late)
		return ASPACE_NO_MEMORY;
	host->late_capacity = host->page / sizeof(*host->late);
	host->guards = asp_host_has_guards(host->late, host->page);
	asp_ballast_fill(host, full);
	return host->ballast_units == full ? ASPACE_OK : ASPACE_NO_MEMORY;
}

enum aspace_status aspace_host_create(const struct aspace_host_options *options,
				      struct aspace_host **out)
{
	struct aspace_host_options known = {0};
	const struct aspace_host_options *o = &known;
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	enum aspace_status status;
	struct aspace_host *host;
	int saved = errno;

	if (!out || !options ||
	    !asp_copy_options(&known, sizeof(known), options,
			      offsetof(struct aspace_host_options, address)))
		return ASPACE_INVALID_PARAM;
	if (!o->window || (o->window & (page - 1)) || (o->address.value & (page - 1)) ||
	    o->address.value > UINT64_MAX - o->window)
		return ASPACE_INVALID_PARAM;
	host = own_pages(sizeof(*host));
	if (!host) {
		errno = saved;
		return ASPACE_NO_MEMORY;
	}
	host->page = page;
	status = host_init(host, o);
	if (status == ASPACE_OK)
		*out = host;
	else
		aspace_host_destroy(host);
	errno = saved;
	return status;
}

void aspace_host_destroy(struct aspace_host *host)
{
	int saved = errno;

	if (!host)
		return;
	/* First the ballast: at the limit it makes room for the cuts that are needed where the
	 * kernel has made the window, or our own pages, one mapping with a neighbour: one
	 * each, and one because the process may have one above the limit. */
	asp_ballast_free(host);
	if (host->window.end.value)
		munmap(asp_host_pointer(host->window.start), asp_host_length(host->window));
	if (host->late)
		munmap(host->late, host->late_capacity * sizeof(*host->late));
	munmap(host, sizeof(*host));
	errno = saved;
}

struct aspace_backend *aspace_host_backend(struct aspace_host *host)
{
	return &host->backend;
}

struct aspace_range aspace_host_window(const struct aspace_host *host)
{
	return host->window;
}

int aspace_host_fd(const struct aspace_host *host)
{
	(void)host;
	return -1;
}

bool aspace_host_marks_free(const struct aspace_host *host)
{
	(void)host;
	return false;
}

struct aspace_host_ballast aspace_host_ballast(const struct aspace_host *host)
{
	size_t units = host->ballast_units;

	return (struct aspace_host_ballast){
		.held = (unsigned)(units > ASP_BALLAST_KEPT ? units - ASP_BALLAST_KEPT : 0),
		.full = ASP_BALLAST_FULL,
		.given_up = host->ballast_given_up,
	};
}
