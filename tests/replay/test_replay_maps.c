/* SPDX-License-Identifier: MIT */
/*
 * Reading /proc/self/smaps and maps, and the latency histogram.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "../unit/host_maps.h"
#include "histogram.h"
#include "maps.h"

/* As maps has it, and as smaps. */
#define PLAIN(from, to, bits) from "000-" to "000 " bits "p 00000000 00:00 0 \n"
#define DETAILS(marks)        "Size:                  4 kB\nVmFlags: rd mr mw me " marks "\n"
#define FREE(from, to)        PLAIN(from, to, "---") DETAILS("sd")
#define AREA(from, to, bits)  PLAIN(from, to, bits) DETAILS("nr sd")
#define ALIEN(from, to, bits) PLAIN(from, to, bits) DETAILS("ac sd")
#define OTHER                 "00100000-00200000 r-xp 00001000 fe:01 1234     /usr/bin/some thing\n"
#define LATER                 "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0        [stack]\n"

static bool compare(const char *text, const struct areas *areas, char reason[200])
{
	*reason = 0;
	return maps_compare(text, 0x10000000, 0x10010000, areas, reason);
}

static void windows_are_compared(void **state)
{
	struct areas areas = {.at = NULL};
	char reason[200];

	(void)state;
	assert_true(compare(OTHER FREE("10000", "10010") LATER, &areas, reason));
	areas_map(&areas, 0x10002000, 0x10004000, 3);
	areas_map(&areas, 0x10004000, 0x10005000, 0);
	assert_true(compare(OTHER FREE("10000", "10002") AREA("10002", "10003", "rw-")
				    AREA("10003", "10004", "rw-") AREA("10004", "10005", "---")
					    FREE("10005", "10010") LATER,
			    &areas, reason));
	/* A protection, an end, a missing one, one too many. */
	assert_false(compare(FREE("10000", "10002") AREA("10002", "10004", "r--")
				     AREA("10004", "10005", "---") FREE("10005", "10010"),
			     &areas, reason));
	assert_string_equal(reason, "the kernel has 10002000-10004000 r-- where the model has "
				    "10002000-10004000 rw-");
	assert_false(compare(FREE("10000", "10002") AREA("10002", "10003", "rw-")
				     FREE("10003", "10004") AREA("10004", "10005", "---")
					     FREE("10005", "10010"),
			     &areas, reason));
	assert_false(compare(FREE("10000", "10002") AREA("10002", "10004", "rw-")
				     FREE("10004", "10010"),
			     &areas, reason));
	assert_non_null(strstr(reason, "the kernel has nothing more"));
	assert_false(compare(FREE("10000", "10002") AREA("10002", "10004", "rw-")
				     AREA("10004", "10006", "---") FREE("10006", "10010"),
			     &areas, reason));
	/* Accessible memory that is not the backend's. */
	assert_false(compare(FREE("10000", "10002") AREA("10002", "10003", "rw-")
				     ALIEN("10003", "10004", "rw-") AREA("10004", "10005", "---")
					     FREE("10005", "10010"),
			     &areas, reason));
	assert_string_equal(reason, "a mapping that is neither an area nor free: rw-p ");
	/* Where free addresses cannot be told, only what is accessible can. */
	assert_true(compare(PLAIN("10000", "10002", "---") PLAIN("10002", "10004", "rw-")
				    PLAIN("10004", "10010", "---"),
			    &areas, reason));
	assert_false(compare(PLAIN("10000", "10002", "---") PLAIN("10002", "10004", "r--")
				     PLAIN("10004", "10010", "---"),
			     &areas, reason));
	areas_free(&areas);
}

static void strange_windows_are_refused(void **state)
{
	struct areas areas = {.at = NULL};
	char reason[200];

	(void)state;
	assert_false(compare(OTHER FREE("10000", "10008") FREE("10009", "10010"), &areas, reason));
	assert_string_equal(reason, "the window has a hole at 10008000");
	assert_false(compare(OTHER LATER, &areas, reason));
	assert_string_equal(reason, "the window has a hole at 10000000");
	assert_false(compare(FREE("10000", "1000f"), &areas, reason));
	assert_string_equal(reason, "the window has a hole at 1000f000");
	assert_false(compare("10000000-10010000 r--p 00000000 fe:01 12   /etc/passwd\n", &areas,
			     reason));
	assert_string_equal(reason, "a mapping that is neither an area nor free: r--p /etc/passwd");
	assert_false(compare("10000000-10010000 rw-s 00000000 00:00 0 \n", &areas, reason));
	assert_false(compare("10000000 rw-s\n", &areas, reason));
	assert_non_null(strstr(reason, "cannot be read"));
	areas_free(&areas);
}

static void the_real_file_is_read(void **state)
{
	size_t page = 4096;
	char *text, *window = mmap(NULL, 16 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct areas areas = {.at = NULL};
	uint64_t start = (uintptr_t)window;
	char reason[200];

	(void)state;
	assert_true(window != MAP_FAILED);
	assert_true(mmap(window + 4 * page, 6 * page, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
			 0) == window + 4 * page);
	assert_int_equal(mprotect(window + 4 * page, 4 * page, PROT_READ), 0);
	areas_map(&areas, start + 4 * page, start + 8 * page, 1);
	areas_map(&areas, start + 8 * page, start + 10 * page, 0);
	text = maps_read();
	assert_non_null(text);
	if (!maps_compare(text, start, start + 16 * page, &areas, reason))
		fail_msg("%s", reason);
	areas_unmap(&areas, start + 9 * page, start + 10 * page);
	if (host_maps_tell_free() && !MAPS_SMAPS_IS_SLOW)
		assert_false(maps_compare(text, start, start + 16 * page, &areas, reason));
	else
		print_message("skipped: inaccessible areas; this kernel does not tell them, or not "
			      "under a sanitizer\n");
	areas_map(&areas, start + 4 * page, start + 8 * page, 3);
	assert_false(maps_compare(text, start, start + 16 * page, &areas, reason));
	free(text);
	areas_free(&areas);
	munmap(window, 16 * page);
}

static void percentiles_are_near(void **state)
{
	struct histogram *histogram = calloc(1, sizeof(*histogram));
	struct histogram *other = calloc(1, sizeof(*other));

	(void)state;
	assert_int_equal(histogram_percentile(histogram, 0.5), 0);
	for (uint64_t i = 1; i <= 100000; i++)
		histogram_add(i & 1 ? histogram : other, i);
	histogram_merge(histogram, other);
	assert_int_equal(histogram->count, 100000);
	assert_int_equal(histogram->greatest, 100000);
	assert_in_range(histogram_percentile(histogram, 0.5), 50000, 50000 * 33 / 32);
	assert_in_range(histogram_percentile(histogram, 0.99), 99000, 100000);
	assert_int_equal(histogram_percentile(histogram, 1), 100000);
	histogram_add(histogram, UINT64_MAX);
	assert_int_equal(histogram_percentile(histogram, 1), UINT64_MAX);
	histogram_add(other, 0);
	assert_int_equal(histogram_percentile(other, 0), 0);
	free(histogram);
	free(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(windows_are_compared),
		cmocka_unit_test(strange_windows_are_refused),
		cmocka_unit_test(the_real_file_is_read),
		cmocka_unit_test(percentiles_are_near),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
