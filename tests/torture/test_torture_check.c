/* SPDX-License-Identifier: MIT */
/*
 * The checker of the torture: a true history is accepted, and the same history with one lie
 * in it, of each kind that there is, is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "random.h"

enum {
	SIZE = 100,
	BASE = 7, /* the version that the history begins with */
};

#define A (UINT64_C(0x10) << FLAG_BITS | 1)
#define B (UINT64_C(0x20) << FLAG_BITS | 2)
#define C (UINT64_C(0x30) << FLAG_BITS | 3)
#define D (UINT64_C(0x40) << FLAG_BITS | 3)

/*
 * version 8   10-20 A
 *         9   10-20 A   20-30 B
 *        10   12-18 C   20-30 B                        50-60 D
 *        11   12-18 C*  20-25 B*  25-30 B              50-60 D   (* with the flags 7)
 *        12   12-18 C*  20-25 B*                       50-60 D   70-75 B
 *        13   12-18 C*  20-25 B*                       50-55 D   70-75 B
 *        14   nothing
 */
static const struct deed history[] = {
	{.kind = DEED_MAP,
	 .version = 8,
	 .before = 7,
	 .after = 8,
	 .start = 10,
	 .end = 20,
	 .value = A},
	{.kind = DEED_ANYWHERE,
	 .version = 9,
	 .before = 7,
	 .after = 10,
	 .start = 20,
	 .end = 30,
	 .wish = {.lo = 15, .hi = 90, .size = 10},
	 .value = B},
	{.kind = DEED_TXN, .parts = 3, .version = 10, .before = 8, .after = 10},
	{.kind = DEED_UNMAP, .start = 10, .end = 20},
	{.kind = DEED_MAP, .start = 12, .end = 18, .value = C},
	{.kind = DEED_REPLACE, .start = 50, .end = 60, .value = D},
	{.kind = DEED_PROTECT,
	 .version = 11,
	 .before = 10,
	 .after = 12,
	 .start = 0,
	 .end = 25,
	 .value = 7},
	{.kind = DEED_MOVE,
	 .version = 12,
	 .before = 11,
	 .after = 12,
	 .start = 25,
	 .end = 30,
	 .to = 70},
	{.kind = DEED_RESIZE, .version = 13, .before = 12, .after = 14, .start = 50, .end = 55},
	{.kind = DEED_UNMAP, .version = 14, .before = 10, .after = 14, .start = 0, .end = 100},
};

enum {
	DEEDS = sizeof(history) / sizeof(history[0]),
	NEWEST = 14,
};

static void fill(struct deed *deeds)
{
	memcpy(deeds, history, sizeof(history));
	for (int i = 0; i < DEEDS; i++)
		deeds[i].sure = true;
}

/* One round of these deeds, given in two logs, as of two threads. */
static bool play(struct ledger *ledger, struct deed *deeds, size_t count, uint64_t newest,
		 struct lie *lie)
{
	/* Not within the transaction. */
	size_t half = count > 6 ? 6 : count;
	struct deeds one = {.at = deeds + half, .at_count = count - half};
	struct deeds two = {.at = deeds, .at_count = half};
	const struct deeds *logs[] = {&one, &two};

	ledger_begin(ledger, SIZE, BASE);
	return ledger_round(ledger, logs, 2, newest, lie);
}

static void make(struct ledger *ledger)
{
	struct deed deeds[DEEDS];
	struct lie lie = {""};

	fill(deeds);
	if (!play(ledger, deeds, DEEDS, NEWEST, &lie))
		fail_msg("%s", lie.reason);
}

/* ---- Deeds ------------------------------------------------------------------------ */

/* The history with one deed changed is refused, and for this reason. */
static void expect_refused(struct deed *deeds, size_t count, uint64_t newest, const char *why)
{
	struct ledger ledger;
	struct lie lie = {""};

	if (play(&ledger, deeds, count, newest, &lie))
		fail_msg("accepted, but: %s", why);
	if (!strstr(lie.reason, why))
		fail_msg("refused, but not because of \"%s\": %s", why, lie.reason);
	ledger_free(&ledger);
}

static void deeds_are_versions(void **state)
{
	struct deed deeds[DEEDS];

	(void)state;
	fill(deeds);
	deeds[7].version = 11; /* twice 11, none 12 */
	deeds[7].before = 10;
	expect_refused(deeds, DEEDS, NEWEST, "another operation published that version");
	fill(deeds);
	expect_refused(deeds, DEEDS - 1, NEWEST, "nobody published version 14");
	fill(deeds);
	deeds[7].before = 12;
	expect_refused(deeds, DEEDS, NEWEST, "was there before it began");
	fill(deeds);
	deeds[7].after = 11;
	expect_refused(deeds, DEEDS, NEWEST, "it had ended, and was not to be seen");
	fill(deeds);
	deeds[9].version = 15;
	deeds[9].after = 15;
	expect_refused(deeds, DEEDS, NEWEST, "there was no such version");
	fill(deeds);
	expect_refused(deeds, DEEDS, BASE - 1, "came after");
}

static void deeds_were_possible(void **state)
{
	struct deed deeds[DEEDS];

	(void)state;
	fill(deeds);
	deeds[4].start = 5;
	deeds[4].end = 26; /* onto [20, 30) */
	expect_refused(deeds, DEEDS, NEWEST, "the range was not free");
	fill(deeds);
	deeds[1].start = 40;
	deeds[1].end = 50;
	expect_refused(deeds, DEEDS, NEWEST, "this is not the gap");
	fill(deeds);
	deeds[7].start = 24;
	deeds[7].end = 31;
	expect_refused(deeds, DEEDS, NEWEST, "not all of it was mapped");
	fill(deeds);
	deeds[7].to = 48;
	expect_refused(deeds, DEEDS, NEWEST, "the destination was not free");
	fill(deeds);
	deeds[8].start = 51;
	expect_refused(deeds, DEEDS, NEWEST, "no area starts there");
	fill(deeds);
	deeds[8].end = 71;
	expect_refused(deeds, DEEDS, NEWEST, "the way was not free");
	fill(deeds);
	deeds[9].kind = DEED_FREED;
	expect_refused(deeds, DEEDS, NEWEST, "the range was not leaving");
}

/* Transactions that do not know whether they have published. */
static void unsure_deeds_are_settled(void **state)
{
	struct deed deeds[] = {
		{.kind = DEED_MAP,
		 .sure = true,
		 .version = 8,
		 .before = 7,
		 .after = 8,
		 .start = 10,
		 .end = 20,
		 .value = A},
		/* Nothing to do: 9 is another's. */
		{.kind = DEED_TXN, .parts = 1, .version = 9, .before = 7, .after = 9},
		{.kind = DEED_UNMAP, .start = 30, .end = 40},
		{.kind = DEED_TXN, .parts = 1, .version = 9, .before = 7, .after = 9},
		{.kind = DEED_UNMAP, .start = 10, .end = 12},
		{.kind = DEED_TXN, .parts = 1, .version = 10, .before = 7, .after = 9},
		{.kind = DEED_UNMAP, .start = 10, .end = 12},
	};
	enum { COUNT = sizeof(deeds) / sizeof(deeds[0]) };
	struct deeds log = {.at = deeds, .at_count = COUNT};
	const struct deeds *logs[] = {&log};
	struct ledger ledger;
	struct lie lie = {""};

	(void)state;
	ledger_begin(&ledger, SIZE, BASE);
	if (!ledger_round(&ledger, logs, 1, 9, &lie))
		fail_msg("%s", lie.reason);
	assert_int_equal(ledger.effectless, 2);
	assert_int_equal(ledger.versions, 2);
	ledger_free(&ledger);

	/* The last one had something to do, and nobody saw it done. */
	deeds[6].end = 15;
	ledger_begin(&ledger, SIZE, BASE);
	assert_false(ledger_round(&ledger, logs, 1, 9, &lie));
	assert_non_null(strstr(lie.reason, "had something to do, and published nothing"));
	ledger_free(&ledger);
}

static void leaving_areas_leave(void **state)
{
	struct deed deeds[] = {
		{.kind = DEED_MAP,
		 .sure = true,
		 .version = 8,
		 .before = 7,
		 .after = 8,
		 .start = 10,
		 .end = 20,
		 .value = A},
		{.kind = DEED_TXN, .parts = 3, .sure = true, .version = 9, .before = 8, .after = 9},
		{.kind = DEED_MAP, .start = 20, .end = 30, .value = B},
		{.kind = DEED_LEAVE, .start = 15, .end = 25}, /* [20, 25) was never seen */
		{.kind = DEED_MAP, .start = 20, .end = 25, .value = C},
		{.kind = DEED_FREED,
		 .sure = true,
		 .version = 10,
		 .before = 9,
		 .after = 10,
		 .start = 15,
		 .end = 20,
		 .value = A},
	};
	struct deeds log = {.at = deeds, .at_count = sizeof(deeds) / sizeof(deeds[0])};
	const struct deeds *logs[] = {&log};
	struct note find = {.kind = NOTE_FIND, .first = 9, .last = 9, .at = 17};
	struct note gap = {
		.kind = NOTE_GAP, .first = 9, .last = 9, .wish = {.lo = 15, .hi = 20, .size = 1}};
	struct ledger ledger;
	struct lie lie = {""};

	(void)state;
	ledger_begin(&ledger, SIZE, BASE);
	if (!ledger_round(&ledger, logs, 1, 10, &lie))
		fail_msg("%s", lie.reason);
	/* Not found, and not free. */
	assert_true(check_note(&ledger, &find, &lie));
	assert_true(check_note(&ledger, &gap, &lie));
	gap.found = true;
	gap.start = 15;
	assert_false(check_note(&ledger, &gap, &lie));
	gap.first = gap.last = 10;
	assert_true(check_note(&ledger, &gap, &lie));
	ledger_free(&ledger);
}

/* A deferred unmap was refused: what was leaving is back, as its backend knows it. */
static void refused_areas_return(void **state)
{
	struct deed deeds[] = {
		{.kind = DEED_MAP,
		 .sure = true,
		 .version = 8,
		 .before = 7,
		 .after = 8,
		 .start = 10,
		 .end = 20,
		 .value = A},
		{.kind = DEED_TXN, .parts = 2, .sure = true, .version = 9, .before = 8, .after = 9},
		{.kind = DEED_PROTECT, .start = 10, .end = 20, .value = 7},
		{.kind = DEED_LEAVE, .start = 10, .end = 15}, /* with its flags before */
		{.kind = DEED_BACK,
		 .sure = true,
		 .version = 10,
		 .before = 9,
		 .after = 10,
		 .start = 10,
		 .end = 15,
		 .value = A},
	};
	struct deed *back = &deeds[4];
	struct deeds log = {.at = deeds, .at_count = sizeof(deeds) / sizeof(deeds[0])};
	const struct deeds *logs[] = {&log};
	struct note find = {.kind = NOTE_FIND, .first = 10, .last = 10, .at = 12, .found = true};
	struct note fault = {.kind = NOTE_FAULT, .first = 9, .last = 9, .at = 12, .found = true};
	struct ledger ledger;
	struct lie lie = {""};

	(void)state;
	find.start = 10;
	find.end = 15;
	find.value = fault.value = A;
	ledger_begin(&ledger, SIZE, BASE);
	if (!ledger_round(&ledger, logs, 1, 10, &lie))
		fail_msg("%s", lie.reason);
	assert_true(check_note(&ledger, &find, &lie));
	find.value = value_with_flags(A, 7);
	assert_false(check_note(&ledger, &find, &lie));
	find.first = find.last = 9; /* while it leaves */
	find.value = A;
	assert_false(check_note(&ledger, &find, &lie));
	/* But its memory is there. */
	assert_true(check_note(&ledger, &fault, &lie));
	fault.value = B;
	assert_false(check_note(&ledger, &fault, &lie));
	fault.found = false;
	assert_false(check_note(&ledger, &fault, &lie));
	fault.at = 40;
	assert_true(check_note(&ledger, &fault, &lie));
	fault.found = true;
	assert_false(check_note(&ledger, &fault, &lie));
	ledger_free(&ledger);

	/* Back is what has left, and nothing else. */
	back->value = value_with_flags(A, 7);
	ledger_begin(&ledger, SIZE, BASE);
	assert_false(ledger_round(&ledger, logs, 1, 10, &lie));
	assert_non_null(strstr(lie.reason, "the range was not leaving"));
	ledger_free(&ledger);
	back->value = A;
	back->end = 16;
	ledger_begin(&ledger, SIZE, BASE);
	assert_false(ledger_round(&ledger, logs, 1, 10, &lie));
	assert_non_null(strstr(lie.reason, "the range was not leaving"));
	ledger_free(&ledger);
}

/* Unmaps that know only between which versions they were. */
static void loose_deeds_get_the_rest(void **state)
{
	const struct deed true_ones[] = {
		{.kind = DEED_MAP,
		 .sure = true,
		 .version = 8,
		 .before = 7,
		 .after = 8,
		 .start = 10,
		 .end = 20,
		 .value = A},
		{.kind = DEED_MAP,
		 .sure = true,
		 .version = 10,
		 .before = 8,
		 .after = 11,
		 .start = 30,
		 .end = 40,
		 .value = B},
		/* Version 9, which is nobody's. */
		{.kind = DEED_LEAVE,
		 .loose = true,
		 .before = 8,
		 .after = 10,
		 .start = 5,
		 .end = 15},
		/* None: there was nothing before version 10. */
		{.kind = DEED_LEAVE,
		 .loose = true,
		 .before = 8,
		 .after = 8,
		 .start = 25,
		 .end = 35},
		{.kind = DEED_LEAVE,
		 .loose = true,
		 .before = 8,
		 .after = 8,
		 .start = 25,
		 .end = 35},
	};
	enum { COUNT = sizeof(true_ones) / sizeof(true_ones[0]) };
	struct deed deeds[COUNT];
	struct deeds log = {.at = deeds, .at_count = COUNT};
	const struct deeds *logs[] = {&log};
	struct note hole = {.kind = NOTE_FIND, .first = 9, .last = 9, .at = 12};
	struct ledger ledger;
	struct lie lie = {""};

	(void)state;
	memcpy(deeds, true_ones, sizeof(deeds));
	ledger_begin(&ledger, SIZE, BASE);
	if (!ledger_round(&ledger, logs, 1, 10, &lie))
		fail_msg("%s", lie.reason);
	assert_int_equal(ledger.effectless, 2);
	assert_true(check_note(&ledger, &hole, &lie));
	hole.first = hole.last = 8;
	assert_false(check_note(&ledger, &hole, &lie));
	ledger_free(&ledger);

	/* It was over before there was anything of its own to be published. */
	memcpy(deeds, true_ones, sizeof(deeds));
	deeds[2].after = 8;
	ledger_begin(&ledger, SIZE, BASE);
	assert_false(ledger_round(&ledger, logs, 1, 10, &lie));
	assert_non_null(strstr(lie.reason, "had something to do, and published nothing"));
	ledger_free(&ledger);

	memcpy(deeds, true_ones, sizeof(deeds));
	deeds[1].before = 10;
	deeds[1].version = deeds[1].after = 11;
	deeds[2].after = 11;
	ledger_begin(&ledger, SIZE, BASE);
	assert_false(ledger_round(&ledger, logs, 1, 11, &lie));
	assert_non_null(strstr(lie.reason, "nobody published version 10"));
	ledger_free(&ledger);
}

/* Each flag is an access. */
static unsigned loses(void *ctx, uint64_t from, uint64_t to, uint64_t *meanwhile)
{
	(void)ctx;
	*meanwhile = from | to;
	return from & ~to ? ASPACE_LOSES_ACCESS : 0;
}

#define U (UINT64_C(0x50) << FLAG_BITS)

/*
 * version 8   10-20 U|3
 *         9   10-20 U|3  20-30 U|1
 *        10   10-20 U|1  20-30 U|1                  10-20 is pending, 3 is held
 *        11                         50-60 U|3
 *        12   10-30 U|1                             no longer
 *        13   10-15 U|1  15-30 U|4  50-60 U|4       15-30 is pending (5 is held), 50-60, too (7)
 *        14   70-80 U|1                             no longer, since before that
 *        15   70-80 U|2                             pending, 3 is held
 *        16   70-80 U|3                             refused
 */
static const struct deed late_ones[] = {
	{.kind = DEED_MAP, .sure = true, .version = 8, .start = 10, .end = 20, .value = U | 3},
	{.kind = DEED_MAP, .sure = true, .version = 9, .start = 20, .end = 30, .value = U | 1},
	{.kind = DEED_PROTECT, .loose = true, .before = 9, .after = 11, .end = 30, .value = 1},
	{.kind = DEED_MAP, .sure = true, .version = 11, .start = 50, .end = 60, .value = U | 3},
	{.kind = DEED_SETTLED,
	 .sure = true,
	 .version = 12,
	 .start = 10,
	 .end = 20,
	 .value = U | 1,
	 .to = 3},
	{.kind = DEED_PROTECT,
	 .loose = true,
	 .before = 11,
	 .after = 13,
	 .start = 15,
	 .end = 60,
	 .value = 4},
	{.kind = DEED_SETTLED,
	 .parts = 1,
	 .sure = true,
	 .version = 14,
	 .start = 15,
	 .end = 30,
	 .value = U | 4,
	 .to = 5},
	{.kind = DEED_SETTLED, .start = 50, .end = 60, .value = U | 4, .to = 7},
	{.kind = DEED_MAP, .sure = true, .version = 14, .start = 70, .end = 80, .value = U | 1},
	{.kind = DEED_PROTECT,
	 .loose = true,
	 .before = 14,
	 .after = 16,
	 .start = 70,
	 .end = 80,
	 .value = 2},
	{.kind = DEED_KEPT,
	 .sure = true,
	 .version = 16,
	 .start = 70,
	 .end = 80,
	 .value = U | 2,
	 .to = 3},
};

enum { LATE_ONES = sizeof(late_ones) / sizeof(late_ones[0]) };

/* With one of them changed by the caller. */
static bool play_late(struct ledger *ledger, struct deed *deeds, struct lie *lie)
{
	struct deeds log = {.at = deeds, .at_count = LATE_ONES};
	const struct deeds *logs[] = {&log};

	for (int i = 0; i < LATE_ONES; i++) {
		if (deeds[i].sure && !deeds[i].after) {
			deeds[i].before = deeds[i].version - 1;
			deeds[i].after = deeds[i].version;
		}
	}
	ledger_begin(ledger, SIZE, BASE);
	ledger->loses = loses;
	return ledger_round(ledger, logs, 1, 16, lie);
}

static bool is_seen(struct ledger *ledger, enum note_kind kind, uint64_t version, uint64_t at,
		    uint64_t start, uint64_t end, uint64_t flags)
{
	struct note note = {
		.kind = (uint8_t)kind,
		.first = version,
		.last = version,
		.at = at,
		.found = true,
		.start = start,
		.end = end,
		.value = U | flags,
	};
	struct lie lie;

	return check_note(ledger, &note, &lie);
}

static void pending_areas_stay_as_they_are(void **state)
{
	struct deed deeds[LATE_ONES];
	struct ledger ledger;
	struct lie lie = {""};

	(void)state;
	memcpy(deeds, late_ones, sizeof(deeds));
	if (!play_late(&ledger, deeds, &lie))
		fail_msg("%s", lie.reason);
	assert_int_equal(ledger.pending, 4);
	assert_int_equal(ledger.kept, 1);
	assert_int_equal(ledger.waited, 1); /* the second protect: it began in version 11 */
	/* It shows what it will be, apart from its equal neighbour. */
	assert_true(is_seen(&ledger, NOTE_FIND, 10, 12, 10, 20, 1));
	assert_false(is_seen(&ledger, NOTE_FIND, 10, 12, 10, 30, 1));
	assert_false(is_seen(&ledger, NOTE_FIND, 10, 12, 10, 20, 3));
	assert_true(is_seen(&ledger, NOTE_FIND, 12, 12, 10, 30, 1));
	assert_true(is_seen(&ledger, NOTE_FIND, 13, 52, 50, 60, 4));
	assert_true(is_seen(&ledger, NOTE_FIND, 14, 52, 50, 60, 4));
	assert_true(is_seen(&ledger, NOTE_FIND, 16, 72, 70, 80, 3));
	/* Backends go by what they hold, until it has been done, in the version before that in which it is
	 * known. */
	assert_true(is_seen(&ledger, NOTE_FAULT, 10, 12, 10, 20, 3));
	assert_false(is_seen(&ledger, NOTE_FAULT, 10, 12, 10, 20, 1));
	assert_true(is_seen(&ledger, NOTE_FAULT, 11, 12, 10, 20, 3));
	assert_true(is_seen(&ledger, NOTE_FAULT, 11, 12, 10, 20, 1));
	assert_false(is_seen(&ledger, NOTE_FAULT, 12, 12, 10, 30, 3));
	assert_true(is_seen(&ledger, NOTE_FAULT, 13, 52, 50, 60, 7));
	assert_false(is_seen(&ledger, NOTE_FAULT, 14, 52, 50, 60, 7));
	ledger_free(&ledger);
}

/* Deferred protects are of what is pending, as it was noted, and publish what they must. */
static void lies_about_pending_areas(void **state)
{
	static const struct {
		int which;
		uint64_t start, end, value, to;
		const char *why;
	} lies[] = {
		{4, 10, 15, U | 1, 3, "the range was not pending"},
		{4, 10, 30, U | 1, 3, "the range was not pending"},
		{4, 10, 20, U | 2, 3, "the range was not pending"},
		{4, 10, 20, U | 1, 1, "the range was not pending"},
		{7, 20, 30, U | 1, 3, "the range was not pending"},
		{4, 10, 20, U | 1, 3,
		 "nobody published version 13"}, /* 12 is the next one's, then */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct deed deeds[LATE_ONES], *deed = &deeds[lies[i].which];
		struct ledger ledger;
		struct lie lie = {""};

		memcpy(deeds, late_ones, sizeof(deeds));
		deed->start = lies[i].start;
		deed->end = lies[i].end;
		deed->value = lies[i].value;
		deed->to = lies[i].to;
		if (i == 5)
			deeds[1].value ^= U; /* no neighbour to merge with: no version */
		assert_false(play_late(&ledger, deeds, &lie));
		if (!strstr(lie.reason, lies[i].why))
			fail_msg("lie %zu: %s", i, lie.reason);
		ledger_free(&ledger);
	}
}

/* In a space whose areas never merge. */
static void areas_stay_apart(void **state)
{
	struct deed deeds[] = {
		{.kind = DEED_MAP, .version = 8, .start = 10, .end = 20, .value = A},
		{.kind = DEED_MAP, .version = 9, .start = 20, .end = 30, .value = A},
		{.kind = DEED_PROTECT, .version = 10, .start = 12, .end = 22, .value = 7},
		{.kind = DEED_PROTECT, .version = 11, .start = 12, .end = 22, .value = A & 255},
		{.kind = DEED_MOVE, .version = 12, .start = 12, .end = 22, .to = 50},
		{.kind = DEED_RESIZE, .version = 13, .start = 52, .end = 57},
		{.kind = DEED_UNMAP, .version = 14, .start = 10, .end = 12},
	};
	enum { COUNT = sizeof(deeds) / sizeof(deeds[0]) };
	struct deeds log = {.at = deeds, .at_count = COUNT};
	const struct deeds *logs[] = {&log};
	struct note find = {.kind = NOTE_FIND, .first = 11, .last = 11, .at = 13, .found = true};
	struct note count = {.kind = NOTE_COUNT, .first = 11, .last = 11, .value = 4};
	struct ledger ledger;
	struct lie lie = {""};

	(void)state;
	deeds[5].start = 50;
	for (int i = 0; i < COUNT; i++) {
		deeds[i].sure = true;
		deeds[i].before = deeds[i].version - 1;
		deeds[i].after = deeds[i].version;
	}
	ledger_begin(&ledger, SIZE, BASE);
	ledger.history.apart = true;
	if (!ledger_round(&ledger, logs, 1, 14, &lie))
		fail_msg("%s", lie.reason);
	find.start = 12;
	find.end = 20;
	find.value = A;
	assert_true(check_note(&ledger, &find, &lie));
	find.end = 22; /* merged */
	assert_false(check_note(&ledger, &find, &lie));
	find.start = 10;
	find.end = 30;
	assert_false(check_note(&ledger, &find, &lie));
	assert_true(check_note(&ledger, &count, &lie));
	/* The count may be of the version that is about to be published, not of one before. */
	count.value = 2;
	assert_false(check_note(&ledger, &count, &lie));
	count.first = count.last = 8;
	assert_true(check_note(&ledger, &count, &lie));
	count.value = 1;
	assert_true(check_note(&ledger, &count, &lie));
	count.value = 0;
	assert_false(check_note(&ledger, &count, &lie));
	find = (struct note){.kind = NOTE_FIND, .first = 13, .last = 13, .at = 56, .found = true};
	find.start = 50;
	find.end = 57;
	find.value = A;
	assert_true(check_note(&ledger, &find, &lie));
	ledger_free(&ledger);

	ledger_begin(&ledger, SIZE, BASE);
	assert_true(ledger_round(&ledger, logs, 1, 14, &lie));
	find = (struct note){.kind = NOTE_FIND, .first = 11, .last = 11, .at = 13, .found = true};
	find.start = 10;
	find.end = 30;
	find.value = A;
	assert_true(check_note(&ledger, &find, &lie));
	ledger_free(&ledger);
}

/* ---- Notes ------------------------------------------------------------------------ */

static void expect(const struct ledger *ledger, struct note note, bool right, const char *what)
{
	struct lie lie = {""};

	if (check_note(ledger, &note, &lie) != right)
		fail_msg("%s: %s %s", what, right ? "refused:" : "accepted", lie.reason);
}

#define AREA(s, e, v) .found = true, .start = (s), .end = (e), .value = (v)

static void lookups_are_checked(void **state)
{
	struct note first = {.kind = NOTE_FIND, .first = 8, .last = 9, .at = 13, AREA(10, 20, A)};
	struct note note = first;
	struct ledger ledger;

	(void)state;
	make(&ledger);
	expect(&ledger, note, true, "the area of version 9");
	note.last = 13;
	expect(&ledger, note, true, "an area of the beginning");
	note.first = 10;
	expect(&ledger, note, false, "an operation that was complete is missed");
	note = first;
	note.start = 12;
	note.end = 18;
	note.value = C;
	expect(&ledger, note, false, "an area from the future");
	note.last = 10;
	expect(&ledger, note, true, "that area in time");
	note.start = 10;
	expect(&ledger, note, false, "torn: the beginning of one area, the end of another");
	note.start = 12;
	note.value = A;
	expect(&ledger, note, false, "torn: the value of another area");
	note.value = value_with_flags(C, 2);
	expect(&ledger, note, false, "flags that it never had");
	note = first;
	note.found = false;
	expect(&ledger, note, false, "a hole where an area was");
	note.at = 65;
	expect(&ledger, note, true, "a hole");
	note.found = true;
	expect(&ledger, note, false, "an area where a hole was");
	note = (struct note){.kind = NOTE_FIND, .first = 11, .last = 11, .at = 22};
	note.found = true;
	note.start = 20;
	note.end = 25;
	note.value = value_with_flags(B, 7);
	expect(&ledger, note, true, "a piece with its new flags");
	note = first;
	note.first = 10;
	note.last = 9;
	expect(&ledger, note, false, "versions that run backwards");
	note.first = 9;
	note.last = NEWEST + 1;
	expect(&ledger, note, false, "a version that there is not");
	note.first = BASE - 1;
	note.last = 9;
	expect(&ledger, note, false, "a version of an earlier round");
	ledger_free(&ledger);
}

static void views_are_one_version(void **state)
{
	struct note view = {.kind = NOTE_VIEW, .first = 9, .last = 11, .value = 10};
	/* In a view of version 10, after the transaction: */
	struct note one = {.kind = NOTE_FIND, .first = 10, .last = 10, .at = 13, AREA(12, 18, C)};
	struct note two = {.kind = NOTE_FIND, .first = 10, .last = 10, .at = 55, AREA(50, 60, D)};
	struct ledger ledger;

	(void)state;
	make(&ledger);
	expect(&ledger, view, true, "a view");
	view.value = 8;
	expect(&ledger, view, false, "a view that was old when it was taken");
	view.value = 12;
	expect(&ledger, view, false, "a view of a version to come");
	expect(&ledger, one, true, "one part of the transaction");
	expect(&ledger, two, true, "the other part");
	two.found = false;
	expect(&ledger, two, false, "half a transaction");
	one.start = 10;
	one.end = 20;
	one.value = A;
	expect(&ledger, one, false, "two versions in one view");
	ledger_free(&ledger);
}

static void walks_are_checked(void **state)
{
	struct note next = {.kind = NOTE_NEXT, .first = 10, .last = 10, .at = 13, AREA(12, 18, C)};
	struct note prev = {.kind = NOTE_PREV, .first = 10, .last = 10, .at = 50, AREA(20, 30, B)};
	struct note note;
	struct ledger ledger;

	(void)state;
	make(&ledger);
	expect(&ledger, next, true, "the area at the start");
	expect(&ledger, prev, true, "the area below");
	note = next;
	note.at = 18;
	expect(&ledger, note, false, "an area that ends there");
	note = (struct note){.kind = NOTE_NEXT, .first = 10, .last = 10, .at = 18, AREA(50, 60, D)};
	expect(&ledger, note, false, "an area is left out");
	note.at = 30;
	expect(&ledger, note, true, "the next one");
	note.found = false;
	expect(&ledger, note, false, "the end is early");
	note.at = 60;
	expect(&ledger, note, true, "the end");
	note.found = true;
	expect(&ledger, note, false, "an area behind the end");
	note = prev;
	note.at = 20;
	expect(&ledger, note, false, "an area that starts there");
	note.at = 12;
	note.found = false;
	expect(&ledger, note, true, "the beginning");
	note.at = 13;
	expect(&ledger, note, false, "the beginning is early");
	ledger_free(&ledger);
}

static void gaps_are_checked(void **state)
{
	/* Version 10: areas at 12-18, 20-30, 50-60. */
	struct note up = {.kind = NOTE_GAP,
			  .first = 10,
			  .last = 10,
			  .wish = {.lo = 5, .hi = 90, .size = 10},
			  .found = true,
			  .start = 30};
	struct note note = up;
	struct ledger ledger;

	(void)state;
	make(&ledger);
	expect(&ledger, note, true, "the lowest gap");
	note.start = 35;
	expect(&ledger, note, false, "not the lowest");
	note.start = 25;
	expect(&ledger, note, false, "occupied");
	note.start = 2;
	expect(&ledger, note, false, "outside the range");
	note.found = false;
	expect(&ledger, note, false, "none, though there is one");
	note.wish.size = 31;
	expect(&ledger, note, true, "none");
	note.found = true;
	note.start = 60;
	expect(&ledger, note, false, "one, though there is none");
	note = up;
	note.wish.down = true;
	note.start = 80;
	expect(&ledger, note, true, "the highest gap");
	note.start = 79;
	expect(&ledger, note, false, "not the highest");
	note.wish.size = 31;
	note.found = false;
	expect(&ledger, note, true, "none downward");
	ledger_free(&ledger);
}

/* The finer points of a gap search: hint, wrap, alignment, guard. */
static void wishes_are_checked(void **state)
{
	/* Version 10: areas at 12-18, 20-30, 50-60. */
	struct note up = {.kind = NOTE_GAP, .first = 10, .last = 10, .found = true};
	struct note note;
	struct ledger ledger;

	(void)state;
	make(&ledger);
	up.wish = (struct wish){.lo = 0, .hi = 100, .size = 8};
	note = up;
	note.start = 0;
	expect(&ledger, note, true, "the lowest");
	note.wish.hint = 2;
	expect(&ledger, note, false, "below the hint");
	note.start = 2;
	expect(&ledger, note, true, "at the hint");
	note.wish.hint = 95;
	expect(&ledger, note, false, "nothing there, and not asked to wrap");
	note.found = false;
	expect(&ledger, note, true, "nothing from the hint on");
	note.wish.wrap = true;
	expect(&ledger, note, false, "nothing, though it was to wrap");
	note.found = true;
	note.start = 0;
	expect(&ledger, note, true, "from the other end");
	note = up;
	note.wish.guard = 3;
	note.start = 0;
	expect(&ledger, note, true, "the end of the space needs no guard");
	note.wish.guard = 5;
	expect(&ledger, note, false, "too near to [12, 18)");
	note.start = 35;
	expect(&ledger, note, true, "with the guard on both sides");
	note = up;
	note.wish.down = true;
	note.start = 92;
	expect(&ledger, note, true, "the highest");
	note.wish.hint = 70;
	expect(&ledger, note, false, "above the hint");
	note.start = 62;
	expect(&ledger, note, true, "below the hint");
	note.wish.hint = 5;
	note.found = false;
	expect(&ledger, note, true, "nothing below the hint");
	note.wish.wrap = true;
	note.found = true;
	note.start = 92;
	expect(&ledger, note, true, "from the top");
	/* Addresses are aligned, not offsets. */
	note = up;
	note.wish.align = 4;
	note.wish.lo = 20;
	ledger.origin = 3;
	note.start = 32;
	expect(&ledger, note, false, "an aligned offset");
	note.start = 29;
	expect(&ledger, note, false, "occupied");
	note.start = 61;
	expect(&ledger, note, true, "an aligned address");
	note.wish.down = true;
	note.start = 77;
	expect(&ledger, note, true, "the highest aligned address");
	ledger_free(&ledger);
}

static void the_rest_is_checked(void **state)
{
	struct note overlap = {
		.kind = NOTE_OVERLAPS, .first = 10, .last = 10, .at = 18, .end = 21, .found = true};
	struct note same = {
		.kind = NOTE_SAME, .first = 10, .last = 10, .at = 10, .end = 19, .value = 3};
	struct note all = {
		.kind = NOTE_ALL, .first = 10, .last = 10, .at = 13, .end = 21, .start = 18};
	struct note bytes = {
		.kind = NOTE_BYTES, .first = 10, .last = 10, .at = 14, .end = 22, .value = 6};
	struct note dump = {.kind = NOTE_DUMP, .first = 10, .last = 10}, torn;
	struct ledger ledger;

	(void)state;
	make(&ledger);
	expect(&ledger, overlap, true, "something is there");
	overlap.end = 20;
	expect(&ledger, overlap, false, "nothing is there");
	overlap.found = false;
	expect(&ledger, overlap, true, "nothing");
	overlap.at = 17;
	expect(&ledger, overlap, false, "something is");
	expect(&ledger, all, true, "a range up to a hole");
	all.start = 17;
	expect(&ledger, all, false, "a range up to somewhere else");
	all.found = true;
	expect(&ledger, all, false, "a range with a hole");
	all.end = 18;
	expect(&ledger, all, true, "a range");
	all.found = false;
	expect(&ledger, all, false, "a hole that is none");
	expect(&ledger, bytes, true, "bytes beside a hole");
	bytes.value = 7;
	expect(&ledger, bytes, false, "bytes of a hole");
	expect(&ledger, same, true, "nothing to protect");
	same.end = 25;
	expect(&ledger, same, false, "something to protect");
	dump.value = mix_area(dump.value, 12, 18, C);
	dump.value = mix_area(dump.value, 20, 30, B);
	expect(&ledger, dump, false, "a dump that ends early");
	torn = dump;
	dump.value = mix_area(dump.value, 50, 60, D);
	expect(&ledger, dump, true, "a dump");
	torn.value = mix_area(torn.value, 50, 55, D);
	torn.last = 13;
	expect(&ledger, torn, false, "a dump of two versions");
	dump.first = dump.last = 9;
	expect(&ledger, dump, false, "a dump from the future");
	ledger_free(&ledger);
}

/* ---- Long ones -------------------------------------------------------------------- */

/*
 * Random rounds on an array of cells, which is what the history must agree with at every
 * version, also in the rounds after the first.
 */
static void rounds_go_on(void **state)
{
	enum { ROUNDS = 20, STEPS = 200 };
	static uint64_t cells[STEPS + 1][SIZE];
	uint64_t random = 1, base = BASE;
	struct ledger ledger;

	(void)state;
	ledger_begin(&ledger, SIZE, base);
	for (int i = 0; i < SIZE; i++)
		cells[STEPS][i] = HOLE;
	for (int round = 0; round < ROUNDS; round++) {
		struct deed deeds[STEPS] = {{.kind = DEED_MAP}};
		struct deeds log = {.at = deeds, .at_count = STEPS};
		const struct deeds *logs[] = {&log};
		struct lie lie = {""};

		memcpy(cells[0], cells[STEPS], sizeof(cells[0]));
		for (int t = 1; t <= STEPS; t++) {
			uint64_t from = random_next(&random) % SIZE;
			uint64_t to = from + 1 + random_next(&random) % 9;
			uint64_t value = (random_next(&random) >> 62) + 1;

			to = to > SIZE ? SIZE : to;
			if (random_next(&random) & 1)
				value = HOLE;
			deeds[t - 1] = (struct deed){
				.kind = value == HOLE ? DEED_UNMAP : DEED_REPLACE,
				.sure = true,
				.version = base + (uint64_t)t,
				.before = base + (uint64_t)t - 1,
				.after = base + (uint64_t)t,
				.start = from,
				.end = to,
				.value = value,
			};
			memcpy(cells[t], cells[t - 1], sizeof(cells[0]));
			for (; from < to; from++)
				cells[t][from] = value;
		}
		if (!ledger_round(&ledger, logs, 1, base + STEPS, &lie))
			fail_msg("%s", lie.reason);
		for (int t = 0; t <= STEPS; t++) {
			for (uint64_t at = 0; at < SIZE; at++) {
				struct note note = {.kind = NOTE_FIND, .at = at};
				uint64_t start = at, end = at + 1;

				while (start && cells[t][start - 1] == cells[t][at])
					start--;
				while (end < SIZE && cells[t][end] == cells[t][at])
					end++;
				note.first = note.last = base + (uint64_t)t;
				note.found = cells[t][at] != HOLE;
				note.start = start;
				note.end = end;
				note.value = cells[t][at];
				if (!check_note(&ledger, &note, &lie))
					fail_msg("round %d: %s", round, lie.reason);
				note.end++;
				assert_int_equal(check_note(&ledger, &note, &lie), !note.found);
			}
		}
		base += STEPS;
	}
	assert_int_equal(ledger.versions, ROUNDS * STEPS);
	ledger_free(&ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(deeds_are_versions),
		cmocka_unit_test(deeds_were_possible),
		cmocka_unit_test(unsure_deeds_are_settled),
		cmocka_unit_test(leaving_areas_leave),
		cmocka_unit_test(lookups_are_checked),
		cmocka_unit_test(views_are_one_version),
		cmocka_unit_test(walks_are_checked),
		cmocka_unit_test(gaps_are_checked),
		cmocka_unit_test(the_rest_is_checked),
		cmocka_unit_test(rounds_go_on),
		cmocka_unit_test(refused_areas_return),
		cmocka_unit_test(loose_deeds_get_the_rest),
		cmocka_unit_test(pending_areas_stay_as_they_are),
		cmocka_unit_test(lies_about_pending_areas),
		cmocka_unit_test(areas_stay_apart),
		cmocka_unit_test(wishes_are_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
