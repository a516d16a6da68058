/* SPDX-License-Identifier: MIT */
/*
 * Address arithmetic, checked against 128-bit integers on every pair of edge
 * values, for plain numbers and for both address types.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <aspace/addr.h>

typedef __int128 wide;

#define WRAP ((wide)1 << 64)

/* Where off-by-one mistakes live: both ends, the sign bit, page borders. */
static const uint64_t edges[] = {
	0,
	1,
	2,
	0xfff,
	0x1000,
	0x1001,
	0x1fffff,
	0x200000,
	0x7ffffffffffff000,
	INT64_MAX - 1,
	INT64_MAX,
	(uint64_t)INT64_MAX + 1,
	(uint64_t)INT64_MAX + 2,
	UINT64_MAX - 0x1000,
	UINT64_MAX - 0xfff,
	UINT64_MAX - 1,
	UINT64_MAX,
};

#define EDGES        (sizeof(edges) / sizeof(edges[0]))
#define UNTOUCHED    UINT64_C(0x5a5a5a5a5a5a5a5a)
#define for_edges(i) for (size_t i = 0; i < EDGES; i++)

static bool fits(wide value)
{
	return value >= 0 && value < WRAP;
}

/* A checked call must have stored the exact result, or refused and stored nothing.
 * Pointers, because the call itself is the argument beside them. */
static void assert_checked(bool ok, const uint64_t *stored, wide exact)
{
	assert_int_equal(ok, fits(exact));
	assert_true(*stored == (ok ? (uint64_t)exact : UNTOUCHED));
}

static void assert_overflowing(bool wrapped, const uint64_t *stored, wide exact)
{
	assert_int_equal(wrapped, !fits(exact));
	assert_true(*stored == (uint64_t)exact);
}

static void assert_signed(bool ok, const int64_t *stored, wide exact)
{
	assert_int_equal(ok, exact >= INT64_MIN && exact <= INT64_MAX);
	assert_true(*stored == (ok ? (int64_t)exact : (int64_t)UNTOUCHED));
}

static void test_align(void **state)
{
	(void)state;
	for_edges(i) {
		for (unsigned bit = 0; bit < 64; bit++) {
			uint64_t value = edges[i], align = UINT64_C(1) << bit, up = UNTOUCHED;
			wide down = (wide)value / align * align;
			wide above = ((wide)value + align - 1) / align * align;

			assert_true(aspace_align_down(value, align) == (uint64_t)down);
			assert_true(aspace_align_up(value, align) == (uint64_t)above);
			assert_true(aspace_align_offset(value, align) == value % align);
			assert_int_equal(aspace_is_aligned(value, align), value % align == 0);
			assert_checked(aspace_checked_align_up(value, align, &up), &up, above);
		}
		assert_true(aspace_align_down_4k(edges[i]) == aspace_align_down(edges[i], 4096));
		assert_true(aspace_align_up_4k(edges[i]) == aspace_align_up(edges[i], 4096));
		assert_true(aspace_align_offset_4k(edges[i]) == edges[i] % 4096);
		assert_int_equal(aspace_is_aligned_4k(edges[i]), edges[i] % 4096 == 0);
	}
}

static void test_align_refuses(void **state)
{
	static const uint64_t bad[] = {0, 3, 0x1001, 0x3000, UINT64_MAX};
	uint64_t result = UNTOUCHED;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(aspace_is_power_of_two(bad[i]));
		assert_false(aspace_checked_align_up(0x1234, bad[i], &result));
		assert_true(result == UNTOUCHED);
	}
	for (unsigned bit = 0; bit < 64; bit++)
		assert_true(aspace_is_power_of_two(UINT64_C(1) << bit));
}

static void test_add_and_sub(void **state)
{
	(void)state;
	for_edges(i) {
		for_edges(j) {
			uint64_t a = edges[i], b = edges[j], r;
			wide sum = (wide)a + b, difference = (wide)a - b;

			assert_true(aspace_wrapping_add(a, b) == (uint64_t)sum);
			assert_true(aspace_wrapping_sub(a, b) == (uint64_t)difference);
			r = UNTOUCHED;
			assert_checked(aspace_checked_add(a, b, &r), &r, sum);
			r = UNTOUCHED;
			assert_checked(aspace_checked_sub(a, b, &r), &r, difference);
			assert_overflowing(aspace_overflowing_add(a, b, &r), &r, sum);
			assert_overflowing(aspace_overflowing_sub(a, b, &r), &r, difference);
		}
	}
}

static void test_offset(void **state)
{
	(void)state;
	for_edges(i) {
		for_edges(j) {
			uint64_t a = edges[i], r = UNTOUCHED;
			int64_t by = (int64_t)edges[j], distance = (int64_t)UNTOUCHED;

			assert_true(aspace_wrapping_offset(a, by) == (uint64_t)((wide)a + by));
			assert_checked(aspace_checked_offset(a, by, &r), &r, (wide)a + by);
			assert_signed(aspace_checked_offset_from(a, edges[j], &distance), &distance,
				      (wide)a - edges[j]);
		}
	}
}

/* The typed functions only wrap the plain ones: show that each wraps the right one.
 * One body for both types, as in addr.h itself. */
#define TEST_ADDRESSES(NAME, ADDR)                                                                 \
	static void test_##NAME(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		for_edges(i) {                                                                     \
			for_edges(j) {                                                             \
				uint64_t x = edges[i], y = edges[j], n;                            \
				int64_t d, by = (int64_t)y;                                        \
				ADDR a = NAME(x), b = NAME(y), r;                                  \
                                                                                                   \
				assert_true(a.value == x);                                         \
				assert_int_equal(NAME##_compare(a, b), (x > y) - (x < y));         \
				assert_true(NAME##_wrapping_add(a, y).value == x + y);             \
				assert_true(NAME##_wrapping_sub(a, y).value == x - y);             \
				r = NAME(UNTOUCHED);                                               \
				assert_checked(NAME##_checked_add(a, y, &r), &r.value,             \
					       (wide)x + y);                                       \
				r = NAME(UNTOUCHED);                                               \
				assert_checked(NAME##_checked_sub(a, y, &r), &r.value,             \
					       (wide)x - y);                                       \
				assert_overflowing(NAME##_overflowing_add(a, y, &r), &r.value,     \
						   (wide)x + y);                                   \
				assert_overflowing(NAME##_overflowing_sub(a, y, &r), &r.value,     \
						   (wide)x - y);                                   \
				assert_true(NAME##_wrapping_offset(a, by).value ==                 \
					    (uint64_t)((wide)x + by));                             \
				r = NAME(UNTOUCHED);                                               \
				assert_checked(NAME##_checked_offset(a, by, &r), &r.value,         \
					       (wide)x + by);                                      \
				d = (int64_t)UNTOUCHED;                                            \
				assert_signed(NAME##_checked_offset_from(a, b, &d), &d,            \
					      (wide)x - y);                                        \
				assert_true(NAME##_wrapping_distance(a, b) == x - y);              \
				assert_overflowing(NAME##_overflowing_distance(a, b, &n), &n,      \
						   (wide)x - y);                                   \
				n = UNTOUCHED;                                                     \
				assert_checked(NAME##_checked_distance(a, b, &n), &n,              \
					       (wide)x - y);                                       \
			}                                                                          \
			for (unsigned bit = 0; bit < 64; bit++) {                                  \
				uint64_t x = edges[i], align = UINT64_C(1) << bit;                 \
				ADDR a = NAME(x), r = NAME(UNTOUCHED);                             \
                                                                                                   \
				assert_true(NAME##_align_down(a, align).value ==                   \
					    aspace_align_down(x, align));                          \
				assert_true(NAME##_align_up(a, align).value ==                     \
					    aspace_align_up(x, align));                            \
				assert_true(NAME##_align_offset(a, align) == x % align);           \
				assert_int_equal(NAME##_is_aligned(a, align), x % align == 0);     \
				assert_checked(NAME##_checked_align_up(a, align, &r), &r.value,    \
					       ((wide)x + align - 1) / align * align);             \
			}                                                                          \
			assert_true(NAME##_align_down_4k(NAME(edges[i])).value ==                  \
				    aspace_align_down_4k(edges[i]));                               \
			assert_true(NAME##_align_up_4k(NAME(edges[i])).value ==                    \
				    aspace_align_up_4k(edges[i]));                                 \
			assert_true(NAME##_align_offset_4k(NAME(edges[i])) == edges[i] % 4096);    \
			assert_int_equal(NAME##_is_aligned_4k(NAME(edges[i])),                     \
					 edges[i] % 4096 == 0);                                    \
		}                                                                                  \
	}

TEST_ADDRESSES(aspace_va, struct aspace_vaddr)
TEST_ADDRESSES(aspace_pa, struct aspace_paddr)

/* Every pair of ranges over these, unusable ones included, against sets of bytes. */
enum { SMALL = 5 };

static unsigned bytes_of(unsigned start, unsigned end)
{
	return start < end ? ((1U << (end - start)) - 1) << start : 0;
}

#define TEST_RANGES(NAME, RANGE, ADDR)                                                             \
	static void check_pair_##NAME(RANGE r, RANGE s)                                            \
	{                                                                                          \
		unsigned x = bytes_of((unsigned)r.start.value, (unsigned)r.end.value);             \
		unsigned y = bytes_of((unsigned)s.start.value, (unsigned)s.end.value);             \
		bool within = r.start.value <= s.start.value && s.start.value <= s.end.value &&    \
			      s.end.value <= r.end.value;                                          \
                                                                                                   \
		assert_int_equal(NAME##_overlaps(r, s), (x & y) != 0);                             \
		assert_int_equal(NAME##_contains_range(r, s), within);                             \
		assert_int_equal(NAME##_contained_in(s, r), within);                               \
		if (y)                                                                             \
			assert_int_equal(within, (x & y) == y);                                    \
		assert_int_equal(NAME##_equal(r, s),                                               \
				 r.start.value == s.start.value && r.end.value == s.end.value);    \
	}                                                                                          \
                                                                                                   \
	static void test_##NAME(void **state)                                                      \
	{                                                                                          \
		(void)state;                                                                       \
		for (unsigned i = 0; i < SMALL * SMALL; i++) {                                     \
			unsigned a = i % SMALL, b = i / SMALL;                                     \
			RANGE r = NAME##_of(a, b), made = NAME##_of(UNTOUCHED, UNTOUCHED);         \
			ADDR start = r.start;                                                      \
                                                                                                   \
			assert_int_equal(NAME##_try_new(r.start, r.end, &made), a <= b);           \
			assert_true(made.start.value == (a <= b ? a : UNTOUCHED));                 \
			assert_true(made.end.value == (a <= b ? b : UNTOUCHED));                   \
			assert_int_equal(NAME##_is_empty(r), a >= b);                              \
			assert_true(NAME##_size(r) == (a < b ? b - a : 0));                        \
			for (start.value = 0; start.value < SMALL; start.value++)                  \
				assert_int_equal(NAME##_contains(r, start),                        \
						 bytes_of(a, b) >> start.value & 1);               \
			for (unsigned j = 0; j < SMALL * SMALL; j++)                               \
				check_pair_##NAME(r, NAME##_of(j % SMALL, j / SMALL));             \
		}                                                                                  \
	}                                                                                          \
                                                                                                   \
	static void test_##NAME##_top(void **state)                                                \
	{                                                                                          \
		RANGE all = NAME##_of(0, UINT64_MAX);                                              \
		RANGE last = NAME##_of(UINT64_MAX - 1, UINT64_MAX);                                \
                                                                                                   \
		(void)state;                                                                       \
		assert_true(NAME##_size(all) == UINT64_MAX);                                       \
		assert_true(NAME##_contains_range(all, last));                                     \
		assert_true(NAME##_overlaps(all, last));                                           \
		last.start.value++;                                                                \
		assert_true(NAME##_is_empty(last));                                                \
		assert_false(NAME##_contains(all, last.start)); /* the last byte is in no range */ \
		assert_false(NAME##_overlaps(all, last));                                          \
		for_edges(i) {                                                                     \
			for_edges(j) {                                                             \
				RANGE r = NAME##_of(edges[i], 0), s = NAME##_of(0, UNTOUCHED);     \
				bool ok = NAME##_try_from_size(r.start, edges[j], &s);             \
                                                                                                   \
				assert_checked(ok, &s.end.value, (wide)edges[i] + edges[j]);       \
				assert_true(s.start.value == (ok ? edges[i] : 0));                 \
				if (ok)                                                            \
					assert_true(NAME##_size(s) == edges[j]);                   \
			}                                                                          \
		}                                                                                  \
		assert_true(NAME##_is_aligned(NAME##_of(0x2000, 0x6000), 0x2000));                 \
		assert_false(NAME##_is_aligned(NAME##_of(0x2000, 0x6000), 0x4000));                \
		assert_false(NAME##_is_aligned(NAME##_of(0x4000, 0x6000), 0x4000));                \
	}

TEST_RANGES(aspace_range, struct aspace_range, struct aspace_vaddr)
TEST_RANGES(aspace_phys_range, struct aspace_phys_range, struct aspace_paddr)

#define TEST_PAGES(NAME, ITER, RANGE_NAME, RANGE, ADDR)                                            \
	static void walk_##NAME(ITER *iter, uint64_t start, uint64_t end, uint64_t size)           \
	{                                                                                          \
		ADDR page;                                                                         \
                                                                                                   \
		for (; start < end; start += size) {                                               \
			assert_true(NAME##_next(iter, &page));                                     \
			assert_true(page.value == start);                                          \
		}                                                                                  \
		page.value = UNTOUCHED;                                                            \
		assert_false(NAME##_next(iter, &page));                                            \
		assert_false(NAME##_next(iter, &page)); /* and stays at the end */                 \
		assert_true(page.value == UNTOUCHED);                                              \
	}                                                                                          \
                                                                                                   \
	static void test_##NAME(void **state)                                                      \
	{                                                                                          \
		static const uint64_t sizes[] = {1, 2, 0x1000, 0x4000, 0x10000};                   \
		RANGE r = RANGE_NAME##_of(0x40000000, 0x140000000);                                \
		ITER iter;                                                                         \
                                                                                                   \
		(void)state;                                                                       \
		assert_true(NAME##_begin_1g(r, &iter));                                            \
		walk_##NAME(&iter, r.start.value, r.end.value, ASPACE_PAGE_1G);                    \
		assert_true(NAME##_begin_2m(r, &iter));                                            \
		walk_##NAME(&iter, r.start.value, r.end.value, ASPACE_PAGE_2M);                    \
		assert_true(NAME##_begin_4k(r, &iter));                                            \
		walk_##NAME(&iter, r.start.value, r.end.value, ASPACE_PAGE_4K);                    \
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {                    \
			/* Up to the last page that a range can hold. */                           \
			uint64_t end = aspace_align_down(UINT64_MAX, sizes[i]);                    \
			uint64_t start = end - 3 * sizes[i];                                       \
                                                                                                   \
			r = RANGE_NAME##_of(start, end);                                           \
			assert_true(NAME##_begin(r, sizes[i], &iter));                             \
			walk_##NAME(&iter, start, end, sizes[i]);                                  \
			r = RANGE_NAME##_of(start, start);                                         \
			assert_true(NAME##_begin(r, sizes[i], &iter));                             \
			walk_##NAME(&iter, start, start, sizes[i]);                                \
		}                                                                                  \
	}                                                                                          \
                                                                                                   \
	static void test_##NAME##_refuses(void **state)                                            \
	{                                                                                          \
		ITER iter = {{UNTOUCHED}, {UNTOUCHED}, UNTOUCHED};                                 \
		RANGE pages = RANGE_NAME##_of(0x200000, 0x400000);                                 \
                                                                                                   \
		(void)state;                                                                       \
		assert_false(NAME##_begin_4k(RANGE_NAME##_of(0x1001, 0x2000), &iter));             \
		assert_false(NAME##_begin_4k(RANGE_NAME##_of(0x1000, 0x2001), &iter));             \
		assert_false(NAME##_begin_2m(RANGE_NAME##_of(0x1000, 0x400000), &iter));           \
		assert_false(NAME##_begin_1g(pages, &iter));                                       \
		assert_false(NAME##_begin_4k(RANGE_NAME##_of(0x2000, 0x1000), &iter));             \
		assert_false(NAME##_begin_4k(RANGE_NAME##_of(0, UINT64_MAX), &iter));              \
		assert_false(NAME##_begin(pages, 0, &iter));                                       \
		assert_false(NAME##_begin(pages, 0x3000, &iter));                                  \
		assert_false(NAME##_begin(pages, UINT64_MAX, &iter));                              \
		assert_true(iter.at.value == UNTOUCHED && iter.end.value == UNTOUCHED &&           \
			    iter.page_size == UNTOUCHED);                                          \
	}

TEST_PAGES(aspace_page_iter, struct aspace_page_iter, aspace_range, struct aspace_range,
	   struct aspace_vaddr)
TEST_PAGES(aspace_phys_page_iter, struct aspace_phys_page_iter, aspace_phys_range,
	   struct aspace_phys_range, struct aspace_paddr)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_align),
		cmocka_unit_test(test_align_refuses),
		cmocka_unit_test(test_add_and_sub),
		cmocka_unit_test(test_offset),
		cmocka_unit_test(test_aspace_va),
		cmocka_unit_test(test_aspace_pa),
		cmocka_unit_test(test_aspace_range),
		cmocka_unit_test(test_aspace_range_top),
		cmocka_unit_test(test_aspace_phys_range),
		cmocka_unit_test(test_aspace_phys_range_top),
		cmocka_unit_test(test_aspace_page_iter),
		cmocka_unit_test(test_aspace_page_iter_refuses),
		cmocka_unit_test(test_aspace_phys_page_iter),
		cmocka_unit_test(test_aspace_phys_page_iter_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
