/* SPDX-License-Identifier: MIT */
/*
 * aspace_validate() and the damage that it is for: one thing at a time is broken behind
 * the library's back, must be found under its own number, and is mended again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <aspace/backend/null.h>

#include "tree/nodes.h"
#include "space/space.h"
#include "tree/node.h"

#define AREAS 300
#define FLAGS UINT64_C(0xff)
#define PAGE  UINT64_C(0x1000)

static struct aspace *space;
/* As the null backend, but with a granule and few flags. */
static struct aspace_backend backend;

/* ---- Damage, and its repair -------------------------------------------- */

static struct {
	void *at;
	size_t size;
	unsigned char before[16];
} pokes[4];
static unsigned poked;

static void note_poke(void *at, size_t size)
{
	assert_in_range(poked, 0, sizeof(pokes) / sizeof(pokes[0]) - 1);
	assert_in_range(size, 1, sizeof(pokes[0].before));
	pokes[poked].at = at;
	pokes[poked].size = size;
	memcpy(pokes[poked++].before, at, size);
}

#define POKE(lvalue, value)                                                                        \
	do {                                                                                       \
		note_poke((void *)(uintptr_t) & (lvalue), sizeof(lvalue));                         \
		(lvalue) = (value);                                                                \
	} while (0)

static void mend(void)
{
	while (poked) {
		poked--;
		memcpy(pokes[poked].at, pokes[poked].before, pokes[poked].size);
	}
}

static void assert_valid(const char *when)
{
	struct aspace_violation violation = {0};

	if (aspace_validate(space, &violation, 0) != ASPACE_OK)
		fail_msg("%s: %u at %llx: %s", when, violation.invariant,
			 (unsigned long long)violation.address.value, violation.what);
}

static uint64_t expect_unmended(unsigned number, const char *what)
{
	struct aspace_violation violation = {0};
	enum aspace_status status = aspace_validate(space, &violation, 0);

	if (status != ASPACE_BAD_STATE || violation.invariant != number)
		fail_msg("%s: status %d, invariant %u (%s), not %u", what, (int)status,
			 violation.invariant, violation.what ? violation.what : "-", number);
	if (!violation.what || !violation.what[0])
		fail_msg("%s: no words for it", what);
	/* Nobody need ask where. */
	assert_int_equal(aspace_validate(space, NULL, 0), ASPACE_BAD_STATE);
	return violation.address.value;
}

/* The damage has just been done by POKE(). */
static void expect_at(unsigned number, uint64_t address, const char *what)
{
	uint64_t at = expect_unmended(number, what);

	if (address != UINT64_MAX && at != address)
		fail_msg("%s: at %llx, not %llx", what, (unsigned long long)at,
			 (unsigned long long)address);
	mend();
	assert_valid(what);
}

static void expect(unsigned number, const char *what)
{
	expect_at(number, UINT64_MAX, what);
}

/* ---- A space ----------------------------------------------------------- */

static uint64_t start_of(unsigned i)
{
	return PAGE + i * 4 * PAGE;
}

static void map(uint64_t start, uint64_t end, uint64_t flags)
{
	assert_int_equal(aspace_map(space, aspace_range_of(start, end), flags, &backend, NULL, 0),
			 ASPACE_OK);
}

static void open_space(unsigned mode)
{
	struct aspace_options options = {
		.size = sizeof(options),
		.granule = 1,
		.mode = mode,
		.limits = aspace_range_of(PAGE, 0x1000000),
	};

	backend = *aspace_null_backend();
	backend.flags_mask = FLAGS;
	backend.granule = PAGE;
	poked = 0;
	assert_int_equal(aspace_create(&options, &space), ASPACE_OK);
	/* Not in order: ascending ones would fill every leaf. */
	for (unsigned i = 0; i < AREAS; i++) {
		unsigned k = i * 7 % AREAS;

		map(start_of(k), start_of(k) + PAGE, 1);
	}
	/* An operation of two changes: so that each pool holds something. */
	map(start_of(AREAS), start_of(AREAS) + PAGE, 1);
	map(start_of(AREAS + 1), start_of(AREAS + 1) + PAGE, 1);
	assert_int_equal(
		aspace_protect(space, aspace_range_of(start_of(AREAS), start_of(AREAS + 2)), 2, 0),
		ASPACE_OK);
	assert_int_equal(
		aspace_unmap(space, aspace_range_of(start_of(AREAS), start_of(AREAS + 2)), 0),
		ASPACE_OK);
	/* Nothing is under way any more, on the helper thread neither. */
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_in_range(asp_root(space)->level, 2, ASP_HEIGHT_MAX);
	assert_valid("in the beginning");
}

static int open_plain(void **state)
{
	(void)state;
	open_space(0);
	return 0;
}

static int open_grace(void **state)
{
	(void)state;
	open_space(ASPACE_GRACE_UNMAP);
	return 0;
}

static int close_space(void **state)
{
	(void)state;
	mend();
	return aspace_destroy(space, 0) != ASPACE_OK;
}

static struct asp_node *child_of(const struct asp_node *node, unsigned i)
{
	assert_in_range(i, 0, node->count - 1u);
	return node->inner.child[i];
}

/* A leaf that is neither first nor last, with at least four areas. */
static struct asp_node *some_leaf(void)
{
	struct asp_node *node = asp_root(space);

	while (node->level)
		node = child_of(node, node->level == 1 ? 1 : 0);
	assert_in_range(node->count, 4, ASP_LEAF_MAX);
	return node;
}

/* The leaf and slot of the area that starts there. */
static struct asp_node *find(uint64_t start, int *slot)
{
	struct asp_node *node = asp_root(space);

	while (node->level) {
		unsigned i = 0;

		while (node->inner.last[i] <= start)
			i++;
		node = child_of(node, i);
	}
	for (*slot = 0; node->leaf.start[*slot] != start; (*slot)++)
		assert_in_range(*slot, 0, node->count - 1);
	return node;
}

static struct asp_node *find_roomy(struct asp_node *node, unsigned level)
{
	struct asp_node *found = NULL;

	if (node->level == level)
		return node->count < asp_node_max(node) ? node : NULL;
	for (unsigned i = 0; i < node->count && !found; i++)
		found = find_roomy(node->inner.child[i], level);
	return found;
}

/* One with an unused key. */
static struct asp_node *roomy_node(unsigned level)
{
	struct asp_node *node = find_roomy(asp_root(space), level);

	assert_non_null(node);
	return node;
}

/* ---- T: the tree ------------------------------------------------------- */

static void t1_counts(void **state)
{
	struct asp_node *root = asp_root(space), *inner = child_of(root, 0), *leaf = some_leaf();

	(void)state;
	POKE(leaf->count, ASP_LEAF_MAX + 1);
	expect(101, "an overfull leaf");
	POKE(leaf->count, ASP_LEAF_MIN - 1);
	expect(101, "an underfull leaf");
	POKE(leaf->count, 0);
	expect(101, "an empty leaf");
	POKE(inner->count, ASP_INNER_MAX + 1);
	expect(101, "an overfull inner node");
	POKE(inner->count, ASP_INNER_MIN - 1);
	expect(101, "an underfull inner node");
	POKE(root->count, ASP_INNER_MAX + 1);
	expect(101, "an overfull root");
	POKE(root->count, 1);
	expect(101, "a root with one child");
	POKE(root->count, 0);
	expect(101, "a root without children");
	leaf = root;
	while (leaf->level)
		leaf = child_of(leaf, leaf->count - 1u);
	POKE(leaf->count, 0);
	expect(101, "an empty leaf on the right spine");
}

static void t2_areas(void **state)
{
	struct asp_node *leaf = some_leaf();
	struct asp_node *first = child_of(child_of(asp_root(space), 0), 0);

	(void)state;
	POKE(leaf->leaf.slot[1].end, leaf->leaf.start[1]);
	expect_at(102, leaf->leaf.start[1], "an empty area");
	POKE(leaf->leaf.slot[1].end, leaf->leaf.start[1] - 1);
	expect_at(102, leaf->leaf.start[1], "a reversed area");
	POKE(leaf->leaf.slot[1].end, leaf->leaf.start[2] + 1);
	expect_at(102, leaf->leaf.start[2], "an area that reaches into the next");
	POKE(leaf->leaf.start[2], leaf->leaf.start[1]);
	expect_at(102, leaf->leaf.start[1], "two areas with one start");
	POKE(leaf->leaf.start[0], first->leaf.start[0]);
	expect_at(102, first->leaf.start[0], "an area that begins in the leaf before");
}

static void t3_unused_keys(void **state)
{
	struct asp_node *leaf = roomy_node(0), *inner = roomy_node(1), *root = asp_root(space);

	(void)state;
	POKE(leaf->leaf.start[leaf->count], 0);
	expect(103, "a key behind a leaf's last");
	POKE(leaf->leaf.start[ASP_LEAF_MAX - 1], ASP_NO_KEY - 1);
	expect_at(103, ASP_NO_KEY - 1, "a leaf's last key");
	POKE(inner->inner.first[inner->count], 0);
	expect(103, "a key behind an inner node's last");
	POKE(inner->inner.last[ASP_INNER_MAX - 1], 0);
	expect(103, "an inner node's last end");
	POKE(root->inner.first[ASP_INNER_MAX - 1], 5);
	expect_at(103, 5, "the root's last key");
}

static void t4_bounds(void **state)
{
	struct asp_node *root = asp_root(space), *inner = child_of(root, 0);
	struct asp_node *leaf = some_leaf();
	struct asp_node *const nodes[] = {inner, root};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct asp_node *node = nodes[i];
		uint64_t first = node->inner.first[1];

		POKE(node->inner.first[1], first - 1);
		expect_at(104, first, "a first that is too low");
		POKE(node->inner.last[1], node->inner.last[1] + 1);
		expect_at(104, first, "a last that is too high");
		POKE(node->inner.gap[1], node->inner.gap[1] + 1);
		expect_at(104, first, "a gap that is too wide");
		POKE(node->inner.gap[1], node->inner.gap[1] - 1);
		expect_at(104, first, "a gap that is too narrow");
	}
	POKE(leaf->leaf.slot[leaf->count - 1].end, leaf->leaf.slot[leaf->count - 1].end + 1);
	expect(104, "a leaf that ends later");
	POKE(leaf->leaf.slot[1].end, leaf->leaf.slot[1].end - 1);
	expect(104, "a gap that grew");
}

static void t5_levels(void **state)
{
	struct asp_node *root = asp_root(space), *leaf = some_leaf();

	(void)state;
	POKE(leaf->level, 1);
	expect(105, "a leaf that says level 1");
	POKE(child_of(root, 1)->level, 0);
	expect_at(105, root->inner.first[1], "an inner node that says level 0");
	POKE(child_of(root, 0)->level, root->level);
	expect(105, "a child on the level of its parent");
}

static void t6_births(void **state)
{
	struct asp_node *root = asp_root(space), *inner = child_of(root, 1);

	(void)state;
	POKE(inner->birth, root->birth + 1);
	expect_at(106, root->inner.first[1], "a child that is younger than the root");
	POKE(child_of(inner, 1)->birth, inner->birth + 1);
	expect_at(106, inner->inner.first[1], "a leaf that is younger than its parent");
}

/* ---- P: the pools ------------------------------------------------------ */

static void p1_available(void **state)
{
	struct asp_pool *const pools[] = {&space->nodes, &space->records, &space->actions};

	(void)state;
	asp_nodes_unpack(&space->nodes);
	for (unsigned i = 0; i < 3; i++) {
		assert_in_range(pools[i]->available, 1, SIZE_MAX);
		POKE(pools[i]->available, pools[i]->available + 1);
		expect(201, "an object too many");
		POKE(pools[i]->available, pools[i]->available - 1);
		expect(201, "an object too few");
	}
	POKE(space->nodes.free, NULL);
	expect(201, "a free list that has been lost");
}

static void p2_free_list(void **state)
{
	static char foreign[64] __attribute__((aligned(64)));
	struct asp_pool *const pools[] = {&space->nodes, &space->records, &space->actions};

	(void)state;
	asp_nodes_unpack(&space->nodes);
	for (unsigned i = 0; i < 3; i++) {
		struct asp_pool *pool = pools[i];
		void *head = pool->free, *next;

		assert_non_null(head);
		POKE(pool->free, foreign);
		expect(202, "a pointer from outside");
		POKE(pool->free, (char *)head + sizeof(void *));
		expect(202, "a pointer into an object");
		POKE(pool->free, pool->blocks);
		expect(202, "a pointer to the head of a block");

		/* The same behind the first. Free objects are out of bounds for us. */
		asp_unpoison(head, sizeof(void *));
		memcpy(&next, head, sizeof(next));
		*(void **)head = foreign;
		asp_poison(head, sizeof(void *));
		expect_unmended(202, "a pointer from outside, further on");
		asp_unpoison(head, sizeof(void *));
		*(void **)head = head;
		asp_poison(head, sizeof(void *));
		expect_unmended(201, "a free list without an end");
		asp_unpoison(head, sizeof(void *));
		memcpy(head, &next, sizeof(next));
		asp_poison(head, sizeof(void *));
		assert_valid("a free list that is whole again");
	}
}

/* ---- S: the space ------------------------------------------------------ */

static void s1_version(void **state)
{
	struct asp_node *root = asp_root(space);

	(void)state;
	POKE(space->version, space->version + 1);
	expect(301, "a version that nobody has published");
	POKE(root->birth, root->birth + 1);
	expect(301, "a root of another version");
	POKE(space->actions.total, space->actions.total + 1);
	expect(301, "an action that is left");
}

static void s2_counts(void **state)
{
	(void)state;
	atomic_store(&space->areas, AREAS + 1);
	expect_unmended(302, "an area too many");
	atomic_store(&space->areas, AREAS - 1);
	expect_unmended(302, "an area too few");
	atomic_store(&space->areas, AREAS);
	assert_valid("as many areas as there are");
	POKE(space->bytes, space->bytes + 1);
	expect(302, "a byte too many");
	POKE(space->node_count, space->node_count + 1);
	expect(302, "a node too many");
	POKE(space->nodes.total, space->nodes.total + 1);
	expect(302, "a node that has leaked");
	POKE(space->nodes.total, space->nodes.total - 1);
	expect(302, "a node that is in use twice");
	POKE(space->records.total, space->records.total + 1);
	expect(302, "a record that has leaked");
	POKE(space->snapshot_nodes, 1);
	expect(302, "a node of no snapshot");
	POKE(space->freed_objects.count, 1);
	expect(302, "a reference of a released snapshot that is none");
	POKE(space->freed_nodes.count, 1);
	expect(302, "a node of a released snapshot that is none");
	POKE(space->retired.count, space->retired.count + 1);
	expect(302, "a retired node that is none");
}

static void s3_leaving(void **state)
{
	struct aspace_view view;
	struct aspace_record *record;
	struct asp_node *leaf;
	int at;

	(void)state;
	aspace_read_begin(space, &view);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(aspace_unmap(space,
					      aspace_range_of(start_of(20 + 20 * i),
							      start_of(20 + 20 * i) + PAGE),
					      0),
				 ASPACE_OK);
	assert_int_equal(space->leaving.count, 5);
	assert_valid("areas are leaving");
	record = space->leaving.head->next;
	assert_non_null(record);

	POKE(space->leaving.count, 4);
	expect(303, "a leaving area too few");
	POKE(space->leaving.count, 6);
	expect(303, "a leaving area too many");
	POKE(space->deferred.count, space->deferred.count + 1);
	expect(303, "a record too many");
	POKE(space->leaving.head, record);
	expect(303, "a leaving area without a record");
	POKE(record->address, start_of(1));
	expect_at(303, start_of(1), "a leaving record for an area that stays");
	POKE(record->address, record->address + 2 * PAGE);
	expect(303, "a leaving record for a hole");
	POKE(record->address, record->address + 1);
	expect(303, "a leaving record for the inside of a leaving area");
	POKE(record->address, space->leaving.head->address);
	expect(303, "two leaving records for one area, none for another");
	leaf = find(record->address, &at);
	POKE(leaf->leaf.slot[at].flags, leaf->leaf.slot[at].flags & ~ASP_FLAG_LEAVING);
	expect_at(303, record->address, "a leaving area that stays");
	leaf = find(start_of(1), &at);
	POKE(leaf->leaf.slot[at].flags, leaf->leaf.slot[at].flags | ASP_FLAG_LEAVING);
	expect(303, "an area that leaves on its own");
	POKE(space->leaving_bytes, space->leaving_bytes + PAGE);
	expect(303, "bytes that do not leave");
	POKE(space->pending.count, 1);
	expect(303, "a pending area that is not there");
	/* Where a note has its start, a leaving area's record has nothing. */
	record->note.start = 0;
	POKE(record->pending, true);
	expect(303, "a record of an area that leaves, for a pending one");

	aspace_read_end(&view);
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_int_equal(space->leaving.count, 0);
	assert_valid("they have left");
}

static void s4_areas(void **state)
{
	struct asp_node *leaf = some_leaf();

	(void)state;
	POKE(space->lo, start_of(0) + PAGE);
	expect_at(304, start_of(0), "an area below the limits");
	POKE(space->hi, start_of(AREAS - 1));
	expect_at(304, start_of(AREAS - 1), "an area above the limits");
	/* Not at the leaf's edge, and no gap grows: the tree is in order. */
	POKE(leaf->leaf.start[1], leaf->leaf.start[1] - 8);
	POKE(space->bytes, space->bytes + 8);
	expect_at(304, leaf->leaf.start[1], "an area off its backend's granule");
	POKE(space->granule, 2 * PAGE);
	expect_at(304, start_of(0), "an area off the granule of the space");
	POKE(leaf->leaf.slot[1].flags, FLAGS + 1);
	expect_at(304, leaf->leaf.start[1], "flags that nobody has declared");
	POKE(leaf->leaf.slot[1].flags, 1 | ASP_FLAG_LEAVING >> 1);
	expect_at(304, leaf->leaf.start[1], "a reserved flag that means nothing");
}

static void s5_merging(void **state)
{
	uint64_t start = start_of(AREAS + 1);
	struct asp_node *leaf;
	int at;

	(void)state;
	map(start, start + PAGE, 1);
	map(start + PAGE, start + 2 * PAGE, 2);
	assert_valid("unequal neighbours");
	leaf = find(start + PAGE, &at);
	POKE(leaf->leaf.slot[at].flags, 1);
	expect_at(305, start + PAGE, "equal neighbours");
	/* Where that is allowed, it is. */
	POKE(leaf->leaf.slot[at].flags, 1);
	POKE(space->mode, ASPACE_NEVER_MERGE);
	assert_valid("equal neighbours that never merge");
	mend();
}

static void s6_snapshots(void **state)
{
	struct aspace_snapshot snapshots[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(aspace_snapshot_take(space, &snapshots[i]), ASPACE_OK);
		map(start_of(AREAS + i), start_of(AREAS + i) + PAGE, 3);
	}
	assert_int_equal(aspace_quiesce(space, 0), ASPACE_OK);
	assert_in_range(space->snapshot_nodes, 1, UINT64_MAX);
	assert_valid("three snapshots");
	POKE(snapshots[0].version, snapshots[1].version + 1);
	expect(306, "snapshots out of order");
	POKE(snapshots[2].version, snapshots[0].version - 1);
	expect(306, "a newest that is the oldest");
	POKE(snapshots[2].version, space->version + 1);
	expect(306, "a snapshot of the future");
	/* What belongs to the counts, not to the order. */
	POKE(space->snapshot_nodes, space->snapshot_nodes - 1);
	expect(302, "a node of a snapshot that is not counted");
	POKE(snapshots[0].nodes.count, snapshots[0].nodes.count + 1);
	expect(302, "a snapshot that counts wrong");
	for (unsigned i = 0; i < 3; i++)
		aspace_snapshot_release(&snapshots[(i + 1) % 3]);
	assert_valid("none");
}

#define PLAIN(name) cmocka_unit_test_setup_teardown(name, open_plain, close_space)
#define GRACE(name) cmocka_unit_test_setup_teardown(name, open_grace, close_space)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PLAIN(t1_counts),  PLAIN(t2_areas),     PLAIN(t3_unused_keys), PLAIN(t4_bounds),
		PLAIN(t5_levels),  PLAIN(t6_births),    PLAIN(p1_available),   PLAIN(p2_free_list),
		PLAIN(s1_version), PLAIN(s2_counts),    GRACE(s3_leaving),     PLAIN(s4_areas),
		PLAIN(s5_merging), PLAIN(s6_snapshots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
