/* SPDX-License-Identifier: MIT */
/*
 * The changes of a batch: what each kind does to the pages, and what all have in common, from
 * the check of their form to the log. prepare and flush stand around them.
 */
#include "private.h"

static struct aspace_range asp_mock_range_at(struct aspace_range range, struct aspace_vaddr start)
{
	return aspace_range_of(start.value, start.value + (range.end.value - range.start.value));
}

/* Is the change one that the library may send at all? */
static enum aspace_status check_form(struct aspace_mock *mock, const struct aspace_change *change)
{
	bool uses_old = change->kind != ASPACE_CHANGE_MAP && change->kind != ASPACE_CHANGE_REPLACE;
	bool uses_new = change->kind != ASPACE_CHANGE_UNMAP && change->kind != ASPACE_CHANGE_MOVE;
	struct aspace_range to;

	if (!asp_mock_range_usable(mock, change->range))
		return asp_mock_violate(mock, "an empty, wrapping or misaligned range");
	if ((uses_old && (change->old_flags & ~mock->backend.flags_mask)) ||
	    (uses_new && (change->new_flags & ~mock->backend.flags_mask)))
		return asp_mock_violate(mock, "flags that were not declared");
	if (change->kind == ASPACE_CHANGE_MOVE) {
		to = asp_mock_range_at(change->range, change->destination);
		if (!asp_mock_range_usable(mock, to))
			return asp_mock_violate(mock, "a wrapping or misaligned destination");
		if (to.start.value < change->range.end.value &&
		    change->range.start.value < to.end.value)
			return asp_mock_violate(mock, "a move onto itself");
	}
	return ASPACE_OK;
}

static enum aspace_status check_order(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!(mock->mode & ASPACE_MOCK_CHECK_ORDER))
		return ASPACE_OK;
	mock->changed = true;
	if (change->undo)
		return ASPACE_OK;
	if (!mock->prepared)
		return asp_mock_violate(mock, "a change without a prepare");
	mock->prepared--;
	return ASPACE_OK;
}

static uint64_t fresh_word(const struct aspace_mock *mock, uint64_t flags)
{
	return ASP_MOCK_MAPPED | flags | (mock->mode & ASPACE_MOCK_LAZY ? 0 : ASP_MOCK_POPULATED);
}

static enum aspace_status do_map(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!asp_mock_range_is(mock, change->range, 0))
		return asp_mock_violate(mock, "map of a mapped page");
	if (!asp_mock_range_reserve(mock, change->range))
		return ASPACE_NO_MEMORY;
	asp_mock_range_fill(mock, change->range, fresh_word(mock, change->new_flags));
	atomic_fetch_add(&mock->pages, asp_mock_range_pages(mock, change->range));
	return ASPACE_OK;
}

static enum aspace_status do_unmap(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!asp_mock_range_is(mock, change->range, ASP_MOCK_MAPPED | change->old_flags))
		return asp_mock_violate(mock, "unmap of what is not mapped so");
	asp_mock_range_fill(mock, change->range, 0);
	atomic_fetch_sub(&mock->pages, asp_mock_range_pages(mock, change->range));
	return ASPACE_OK;
}

static enum aspace_status do_protect(struct aspace_mock *mock, const struct aspace_change *change)
{
	if (!asp_mock_range_is(mock, change->range, ASP_MOCK_MAPPED | change->old_flags))
		return asp_mock_violate(mock, "protect of what is not mapped so");
	for (struct asp_mock_cursor c = asp_mock_cursor_over(mock, change->range); c.at < c.end;
	     asp_mock_cursor_step(&c)) {
		_Atomic uint64_t *word = asp_mock_cursor_word(&c);

		asp_mock_word_store(word, ASP_MOCK_MAPPED | change->new_flags |
						  (asp_mock_word_load(word) & ASP_MOCK_POPULATED));
	}
	return ASPACE_OK;
}

static enum aspace_status do_replace(struct aspace_mock *mock, const struct aspace_change *change)
{
	uint64_t mapped;

	if (asp_mock_range_is(mock, change->range, 0))
		return asp_mock_violate(mock, "replace where nothing is mapped");
	if (!asp_mock_range_reserve(mock, change->range))
		return ASPACE_NO_MEMORY;
	mapped = asp_mock_range_fill(mock, change->range, fresh_word(mock, change->new_flags));
	atomic_fetch_add(&mock->pages, asp_mock_range_pages(mock, change->range) - mapped);
	return ASPACE_OK;
}

static enum aspace_status do_move(struct aspace_mock *mock, const struct aspace_change *change)
{
	struct aspace_range range = asp_mock_range_at(change->range, change->destination);
	struct asp_mock_cursor to = asp_mock_cursor_over(mock, range);

	if (!asp_mock_range_is(mock, change->range, ASP_MOCK_MAPPED | change->old_flags))
		return asp_mock_violate(mock, "move of what is not mapped so");
	if (!asp_mock_range_is(mock, range, 0))
		return asp_mock_violate(mock, "move to a mapped page");
	if (!asp_mock_range_reserve(mock, range))
		return ASPACE_NO_MEMORY;
	for (struct asp_mock_cursor c = asp_mock_cursor_over(mock, change->range); c.at < c.end;
	     asp_mock_cursor_step(&c)) {
		asp_mock_word_store(asp_mock_cursor_word(&to),
				    asp_mock_word_load(asp_mock_cursor_word(&c)));
		asp_mock_cursor_step(&to);
	}
	asp_mock_range_fill(mock, change->range, 0);
	return ASPACE_OK;
}

typedef enum aspace_status change_fn(struct aspace_mock *mock, const struct aspace_change *change);

/* What all changes have in common around @apply. */
static enum aspace_status change_with(struct aspace_backend *backend,
				      const struct aspace_change *change,
				      enum aspace_mock_call call, enum aspace_change_kind kind,
				      change_fn *apply)
{
	struct aspace_mock *mock = asp_mock_of(backend);
	enum aspace_status status, refusal;

	pthread_mutex_lock(&mock->lock);
	/* A bad call is told even where a refusal is planned. */
	status = change->kind == kind
			 ? check_form(mock, change)
			 : asp_mock_violate(mock, "a change of another kind than the call");
	if (status == ASPACE_OK)
		status = check_order(mock, change);
	refusal = asp_mock_enter(mock, call);
	if (status == ASPACE_OK)
		status = refusal;
	/* Before anything walks the pages: they may be 2^64. */
	if (status == ASPACE_OK && asp_mock_range_pages(mock, change->range) > mock->pages_max)
		status = ASPACE_NO_MEMORY;
	if (status == ASPACE_OK)
		status = apply(mock, change);
	asp_mock_log_change(mock, call, change, status);
	pthread_mutex_unlock(&mock->lock);
	return status;
}

enum aspace_status asp_mock_map(struct aspace_backend *backend, const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_MAP, ASPACE_CHANGE_MAP, do_map);
}

enum aspace_status asp_mock_unmap(struct aspace_backend *backend,
				  const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_UNMAP, ASPACE_CHANGE_UNMAP, do_unmap);
}

enum aspace_status asp_mock_protect(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_PROTECT, ASPACE_CHANGE_PROTECT, do_protect);
}

enum aspace_status asp_mock_replace(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_REPLACE, ASPACE_CHANGE_REPLACE, do_replace);
}

enum aspace_status asp_mock_move(struct aspace_backend *backend, const struct aspace_change *change)
{
	return change_with(backend, change, ASPACE_MOCK_MOVE, ASPACE_CHANGE_MOVE, do_move);
}

/* The blocks that the change will need. Those of an operation that fails stay: empty
 * blocks are no more than memory (invariant 2). */
static enum aspace_status reserve_for(struct aspace_mock *mock, const struct aspace_change *change)
{
	struct aspace_range range = change->range;

	if (change->kind == ASPACE_CHANGE_MOVE)
		range = asp_mock_range_at(range, change->destination);
	else if (change->kind != ASPACE_CHANGE_MAP && change->kind != ASPACE_CHANGE_REPLACE)
		return ASPACE_OK;
	return asp_mock_range_reserve(mock, range) ? ASPACE_OK : ASPACE_NO_MEMORY;
}

enum aspace_status asp_mock_prepare(struct aspace_backend *backend,
				    const struct aspace_change *change)
{
	struct aspace_mock *mock = asp_mock_of(backend);
	enum aspace_status status, refusal;

	pthread_mutex_lock(&mock->lock);
	status = check_form(mock, change);
	if (status == ASPACE_OK && (mock->mode & ASPACE_MOCK_CHECK_ORDER) && mock->changed)
		status = asp_mock_violate(mock, "a prepare after a change");
	refusal = asp_mock_enter(mock, ASPACE_MOCK_PREPARE);
	if (status == ASPACE_OK)
		status = refusal;
	if (status == ASPACE_OK && asp_mock_range_pages(mock, change->range) > mock->pages_max)
		status = ASPACE_NO_MEMORY;
	if (status == ASPACE_OK)
		status = reserve_for(mock, change);
	if (status == ASPACE_OK)
		mock->prepared++;
	asp_mock_log_change(mock, ASPACE_MOCK_PREPARE, change, status);
	pthread_mutex_unlock(&mock->lock);
	return status;
}

void asp_mock_flush(struct aspace_backend *backend)
{
	struct aspace_mock *mock = asp_mock_of(backend);
	const struct aspace_mock_entry entry = {.call = ASPACE_MOCK_FLUSH};

	pthread_mutex_lock(&mock->lock);
	atomic_fetch_add(&mock->calls[ASPACE_MOCK_FLUSH], 1);
	mock->prepared = 0;
	mock->changed = false;
	asp_mock_log(mock, &entry);
	pthread_mutex_unlock(&mock->lock);
}

unsigned asp_mock_loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
			uint64_t *meanwhile)
{
	(void)backend;
	*meanwhile = from | to;
	if (!(from & ~to))
		return 0;
	return to ? ASPACE_LOSES_ACCESS : ASPACE_LOSES_ACCESS | ASPACE_LOSES_CONTENTS;
}
