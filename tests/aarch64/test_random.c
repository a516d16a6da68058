/* SPDX-License-Identifier: MIT */
/*
 * Random operations on tables of every configuration, on the adversarial machine.
 *
 * A naive map, a sorted list of stretches, says what each address translates to. Each
 * operation is made on both; during it the machine checks whatever any walk sees, and after
 * it the map, the library's own walk and a walk from the registers are compared.
 *
 *     test_random [--seed N] [--operations N] [--config N] [--trace] [--log FILE]
 */
#include "machine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEGMENTS_MAX 4096
#define SOURCES      4
#define PROBES       40

/* ---- Numbers ------------------------------------------------------------------------- */

static uint64_t random_state;
static uint64_t first_seed;
static unsigned config_number;
static long operation_number;
static bool trace;
static FILE *log_file;

static uint64_t draw64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static uint64_t draw(uint64_t n)
{
	return (draw64() >> 11) % n;
}

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "configuration %u, operation %ld: ", config_number, operation_number);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (log_file)
		fflush(log_file);
	fprintf(stderr, "\nagain with: --seed %" PRIu64 " --config %u\n", first_seed,
		config_number);
	exit(1);
}

/* ---- The naive map ----------------------------------------------------------------------- */

struct segment {
	uint64_t start, end, flags;
	int source;
};

struct map {
	struct segment segments[SEGMENTS_MAX];
	size_t count;
};

static const struct segment *find(const struct map *map, uint64_t address)
{
	size_t low = 0, high = map->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (map->segments[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < map->count && map->segments[low].start <= address)
		return &map->segments[low];
	return NULL;
}

static void add(struct map *map, struct segment segment)
{
	size_t i = map->count;

	if (segment.start == segment.end)
		return;
	if (map->count == SEGMENTS_MAX)
		fail("too many segments");
	while (i > 0 && map->segments[i - 1].start > segment.start) {
		map->segments[i] = map->segments[i - 1];
		i--;
	}
	map->segments[i] = segment;
	map->count++;
}

/* Cut [start, end) out. */
static void cut(struct map *map, uint64_t start, uint64_t end)
{
	struct segment pieces[SEGMENTS_MAX / 16];
	size_t kept = 0, found = 0;

	for (size_t i = 0; i < map->count; i++) {
		struct segment s = map->segments[i];

		if (s.end <= start || s.start >= end) {
			map->segments[kept++] = s;
			continue;
		}
		if (s.start < start)
			pieces[found++] = (struct segment){s.start, start, s.flags, s.source};
		if (s.end > end)
			pieces[found++] = (struct segment){end, s.end, s.flags, s.source};
	}
	map->count = kept;
	for (size_t i = 0; i < found; i++)
		add(map, pieces[i]);
}

/* ---- What flags mean ---------------------------------------------------------------------- */

static struct aspace_aarch64_config config;
static struct machine *machine;
static struct aspace_aarch64_linear sources[SOURCES];
static struct map before, after;

static bool is_stage2(void)
{
	return config.regime == ASPACE_AARCH64_STAGE2;
}

static bool has_users(void)
{
	return config.regime != ASPACE_AARCH64_STAGE2 && config.regime != ASPACE_AARCH64_EL2;
}

static uint8_t memory_of(unsigned type)
{
	static const uint8_t mair[] = {0xff, 0xbb, 0x44, 0x00, 0x04, 0x08, 0x0c, 0xf0};
	static const uint8_t plain[] = {0xf, 0xa, 0x5, 0x0, 0x1, 0x2, 0x3};
	static const uint8_t fwb[] = {0x6, 0xff, 0x5, 0x0, 0x1, 0x2, 0x3};

	if (!is_stage2())
		return mair[type];
	return config.fwb ? fwb[type] : plain[type];
}

/* Mapped for nobody: a stage 1 has no leaf for that. */
static bool is_closed(uint64_t flags)
{
	return !is_stage2() && !(flags & ASPACE_AARCH64_READ);
}

static uint8_t shareability_for(uint64_t flags)
{
	static const uint8_t shared[] = {0, ASPACE_AARCH64_NON_SHAREABLE,
					 ASPACE_AARCH64_OUTER_SHAREABLE,
					 ASPACE_AARCH64_INNER_SHAREABLE};
	uint64_t code = (flags & ASPACE_AARCH64_SHARED_MASK) / ASPACE_AARCH64_NON_SHARED;

	return code ? shared[code] : (uint8_t)config.shareability;
}

static struct rights rights_for(uint64_t flags)
{
	struct rights r = {
		.read = flags & ASPACE_AARCH64_READ,
		.write = flags & ASPACE_AARCH64_WRITE,
		.execute = flags & ASPACE_AARCH64_EXECUTE,
		.user_execute = flags & ASPACE_AARCH64_USER_EXECUTE,
		.memory = memory_of((unsigned)(flags >> ASPACE_AARCH64_TYPE_SHIFT) & 7),
		.shareability = shareability_for(flags),
		.global = has_users() && (flags & ASPACE_AARCH64_GLOBAL),
		.guarded = flags & ASPACE_AARCH64_BTI,
		.nonsecure = flags & ASPACE_AARCH64_NONSECURE,
	};

	if (is_stage2() || (flags & ASPACE_AARCH64_USER)) {
		r.user_read = r.read;
		r.user_write = r.write;
	}
	return r;
}

static void expect(void *ctx, uint64_t address, bool later, struct expectation *e)
{
	const struct segment *s = find(later ? &after : &before, address);

	(void)ctx;
	memset(e, 0, sizeof(*e));
	if (!s || is_closed(s->flags))
		return;
	e->mapped = true;
	e->output = address + sources[s->source].offset;
	e->rights = rights_for(s->flags);
}

/* Flags that a descriptor can say. */
static uint64_t draw_flags(void)
{
	uint64_t flags = ASPACE_AARCH64_READ;
	unsigned type = (unsigned)draw(is_stage2() ? 7 : config.tagged ? 8 : 7);

	if (draw(2))
		flags |= ASPACE_AARCH64_WRITE;
	if (draw(3) == 0)
		flags |= ASPACE_AARCH64_EXECUTE;
	if (is_stage2()) {
		if (draw(6) == 0)
			flags &= ~(uint64_t)ASPACE_AARCH64_READ;
		if (config.xnx ? draw(2) : flags & ASPACE_AARCH64_EXECUTE)
			flags |= ASPACE_AARCH64_USER_EXECUTE;
		if (config.fwb && type == ASPACE_AARCH64_WRITE_THROUGH)
			type = ASPACE_AARCH64_NORMAL;
	} else if (has_users()) {
		if (draw(2))
			flags |= ASPACE_AARCH64_USER;
		if (draw(3) == 0)
			flags |= ASPACE_AARCH64_USER_EXECUTE;
		if (draw(4) == 0)
			flags |= ASPACE_AARCH64_GLOBAL;
		if ((flags & ASPACE_AARCH64_USER) && (flags & ASPACE_AARCH64_WRITE))
			flags &= ~(uint64_t)ASPACE_AARCH64_EXECUTE;
	}
	if (config.bti && draw(4) == 0)
		flags |= ASPACE_AARCH64_BTI;
	if (config.secure && draw(4) == 0)
		flags |= ASPACE_AARCH64_NONSECURE;
	if (!config.ds && draw(6) == 0)
		flags |= ASPACE_AARCH64_NON_SHARED * (1 + draw(3));
	if (draw(8) == 0)
		flags &= ~(uint64_t)(ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE |
				     ASPACE_AARCH64_EXECUTE | ASPACE_AARCH64_USER_EXECUTE);
	/* Most are normal memory, so that changes of permissions alone are frequent. */
	flags |= ASPACE_AARCH64_TYPE(draw(4) ? ASPACE_AARCH64_NORMAL : type);
	flags |= draw(4) ? 0 : draw(8) << 12;
	if (draw(4) == 0)
		flags |= ASPACE_AARCH64_LEVEL_1 * (1 + draw(3));
	if (draw(4) == 0)
		flags |= ASPACE_AARCH64_NO_CONTIGUOUS;
	return flags;
}

/* ---- Places --------------------------------------------------------------------------------- */

static uint64_t granule, level2, level1;
static uint64_t low, high;        /* where operations are made */
static bool large_pages[SOURCES]; /* the source allows blocks above level 2 */

static uint64_t level_size(int level)
{
	return UINT64_C(1) << (config.granule_shift +
			       (unsigned)(3 - level) * (config.granule_shift - 3u));
}

static uint64_t clamp(uint64_t address)
{
	return address < low ? low : address > high ? high : address;
}

/* Somewhere in [low, high], most often at or near something's edge. */
static uint64_t draw_place(void)
{
	uint64_t place = low + (draw64() % (high - low));
	uint64_t edge[] = {granule, granule * 16, granule * 128, level2, level2 * 32, level1};
	uint64_t align = edge[draw(6)];

	place &= ~(align - 1);
	switch (draw(4)) {
	case 0:
		place += granule * draw(5);
		break;
	case 1:
		place -= granule * draw(5);
		break;
	case 2: /* again near what there is */
		if (after.count) {
			const struct segment *s = &after.segments[draw(after.count)];

			place = draw(2) ? s->end : s->start;
		}
		break;
	default:
		break;
	}
	return clamp(place);
}

static uint64_t draw_size(int source)
{
	uint64_t near = granule * draw(3);

	switch (draw(large_pages[source] ? 8 : 6)) {
	case 0:
	case 1:
		return granule * (1 + draw(20));
	case 2:
		return granule * (1 + draw(300));
	case 3:
		return granule * 16 * (1 + draw(20)) + near;
	case 4:
	case 5:
		return level2 * (1 + draw(3)) + (draw(2) ? near : 0 - near);
	case 6:
		return level2 * (1 + draw(70)) + near;
	default:
		return level1 * (1 + draw(2)) + near;
	}
}

/* A probe at each edge that matters to [start, end), and a few beside. */
static size_t draw_probes(uint64_t start, uint64_t end, uint64_t *probes)
{
	uint64_t sizes[] = {granule, granule * 16, granule * 128, granule * 32,
			    level2,  level2 * 16,  level2 * 32,   level1};
	size_t count = 0;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint64_t down = start & ~(sizes[i] - 1), up = (end - 1) | (sizes[i] - 1);

		probes[count++] = clamp(down);
		probes[count++] = clamp(up);
	}
	probes[count++] = start;
	probes[count++] = end - 1;
	probes[count++] = clamp(start - granule);
	probes[count++] = clamp(end);
	while (count < PROBES - 12)
		probes[count++] = start + draw64() % (end - start);
	while (count < PROBES)
		probes[count++] = draw_place();
	for (size_t i = 0; i < count; i++) {
		if (probes[i] == high)
			probes[i] = high - 1;
	}
	return count;
}

/* ---- Operations -------------------------------------------------------------------------------- */

struct totals {
	uint64_t maps, unmaps, protects, refused, undos, replaced, at_once, compacted, harvested,
		operations;
	struct machine_tally tally;
	uint64_t blocks, groups, closed, capped;
};

static struct totals totals;

static enum aspace_status apply(int source, const struct aspace_change *change)
{
	struct aspace_backend *backend = &sources[source].backend;

	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
		return backend->ops->map(backend, change);
	case ASPACE_CHANGE_UNMAP:
		return backend->ops->unmap(backend, change);
	case ASPACE_CHANGE_REPLACE:
		return backend->ops->replace(backend, change);
	default:
		return backend->ops->protect(backend, change);
	}
}

static void apply_to_map(struct map *map, int source, const struct aspace_change *change)
{
	uint64_t start = change->range.start.value, end = change->range.end.value;

	cut(map, start, end);
	if (change->kind != ASPACE_CHANGE_UNMAP)
		add(map, (struct segment){start, end, change->new_flags, source});
}

static bool is_free(const struct map *map, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < map->count; i++) {
		if (map->segments[i].start < end && start < map->segments[i].end)
			return false;
	}
	return true;
}

static bool draw_map(struct aspace_change *change, int *source)
{
	uint64_t start = draw_place(), size;

	*source = (int)draw(SOURCES);
	size = draw_size(*source);
	if (start >= high)
		return false;
	if (size > high - start)
		size = high - start;
	/* The hole that there is, rather than none. */
	while (size > granule && !is_free(&after, start, start + size))
		size = (size / 2 + granule - 1) & ~(granule - 1);
	if (!size || !is_free(&after, start, start + size))
		return false;
	*change = (struct aspace_change){
		.kind = ASPACE_CHANGE_MAP,
		.range = aspace_range_of(start, start + size),
		.new_flags = draw_flags(),
	};
	if (!large_pages[*source])
		return size <= level2 * 8;
	/* So many small pages the machine has no tables for. */
	if (size > level2 * 40)
		change->new_flags &= ~ASPACE_AARCH64_LEVEL_MASK;
	return true;
}

static bool draw_edit(struct aspace_change *change, int *source)
{
	const struct segment *s;
	uint64_t start, end;

	if (!after.count)
		return false;
	s = &after.segments[draw(after.count)];
	start = s->start;
	end = s->end;
	switch (draw(5)) {
	case 0:
		break;
	case 1:
		start += (draw64() % (end - start)) & ~(granule - 1);
		break;
	case 2:
		end -= (draw64() % (end - start)) & ~(granule - 1);
		break;
	case 3:
		start += (draw64() % (end - start)) & ~(granule - 1);
		if (end - start > granule * 40)
			end = start + granule * (1 + draw(40));
		break;
	default: {
		uint64_t place = draw_place();

		if (place > start && place < end)
			*(draw(2) ? &start : &end) = place;
		break;
	}
	}
	*source = s->source;
	*change = (struct aspace_change){
		.kind = draw(2) ? ASPACE_CHANGE_UNMAP : ASPACE_CHANGE_PROTECT,
		.range = aspace_range_of(start, end),
		.old_flags = s->flags,
		.new_flags = draw_flags(),
	};
	/* So many small pages the machine has no tables for. */
	if (change->kind == ASPACE_CHANGE_PROTECT && end - start > level2 * 40)
		change->new_flags &= ~ASPACE_AARCH64_LEVEL_MASK;
	return true;
}

static struct aspace_change inverse_of(const struct aspace_change *change)
{
	struct aspace_change inverse = *change;

	inverse.undo = true;
	inverse.old_flags = change->new_flags;
	inverse.new_flags = change->old_flags;
	if (change->kind == ASPACE_CHANGE_MAP)
		inverse.kind = ASPACE_CHANGE_UNMAP;
	else if (change->kind == ASPACE_CHANGE_UNMAP)
		inverse.kind = ASPACE_CHANGE_MAP;
	return inverse;
}

static void check_machine(void)
{
	if (machine_violation(machine))
		fail("%s", machine_violation(machine));
}

static void compare_probe(uint64_t address)
{
	struct aspace_aarch64_mapping mapping;
	struct expectation e;
	struct rights rights;
	uint64_t output = 0;
	enum aspace_status status =
		aspace_aarch64_query(machine_tables(machine), aspace_va(address), &mapping);
	bool mapped = machine_translate(machine, address, &output, &rights);

	const struct segment *s = find(&after, address);

	expect(NULL, address, true, &e);
	if (status != (s ? ASPACE_OK : ASPACE_NOT_MAPPED))
		fail("%#" PRIx64 ": the query says %s", address, aspace_status_string(status));
	if (mapped != e.mapped || (mapped && output != e.output))
		fail("%#" PRIx64 ": a walk from the registers finds something else", address);
	if (!s)
		return;
	totals.closed += !e.mapped;
	if (mapping.output.value != address + sources[s->source].offset ||
	    mapping.shareability != shareability_for(s->flags) ||
	    mapping.flags != (s->flags & ASPACE_AARCH64_KEPT_MASK))
		fail("%#" PRIx64 ": the query says %#" PRIx64 " flags %#" PRIx64
		     " instead of %#" PRIx64 " flags %#" PRIx64,
		     address, mapping.output.value, mapping.flags,
		     address + sources[s->source].offset, s->flags);
	if (machine_accessed(machine, address) && !mapping.accessed)
		fail("%#" PRIx64 ": an access is forgotten", address);
	if (machine_wrote(machine, address) && !mapping.dirty)
		fail("%#" PRIx64 ": a write is forgotten", address);
	totals.blocks += mapping.level < 3;
	totals.groups += mapping.contiguous;
}

/* The mappings of the library's walk, one after the other, are the naive map. */
struct sweep {
	size_t segment;
	uint64_t at;
};

static bool sweep_one(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct sweep *sweep = ctx;
	uint64_t start = mapping->range.start.value, end = mapping->range.end.value;
	uint64_t offset = mapping->output.value - start;
	struct aspace_aarch64_mapping again;

	if (draw(16) == 0 &&
	    (aspace_aarch64_query(machine_tables(machine), aspace_va(start), &again) != ASPACE_OK ||
	     again.accessed != mapping->accessed || again.dirty != mapping->dirty))
		fail("%#" PRIx64 ": walk and query know of different accesses", start);
	/* Compacting makes one leaf of what came in several segments. */
	for (uint64_t at = start; at < end;) {
		const struct segment *s = &after.segments[sweep->segment];

		if (sweep->segment < after.count && sweep->at < s->start)
			sweep->at = s->start;
		if (sweep->segment == after.count || at != sweep->at ||
		    offset != sources[s->source].offset ||
		    mapping->flags != (s->flags & ASPACE_AARCH64_KEPT_MASK))
			fail("the walk finds %#" PRIx64 "..%#" PRIx64 " out of place", start, end);
		at = sweep->at = end < s->end ? end : s->end;
		if (at == s->end)
			sweep->segment++;
	}
	return true;
}

static void sweep_all(void)
{
	struct sweep sweep = {0, 0};

	if (aspace_aarch64_walk(machine_tables(machine), aspace_aarch64_range(&config), sweep_one,
				&sweep) != ASPACE_OK)
		fail("the walk is refused");
	if (sweep.segment != after.count)
		fail("the walk ends too soon");
}

static void forget_accesses(const struct aspace_change *change)
{
	if (change->kind != ASPACE_CHANGE_PROTECT)
		machine_forget_accesses(machine, change->range.start.value,
					change->range.end.value);
}

static void print_change(const char *what, int source, const struct aspace_change *change)
{
	static const char *const names[] = {"map", "unmap", "protect", "replace"};

	FILE *outs[] = {trace ? stdout : NULL, log_file};

	for (size_t i = 0; i < 2; i++) {
		if (outs[i])
			fprintf(outs[i],
				"# %u/%ld %s %s [%#" PRIx64 ", %#" PRIx64
				") source %d flags %#" PRIx64 " -> %#" PRIx64 "\n",
				config_number, operation_number, what, names[change->kind],
				change->range.start.value, change->range.end.value, source,
				change->old_flags, change->new_flags);
	}
}

static void flush(void)
{
	struct aspace_backend *backend = &sources[0].backend;

	backend->ops->flush(backend);
}

static bool draw_change(struct aspace_change *change, int *source)
{
	return draw(5) < 2 ? draw_map(change, source) : draw_edit(change, source);
}

static void count_change(const struct aspace_change *change)
{
	totals.operations++;
	totals.maps += change->kind == ASPACE_CHANGE_MAP;
	totals.unmaps += change->kind == ASPACE_CHANGE_UNMAP;
	totals.protects += change->kind == ASPACE_CHANGE_PROTECT;
}

/* Prepare as the library does; false: refused, as it must be where faults are forbidden. */
static bool prepare(int source, const struct aspace_change *change)
{
	struct aspace_backend *backend = &sources[source].backend;
	enum aspace_status status = backend->ops->prepare(backend, change);

	print_change("prepare", source, change);
	if (status == ASPACE_NOT_SUPPORTED && config.no_transient_faults) {
		totals.refused++;
		flush();
		sweep_all();
		return false;
	}
	if (status != ASPACE_OK)
		fail("prepare: %s", aspace_status_string(status));
	return true;
}

static size_t begin(const struct aspace_change *change, uint64_t *probes)
{
	size_t count = draw_probes(change->range.start.value, change->range.end.value, probes);

	machine_begin(machine, probes, count);
	machine_refuse(machine, 1); /* whatever it needs has been reserved */
	return count;
}

static void make_change(const char *what, int source, const struct aspace_change *change)
{
	enum aspace_status status;

	print_change(what, source, change);
	status = apply(source, change);
	if (status != ASPACE_OK)
		fail("%s: %s", what, aspace_status_string(status));
	count_change(change);
}

/* What is not mapped any more was perhaps still accessed until the invalidation. */
static void keep_mapped(void *ctx, uint64_t page, bool *accessed, bool *wrote)
{
	(void)ctx;
	if (!find(&after, page))
		*accessed = *wrote = false;
}

static void finish(const uint64_t *probes, size_t count)
{
	flush();
	machine_refuse(machine, 0);
	machine_end(machine);
	check_machine();
	machine_revise_accesses(machine, keep_mapped, NULL);
	for (size_t i = 0; i < count; i++)
		compare_probe(probes[i]);
}

/* After a protect that was not undone: nothing is larger than its cap. */
static void check_cap(const struct aspace_change *change, const uint64_t *probes, size_t count)
{
	int highest =
		(int)((change->new_flags & ASPACE_AARCH64_LEVEL_MASK) / ASPACE_AARCH64_LEVEL_1);

	for (size_t i = 0; i < count; i++) {
		struct aspace_aarch64_mapping mapping;

		if (probes[i] < change->range.start.value || probes[i] >= change->range.end.value)
			continue;
		if (aspace_aarch64_query(machine_tables(machine), aspace_va(probes[i]), &mapping) !=
		    ASPACE_OK)
			fail("%#" PRIx64 " is not mapped any more", probes[i]);
		if (mapping.level < highest ||
		    (mapping.contiguous && (change->new_flags & ASPACE_AARCH64_NO_CONTIGUOUS)))
			fail("%#" PRIx64 ": a leaf at level %d is larger than its cap", probes[i],
			     mapping.level);
		totals.capped++;
	}
}

/* One operation, as the library makes it: prepare, change, perhaps undo, flush. */
static void operate(void)
{
	struct aspace_change change, undo;
	uint64_t probes[PROBES];
	bool undone;
	size_t count;
	int source;

	if (!draw_change(&change, &source) || !prepare(source, &change))
		return;
	before = after;
	apply_to_map(&after, source, &change);
	count = begin(&change, probes);
	make_change("change", source, &change);
	undone = draw(8) == 0;
	if (undone) {
		undo = inverse_of(&change);
		after = before;
		machine_turn_back(machine);
		make_change("undo", source, &undo);
		totals.undos++;
		/* What came and went has no history; what went and came back has. */
		if (change.kind == ASPACE_CHANGE_MAP)
			forget_accesses(&change);
	} else {
		forget_accesses(&change);
	}
	finish(probes, count);
	if (change.kind == ASPACE_CHANGE_PROTECT && !undone)
		check_cap(&change, probes, count);
}

/* Unmap, and map the same addresses to other frames, in one batch. */
static void replace(void)
{
	struct aspace_change change, fresh;
	int source, other = (int)draw(SOURCES);
	uint64_t probes[PROBES];
	size_t count;

	/* In between nothing is mapped: a fault that cannot be avoided. */
	if (config.no_transient_faults || !draw_edit(&change, &source))
		return;
	change.kind = ASPACE_CHANGE_UNMAP;
	fresh = (struct aspace_change){
		.kind = ASPACE_CHANGE_MAP,
		.range = change.range,
		.new_flags = draw_flags(),
	};
	if (change.range.end.value - change.range.start.value > level2 * 8 ||
	    !prepare(source, &change) || !prepare(other, &fresh))
		return;
	before = after;
	apply_to_map(&after, source, &change);
	apply_to_map(&after, other, &fresh);
	count = begin(&change, probes);
	make_change("replace", source, &change);
	make_change("by", other, &fresh);
	forget_accesses(&fresh);
	totals.replaced++;
	finish(probes, count);
}

/* What is mapped of a source, and holes, anew in one step. */
static void replace_at_once(void)
{
	uint64_t start = draw_place(), end, probes[PROBES];
	int source = (int)draw(SOURCES);
	struct aspace_change change;
	size_t count;

	end = start + draw_size(source);
	if (end > high || end < start)
		end = high;
	if (end - start > level2 * 8)
		end = start + level2 * 8;
	for (size_t i = 0; i < after.count; i++) {
		const struct segment *s = &after.segments[i];

		if (s->source != source && s->start < end && start < s->end)
			end = s->start;
	}
	if (start >= end)
		return;
	change = (struct aspace_change){
		.kind = ASPACE_CHANGE_REPLACE,
		.range = aspace_range_of(start, end),
		.new_flags = draw_flags(),
	};
	if (!prepare(source, &change))
		return;
	before = after;
	apply_to_map(&after, source, &change);
	count = begin(&change, probes);
	make_change("replace", source, &change);
	forget_accesses(&change);
	totals.at_once++;
	finish(probes, count);
}

/* Nothing changes for anybody but the size of leaves. */
static void compact(void)
{
	size_t tables = aspace_aarch64_table_count(machine_tables(machine));
	uint64_t start = draw_place(), end = draw_place(), flags = 0;
	uint64_t probes[PROBES];
	enum aspace_status status;
	size_t count;

	if (start >= end || draw(2)) {
		start = low;
		end = high;
	}
	if (draw(4) == 0)
		flags |= ASPACE_AARCH64_LEVEL_1 * (1 + draw(3));
	if (draw(4) == 0)
		flags |= ASPACE_AARCH64_NO_CONTIGUOUS;
	before = after;
	count = draw_probes(start, end, probes);
	machine_begin(machine, probes, count);
	machine_refuse(machine, 1);
	status =
		aspace_aarch64_compact(machine_tables(machine), aspace_range_of(start, end), flags);
	machine_refuse(machine, 0);
	if (status != ASPACE_OK && !(status == ASPACE_NOT_SUPPORTED && config.no_transient_faults))
		fail("compact: %s", aspace_status_string(status));
	machine_end(machine);
	check_machine();
	for (size_t i = 0; i < count; i++)
		compare_probe(probes[i]);
	totals.compacted += aspace_aarch64_table_count(machine_tables(machine)) < tables;
}

/* What a harvest has reported. */
static struct {
	uint64_t start, end;
	bool accessed, dirty;
} harvest[1 << 16];
static size_t harvest_count;
static unsigned harvest_what;

static bool harvest_one(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	(void)ctx;
	if (harvest_count == sizeof(harvest) / sizeof(harvest[0]))
		fail("too many leaves are harvested");
	harvest[harvest_count].start = mapping->range.start.value;
	harvest[harvest_count].end = mapping->range.end.value;
	harvest[harvest_count].accessed = mapping->accessed;
	harvest[harvest_count].dirty = mapping->dirty;
	harvest_count++;
	totals.harvested++;
	return true;
}

/* What the machine had noted is reported, or still there. */
static void keep_access(void *ctx, uint64_t page, bool *accessed, bool *wrote)
{
	struct aspace_aarch64_mapping mapping;
	bool was_accessed = false, was_dirty = false;

	(void)ctx;
	for (size_t i = 0; i < harvest_count; i++) {
		if (harvest[i].start <= page && page < harvest[i].end) {
			was_accessed |=
				harvest[i].accessed && (harvest_what & ASPACE_AARCH64_ACCESSED);
			was_dirty |= harvest[i].dirty && (harvest_what & ASPACE_AARCH64_DIRTY);
		}
	}
	if (aspace_aarch64_query(machine_tables(machine), aspace_va(page), &mapping) != ASPACE_OK)
		fail("%#" PRIx64 " was accessed and is not mapped", page);
	if (*accessed && !mapping.accessed && !was_accessed)
		fail("%#" PRIx64 ": the harvest has lost an access", page);
	if (*wrote && !mapping.dirty && !was_dirty)
		fail("%#" PRIx64 ": the harvest has lost a write", page);
	*accessed = *accessed && mapping.accessed;
	*wrote = *wrote && mapping.dirty;
}

static void reap(void)
{
	uint64_t start = draw_place(), end = draw_place(), probes[PROBES];
	enum aspace_status status;
	size_t count;

	harvest_what = 1 + (unsigned)draw(3);
	if (!config.hardware_dirty)
		harvest_what = ASPACE_AARCH64_ACCESSED;
	if (start >= end || !config.hardware_access)
		return;
	before = after;
	count = draw_probes(start, end, probes);
	machine_begin(machine, probes, count);
	harvest_count = 0;
	status = aspace_aarch64_harvest(machine_tables(machine), aspace_range_of(start, end),
					harvest_what, harvest_one, NULL);
	if (status != ASPACE_OK)
		fail("harvest: %s", aspace_status_string(status));
	machine_end(machine);
	check_machine();
	machine_revise_accesses(machine, keep_access, NULL);
	for (size_t i = 0; i < count; i++)
		compare_probe(probes[i]);
}

static void clear_all(void)
{
	while (after.count) {
		struct segment s = after.segments[draw(after.count)];
		struct aspace_change change = {
			.kind = ASPACE_CHANGE_UNMAP,
			.range = aspace_range_of(s.start, s.end),
			.old_flags = s.flags,
		};

		if (apply(s.source, &change) != ASPACE_OK)
			fail("the last unmap is refused");
		apply_to_map(&after, s.source, &change);
		if (draw(3) == 0)
			flush();
	}
	flush();
	if (aspace_aarch64_table_count(machine_tables(machine)) != 1)
		fail("%zu tables are left of nothing",
		     aspace_aarch64_table_count(machine_tables(machine)));
}

/* ---- Configurations -------------------------------------------------------------------------------- */

static uint64_t draw_offset(int source, uint64_t start, uint64_t end)
{
	uint64_t aligns[SOURCES] = {level1 * 16, level2 * 32, granule * 128, granule};
	uint64_t align = aligns[source], output = UINT64_C(1) << config.output_bits;
	uint64_t room = output - (output >> 2); /* the top is for tables */
	uint64_t frame;

	while (align > granule && end - start > room - (align < room ? align : room))
		align /= 2;
	if (end - start >= room)
		return 0 - (start & ~(granule - 1));
	frame = draw64() % (room - (end - start));
	/* Congruent to the addresses, modulo the alignment. */
	frame = (frame & ~(align - 1)) | (start & (align - 1));
	if (frame + (end - start) > room)
		frame = start & (align - 1);
	return frame - start;
}

static void choose_places(void)
{
	struct aspace_range range = aspace_aarch64_range(&config);
	uint64_t span = UINT64_C(1) << config.input_bits, output = UINT64_C(1)
								   << config.output_bits;
	uint64_t window;

	granule = level_size(3);
	level2 = level_size(2);
	level1 = level_size(1);
	window = level1 * 4;
	if (window > span)
		window = span;
	if (window > output / 2)
		window = output / 2;
	low = range.start.value + (span > window ? draw64() % (span - window) : 0);
	low &= ~(granule - 1);
	if (draw(2) && low - range.start.value > level1)
		low &= ~(level1 - 1);
	high = low + window - 1 < range.end.value ? low + window : range.end.value;
	for (int i = 0; i < SOURCES; i++) {
		uint64_t offset = draw_offset(i, low, high);

		large_pages[i] = i < 1 && high - low >= level2 * 64;
		if (aspace_aarch64_linear_init(&sources[i], machine_tables(machine), offset) !=
		    ASPACE_OK)
			fail("no source");
	}
}

static void draw_features(void)
{
	bool stage2 = is_stage2();

	config.hardware_access = draw(2);
	config.hardware_dirty = config.hardware_access && draw(2);
	config.range_tlbi = draw(2);
	config.ttl = draw(2);
	config.bbm_level = (uint8_t)(draw(2) ? 2 : draw(3));
	config.conflicts_tolerated = draw(3);
	config.no_transient_faults = draw(4) == 0;
	config.xnx = stage2 && draw(2);
	config.fwb = stage2 && draw(2);
	config.bti = !stage2 && draw(2);
	config.tagged = !stage2 && draw(2);
	config.secure = !stage2 && draw(4) == 0;
	config.all_asids = has_users() && draw(2);
	config.id_16_bits = draw(2);
	config.id = config.regime == ASPACE_AARCH64_EL2 ? 0 : (uint16_t)(1 + draw(200));
	config.shareability =
		draw(4) ? ASPACE_AARCH64_INNER_SHAREABLE : ASPACE_AARCH64_OUTER_SHAREABLE;
	config.tlbi_max = (uint32_t)(draw(4) ? 0 : draw(8));
}

static void add_tally(const struct machine_tally *t)
{
	totals.tally.walks += t->walks;
	totals.tally.entries += t->entries;
	totals.tally.tlbis += t->tlbis;
	totals.tally.ranges += t->ranges;
	totals.tally.alls += t->alls;
	totals.tally.invalidated += t->invalidated;
	totals.tally.retired += t->retired;
	totals.tally.transients += t->transients;
	totals.tally.hardware_updates += t->hardware_updates;
	totals.tally.elsewhere += t->elsewhere;
	totals.tally.by_entries += t->by_entries;
	totals.tally.stores += t->stores;
	totals.tally.barriers += t->barriers;
}

static void run_config(long operations)
{
	size_t left;

	random_state = first_seed * 1000003 + config_number + 1;
	draw64();
	draw_features();
	memset(&before, 0, sizeof(before));
	memset(&after, 0, sizeof(after));
	machine_incoherent(draw(4) == 0);
	machine = machine_create(&config, draw64(), expect, NULL);
	choose_places();
	for (operation_number = 0; operation_number < operations; operation_number++) {
		switch (draw(13)) {
		case 12:
			replace_at_once();
			break;
		case 0:
			replace();
			break;
		case 1:
		case 2:
			compact();
			break;
		case 3:
			reap();
			break;
		default:
			operate();
			break;
		}
		if (operation_number % 16 == 0)
			sweep_all();
	}
	sweep_all();
	clear_all();
	check_machine();
	add_tally(machine_tally(machine));
	left = machine_destroy(machine);
	if (left)
		fail("%zu tables have leaked", left);
}

/* All shapes that the architecture has: true for each that was set up. */
static bool shape(enum aspace_aarch64_regime regime, unsigned granule_shift, unsigned input,
		  unsigned output, bool ds, int start)
{
	memset(&config, 0, sizeof(config));
	config.size = sizeof(config);
	config.regime = regime;
	config.granule_shift = (uint8_t)granule_shift;
	config.input_bits = (uint8_t)input;
	config.output_bits = (uint8_t)output;
	config.ds = ds;
	config.start_level = start;
	config.shareability = ASPACE_AARCH64_INNER_SHAREABLE;
	return aspace_aarch64_config_check(&config, NULL, NULL) == ASPACE_OK;
}

static void run_all(long operations, long only)
{
	static const unsigned inputs[] = {16, 17, 21, 25, 30, 31, 34, 36, 39,
					  40, 42, 43, 44, 47, 48, 49, 51, 52};
	static const unsigned outputs[] = {32, 40, 48, 52};

	for (int regime = 0; regime <= ASPACE_AARCH64_STAGE2; regime++)
		for (unsigned g = 12; g <= 16; g += 2)
			for (size_t i = 0; i < sizeof(inputs) / sizeof(inputs[0]); i++)
				for (size_t o = 0; o < 4; o++)
					for (int ds = 0; ds < 2; ds++)
						for (int start = -2; start <= 3; start++) {
							if (!shape((enum aspace_aarch64_regime)
									   regime,
								   g, inputs[i], outputs[o], ds,
								   start < -1
									   ? ASPACE_AARCH64_START_ANY
									   : start))
								continue;
							if (start >= -1 &&
							    regime != ASPACE_AARCH64_STAGE2)
								continue;
							if (only < 0 || only == (long)config_number)
								run_config(operations);
							config_number++;
						}
}

int main(int argc, char **argv)
{
	long operations = 40, only = -1;

	first_seed = 1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--trace"))
			trace = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			first_seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--operations") && i + 1 < argc)
			operations = strtol(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--config") && i + 1 < argc)
			only = strtol(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--log") && i + 1 < argc)
			log_file = machine_log_to(argv[++i]);
		else
			return 2;
	}
	printf("seed %" PRIu64 "\n", first_seed);
	if (log_file)
		fprintf(log_file, "# seed %" PRIu64 "\n", first_seed);
	run_all(operations, only);
	printf("%u configurations, %" PRIu64 " operations: %" PRIu64 " maps, %" PRIu64
	       " unmaps, %" PRIu64 " protects, %" PRIu64 " undone, %" PRIu64 " remapped, %" PRIu64
	       " replaced, %" PRIu64 " refused, %" PRIu64 " compacted, %" PRIu64
	       " leaves harvested\n",
	       config_number, totals.operations, totals.maps, totals.unmaps, totals.protects,
	       totals.undos, totals.replaced, totals.at_once, totals.refused, totals.compacted,
	       totals.harvested);
	printf("%" PRIu64 " walks, %" PRIu64 " TLB entries, %" PRIu64 " stores, %" PRIu64
	       " barriers, %" PRIu64 " invalidations (%" PRIu64 " ranges, %" PRIu64
	       " of all), %" PRIu64 " entries invalidated\n",
	       totals.tally.walks, totals.tally.entries, totals.tally.stores, totals.tally.barriers,
	       totals.tally.tlbis, totals.tally.ranges, totals.tally.alls,
	       totals.tally.invalidated);
	printf("%" PRIu64 " tables retired, %" PRIu64 " transient faults, %" PRIu64
	       " hardware updates (%" PRIu64 " in another descriptor of a group), %" PRIu64
	       " accesses by what TLBs had kept, %" PRIu64 " blocks, %" PRIu64
	       " groups and %" PRIu64 " without access probed, %" PRIu64 " of a protect's cap\n",
	       totals.tally.retired, totals.tally.transients, totals.tally.hardware_updates,
	       totals.tally.elsewhere, totals.tally.by_entries, totals.blocks, totals.groups,
	       totals.closed, totals.capped);
	if (only < 0 && (!totals.tally.elsewhere || !totals.tally.by_entries)) {
		fprintf(stderr, "something was not provoked\n");
		return 1;
	}
	return 0;
}
