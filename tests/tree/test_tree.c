/* SPDX-License-Identifier: MIT */
/*
 * The tree by itself, beside a sorted array: random insertions, removals, updates and searches in
 * trees in the making, which are published or discarded; gap searches, by every kind of registers
 * that this CPU has. It links src/tree, the pool below it and pages, and nothing else.
 *
 *   test_tree [SEED [ROUNDS]]
 *
 * After each round:
 *   the new version and the one before hold what the array held then, found by searches, by walking
 *   up and down, and by the dump; T1 to T6 hold; the nodes in use are those of the versions and
 *   those that wait; what the edit counted is what there is.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree/nodes.h"
#include "tree/vector/vector.h"

#define AREAS_MAX 3000u

/* ---- Chance --------------------------------------------------------------- */

static uint64_t seed, state;

static uint64_t roll(void) /* splitmix64 */
{
	uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t below(uint64_t bound)
{
	return roll() % bound;
}

static unsigned long round_number;

static __attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...)
{
	va_list args;

	printf("test_tree %" PRIu64 ": round %lu: ", seed, round_number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	exit(1);
}

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail("line %d: %s", __LINE__, #condition);                                 \
	} while (0)

/* ---- The array ------------------------------------------------------------ */

struct model {
	size_t count;
	struct aspace_area area[AREAS_MAX];
};

/* Of the version being made, of the newest, and of the one before. */
static struct model now, newest, older;

static void copy_model(struct model *to, const struct model *from)
{
	to->count = from->count;
	memcpy(to->area, from->area, from->count * sizeof(from->area[0]));
}

/* The first area that ends above the address. */
static size_t first_above(const struct model *model, uint64_t address)
{
	size_t low = 0, high = model->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (model->area[middle].end.value > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static void take_out(size_t from, size_t to)
{
	memmove(&now.area[from], &now.area[to], (now.count - to) * sizeof(now.area[0]));
	now.count -= to - from;
}

static void put_in(size_t at, const struct aspace_area *area)
{
	memmove(&now.area[at + 1], &now.area[at], (now.count - at) * sizeof(now.area[0]));
	now.area[at] = *area;
	now.count++;
}

/* ---- The world: where areas are, and how many ----------------------------- */

static uint64_t base, granule, span; /* [base, base + span) */
static size_t aim;                   /* so many areas, about */

static void choose_world(void)
{
	static const uint64_t granules[] = {1, 4096, UINT64_C(1) << 30};

	granule = granules[below(3)];
	aim = below(4) ? 1 + below(300) : 1 + below(AREAS_MAX / 2);
	span = granule * (4 * aim + 8);
	/* The lowest addresses, some, and the highest: 2^64 - 1 is no area's. */
	switch (below(3)) {
	case 0:
		base = 0;
		break;
	case 1:
		base = granule * (1 + below(1000));
		break;
	default:
		base = granule == 1 ? UINT64_MAX - span : 0 - span - granule;
		break;
	}
}

static uint64_t somewhere(void)
{
	return base + granule * below(span / granule);
}

/* ---- Trees ---------------------------------------------------------------- */

static const struct aspace_page_ops pages = {asp_pages_alloc, asp_pages_free};
static struct asp_pool nodes, records;
static struct asp_node *root;             /* newest */
static struct asp_node *root_before;      /* NULL: none */
static struct aspace_record_list waiting; /* nodes that only the version before has */
static uint64_t nodes_of_newest;

static const struct asp_vector *const vectors[] = {
#ifdef ASP_VECTOR_X86
	&asp_vector_avx512,
	&asp_vector_avx2,
#endif
#ifdef ASP_VECTOR_NEON
	&asp_vector_neon,
#endif
	&asp_vector_portable,
};

#define VECTORS (sizeof(vectors) / sizeof(vectors[0]))

static const struct asp_vector *any_vector(void)
{
	const struct asp_vector *vector;

	do
		vector = vectors[below(VECTORS)];
	while (!asp_vector_runs(vector));
	return vector;
}

static void open_world(void)
{
	asp_pool_init(&records, sizeof(struct aspace_record), &pages, NULL);
	asp_pool_init(&nodes, sizeof(struct asp_node), &pages, NULL);
	nodes.records = &records;
	CHECK(asp_pool_reserve(&nodes, 1));
	root = asp_nodes_get(&nodes);
	asp_node_init_leaf(root, 1);
	asp_freeze(root, sizeof(*root));
	root_before = NULL;
	nodes_of_newest = 1;
	now.count = newest.count = 0;
}

static void close_world(void)
{
	asp_pool_destroy(&nodes);
	asp_pool_destroy(&records);
	waiting = (struct aspace_record_list){0};
}

/* ---- What a version holds ------------------------------------------------- */

static bool is_same(const struct aspace_area *a, const struct aspace_area *b)
{
	return a->start.value == b->start.value && a->end.value == b->end.value &&
	       a->flags == b->flags && a->backend == b->backend && a->user == b->user;
}

static void expect_at(const struct asp_cursor *cursor, bool found, const struct model *model,
		      size_t at)
{
	struct aspace_area area;

	CHECK(found == (at < model->count)); /* SIZE_MAX: none below */
	if (!found)
		return;
	area = asp_cursor_area(cursor);
	if (!is_same(&area, &model->area[at]))
		fail("area %zu is [%" PRIx64 ", %" PRIx64 "), not [%" PRIx64 ", %" PRIx64 ")", at,
		     area.start.value, area.end.value, model->area[at].start.value,
		     model->area[at].end.value);
}

static void search(const struct asp_node *tree, const struct model *model, uint64_t address)
{
	size_t at = address == UINT64_MAX ? model->count : first_above(model, address);
	struct asp_cursor cursor;
	const struct asp_node *leaf;
	int slot = 0;
	bool inside = at < model->count && model->area[at].start.value <= address;

	expect_at(&cursor, asp_cursor_seek(&cursor, tree, address), model, at);
	leaf = asp_tree_find(tree, address, &slot);
	CHECK(!leaf == !inside);
	if (leaf)
		CHECK(leaf == cursor.leaf && slot == cursor.slot);
	/* The last that starts below. */
	at -= !(at < model->count && model->area[at].start.value < address);
	expect_at(&cursor, asp_cursor_seek_below(&cursor, tree, address), model, at);
}

static size_t lines;

static bool count_line(void *ctx, const char *text, size_t length)
{
	(void)ctx;
	lines += length && text[length - 1] == '\n';
	return true;
}

static struct asp_tree_census expect_version(const struct asp_node *tree, const struct model *model)
{
	struct asp_tree_census census;
	struct asp_cursor cursor;
	uint64_t leaving = 0;
	unsigned broken = asp_tree_validate(tree, &census);
	size_t at;
	bool more;

	if (broken)
		fail("T%u does not hold: %s, at %" PRIx64, broken, census.what, census.at);
	for (at = 0; at < model->count; at++)
		leaving += !!(model->area[at].flags & ASP_FLAG_LEAVING);
	CHECK(census.areas + census.leaving == model->count && census.leaving == leaving);

	more = asp_cursor_seek(&cursor, tree, 0);
	for (at = 0; at < model->count; at++, more = asp_cursor_next(&cursor))
		expect_at(&cursor, more, model, at);
	CHECK(!more);
	more = asp_cursor_seek_below(&cursor, tree, UINT64_MAX);
	for (at = model->count; at-- > 0; more = asp_cursor_prev(&cursor))
		expect_at(&cursor, more, model, at);
	CHECK(!more);

	for (unsigned i = 0; i < 20; i++) {
		size_t any = model->count ? (size_t)below(model->count) : 0;

		search(tree, model, somewhere() + below(granule));
		if (model->count) {
			search(tree, model, model->area[any].start.value - 1 + below(3));
			search(tree, model, model->area[any].end.value - 1 + below(2));
		}
	}
	search(tree, model, 0);
	search(tree, model, UINT64_MAX);
	search(tree, model, UINT64_MAX - 1);

	lines = 0;
	CHECK(asp_tree_dump_maps(tree, count_line, NULL));
	CHECK(lines == model->count);
	return census;
}

/* ---- Gaps ----------------------------------------------------------------- */

/* Does [from, to), cut to the range, have a place? The lowest, or the highest. */
static bool place_in(const struct asp_gap_query *query, uint64_t from, uint64_t to, bool high,
		     uint64_t *place)
{
	uint64_t mask = query->align - 1, lowest;

	from = from < query->lo ? query->lo : from;
	to = to > query->hi ? query->hi : to;
	if (from >= to || to - from < query->size || from + mask < from)
		return false;
	lowest = (from + mask) & ~mask;
	if (lowest > to || to - lowest < query->size)
		return false;
	*place = high ? (to - query->size) & ~mask : lowest;
	return true;
}

/* Stretch i lies below area i; the last above all. */
static bool place_at(const struct model *model, const struct asp_gap_query *query, size_t i,
		     bool high, uint64_t *place)
{
	uint64_t from = 0, to = UINT64_MAX;

	if (i) {
		from = model->area[i - 1].end.value;
		if (query->guard > UINT64_MAX - from)
			return false;
		from += query->guard;
	}
	if (i < model->count) {
		to = model->area[i].start.value;
		if (query->guard > to)
			return false;
		to -= query->guard;
	}
	return place_in(query, from, to, high, place);
}

static bool place_of(const struct model *model, const struct asp_gap_query *query, bool high,
		     uint64_t *place)
{
	for (size_t i = 0; i <= model->count; i++) {
		if (place_at(model, query, high ? model->count - i : i, high, place))
			return true;
	}
	return false;
}

static unsigned long gaps_found, gaps_not_found;

static void search_gaps(const struct asp_node *tree, const struct model *model)
{
	struct asp_gap_query query;
	uint64_t a = somewhere(), b = somewhere(), want = 0, got = 0;
	bool found;

	query.lo = a < b ? a : b;
	query.hi = (a < b ? b : a) + granule;
	if (!below(3))
		query.lo = 0;
	if (!below(3))
		query.hi = UINT64_MAX;
	query.size = granule * (1 + below(below(4) ? 4 : 40));
	query.align = granule << (below(2) ? below(4) : 0);
	query.guard = below(2) ? granule * below(3) : 0;
	query.need = query.size + 2 * query.guard;
	for (unsigned high = 0; high < 2; high++) {
		found = place_of(model, &query, high, &want);
		*(found ? &gaps_found : &gaps_not_found) += 1;
		for (unsigned i = 0; i < VECTORS; i++) {
			const struct asp_vector *set = vectors[i];

			if (!asp_vector_runs(set))
				continue;
			if ((high ? set->find_highest : set->find_lowest)(&query, tree, &got) !=
				    found ||
			    (found && got != want))
				fail("%s, %s: %" PRIx64 ", not %" PRIx64 " (%d) in [%" PRIx64
				     ", %" PRIx64 "), size %" PRIx64 ", align %" PRIx64
				     ", guard %" PRIx64,
				     set->name, high ? "highest" : "lowest", got, want, found,
				     query.lo, query.hi, query.size, query.align, query.guard);
		}
	}
}

/* ---- Edits ---------------------------------------------------------------- */

static struct asp_edit edit;
static unsigned long edits_made[4], discards, splits;

static void reserve(struct asp_edit_need need)
{
	CHECK(asp_edit_reserve(&edit, &need));
}

/* Where the next area begins; the end of the world if there is none. */
static uint64_t start_of(size_t at)
{
	return at < now.count ? now.area[at].start.value : base + span;
}

static uint64_t any_flags(void)
{
	return below(16) | (below(8) ? 0 : ASP_FLAG_LEAVING);
}

static void insert(void)
{
	uint64_t start = somewhere(), room;
	size_t at = first_above(&now, start);
	struct aspace_area area = {.start = {start}, .flags = any_flags()};

	if (now.count == AREAS_MAX || start_of(at) <= start)
		return;
	room = (start_of(at) - start) / granule;
	area.end.value = start + granule * (1 + below(below(2) ? 1 : room));
	area.user = (void *)(uintptr_t)roll();
	reserve((struct asp_edit_need){.nodes = asp_nodes_for_place(asp_tree_height(edit.root))});
	asp_edit_insert(&edit, &area);
	put_in(at, &area);
	edits_made[0]++;
}

static void update(void)
{
	size_t at = (size_t)below(now.count + 1);
	struct aspace_area *area = &now.area[at];
	uint64_t room;

	if (at == now.count)
		return;
	room = (start_of(at + 1) - area->start.value) / granule;
	if (below(2))
		area->end.value = area->start.value + granule * (1 + below(room));
	area->flags = any_flags();
	area->user = (void *)(uintptr_t)roll();
	reserve((struct asp_edit_need){.nodes = asp_nodes_for_place(asp_tree_height(edit.root))});
	asp_edit_update(&edit, area->start.value, area->end.value, area->flags, area->user);
	edits_made[1]++;
}

static void remove_one(void)
{
	size_t at = (size_t)below(now.count + 1);

	if (at == now.count)
		return;
	reserve((struct asp_edit_need){.nodes = asp_nodes_for_place(asp_tree_height(edit.root))});
	asp_edit_remove_area(&edit, now.area[at].start.value);
	take_out(at, at + 1);
	edits_made[2]++;
}

/* Those that start in a range. */
static void remove_some(void)
{
	uint64_t lo = somewhere(), hi;
	size_t from = 0, to;

	if (!below(40))
		lo = base;
	hi = lo + granule * (1 + below(below(3) ? 30 : span / granule));
	if (hi < lo || !below(40))
		hi = UINT64_MAX;
	while (from < now.count && now.area[from].start.value < lo)
		from++;
	for (to = from; to < now.count && now.area[to].start.value < hi; to++)
		;
	reserve((struct asp_edit_need){
		.nodes = asp_nodes_for_removal(asp_tree_height(edit.root)),
		.dropped = asp_nodes_of_areas(to - from) * 2 + asp_tree_height(edit.root),
	});
	asp_edit_remove(&edit, lo, hi);
	take_out(from, to);
	edits_made[3]++;
}

/* The tree in the making, by its finger. */
static void look_around(void)
{
	uint64_t address = somewhere() + below(granule);
	struct asp_cursor cursor;
	size_t at = first_above(&now, address), steps = (size_t)below(20);
	bool up = below(2), more = asp_edit_seek(&edit, &cursor, address);

	expect_at(&cursor, more, &now, at);
	if (more)
		CHECK(asp_edit_end_below(&edit) == (at ? now.area[at - 1].end.value : 0));
	while (more && steps--) {
		more = up ? asp_edit_next(&edit, &cursor) : asp_edit_prev(&edit, &cursor);
		at += up ? 1 : (size_t)-1;
		expect_at(&cursor, more, &now, at);
	}
}

static void step(void)
{
	uint64_t more = now.count < aim ? 6 : 3, what = below(10);

	if (what < more)
		insert();
	else if (what < 7)
		remove_one();
	else if (what < 9)
		update();
	else if (!below(6))
		remove_some();
	if (!below(4))
		look_around();
}

/* What only the version before had may be used again. */
static void forget_before(void)
{
	asp_nodes_put_all(&nodes, &waiting);
	root_before = NULL;
}

static void publish(struct asp_tree_census *census)
{
	struct asp_tree_census before;
	int64_t areas;
	size_t height = asp_tree_height(root);

	asp_edit_tell(&edit);
	asp_edit_freeze(&edit);
	before = expect_version(root, &newest); /* nobody has written there */
	*census = expect_version(edit.root, &now);
	areas = (int64_t)(census->areas - before.areas);
	CHECK(edit.areas == areas);
	CHECK(edit.bytes == census->bytes - before.bytes);
	CHECK(edit.leaving == (int64_t)(census->leaving - before.leaving));
	CHECK(edit.node_count == (int64_t)(census->nodes - before.nodes));
	forget_before();
	waiting = edit.retired;
	root_before = root;
	root = edit.root;
	splits += asp_tree_height(root) > height;
	nodes_of_newest = census->nodes;
	copy_model(&older, &newest);
	copy_model(&newest, &now);
}

static size_t records_of(const struct aspace_record *record)
{
	size_t count = 0;

	for (; record; record = record->next)
		count++;
	return count;
}

/* One version more, or none. */
static void make_version(void)
{
	struct asp_tree_census census;
	unsigned count = 1 + (unsigned)below(below(3) ? 4 : 60);
	size_t in_use = asp_pool_in_use(&nodes);

	copy_model(&now, &newest);
	asp_edit_begin(&edit, &any_vector()->edit, &nodes, &records, root, root->birth + 1);
	edit.even = !below(4);
	while (count--)
		step();
	if (edit.root == root || !below(6)) {
		asp_edit_discard(&edit);
		CHECK(asp_pool_in_use(&nodes) == in_use);
		expect_version(root, &newest);
		discards++;
	} else {
		publish(&census);
		/* E2: what is in use is of the newest version, or noted. */
		CHECK(asp_pool_in_use(&nodes) == nodes_of_newest + waiting.count);
	}
	if (root_before)
		expect_version(root_before, &older);
	CHECK(asp_pool_in_use(&records) == records_of(nodes.ready) + records_of(waiting.head));
	CHECK(!asp_pool_validate(&nodes));
	CHECK(!asp_pool_validate(&records));
	for (unsigned i = 0; i < 20; i++)
		search_gaps(root, &newest);
}

int main(int argc, char **argv)
{
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 40;

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	printf("test_tree %" PRIu64 " %lu\nby", seed, rounds);
	for (unsigned i = 0; i < VECTORS; i++)
		printf(" %s%s", vectors[i]->name,
		       asp_vector_runs(vectors[i]) ? "" : " (not this CPU)");
	printf("\n");
	state = seed;
	for (round_number = 1; round_number <= rounds; round_number++) {
		choose_world();
		open_world();
		for (unsigned i = 0; i < 60; i++)
			make_version();
		close_world();
	}
	printf("%lu insertions, %lu updates, %lu removals, %lu of ranges; %lu discarded; "
	       "%lu gaps found, %lu not\n",
	       edits_made[0], edits_made[1], edits_made[2], edits_made[3], discards, gaps_found,
	       gaps_not_found);
	for (unsigned i = 0; i < 4; i++)
		CHECK(edits_made[i]);
	CHECK(discards && splits && gaps_found && gaps_not_found);
	return 0;
}
