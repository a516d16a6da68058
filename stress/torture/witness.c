/* SPDX-License-Identifier: MIT */
#include "witness.h"

#include <aspace/backend/null.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "array.h"
#include "maps.h"
#include "random.h"

_Thread_local struct act *witness_act;

/* ---- User objects --------------------------------------------------------------- */

#define ALIVE UINT64_C(0xa11fea11fe)
#define DEAD  UINT64_C(0xdeaddeaddead)

struct object {
	uint64_t state;
	/* Acquire and release: the last one frees what all others have done with. */
	_Atomic uint32_t references;
};

struct object *object_make(struct witness *witness)
{
	struct object *object = array_zeroed(1, sizeof(*object));

	object->state = ALIVE;
	atomic_store_explicit(&object->references, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&witness->references, 1, memory_order_relaxed);
	return object;
}

void object_put(struct witness *witness, struct object *object)
{
	atomic_fetch_sub_explicit(&witness->references, 1, memory_order_relaxed);
	if (atomic_fetch_sub_explicit(&object->references, 1, memory_order_acq_rel) != 1)
		return;
	object->state = DEAD;
	free(object);
}

bool object_is_alive(const struct object *object)
{
	return object->state == ALIVE;
}

static struct witness *witness_of(struct aspace_backend *backend)
{
	return (struct witness *)((char *)backend - offsetof(struct witness, backend));
}

static enum aspace_status clone_object(struct aspace_backend *backend, void *user, void **copy)
{
	struct witness *witness = witness_of(backend);
	struct object *object = user;

	atomic_fetch_add_explicit(&witness->references, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&object->references, 1, memory_order_relaxed);
	*copy = object;
	return ASPACE_OK;
}

static void release_object(struct aspace_backend *backend, void *user)
{
	object_put(witness_of(backend), user);
	atomic_fetch_add_explicit(&witness_of(backend)->releases, 1, memory_order_relaxed);
}

/* ---- Looking on ----------------------------------------------------------------- */

static uint64_t coming_version(struct witness *witness)
{
	struct aspace_view view;
	uint64_t version;

	aspace_read_begin(witness->space, &view);
	version = view.version + 1;
	aspace_read_end(&view);
	return version;
}

unsigned witness_loses(void *ctx, uint64_t from, uint64_t to, uint64_t *meanwhile)
{
	struct witness *witness = ctx;
	struct aspace_backend *inner = witness->inner;

	*meanwhile = from;
	if (inner->ops->loses)
		return inner->ops->loses(inner, from, to, meanwhile);
	/* The null backend. */
	*meanwhile = from | to;
	if (!(from & ~to))
		return 0;
	return to ? ASPACE_LOSES_ACCESS : ASPACE_LOSES_ACCESS | ASPACE_LOSES_CONTENTS;
}

static unsigned loses_for_shadow(void *witness, uint64_t from, uint64_t to)
{
	uint64_t meanwhile;

	return witness_loses(witness, from, to, &meanwhile);
}

static unsigned loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
		      uint64_t *meanwhile)
{
	return witness_loses(witness_of(backend), from, to, meanwhile);
}

uint64_t witness_flags(const struct witness *witness, unsigned choice)
{
	/* Not read, but for what readers of a grace-unmap space touch: see touch(). */
	static const uint64_t kept[] = {ASPACE_HOST_READ, ASPACE_HOST_READ | ASPACE_HOST_WRITE,
					ASPACE_HOST_READ | ASPACE_HOST_WRITE};

	if (!witness->grace)
		return choice;
	if (choice < 3)
		return kept[choice];
	return !witness->keeps ? ASPACE_HOST_READ : witness->host ? ASPACE_HOST_DECOMMITTED : 0;
}

/* A deferred unmap or protect, on whatever thread runs it. Several may be one version. */
static void note_deferred(struct witness *witness, const struct aspace_change *change)
{
	struct deeds *log = &witness->deferred;
	uint64_t version = coming_version(witness);
	bool protects = change->kind == ASPACE_CHANGE_PROTECT;
	struct deed deed = {
		.kind = protects ? DEED_SETTLED : DEED_FREED,
		.sure = true,
		.before = version - 1,
		.after = version,
		.version = version,
		.start = change->range.start.value - witness->base,
		.end = change->range.end.value - witness->base,
		.to = change->old_flags,
		.value = value_of(protects ? change->new_flags : change->old_flags, change->user),
	};

	if (log->at_count && log->at[witness->deferred_last].version == version)
		log->at[witness->deferred_last].parts++;
	else
		witness->deferred_last = log->at_count;
	ARRAY_PUSH(log->at, deed);
}

static bool is_deferred(struct witness *witness, const struct aspace_change *change)
{
	uint64_t meanwhile;

	if (!witness->grace || change->undo)
		return false;
	if (change->kind == ASPACE_CHANGE_PROTECT)
		return witness->keeps &&
		       witness_loses(witness, change->old_flags, change->new_flags, &meanwhile);
	return change->kind == ASPACE_CHANGE_UNMAP;
}

static bool refuses(struct witness *witness, const struct aspace_change *change)
{
	uint64_t each = atomic_load_explicit(&witness->refuse_each, memory_order_relaxed);

	if (!each || change->undo || !witness_act || is_deferred(witness, change) ||
	    random_next(&witness_act->random) % each)
		return false;
	witness_act->refused = true;
	atomic_fetch_add_explicit(&witness->refusals, 1, memory_order_relaxed);
	return true;
}

/* The deferred change at hand: its area comes back, or keeps its flags. */
static void note_return(struct witness *witness)
{
	struct deeds *log = &witness->deferred;
	struct deed *deed = &log->at[log->at_count - 1];

	deed->kind = deed->kind == DEED_SETTLED ? DEED_KEPT : DEED_BACK;
	atomic_fetch_add_explicit(&witness->returned, 1, memory_order_relaxed);
}

/* Half before the backend is asked to prepare, half before it is to unmap. */
static bool refuses_deferred(struct witness *witness)
{
	uint64_t each = atomic_load_explicit(&witness->refuse_each, memory_order_relaxed);

	if (!each || random_next(&witness->deferred_random) % (2 * each))
		return false;
	atomic_fetch_add_explicit(&witness->refusals, 1, memory_order_relaxed);
	return true;
}

/* Is `undo` what takes `change` back? */
static bool takes_back(const struct aspace_change *undo, const struct aspace_change *change)
{
	if (undo->kind == ASPACE_CHANGE_MOVE)
		return change->kind == ASPACE_CHANGE_MOVE &&
		       change->destination.value == undo->range.start.value;
	return change->range.start.value == undo->range.start.value &&
	       change->range.end.value == undo->range.end.value &&
	       (undo->kind == ASPACE_CHANGE_MAP     ? change->kind == ASPACE_CHANGE_UNMAP
		: undo->kind == ASPACE_CHANGE_UNMAP ? change->kind == ASPACE_CHANGE_MAP
						    : change->kind == undo->kind);
}

static void note_change(struct witness *witness, const struct aspace_change *change)
{
	struct act *act = witness_act;
	unsigned i;

	if (!act || is_deferred(witness, change))
		return;
	if (!change->undo) {
		if (act->standing_count < STANDING_MOST)
			act->standing[act->standing_count++] = *change;
		return;
	}
	for (i = act->standing_count; i-- > 0;) {
		if (!takes_back(change, &act->standing[i]))
			continue;
		memmove(&act->standing[i], &act->standing[i + 1],
			(--act->standing_count - i) * sizeof(*change));
		return;
	}
}

static enum aspace_status prepare(struct aspace_backend *backend,
				  const struct aspace_change *change)
{
	struct witness *witness = witness_of(backend);
	struct aspace_backend *inner = witness->inner;
	bool deferred = is_deferred(witness, change);
	enum aspace_status status = ASPACE_OK;

	if (deferred) {
		note_deferred(witness, change);
	} else if (witness_act && witness_act->deed) {
		witness_act->deed->version = coming_version(witness);
		witness_act->deed->sure = true;
	}
	if (deferred ? refuses_deferred(witness) : refuses(witness, change))
		status = ASPACE_NO_MEMORY;
	else if (inner->ops->prepare)
		status = inner->ops->prepare(inner, change);
	if (status != ASPACE_OK && deferred)
		note_return(witness);
	return status;
}

typedef enum aspace_status change_fn(struct aspace_backend *, const struct aspace_change *);

static enum aspace_status pass_on(struct aspace_backend *backend,
				  const struct aspace_change *change, change_fn *call)
{
	struct witness *witness = witness_of(backend);
	bool deferred = is_deferred(witness, change);
	enum aspace_status status;

	if (deferred ? refuses_deferred(witness) : refuses(witness, change))
		status = ASPACE_NO_MEMORY;
	else {
		shadow_change_begin(&witness->shadow, change);
		status = call(witness->inner, change);
		shadow_change_end(&witness->shadow, change, status == ASPACE_OK);
	}
	if (status == ASPACE_OK)
		note_change(witness, change);
	else if (deferred)
		note_return(witness);
	return status;
}

#define PASS_ON(name)                                                                              \
	static enum aspace_status name(struct aspace_backend *backend,                             \
				       const struct aspace_change *change)                         \
	{                                                                                          \
		return pass_on(backend, change, witness_of(backend)->inner->ops->name);            \
	}

PASS_ON(map)
PASS_ON(unmap)
PASS_ON(protect)
PASS_ON(replace)
PASS_ON(move)

static void flush(struct aspace_backend *backend)
{
	struct aspace_backend *inner = witness_of(backend)->inner;

	if (inner->ops->flush)
		inner->ops->flush(inner);
	shadow_flush(&witness_of(backend)->shadow);
}

/* Called beside writers: but until it has answered none changes the area there, so that it is in
 * each version from the newest that was there when it was called to the newest now. */
static struct errand *begin_errand(struct witness *witness, const struct aspace_area *area,
				   struct aspace_range range)
{
	struct act *act = witness_act;
	struct errand *errand = &act->errands[ERRANDS_MOST - 1];

	if (act->errand_count < ERRANDS_MOST)
		errand = &act->errands[act->errand_count];
	act->errand_count++;
	*errand = (struct errand){
		.area = *area,
		.at = range.start.value - witness->base,
		.began = coming_version(witness) - 1,
	};
	shadow_work_begin(&witness->shadow, range);
	/* Now and then it takes long enough for others to come. */
	if (!(act->errands_ever++ % 8))
		sched_yield();
	return errand;
}

static void end_errand(struct witness *witness, struct errand *errand, struct aspace_range range)
{
	shadow_work_end(&witness->shadow, range);
	errand->ended = coming_version(witness) - 1;
}

/* A fork waits for no fault and no advice, so it must itself see to it that none is in the middle of a backend
 * with a lock of its own: the mock's would stay locked in the child. Shared by who is in there; the
 * handlers of fork have it alone, after the library's, so that nobody whom these wait for waits for it. */
static pthread_rwlock_t inside_backend = PTHREAD_RWLOCK_INITIALIZER;

void witness_before_fork(void)
{
	pthread_rwlock_wrlock(&inside_backend);
}

void witness_after_fork(void)
{
	pthread_rwlock_unlock(&inside_backend);
}

static enum aspace_status fault(struct aspace_backend *backend, const struct aspace_area *area,
				struct aspace_vaddr address, unsigned access)
{
	struct witness *witness = witness_of(backend);
	struct aspace_backend *inner = witness->inner;
	struct aspace_area inner_area = *area;
	struct aspace_range page = {
		aspace_va(aspace_align_down(address.value, witness->page)),
		aspace_va(aspace_align_down(address.value, witness->page) + witness->page)};
	struct errand *errand = begin_errand(witness, area, page);
	enum aspace_status status = ASPACE_OK;

	inner_area.backend = inner;
	pthread_rwlock_rdlock(&inside_backend);
	if (inner->ops->fault)
		status = inner->ops->fault(inner, &inner_area, address, access);
	pthread_rwlock_unlock(&inside_backend);
	end_errand(witness, errand, page);
	return status;
}

/* Only what was asked for, so that contents are lost nowhere else. */
static enum aspace_status advise(struct aspace_backend *backend, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	struct witness *witness = witness_of(backend);
	struct aspace_backend *inner = witness->inner;
	struct aspace_area inner_area = *area;
	struct aspace_range asked = witness_act->advised;
	struct errand *errand = begin_errand(witness, area, range);
	enum aspace_status status = ASPACE_OK;

	if (range.start.value < asked.start.value || range.end.value > asked.end.value ||
	    range.start.value < area->start.value || range.end.value > area->end.value)
		shadow_say(&witness->shadow, range.start, "advice that nobody has given");
	if (advice == ASPACE_ADVICE_FREE || advice == ASPACE_ADVICE_DROP)
		shadow_drop(&witness->shadow, range, witness_act->asked);
	inner_area.backend = inner;
	pthread_rwlock_rdlock(&inside_backend);
	if (inner->ops->advise)
		status = inner->ops->advise(inner, &inner_area, range, advice, reached);
	pthread_rwlock_unlock(&inside_backend);
	end_errand(witness, errand, range);
	return status;
}

/* Who does not know, or has none, is asked for one address of an area at a time. */
static uint64_t fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	struct aspace_backend *inner = witness_of(backend)->inner;
	struct aspace_area inner_area = *area;

	inner_area.backend = inner;
	return inner->ops->fault && inner->ops->fault_span
		       ? inner->ops->fault_span(inner, &inner_area)
		       : UINT64_C(1) << 63;
}

static enum aspace_status check_area(struct aspace_backend *backend, const struct aspace_area *area,
				     struct aspace_vaddr *at, const char **what)
{
	struct aspace_backend *inner = witness_of(backend)->inner;
	struct aspace_area inner_area = *area;

	inner_area.backend = inner;
	return inner->ops->check_area ? inner->ops->check_area(inner, &inner_area, at, what)
				      : ASPACE_OK;
}

#define CHANGES                                                                                    \
	.size = sizeof(struct aspace_backend_ops), .map = map, .unmap = unmap, .protect = protect, \
	.prepare = prepare, .replace = replace, .move = move, .flush = flush, .fault = fault,      \
	.fault_span = fault_span, .check_area = check_area, .advise = advise

#define OBJECTS .clone = clone_object, .release = release_object

/* By whether areas have objects, and whether protects wait for readers. */
static const struct aspace_backend_ops tables[2][2] = {
	{{CHANGES}, {CHANGES, .loses = loses}},
	{{CHANGES, OBJECTS}, {CHANGES, OBJECTS, .loses = loses}},
};

/* ---- Opening, comparing, closing ------------------------------------------------- */

static enum aspace_status open_mock(struct witness *witness)
{
	struct aspace_mock_options options = {
		.size = sizeof(options),
		.granule = WITNESS_PAGE,
		/* Not REMAP_RESTORES: what cannot be undone is to be met, too. */
		.mode = ASPACE_MOCK_CHECK_ORDER | ASPACE_MOCK_LOSES,
	};
	enum aspace_status status = aspace_mock_create(&options, &witness->mock);

	if (!status)
		witness->inner = aspace_mock_backend(witness->mock);
	return status;
}

static enum aspace_status open_host(struct witness *witness, uint64_t pages)
{
	struct aspace_host_options options = {
		.size = sizeof(options),
		.window = pages * (uint64_t)sysconf(_SC_PAGESIZE),
	};
	enum aspace_status status = aspace_host_create(&options, &witness->host);

	if (status)
		return status;
	witness->inner = aspace_host_backend(witness->host);
	witness->page = (uint64_t)sysconf(_SC_PAGESIZE);
	witness->base = aspace_host_window(witness->host).start.value;
	return ASPACE_OK;
}

static enum aspace_status open_tables(struct witness *witness)
{
	enum aspace_status status;

	witness->tables = calloc(1, sizeof(*witness->tables));
	if (!witness->tables)
		return ASPACE_NO_MEMORY;
	status = tables_open(witness->tables, WITNESS_PAGE);
	if (status) {
		free(witness->tables);
		witness->tables = NULL;
		return status;
	}
	witness->inner = &witness->tables->source.backend;
	return ASPACE_OK;
}

/* `reason` says what was left of the tables, if anything was. */
static void free_parts(struct witness *witness, char reason[200])
{
	shadow_close(&witness->shadow);
	if (witness->tables)
		tables_close(witness->tables, reason);
	free(witness->tables);
	if (witness->mock)
		aspace_mock_destroy(witness->mock);
	aspace_host_destroy(witness->host);
	free(witness->deferred.at);
}

bool witness_open(struct witness *witness, enum backend_kind kind, uint64_t pages, bool objects,
		  bool keeps, struct aspace_options *options, char reason[200])
{
	enum aspace_status status = ASPACE_OK;

	*witness = (struct witness){
		.kind = kind,
		.inner = aspace_null_backend(),
		.base = UINT64_C(1) << 32,
		.page = WITNESS_PAGE,
		.grace = options->mode & ASPACE_GRACE_UNMAP,
		.keeps = keeps,
		.deferred_random = 1,
	};
	if (kind == BACKEND_MOCK)
		status = open_mock(witness);
	else if (kind == BACKEND_HOST)
		status = open_host(witness, pages);
	else if (kind == BACKEND_AARCH64)
		status = open_tables(witness);
	if (status) {
		snprintf(reason, 200, "no backend: %s", aspace_status_string(status));
		return false;
	}
	witness->size = pages * witness->page;
	shadow_open(&witness->shadow, witness->base, witness->page, pages,
		    keeps ? loses_for_shadow : NULL, witness);
	witness->backend = (struct aspace_backend){
		.ops = &tables[objects][keeps],
		.flags_mask = witness->inner->flags_mask,
		.granule = witness->page,
		.remap_restores = witness->inner->remap_restores,
	};
	options->size = sizeof(*options);
	options->granule = witness->page;
	options->limits = aspace_range_of(witness->base, witness->base + witness->size);
	status = aspace_create(options, &witness->space);
	if (status) {
		free_parts(witness, reason);
		snprintf(reason, 200, "no space: %s", aspace_status_string(status));
		return false;
	}
	return true;
}

/* Areas of the space without what the backend does not know. */
struct runs {
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area next;
	bool more, fine;
};

static void next_run(struct runs *runs)
{
	runs->more = aspace_iter_next(&runs->iter, &runs->next);
}

static bool take_run(void *ctx, struct aspace_range range, uint64_t flags)
{
	struct runs *runs = ctx;
	uint64_t at = range.start.value;

	while (at < range.end.value) {
		if (!runs->more || runs->next.start.value != at || runs->next.flags != flags ||
		    runs->next.end.value > range.end.value)
			return runs->fine = false;
		at = runs->next.end.value;
		next_run(runs);
	}
	return true;
}

static bool compare_mock(struct witness *witness, char reason[200])
{
	struct runs runs = {.fine = true};
	const char *what = NULL;

	aspace_read_begin(witness->space, &runs.view);
	aspace_iter_begin(&runs.view, aspace_va(0), &runs.iter);
	next_run(&runs);
	aspace_mock_visit(witness->mock, aspace_limits(witness->space), take_run, &runs);
	aspace_read_end(&runs.view);
	if (aspace_mock_violations(witness->mock, &what)) {
		snprintf(reason, 200, "the mock was told nonsense: %s", what);
		return false;
	}
	if (!runs.fine || runs.more) {
		snprintf(reason, 200, "the mock holds something else than the space shows");
		return false;
	}
	return true;
}

/* The kernel makes one line of neighbours with equal protections, and so does areas_map(). */
static bool compare_host(struct witness *witness, char reason[200])
{
	struct aspace_range window = aspace_host_window(witness->host);
	struct areas wanted = {.at = NULL};
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	char *text = maps_read();
	bool fine;

	if (!text) {
		snprintf(reason, 200, "/proc/self/smaps: %s", strerror(errno));
		return false;
	}
	aspace_read_begin(witness->space, &view);
	aspace_iter_begin(&view, window.start, &iter);
	while (aspace_iter_next(&iter, &area))
		areas_map(&wanted, area.start.value, area.end.value,
			  (unsigned)aspace_host_protection(area.flags));
	aspace_read_end(&view);
	fine = maps_compare(text, window.start.value, window.end.value, &wanted, reason);
	areas_free(&wanted);
	free(text);
	return fine;
}

bool witness_compare_flags(struct witness *witness, char reason[200])
{
	uint64_t pages = witness->size / witness->page, flags;
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	bool fine = true, more;

	aspace_read_begin(witness->space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	more = aspace_iter_next(&iter, &area);
	for (uint64_t page = 0; page < pages && fine; page++) {
		uint64_t at = witness->base + page * witness->page;

		if (more && area.end.value <= at)
			more = aspace_iter_next(&iter, &area);
		fine = shadow_held(&witness->shadow, page, &flags)
			       ? more && area.start.value <= at && flags == area.flags
			       : !more || area.start.value > at;
		if (!fine)
			snprintf(reason, 200, "page %" PRIu64 " is mapped otherwise than is shown",
				 page);
	}
	aspace_read_end(&view);
	return fine;
}

size_t witness_deferred_by(const struct witness *witness, uint64_t version)
{
	size_t count = witness->deferred.at_count;

	while (count && witness->deferred.at[count - 1].version > version)
		count--;
	return count;
}

void witness_deferred_take(struct witness *witness, size_t count)
{
	struct deeds *log = &witness->deferred;

	log->at_count -= count;
	witness->deferred_last = 0;
	if (log->at_count)
		memmove(log->at, log->at + count, log->at_count * sizeof(*log->at));
}

bool witness_compare(struct witness *witness, char reason[200])
{
	uint64_t page;
	const char *wrong = shadow_wrong(&witness->shadow, &page);

	if (wrong) {
		snprintf(reason, 200, "at page %" PRIu64 ": %s", page, wrong);
		return false;
	}
	if (witness->mock)
		return compare_mock(witness, reason);
	/* An emulator's /proc/self/smaps is not the kernel's. */
	if (witness->host && !getenv("ASPACE_EMULATED"))
		return compare_host(witness, reason);
	if (witness->tables)
		return tables_check(witness->tables, witness->space, reason);
	return true;
}

bool witness_tamper(struct witness *witness)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	struct aspace_change change = {.kind = ASPACE_CHANGE_UNMAP};
	bool found;

	aspace_read_begin(witness->space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	found = aspace_iter_next(&iter, &area);
	aspace_read_end(&view);
	if (!found)
		return false;
	if (witness->host)
		return !mprotect((void *)(uintptr_t)area.start.value, witness->page,
				 (int)area.flags ^ PROT_READ);
	change.range = (struct aspace_range){area.start, area.end};
	change.old_flags = area.flags;
	change.user = area.user;
	if (!witness->inner->ops->prepare || /* nothing is behind the null backend's areas */
	    witness->inner->ops->prepare(witness->inner, &change) != ASPACE_OK ||
	    witness->inner->ops->unmap(witness->inner, &change) != ASPACE_OK)
		return false;
	witness->inner->ops->flush(witness->inner);
	return true;
}

bool witness_close(struct witness *witness, char reason[200])
{
	enum aspace_status status = aspace_destroy(witness->space, 0);
	int64_t references = atomic_load(&witness->references);

	if (status) {
		/* Everything is left as it is: someone may want to look. */
		snprintf(reason, 200, "aspace_destroy: %s", aspace_status_string(status));
		return false;
	}
	if (references)
		snprintf(reason, 200, "%" PRId64 " references to user objects are left",
			 references);
	else if (witness->mock && aspace_mock_pages(witness->mock))
		snprintf(reason, 200, "%" PRIu64 " pages are mapped after the end of the space",
			 aspace_mock_pages(witness->mock));
	else
		reason[0] = '\0';
	if (reason[0])
		free_parts(witness, (char[200]){0});
	else
		free_parts(witness, reason);
	return !reason[0];
}
