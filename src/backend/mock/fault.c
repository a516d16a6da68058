/* SPDX-License-Identifier: MIT */
/* Faults: a page becomes populated, if it is mapped as its area says. */
#include "private.h"

static enum aspace_status do_fault(struct aspace_mock *mock, const struct aspace_area *area,
				   struct aspace_vaddr address, unsigned access)
{
	_Atomic uint64_t *word = asp_mock_page(mock, address);

	if (address.value < area->start.value || address.value >= area->end.value)
		return asp_mock_violate(mock, "fault outside of the area");
	if (area->backend != &mock->backend)
		return asp_mock_violate(mock, "fault in another backend's area");
	if ((asp_mock_word_load(word) & ~ASP_MOCK_POPULATED) != (ASP_MOCK_MAPPED | area->flags))
		return asp_mock_violate(mock, "fault in what is not mapped so");
	if ((mock->mode & ASPACE_MOCK_CHECK_ACCESS) && (access & ~area->flags & 7))
		return ASPACE_ACCESS_DENIED;
	asp_mock_word_store(word, asp_mock_word_load(word) | ASP_MOCK_POPULATED);
	return ASPACE_OK;
}

enum aspace_status asp_mock_fault(struct aspace_backend *backend, const struct aspace_area *area,
				  struct aspace_vaddr address, unsigned access)
{
	struct aspace_mock *mock = asp_mock_of(backend);
	struct aspace_mock_entry entry = {
		.call = ASPACE_MOCK_FAULT,
		.range = {address, address},
		.old_flags = area->flags,
		.new_flags = access,
	};

	pthread_mutex_lock(&mock->lock);
	entry.status = asp_mock_enter(mock, ASPACE_MOCK_FAULT);
	if (entry.status == ASPACE_OK)
		entry.status = do_fault(mock, area, address, access);
	asp_mock_log(mock, &entry);
	pthread_mutex_unlock(&mock->lock);
	return entry.status;
}

uint64_t asp_mock_fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)area;
	return UINT64_C(1) << asp_mock_of(backend)->shift;
}
