/* SPDX-License-Identifier: MIT */
/* What tests ask: of one page, of a range, of all. */
#include "private.h"

static uint64_t query_word(const struct aspace_mock *mock, struct aspace_vaddr address)
{
	return asp_mock_word_load(asp_mock_page(mock, address));
}

bool aspace_mock_query(const struct aspace_mock *mock, struct aspace_vaddr address, uint64_t *flags)
{
	uint64_t word = query_word(mock, address);

	if (word && flags)
		*flags = word & ~ASPACE_FLAGS_RESERVED;
	return word;
}

bool aspace_mock_populated(const struct aspace_mock *mock, struct aspace_vaddr address)
{
	return query_word(mock, address) & ASP_MOCK_POPULATED;
}

uint64_t aspace_mock_pages(const struct aspace_mock *mock)
{
	return atomic_load(&mock->pages);
}

uint64_t aspace_mock_bytes(const struct aspace_mock *mock)
{
	return atomic_load(&mock->table->maps.bytes) + atomic_load(&mock->table->blocks.bytes) +
	       atomic_load(&mock->objects.bytes) + asp_mock_log_bytes(mock->log_capacity) +
	       asp_mock_round_up(sizeof(*mock), 4096);
}

void aspace_mock_visit(struct aspace_mock *mock, struct aspace_range range,
		       aspace_mock_visit_fn *visit, void *ctx)
{
	uint64_t mask = (UINT64_C(1) << mock->shift) - 1;
	struct asp_mock_cursor cursor;

	if (range.start.value >= range.end.value)
		return;
	pthread_mutex_lock(&mock->lock);
	cursor = asp_mock_cursor_over(mock, range);
	if (range.end.value & mask)
		cursor.end++;
	while (cursor.at < cursor.end) {
		uint64_t word =
			asp_mock_word_load(asp_mock_cursor_word(&cursor)) & ~ASP_MOCK_POPULATED;
		uint64_t first = cursor.at;

		if (!word) {
			asp_mock_cursor_step_hole(&cursor);
			continue;
		}
		do {
			asp_mock_cursor_step(&cursor);
		} while (cursor.at < cursor.end &&
			 (asp_mock_word_load(asp_mock_cursor_word(&cursor)) &
			  ~ASP_MOCK_POPULATED) == word);
		range = aspace_range_of(first << mock->shift, cursor.at << mock->shift);
		if (!visit(ctx, range, word & ~ASPACE_FLAGS_RESERVED))
			break;
	}
	pthread_mutex_unlock(&mock->lock);
}
