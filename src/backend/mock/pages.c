/* SPDX-License-Identifier: MIT */
/* Pages: one by its address; by ranges, what the table says of all, and a word for each. */
#include "private.h"

_Atomic uint64_t *asp_mock_page(const struct aspace_mock *mock, struct aspace_vaddr address)
{
	uint64_t page = address.value >> mock->shift;
	struct asp_mock_block *block =
		asp_mock_table_get(mock->table, page >> ASP_MOCK_BLOCK_SHIFT);

	return block ? &block->word[page & (ASP_MOCK_BLOCK_PAGES - 1)] : NULL;
}

struct asp_mock_cursor asp_mock_cursor_over(struct aspace_mock *mock, struct aspace_range range)
{
	return (struct asp_mock_cursor){
		.table = mock->table,
		.at = range.start.value >> mock->shift,
		.end = range.end.value >> mock->shift,
	};
}

_Atomic uint64_t *asp_mock_cursor_word(struct asp_mock_cursor *cursor)
{
	if (!cursor->looked) {
		cursor->block =
			asp_mock_table_get(cursor->table, cursor->at >> ASP_MOCK_BLOCK_SHIFT);
		cursor->looked = true;
	}
	return cursor->block ? &cursor->block->word[cursor->at & (ASP_MOCK_BLOCK_PAGES - 1)] : NULL;
}

void asp_mock_cursor_step(struct asp_mock_cursor *cursor)
{
	cursor->at++;
	if (!(cursor->at & (ASP_MOCK_BLOCK_PAGES - 1)))
		cursor->looked = false;
}

void asp_mock_cursor_step_hole(struct asp_mock_cursor *cursor)
{
	if (cursor->block) {
		asp_mock_cursor_step(cursor);
		return;
	}
	cursor->looked = false;
	cursor->at = (cursor->at | (ASP_MOCK_BLOCK_PAGES - 1)) + 1;
	if (cursor->at > cursor->end || !cursor->at)
		cursor->at = cursor->end;
}

bool asp_mock_range_is(struct aspace_mock *mock, struct aspace_range range, uint64_t expected)
{
	struct asp_mock_cursor cursor = asp_mock_cursor_over(mock, range);

	while (cursor.at < cursor.end) {
		if ((asp_mock_word_load(asp_mock_cursor_word(&cursor)) & ~ASP_MOCK_POPULATED) !=
		    expected)
			return false;
		if (expected)
			asp_mock_cursor_step(&cursor);
		else
			asp_mock_cursor_step_hole(&cursor);
	}
	return true;
}

bool asp_mock_range_reserve(struct aspace_mock *mock, struct aspace_range range)
{
	uint64_t first = range.start.value >> mock->shift;
	uint64_t last = (range.end.value >> mock->shift) - 1;

	for (uint64_t n = first >> ASP_MOCK_BLOCK_SHIFT; n <= last >> ASP_MOCK_BLOCK_SHIFT; n++) {
		if (!asp_mock_table_make(mock->table, n))
			return false;
	}
	return true;
}

uint64_t asp_mock_range_fill(struct aspace_mock *mock, struct aspace_range range, uint64_t word)
{
	uint64_t mapped = 0;

	for (struct asp_mock_cursor c = asp_mock_cursor_over(mock, range); c.at < c.end;
	     asp_mock_cursor_step(&c)) {
		_Atomic uint64_t *p = asp_mock_cursor_word(&c);

		mapped += asp_mock_word_load(p) != 0;
		asp_mock_word_store(p, word);
	}
	return mapped;
}
