/* SPDX-License-Identifier: MIT */
/*
 * Merge sort of a list, bottom up and stable: sort(list) answers its new head. O(n log n).
 * Whoever includes this defines before
 *
 *   SORT_TYPE   what the list is of; its `next` is the next one
 *   static bool is_sorted(const SORT_TYPE *a, const SORT_TYPE *b)
 *               may b come behind a?
 */
static SORT_TYPE *merge_sorted(SORT_TYPE *a, SORT_TYPE *b)
{
	SORT_TYPE *head = NULL, **tail = &head;

	while (a && b) {
		SORT_TYPE **least = is_sorted(a, b) ? &a : &b;

		*tail = *least;
		tail = &(*tail)->next;
		*least = (*least)->next;
	}
	*tail = a ? a : b;
	return head;
}

/* Bin i holds a sorted run of 2^i. */
static SORT_TYPE *sort(SORT_TYPE *list)
{
	SORT_TYPE *bins[40] = {0}, *run, *sorted = NULL;

	while ((run = list) != NULL) {
		unsigned i = 0;

		list = list->next;
		run->next = NULL;
		for (; bins[i]; bins[i++] = NULL)
			run = merge_sorted(bins[i], run);
		bins[i] = run;
	}
	for (unsigned i = 0; i < 40; i++)
		sorted = merge_sorted(bins[i], sorted);
	return sorted;
}
#undef SORT_TYPE
