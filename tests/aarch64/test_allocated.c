/* SPDX-License-Identifier: MIT */
/*
 * Areas of allocated frames, on the adversarial machine: populated when they are mapped or on
 * access, cut, moved, replaced, undone, with tables and frames refused at any point.
 *
 * A model says of each page of a window whether it is in an area and whether it is populated.
 * Which frame it has, the backend decides: the machine sees to it that it is an allocated one that
 * nobody else can reach, the model that a page keeps it and that no two pages share one.
 *
 *     test_allocated [--seed N] [--operations N] [--config N] [--incoherent] [--trace] [--log FILE]
 */
#include "machine.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX 24576
#define SOURCES   3
#define PROBES    32

#define R  ((uint64_t)ASPACE_AARCH64_READ)
#define RW (R | ASPACE_AARCH64_WRITE)

struct page {
	uint32_t area; /* 0: none */
	uint8_t source;
	bool populated;
	bool perhaps; /* may be populated by the fault in progress */
	uint64_t flags, output;
};

struct model {
	struct page pages[PAGES_MAX];
};

static uint64_t random_state, first_seed;
static unsigned config_number;
static long operation_number;
static bool trace, incoherent;
static FILE *log_file;
static struct aspace_aarch64_config config;
static struct machine *machine;
static struct aspace_aarch64_allocated sources[SOURCES];
static struct model before, after;
static uint64_t granule, base;
static size_t count, block; /* pages of the window, of a block */
static uint32_t areas;

static struct {
	uint64_t maps, unmaps, protects, undone, remapped, replaced, faults, spurious, denied,
		large, moved;
	uint64_t refused, refused_faults, retired, updates, carried, compacted, split;
	uint64_t dropped, stayed; /* pages */
} totals;

static uint64_t draw64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static size_t draw(size_t n)
{
	return (size_t)((draw64() >> 11) % n);
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

/* ---- The model ------------------------------------------------------------------------- */

static uint64_t address_of(size_t page)
{
	return base + page * granule;
}

static struct aspace_range range_of(size_t start, size_t end)
{
	return aspace_range_of(address_of(start), address_of(end));
}

static void expect(void *ctx, uint64_t address, bool later, struct expectation *e)
{
	const struct page *page = &(later ? &after : &before)->pages[(address - base) / granule];
	bool stage2 = config.regime == ASPACE_AARCH64_STAGE2;

	(void)ctx;
	*e = (struct expectation){
		/* A stage 1 has no leaf for an area without access. */
		.mapped = (page->populated || page->perhaps) &&
			  (stage2 || (page->flags & ASPACE_AARCH64_READ)),
		.anywhere = true,
		.rights =
			{
				.read = page->flags & ASPACE_AARCH64_READ,
				.write = page->flags & ASPACE_AARCH64_WRITE,
				.memory = stage2 ? 0xf : 0xff,
				.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
			},
	};
	e->rights.user_read = stage2 && e->rights.read;
	e->rights.user_write = stage2 && e->rights.write;
}

/* Rebuilds what is populated from the tables, and checks it against what was. */
struct sweep {
	uint8_t seen[1 << 16]; /* by frame */
	size_t populated;
	bool fault;
};

static bool sweep_one(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	uint64_t start = mapping->range.start.value;
	struct sweep *sweep = ctx;

	for (uint64_t at = start; at < mapping->range.end.value; at += granule) {
		size_t i = (size_t)(at - base) / granule;
		struct page *page = &after.pages[i];
		uint64_t output = mapping->output.value + (at - start);
		uint8_t *seen = &sweep->seen[(output / granule) & 0xffff];

		if (at < base || i >= count)
			fail("%#" PRIx64 " is mapped outside of the window", at);
		if (page->perhaps) {
			page->populated = true;
			page->perhaps = false;
		}
		if (!page->populated)
			fail("%#" PRIx64 " is mapped and should not be", at);
		if (page->output && page->output != output)
			fail("%#" PRIx64 " has changed its frame", at);
		if (mapping->flags != (page->flags & ASPACE_AARCH64_KEPT_MASK))
			fail("%#" PRIx64 " has flags %#" PRIx64, at, mapping->flags);
		if ((*seen)++)
			fail("%#" PRIx64 " shares its frame", at);
		page->output = output;
		sweep->populated++;
	}
	return true;
}

static void sweep_all(void)
{
	static struct sweep sweep;
	size_t populated = 0;

	memset(&sweep, 0, sizeof(sweep));
	if (aspace_aarch64_walk(machine_tables(machine), aspace_aarch64_range(&config), sweep_one,
				&sweep) != ASPACE_OK)
		fail("the walk is refused");
	for (size_t i = 0; i < count; i++) {
		after.pages[i].perhaps = false;
		populated += after.pages[i].populated;
	}
	if (populated != sweep.populated)
		fail("%zu pages are populated instead of %zu", sweep.populated, populated);
	if (machine_frames_in_use(machine) != populated * granule)
		fail("%zu pages have %" PRIu64 " bytes of frames", populated,
		     machine_frames_in_use(machine));
}

static void check_history(uint64_t address)
{
	struct aspace_aarch64_mapping mapping;

	if (aspace_aarch64_query(machine_tables(machine), aspace_va(address), &mapping) !=
	    ASPACE_OK)
		return;
	if (machine_accessed(machine, address) && !mapping.accessed)
		fail("%#" PRIx64 ": an access is forgotten", address);
	if (machine_wrote(machine, address) && !mapping.dirty)
		fail("%#" PRIx64 ": a write is forgotten", address);
}

/* ---- Places ------------------------------------------------------------------------------- */

static size_t draw_page(void)
{
	size_t edges[] = {1, 16, 128, block};
	size_t align = edges[draw(4)], page = draw(count) / align * align;

	switch (draw(4)) {
	case 0:
		page += draw(4);
		break;
	case 1:
		page -= page > 4 ? draw(4) : 0;
		break;
	default:
		break;
	}
	return page < count ? page : count - 1;
}

static size_t draw_size(void)
{
	switch (draw(4)) {
	case 0:
		return 1 + draw(8);
	case 1:
		return 16 * (1 + draw(8)) + draw(3);
	case 2:
		return 1 + draw(block);
	default:
		return block + draw(3);
	}
}

/* Free pages from `start` on, at most as many as wanted. */
static size_t free_from(size_t start, size_t wanted)
{
	size_t end = start;

	while (end < count && end - start < wanted && !after.pages[end].area)
		end++;
	return end;
}

static struct aspace_area area_around(size_t page)
{
	size_t start = page, end = page + 1;
	uint32_t area = after.pages[page].area;

	while (start > 0 && after.pages[start - 1].area == area)
		start--;
	while (end < count && after.pages[end].area == area)
		end++;
	return (struct aspace_area){
		.start = {address_of(start)},
		.end = {address_of(end)},
		.flags = after.pages[page].flags,
		.backend = &sources[after.pages[page].source].backend,
	};
}

static bool find_area(size_t *page)
{
	for (unsigned i = 0; i < 20; i++) {
		*page = draw_page();
		if (after.pages[*page].area)
			return true;
	}
	return false;
}

/* A part of the area around a page, most often not all of it. */
static void draw_part(size_t page, size_t *start, size_t *end)
{
	struct aspace_area area = area_around(page);

	*start = (size_t)(area.start.value - base) / granule;
	*end = (size_t)(area.end.value - base) / granule;
	if (draw(3))
		*start = page;
	if (draw(3) && page + draw_size() < *end)
		*end = page + 1 + draw(*end - page);
}

static uint64_t draw_flags(void)
{
	uint64_t flags = draw(8) == 0 ? 0 : draw(2) ? R : RW;

	if (draw(4) == 0)
		flags |= ASPACE_AARCH64_LEVEL_1 * (1 + draw(3));
	return draw(4) ? flags : flags | ASPACE_AARCH64_NO_CONTIGUOUS;
}

/* ---- Operations ----------------------------------------------------------------------------- */

static uint64_t probes[PROBES];

static void begin(size_t start, size_t end)
{
	for (size_t i = 0; i < PROBES; i++) {
		size_t near[] = {start, start ? start - 1 : 0, end - 1, end};
		size_t page = i < 4            ? near[i]
			      : i < PROBES / 2 ? start + draw(end - start)
					       : draw_page();

		probes[i] = address_of(page < count ? page : count - 1) + draw((size_t)granule);
	}
	machine_begin(machine, probes, PROBES);
}

/* What is not mapped any more was perhaps still accessed until the invalidation. */
static void keep_populated(void *ctx, uint64_t page, bool *accessed, bool *wrote)
{
	const struct page *p = &after.pages[(page - base) / granule];

	(void)ctx;
	if (!p->populated && !p->perhaps)
		*accessed = *wrote = false;
}

static void end(void)
{
	machine_refuse(machine, 0);
	machine_refuse_frames(machine, 0, 0);
	machine_end(machine);
	machine_revise_accesses(machine, keep_populated, NULL);
	if (machine_violation(machine))
		fail("%s", machine_violation(machine));
	sweep_all();
	for (size_t i = 0; i < PROBES; i++)
		check_history(probes[i]);
}

/* Sometimes tables, frames (one of the first so many) or large frames are short. */
static bool refuse(size_t frames)
{
	size_t what = draw(8);

	machine_refuse(machine, what == 0 ? 1 + draw(4) : 0);
	machine_refuse_frames(machine, what == 1 ? 1 + draw(frames) : 0,
			      what == 2 ? granule * draw(32) + granule : 0);
	return what < 2;
}

static void print(const char *what, const struct aspace_change *change)
{
	static const char *const names[] = {"map", "unmap", "protect", "replace", "move"};
	FILE *outs[] = {trace ? stdout : NULL, log_file};

	for (size_t i = 0; i < 2; i++) {
		if (outs[i])
			fprintf(outs[i],
				"# %u/%ld %s %s [%#" PRIx64 ", %#" PRIx64 ") flags %#" PRIx64
				" -> %#" PRIx64 "\n",
				config_number, operation_number, what, names[change->kind],
				change->range.start.value, change->range.end.value,
				change->old_flags, change->new_flags);
	}
}

static enum aspace_status apply(const struct aspace_change *change, unsigned source)
{
	struct aspace_backend *backend = &sources[source].backend;

	switch (change->kind) {
	case ASPACE_CHANGE_MAP:
		return backend->ops->map(backend, change);
	case ASPACE_CHANGE_UNMAP:
		return backend->ops->unmap(backend, change);
	case ASPACE_CHANGE_REPLACE:
		return backend->ops->replace(backend, change);
	case ASPACE_CHANGE_MOVE:
		return backend->ops->move(backend, change);
	default:
		return backend->ops->protect(backend, change);
	}
}

static void apply_to_model(const struct aspace_change *change, unsigned source)
{
	size_t start = (size_t)(change->range.start.value - base) / granule;
	size_t stop = (size_t)(change->range.end.value - base) / granule;
	uint32_t area = ++areas;

	for (size_t i = start; i < stop; i++) {
		struct page *page = &after.pages[i];

		switch (change->kind) {
		case ASPACE_CHANGE_MAP:
		case ASPACE_CHANGE_REPLACE:
			*page = (struct page){area,  (uint8_t)source,   !sources[source].lazy,
					      false, change->new_flags, 0};
			break;
		case ASPACE_CHANGE_UNMAP:
			*page = (struct page){0};
			break;
		case ASPACE_CHANGE_MOVE:
			after.pages[(change->destination.value - base) / granule + (i - start)] =
				*page;
			*page = (struct page){0};
			break;
		default:
			page->area = area;
			page->flags = change->new_flags;
			break;
		}
	}
}

static struct aspace_change inverse_of(const struct aspace_change *change)
{
	struct aspace_change inverse = *change;

	inverse.undo = true;
	inverse.old_flags = change->new_flags;
	inverse.new_flags = change->old_flags;
	if (change->kind == ASPACE_CHANGE_MAP) {
		inverse.kind = ASPACE_CHANGE_UNMAP;
	} else if (change->kind == ASPACE_CHANGE_UNMAP) {
		inverse.kind = ASPACE_CHANGE_MAP;
	} else if (change->kind == ASPACE_CHANGE_MOVE) {
		uint64_t size = change->range.end.value - change->range.start.value;

		inverse.range = aspace_range_of(change->destination.value,
						change->destination.value + size);
		inverse.destination = change->range.start;
	}
	return inverse;
}

/* To where nothing is, which is not always congruent modulo a block. */
static bool draw_move(struct aspace_change *change, unsigned *source)
{
	size_t page, start, stop, to = draw_page();

	if (!find_area(&page))
		return false;
	draw_part(page, &start, &stop);
	if (draw(2))
		to = to / 16 * 16 + start % 16;
	if (draw(3) == 0)
		to = to / block * block + start % block;
	if (to >= count)
		return false;
	stop = start + (free_from(to, stop - start) - to);
	if (start == stop)
		return false;
	*source = after.pages[page].source;
	*change = (struct aspace_change){
		.kind = ASPACE_CHANGE_MOVE,
		.range = range_of(start, stop),
		.destination = {address_of(to)},
		.old_flags = after.pages[page].flags,
		.new_flags = after.pages[page].flags,
	};
	return true;
}

/* Over anything that is the source's, and holes. */
static bool draw_replace(struct aspace_change *change, unsigned *source)
{
	size_t start = draw_page(), stop = start, size = draw_size();

	*source = (unsigned)draw(SOURCES);
	while (stop < count && stop - start < size &&
	       (!after.pages[stop].area || after.pages[stop].source == *source))
		stop++;
	if (start == stop)
		return false;
	*change = (struct aspace_change){
		.kind = ASPACE_CHANGE_REPLACE,
		.range = range_of(start, stop),
		.new_flags = draw_flags(),
	};
	return true;
}

static bool draw_change(struct aspace_change *change, unsigned *source)
{
	size_t page = draw_page(), start, stop;

	if (draw(8) == 0)
		return draw_move(change, source);
	if (draw(10) == 0)
		return draw_replace(change, source);
	if (draw(5) < 2) {
		stop = free_from(page, draw_size());
		if (stop == page)
			return false;
		*source = (unsigned)draw(SOURCES);
		*change = (struct aspace_change){
			.kind = ASPACE_CHANGE_MAP,
			.range = range_of(page, stop),
			.new_flags = draw_flags(),
		};
		return true;
	}
	if (!find_area(&page))
		return false;
	draw_part(page, &start, &stop);
	*source = after.pages[page].source;
	*change = (struct aspace_change){
		.kind = draw(2) ? ASPACE_CHANGE_UNMAP : ASPACE_CHANGE_PROTECT,
		.range = range_of(start, stop),
		.old_flags = after.pages[page].flags,
		.new_flags = draw_flags(),
	};
	return true;
}

static void count_change(const struct aspace_change *change)
{
	totals.maps += change->kind == ASPACE_CHANGE_MAP;
	totals.unmaps += change->kind == ASPACE_CHANGE_UNMAP;
	totals.protects += change->kind == ASPACE_CHANGE_PROTECT;
	totals.moved += change->kind == ASPACE_CHANGE_MOVE;
	totals.replaced += change->kind == ASPACE_CHANGE_REPLACE;
}

/* True: it was refused, as it should be, and nothing has changed. */
static bool prepare(const struct aspace_change *change, unsigned source, bool refusal)
{
	struct aspace_backend *backend = &sources[source].backend;
	enum aspace_status status;
	size_t start = (size_t)(change->range.start.value - base) / granule;

	before = after;
	begin(start, (size_t)(change->range.end.value - base) / granule);
	print("prepare", change);
	refusal = refusal && refuse(40);
	status = backend->ops->prepare(backend, change);
	if (status == ASPACE_OK) {
		/* All that it needs, it has. */
		machine_refuse(machine, 1);
		machine_refuse_frames(machine, 1, 0);
		return false;
	}
	if (status == ASPACE_NO_MEMORY && refusal) {
		totals.refused++;
	} else if (status != ASPACE_NOT_SUPPORTED || !config.no_transient_faults) {
		fail("prepare: %s", aspace_status_string(status));
	}
	backend->ops->flush(backend);
	end();
	return true;
}

static void make(const char *what, const struct aspace_change *change, unsigned source)
{
	enum aspace_status status;

	print(what, change);
	status = apply(change, source);
	if (status != ASPACE_OK)
		fail("%s: %s", what, aspace_status_string(status));
	count_change(change);
}

static void forget(const struct aspace_change *change)
{
	if (change->kind != ASPACE_CHANGE_PROTECT)
		machine_forget_accesses(machine, change->range.start.value,
					change->range.end.value);
}

/* The machine asks the model when an operation begins: prepare() has told it that nothing
 * changes; now it does. */
static void go_on(const struct aspace_change *change, unsigned source)
{
	apply_to_model(change, source);
	machine_turn_back(machine);
}

/* What the processor had noted at the old addresses must stand at the new ones. */
static struct {
	bool accessed, wrote;
} noted[PROBES];

static bool is_moved(const struct aspace_change *change, uint64_t address)
{
	return change->kind == ASPACE_CHANGE_MOVE && address >= change->range.start.value &&
	       address < change->range.end.value;
}

static void note_history(const struct aspace_change *change)
{
	for (size_t i = 0; i < PROBES; i++) {
		noted[i].accessed =
			is_moved(change, probes[i]) && machine_accessed(machine, probes[i]);
		noted[i].wrote = is_moved(change, probes[i]) && machine_wrote(machine, probes[i]);
	}
}

static void check_moved_history(const struct aspace_change *change)
{
	uint64_t distance = change->destination.value - change->range.start.value;
	struct aspace_aarch64_mapping mapping;

	for (size_t i = 0; i < PROBES; i++) {
		if (!noted[i].accessed)
			continue;
		if (aspace_aarch64_query(machine_tables(machine), aspace_va(probes[i] + distance),
					 &mapping) != ASPACE_OK ||
		    !mapping.accessed || (noted[i].wrote && !mapping.dirty))
			fail("%#" PRIx64 ": the move has lost an access", probes[i]);
		totals.carried++;
	}
}

static void operate(void)
{
	struct aspace_change change, undo;
	unsigned source;

	if (!draw_change(&change, &source) || prepare(&change, source, true))
		return;
	go_on(&change, source);
	make("change", &change, source);
	note_history(&change); /* up to the last moment */
	check_moved_history(&change);
	if (change.kind != ASPACE_CHANGE_REPLACE && draw(6) == 0) {
		undo = inverse_of(&change);
		after = before;
		machine_turn_back(machine);
		make("undo", &undo, source);
		/* What came and went has no history; what went and came back has. */
		if (change.kind != ASPACE_CHANGE_UNMAP)
			forget(&undo);
		totals.undone++;
	} else {
		forget(&change);
	}
	sources[source].backend.ops->flush(&sources[source].backend);
	end();
}

/* Unmap, and map in its place by another source before the flush, which frees the frames. */
static void remap(void)
{
	struct aspace_change change, fresh;
	uint64_t retired = machine_tally(machine)->frames_retired;
	unsigned source, other = (unsigned)draw(SOURCES);

	if (config.no_transient_faults || !draw_change(&change, &source) ||
	    (change.kind != ASPACE_CHANGE_UNMAP && change.kind != ASPACE_CHANGE_PROTECT))
		return;
	change.kind = ASPACE_CHANGE_UNMAP;
	fresh = (struct aspace_change){
		.kind = ASPACE_CHANGE_MAP,
		.range = change.range,
		.new_flags = draw_flags(),
	};
	if (prepare(&change, source, false))
		return;
	machine_refuse(machine, 0);
	machine_refuse_frames(machine, 0, 0);
	if (sources[other].backend.ops->prepare(&sources[other].backend, &fresh) != ASPACE_OK)
		fail("the second prepare");
	machine_refuse(machine, 1);
	machine_refuse_frames(machine, 1, 0);
	go_on(&change, source);
	make("unmap", &change, source);
	forget(&change);
	go_on(&fresh, other);
	make("map", &fresh, other);
	forget(&fresh); /* until then, what was there before may have been accessed */
	/* What was freed cannot come back, and says so. */
	change = inverse_of(&change);
	if (machine_tally(machine)->frames_retired != retired &&
	    apply(&change, source) != ASPACE_NO_MEMORY)
		fail("what was freed is restored");
	sources[source].backend.ops->flush(&sources[source].backend);
	totals.remapped++;
	end();
}

static bool count_single(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	*(size_t *)ctx += !mapping->contiguous;
	return true;
}

/* Leaves that are in no group. */
static size_t singles(void)
{
	size_t found = 0;

	if (aspace_aarch64_walk(machine_tables(machine), aspace_aarch64_range(&config),
				count_single, &found) != ASPACE_OK)
		fail("the walk is refused");
	return found;
}

/* Larger leaves, of the same frames: they come back as they came all the same. */
static void compact(void)
{
	size_t single = singles();
	size_t start = draw(2) ? 0 : draw_page(), stop = draw(2) ? count : draw_page();
	enum aspace_status status;

	if (start >= stop)
		return;
	before = after;
	begin(start, stop);
	machine_refuse(machine, 1);
	machine_refuse_frames(machine, 1, 0);
	status = aspace_aarch64_compact(machine_tables(machine), range_of(start, stop), 0);
	if (status != ASPACE_OK && !(status == ASPACE_NOT_SUPPORTED && config.no_transient_faults))
		fail("compact: %s", aspace_status_string(status));
	end();
	totals.compacted += singles() < single;
}

/* ---- Faults --------------------------------------------------------------------------------- */

static void fault(void)
{
	struct aspace_area area;
	struct aspace_backend *backend;
	unsigned access = draw(3) ? ASPACE_ACCESS_READ : ASPACE_ACCESS_WRITE;
	enum aspace_status status;
	size_t page, start, stop, populated = 0;
	bool refusal, was;

	if (!find_area(&page))
		return;
	area = area_around(page);
	backend = area.backend;
	start = (size_t)(area.start.value - base) / granule;
	stop = (size_t)(area.end.value - base) / granule;
	was = after.pages[page].populated;
	before = after;
	/* What it populates beside the page is for it to say. */
	for (size_t i = start; i < stop; i++)
		after.pages[i].perhaps = !after.pages[i].populated;
	begin(start, stop);
	refusal = refuse(2); /* it asks once or twice */
	status = backend->ops->fault(backend, &area,
				     aspace_va(address_of(page) + draw((size_t)granule)), access);
	if (trace)
		printf("%u/%ld fault at %#" PRIx64 " access %u: %s\n", config_number,
		       operation_number, address_of(page), access, aspace_status_string(status));
	sweep_all();
	machine_turn_back(machine);
	end();
	for (size_t i = start; i < stop; i++)
		populated += after.pages[i].populated && !before.pages[i].populated;
	if (access & ~area.flags) {
		totals.denied++;
		if (status != ASPACE_ACCESS_DENIED || populated)
			fail("a write is not denied");
	} else if (status == ASPACE_NO_MEMORY && refusal) {
		totals.refused_faults++;
		if (populated)
			fail("a refused fault has populated something");
	} else if (status != ASPACE_OK || !after.pages[page].populated) {
		fail("fault: %s", aspace_status_string(status));
	} else if (populated * granule > sources[after.pages[page].source].fault_max) {
		fail("a fault has populated %zu pages", populated);
	} else {
		totals.faults++;
		totals.spurious += was;
		totals.large += populated > 1;
		if (was && populated)
			fail("a fault where nothing was missing has populated something");
	}
}

/* ---- Advice --------------------------------------------------------------------------------- */

/* A page stays where it shares its leaf, its group or its piece with what is not in the range. */
static bool may_stay(uint64_t address)
{
	struct aspace_aarch64_mapping mapping;

	if (aspace_aarch64_query(machine_tables(machine), aspace_va(address), &mapping) !=
	    ASPACE_OK)
		fail("%#" PRIx64 " is not mapped", address);
	return mapping.contiguous || aspace_range_size(mapping.range) > granule ||
	       (mapping.descriptor >> 59 & 7) != 1;
}

/* No group of pages has lost some of its members. */
static void check_groups(size_t start, size_t stop)
{
	size_t pages = config.granule_shift == 12 ? 16 : config.granule_shift == 14 ? 128 : 32;
	struct aspace_aarch64_mapping mapping;

	start = start > pages ? start - pages : 0;
	stop = stop + pages < count ? stop + pages : count;
	for (size_t i = start; i < stop; i++) {
		size_t first = i - (address_of(i) / granule) % pages;

		if (!after.pages[i].populated ||
		    aspace_aarch64_query(machine_tables(machine), aspace_va(address_of(i)),
					 &mapping) != ASPACE_OK ||
		    !mapping.contiguous || mapping.level != 3)
			continue;
		for (size_t k = first; k < first + pages; k++) {
			if (!after.pages[k].populated)
				fail("%#" PRIx64 " is gone from its group", address_of(k));
		}
	}
}

static void drop(void)
{
	enum aspace_advice advice = draw(4) ? ASPACE_ADVICE_DROP : ASPACE_ADVICE_FREE;
	uint64_t clearings = machine_tally(machine)->cleared;
	struct aspace_vaddr reached;
	enum aspace_status status;
	struct aspace_area area;
	size_t page, start, stop;
	uint64_t at;

	if (!find_area(&page))
		return;
	area = area_around(page);
	draw_part(page, &start, &stop);
	before = after;
	for (size_t i = start; i < stop; i++)
		after.pages[i].populated &= !sources[after.pages[i].source].lazy;
	begin(start, stop);
	machine_refuse(machine, 1);
	machine_refuse_frames(machine, 1, 0);
	for (at = address_of(start), status = ASPACE_OK;
	     at < address_of(stop) && status == ASPACE_OK; at = reached.value) {
		reached.value = address_of(stop);
		status = area.backend->ops->advise(area.backend, &area,
						   aspace_range_of(at, address_of(stop)), advice,
						   &reached);
		if (reached.value <= at || reached.value > address_of(stop))
			fail("drop: it reaches %#" PRIx64, reached.value);
	}
	if (trace)
		printf("%u/%ld drop [%#" PRIx64 ", %#" PRIx64 "): %s\n", config_number,
		       operation_number, address_of(start), address_of(stop),
		       aspace_status_string(status));
	if (status != (sources[after.pages[page].source].lazy ? ASPACE_OK : ASPACE_NOT_SUPPORTED))
		fail("drop: %s", aspace_status_string(status));
	for (size_t i = start; i < stop; i++)
		after.pages[i].perhaps = before.pages[i].populated && !after.pages[i].populated;
	sweep_all();
	machine_turn_back(machine);
	end();
	for (size_t i = start; i < stop && status == ASPACE_OK; i++) {
		if (after.pages[i].populated && !may_stay(address_of(i)))
			fail("%#" PRIx64 " was not dropped", address_of(i));
		/* Its contents went by themselves. */
		if (after.pages[i].populated && advice == ASPACE_ADVICE_DROP)
			clearings++;
		totals.stayed += after.pages[i].populated;
		totals.dropped += before.pages[i].populated && !after.pages[i].populated;
		if (!after.pages[i].populated)
			after.pages[i].output = 0;
	}
	if (machine_tally(machine)->cleared != clearings)
		fail("%" PRIu64 " granules were cleared, not %" PRIu64,
		     machine_tally(machine)->cleared, clearings);
	check_groups(start, stop);
}

/* ---- Everything -------------------------------------------------------------------------------- */

static void clear_all(void)
{
	for (size_t i = 0; i < count; i++) {
		struct aspace_area area;
		struct aspace_change change;

		if (!after.pages[i].area)
			continue;
		area = area_around(i);
		change = (struct aspace_change){
			.kind = ASPACE_CHANGE_UNMAP,
			.range = {area.start, area.end},
			.old_flags = area.flags,
		};
		if (apply(&change, after.pages[i].source) != ASPACE_OK)
			fail("the last unmap is refused");
		apply_to_model(&change, 0);
		if (draw(3) == 0)
			area.backend->ops->flush(area.backend);
	}
	sources[0].backend.ops->flush(&sources[0].backend);
	sweep_all();
	if (aspace_aarch64_table_count(machine_tables(machine)) != 1)
		fail("tables are left of nothing");
}

static void draw_features(void)
{
	config.hardware_access = draw(2);
	config.hardware_dirty = config.hardware_access && draw(2);
	config.range_tlbi = draw(2);
	config.ttl = draw(2);
	config.bbm_level = draw(2) ? 2 : 0;
	config.conflicts_tolerated = draw(3);
	config.no_transient_faults = draw(4) == 0;
	config.id = config.regime == ASPACE_AARCH64_EL2 ? 0 : (uint16_t)(1 + draw(200));
	config.tlbi_max = (uint32_t)(draw(4) ? 0 : draw(8));
}

static void run_config(long operations)
{
	random_state = first_seed * 1000003 + config_number + 1;
	draw64();
	draw_features();
	memset(&after, 0, sizeof(after));
	granule = UINT64_C(1) << config.granule_shift;
	block = (size_t)1 << (config.granule_shift - 3);
	count = block * 5 / 2;
	base = aspace_aarch64_range(&config).start.value + granule * block * (1 + draw(40));
	machine_incoherent(draw(4) == 0 || incoherent);
	machine = machine_create(&config, draw64(), expect, NULL);
	for (unsigned i = 0; i < SOURCES; i++) {
		uint64_t most = i == 1 ? granule << draw(8) : granule * block;

		if (aspace_aarch64_allocated_init(&sources[i], machine_tables(machine), i > 0,
						  most) != ASPACE_OK)
			fail("no source");
	}
	for (operation_number = 0; operation_number < operations; operation_number++) {
		switch (draw(10)) {
		case 0:
			remap();
			break;
		case 8:
			compact();
			break;
		case 9:
			drop();
			break;
		case 1:
		case 2:
		case 3:
			fault();
			break;
		default:
			operate();
			break;
		}
	}
	clear_all();
	if (machine_violation(machine))
		fail("%s", machine_violation(machine));
	totals.retired += machine_tally(machine)->frames_retired;
	totals.updates += machine_tally(machine)->hardware_updates;
	totals.split += machine_tally(machine)->split;
	if (machine_destroy(machine))
		fail("tables have leaked");
}

static const struct {
	enum aspace_aarch64_regime regime;
	uint8_t granule_shift, input, output;
	bool ds;
} shapes[] = {
	{ASPACE_AARCH64_EL1_LOWER, 12, 39, 48, false},
	{ASPACE_AARCH64_EL1_UPPER, 12, 48, 48, false},
	{ASPACE_AARCH64_EL2, 12, 52, 52, true},
	{ASPACE_AARCH64_STAGE2, 12, 40, 40, false},
	{ASPACE_AARCH64_EL1_LOWER, 14, 47, 48, false},
	{ASPACE_AARCH64_STAGE2, 14, 40, 48, false},
	{ASPACE_AARCH64_EL1_LOWER, 16, 48, 48, false},
	{ASPACE_AARCH64_STAGE2, 16, 48, 52, false},
};

int main(int argc, char **argv)
{
	long operations = 150, only = -1;

	first_seed = 1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--trace"))
			trace = true;
		else if (!strcmp(argv[i], "--incoherent"))
			incoherent = true;
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
	/* Each shape with several draws of features. */
	for (config_number = 0; config_number < 4 * sizeof(shapes) / sizeof(shapes[0]);
	     config_number++) {
		size_t i = config_number % (sizeof(shapes) / sizeof(shapes[0]));

		config = (struct aspace_aarch64_config){
			.size = sizeof(config),
			.regime = shapes[i].regime,
			.granule_shift = shapes[i].granule_shift,
			.input_bits = shapes[i].input,
			.output_bits = shapes[i].output,
			.ds = shapes[i].ds,
			.start_level = ASPACE_AARCH64_START_ANY,
			.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
		};
		if (only < 0 || only == (long)config_number)
			run_config(operations);
	}
	printf("%" PRIu64 " maps, %" PRIu64 " unmaps, %" PRIu64 " protects, %" PRIu64
	       " moves, %" PRIu64 " replaces, %" PRIu64 " undone, %" PRIu64 " remapped, %" PRIu64
	       " refused\n",
	       totals.maps, totals.unmaps, totals.protects, totals.moved, totals.replaced,
	       totals.undone, totals.remapped, totals.refused);
	printf("%" PRIu64 " faults, %" PRIu64 " of more than a page, %" PRIu64
	       " where nothing was missing; %" PRIu64 " denied, %" PRIu64 " without memory\n",
	       totals.faults, totals.large, totals.spurious, totals.denied, totals.refused_faults);
	printf("%" PRIu64 " frames retired, %" PRIu64 " hardware updates, %" PRIu64
	       " carried by moves; %" PRIu64 " frames split, %" PRIu64 " compactions, %" PRIu64
	       " pages dropped, %" PRIu64 " stayed\n",
	       totals.retired, totals.updates, totals.carried, totals.split, totals.compacted,
	       totals.dropped, totals.stayed);
	if (only < 0 && (!totals.undone || !totals.refused || !totals.remapped ||
			 !totals.replaced || !totals.moved || !totals.large || !totals.spurious ||
			 !totals.denied || !totals.refused_faults || !totals.split ||
			 !totals.compacted || !totals.dropped || !totals.stayed)) {
		fprintf(stderr, "something was not provoked\n");
		return 1;
	}
	return 0;
}
