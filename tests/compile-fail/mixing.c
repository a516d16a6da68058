/* SPDX-License-Identifier: MIT */
/*
 * Compiled once for each case by check.sh: case 0 must compile, the others, which
 * each mix a virtual with a physical address in one way, must not.
 */
#include <aspace/addr.h>

/* Declared, so that -Wmissing-prototypes has nothing to say. */
uint64_t mix(struct aspace_vaddr va, struct aspace_paddr pa, struct aspace_range range,
	     struct aspace_phys_range phys);

uint64_t mix(struct aspace_vaddr va, struct aspace_paddr pa, struct aspace_range range,
	     struct aspace_phys_range phys)
{
	struct aspace_page_iter pages = {va, va, 0};
	struct aspace_phys_page_iter phys_pages = {pa, pa, 0};
	uint64_t result = 0;

#if CASE == 0
	va = aspace_va_align_down(va, 4096);
	pa = aspace_pa_align_down(pa, 4096);
	result += aspace_va_wrapping_distance(va, range.start);
	result += aspace_pa_wrapping_distance(pa, phys.start);
	result += aspace_range_contains(range, va);
	result += aspace_phys_range_contains(phys, pa);
	result += aspace_page_iter_begin_4k(range, &pages) && aspace_page_iter_next(&pages, &va);
	result += aspace_phys_page_iter_begin_4k(phys, &phys_pages) &&
		  aspace_phys_page_iter_next(&phys_pages, &pa);
	/* The one way across is through the number, where one can see it. */
	pa = aspace_pa(va.value);
#elif CASE == 1
	va = pa;
#elif CASE == 2
	pa = aspace_va(1);
#elif CASE == 3
	va = aspace_va_align_up(pa, 4096);
#elif CASE == 4
	result = aspace_pa_wrapping_distance(pa, va);
#elif CASE == 5
	result = aspace_va_checked_add(va, 1, &pa);
#elif CASE == 6
	range = phys;
#elif CASE == 7
	result = aspace_range_contains(range, pa);
#elif CASE == 8
	result = aspace_phys_range_overlaps(phys, range);
#elif CASE == 9
	result = aspace_phys_range_try_new(va, va, &phys);
#elif CASE == 10
	result = aspace_page_iter_begin_4k(phys, &pages);
#elif CASE == 11
	result = aspace_phys_page_iter_next(&phys_pages, &va);
#elif CASE == 12
	result = va - 1;
#elif CASE == 13
	result = va == range.end;
#elif CASE == 14
	va = 0x1000;
#else
#error "no such case"
#endif
	return result + va.value + pa.value + range.start.value + phys.start.value +
	       pages.page_size + phys_pages.page_size;
}
