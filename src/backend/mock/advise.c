/* SPDX-License-Identifier: MIT */
/* Advice: pages become populated, or no longer; the rest is noted in the log. */
#include "private.h"

static unsigned needed_access(enum aspace_advice advice)
{
	switch (advice) {
	case ASPACE_ADVICE_POPULATE_READ:
		return ASPACE_ACCESS_READ;
	case ASPACE_ADVICE_POPULATE_WRITE:
		return ASPACE_ACCESS_WRITE;
	default:
		return 0;
	}
}

static void fill(struct aspace_mock *mock, struct aspace_range range, uint64_t clear, uint64_t set)
{
	for (struct asp_mock_cursor c = asp_mock_cursor_over(mock, range); c.at < c.end;
	     asp_mock_cursor_step(&c)) {
		_Atomic uint64_t *word = asp_mock_cursor_word(&c);

		asp_mock_word_store(word, (asp_mock_word_load(word) & ~clear) | set);
	}
}

static enum aspace_status check(struct aspace_mock *mock, const struct aspace_area *area,
				struct aspace_range range, enum aspace_advice advice)
{
	if (area->backend != &mock->backend)
		return asp_mock_violate(mock, "advice about another backend's area");
	if (!asp_mock_range_usable(mock, range) || range.start.value < area->start.value ||
	    range.end.value > area->end.value)
		return asp_mock_violate(mock, "advice outside of the area, or about no pages");
	if (advice < ASPACE_ADVICE_POPULATE_READ || advice > ASPACE_ADVICE_NORMAL)
		return asp_mock_violate(mock, "advice that is none");
	if (!asp_mock_range_is(mock, range, ASP_MOCK_MAPPED | area->flags))
		return asp_mock_violate(mock, "advice about what is not mapped so");
	return ASPACE_OK;
}

static enum aspace_status do_advise(struct aspace_mock *mock, const struct aspace_area *area,
				    struct aspace_range range, enum aspace_advice advice)
{
	if ((mock->mode & ASPACE_MOCK_CHECK_ACCESS) && (needed_access(advice) & ~area->flags))
		return ASPACE_ACCESS_DENIED;
	if (needed_access(advice))
		fill(mock, range, 0, ASP_MOCK_POPULATED);
	else if (advice == ASPACE_ADVICE_DROP && (mock->mode & ASPACE_MOCK_LAZY))
		fill(mock, range, ASP_MOCK_POPULATED, 0);
	return ASPACE_OK;
}

enum aspace_status asp_mock_advise(struct aspace_backend *backend, const struct aspace_area *area,
				   struct aspace_range range, enum aspace_advice advice,
				   struct aspace_vaddr *reached)
{
	struct aspace_mock *mock = asp_mock_of(backend);
	struct aspace_mock_entry entry = {
		.call = ASPACE_MOCK_ADVISE,
		.range = range,
		.old_flags = area->flags,
		.new_flags = advice,
	};
	enum aspace_status refusal;

	(void)reached;
	pthread_mutex_lock(&mock->lock);
	/* A bad call is told even where a refusal is planned. */
	entry.status = check(mock, area, range, advice);
	refusal = asp_mock_enter(mock, ASPACE_MOCK_ADVISE);
	if (entry.status == ASPACE_OK)
		entry.status = refusal;
	if (entry.status == ASPACE_OK)
		entry.status = do_advise(mock, area, range, advice);
	asp_mock_log(mock, &entry);
	pthread_mutex_unlock(&mock->lock);
	return entry.status;
}
