/* SPDX-License-Identifier: MIT */
/*
 * Faults side by side, and beside a writer, on the adversarial machine: three CPUs populate lazy
 * areas, while a fourth maps, unmaps, protects, replaces, moves, compacts and harvests what lies between these in
 * the same tables.
 *
 * One CPU runs at a time. Before each thing that the tables ask of the machine (a load, an exchange, a
 * barrier, an allocation ...) the turn may go to another one, as a seeded draw decides: so a
 * failure is found again by its seed, and the machine sees each event with the CPU that it is of.
 *
 * What the space will see to, the test does: no two faults in one span at a time, and none in an
 * area that the writer changes. Afterwards each page for which a fault has answered OK is mapped,
 * areas and tables agree, every frame is accounted for, and nothing is left of nothing.
 *
 *     test_beside [--seed N] [--rounds N] [--stride N] [--config N] [--incoherent] [--log FILE]
 */
#include "machine.h"

#include "backend/aarch64/tables.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CPUS       4 /* 0 is the writer's */
#define CELLS_MAX  96
#define PROBES     48
#define PAGES_MAX  4096 /* of a cell */
#define FRAMES_MAX (1u << 16)

#define R  ((uint64_t)ASPACE_AARCH64_READ)
#define RW (R | ASPACE_AARCH64_WRITE)

/* Who maps what in a cell: the window is cut into cells, each in one area or none. */
enum owner { FAULTS, LINEAR, EAGER, LAZY, OWNERS };

struct cell {
	uint64_t start, end;
	enum owner owner;
	bool mapped;
	uint64_t flags;
	/* FAULTS: what a fault has said of each page. */
	uint8_t populated[PAGES_MAX / 8];
};

static uint64_t random_state, first_seed;
static unsigned config_number;
static long round_number;
static bool incoherent;
static FILE *log_file;
static struct aspace_aarch64_config config;
static struct machine *machine;
static struct aspace_aarch64 *tables;
static struct aspace_aarch64_linear linear;
static struct aspace_aarch64_allocated eager, lazy, faulting;
static uint64_t granule;
static struct cell cells[CELLS_MAX], earlier[CELLS_MAX];
static size_t cell_count;

static struct {
	uint64_t maps, unmaps, protects, replaces, moves, compactions, harvests, refused;
	uint64_t faults, groups, blocks, refused_faults;
	/* What shall have been met. */
	uint64_t lost_tables, linked_pending, settled, held, turns, places, pauses;
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

	fflush(stdout);
	fprintf(stderr, "configuration %u, round %ld: ", config_number, round_number);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nagain with: --seed %" PRIu64 " --config %u\n", first_seed,
		config_number);
	if (log_file)
		fflush(log_file);
	_Exit(1);
}

/* ---- Turns ------------------------------------------------------------------------------ */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turns[CPUS] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
				     PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};
static bool runnable[CPUS];
static unsigned running;
static size_t patience; /* one turn in so many goes to somebody else */
/* For so many more of the writer's turns, every other one does: it is where others may meet it. */
static unsigned hot;

static void wait_for_turn(unsigned cpu)
{
	pthread_mutex_lock(&mutex);
	while (running != cpu)
		pthread_cond_wait(&turns[cpu], &mutex);
	pthread_mutex_unlock(&mutex);
	machine_on_cpu(machine, cpu);
}

static void give_turn(unsigned cpu)
{
	pthread_mutex_lock(&mutex);
	running = cpu;
	pthread_cond_signal(&turns[cpu]);
	pthread_mutex_unlock(&mutex);
}

static unsigned draw_runnable(void)
{
	unsigned cpu;

	do
		cpu = (unsigned)draw(CPUS);
	while (!runnable[cpu]);
	return cpu;
}

/* What comes in the middle of an operation, all at once, at a place that is counted. */
static struct {
	void (*operation)(void);
	unsigned cpu;
	size_t countdown; /* 0: not any more */
} visitor;

static void visit(void)
{
	unsigned me = running;

	if (!visitor.countdown || --visitor.countdown)
		return;
	running = visitor.cpu;
	machine_on_cpu(machine, running);
	visitor.operation();
	running = me;
	machine_on_cpu(machine, running);
}

/* CPU 0 or 1 has so many places left before the turn goes to the other one. 0: it has done so, or
 * goes on to its end. */
static size_t pause_after[CPUS];

/* Perhaps another one goes on first. */
static void turn(void)
{
	unsigned me = running, next;

	visit();
	if (pause_after[me] && !--pause_after[me] && runnable[!me]) {
		totals.pauses += me;
		give_turn(!me);
		wait_for_turn(me);
	}
	if (!patience)
		return;
	if (me == 0 && hot)
		hot--;
	if (draw(me == 0 && hot ? 3 : patience))
		return;
	next = draw_runnable();
	if (next == me)
		return;
	totals.turns++;
	give_turn(next);
	wait_for_turn(me);
}

static void end_turns(unsigned me)
{
	bool others = false;

	runnable[me] = false;
	for (unsigned i = 0; i < CPUS; i++)
		others = others || runnable[i];
	if (others)
		give_turn(draw_runnable());
}

/* ---- The machine's operations, by turns -------------------------------------------------------- */

static const struct aspace_aarch64_ops *below; /* with its context, the machine's or the log's */

static uint64_t turn_load(void *ctx, const uint64_t *entry)
{
	uint64_t value;

	turn();
	value = below->load(ctx, entry);
	if (running == 0 && (value & 3) == 3 && (value & ASP_A64_PINS_MASK) &&
	    (value & ASP_A64_VISITED) && !(value & UINT64_C(0xe0000000000000)))
		totals.held++;
	return value;
}

static void turn_store(void *ctx, uint64_t *entry, uint64_t value)
{
	turn();
	below->store(ctx, entry, value);
}

static bool turn_swap(void *ctx, uint64_t *entry, uint64_t expected, uint64_t value)
{
	bool done;

	turn();
	done = below->swap(ctx, entry, expected, value);
	if (done && !running && (value == ASP_A64_VACATED || (!expected && (value & 3) == 2)))
		hot = 100;
	if (!done && !expected && (value & 2) && !(value & ASP_A64_PIECE_MASK))
		totals.lost_tables++;
	if (done && running && (expected & 3) == 2 && value == (expected | 1))
		totals.linked_pending++;
	if (done && running && expected == ASP_A64_VACATED)
		totals.settled++;
	return done;
}

static void turn_dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		     enum aspace_aarch64_shareability shareability)
{
	turn();
	below->dsb(ctx, barrier, shareability);
	turn();
}

static void turn_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	turn();
	below->tlbi(ctx, tlbi);
}

static bool turn_table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	turn();
	return below->table_alloc(ctx, size, table);
}

static void turn_table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	turn();
	below->table_free(ctx, table, size);
}

static bool turn_frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	for (size_t i = draw(4) ? 8 : draw(200); i; i--) /* it may take its time */
		turn();
	return below->frame_alloc(ctx, size, frame);
}

static void turn_frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	turn();
	below->frame_free(ctx, frame, size);
}

static void use_turns(void)
{
	static struct aspace_aarch64_ops ops;

	below = tables->ops;
	ops = *below;
	ops.load = turn_load;
	ops.store = turn_store;
	ops.swap = turn_swap;
	ops.dsb = turn_dsb;
	ops.tlbi = turn_tlbi;
	ops.table_alloc = turn_table_alloc;
	ops.table_free = turn_table_free;
	ops.frame_alloc = turn_frame_alloc;
	ops.frame_free = turn_frame_free;
	tables->ops = &ops;
}

/* ---- Areas ------------------------------------------------------------------------------------- */

static struct aspace_backend *backend_of(enum owner owner)
{
	struct aspace_backend *backends[] = {&faulting.backend, &linear.backend, &eager.backend,
					     &lazy.backend};

	return backends[owner];
}

static const struct cell *cell_at(const struct cell *all, uint64_t address)
{
	for (size_t i = 0; i < cell_count; i++) {
		if (address >= all[i].start && address < all[i].end)
			return &all[i];
	}
	return NULL;
}

static bool perhaps; /* what faults populate comes at any time */

static bool is_mapped(uint64_t address)
{
	struct aspace_aarch64_mapping mapping;

	return aspace_aarch64_query(tables, aspace_va(address), &mapping) == ASPACE_OK;
}

static void expect(void *ctx, uint64_t address, bool later, struct expectation *e)
{
	const struct cell *cell = cell_at(later ? cells : earlier, address);
	bool stage2 = config.regime == ASPACE_AARCH64_STAGE2;

	(void)ctx;
	*e = (struct expectation){.mapped = false};
	if (!cell || !cell->mapped)
		return;
	*e = (struct expectation){
		.mapped =
			cell->owner == FAULTS ? perhaps || is_mapped(address) : cell->owner != LAZY,
		.anywhere = cell->owner != LINEAR,
		.output = address + linear.offset,
		.rights =
			{
				.read = true,
				.write = cell->flags & ASPACE_AARCH64_WRITE,
				.user_read = stage2,
				.user_write = stage2 && (cell->flags & ASPACE_AARCH64_WRITE),
				.memory = stage2 ? 0xf : 0xff,
				.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
			},
	};
}

static struct aspace_area area_of(const struct cell *cell)
{
	return (struct aspace_area){
		.start = {cell->start},
		.end = {cell->end},
		.flags = cell->flags,
		.backend = backend_of(cell->owner),
	};
}

static size_t page_of(const struct cell *cell, uint64_t address)
{
	return (size_t)((address - cell->start) / granule);
}

static bool is_populated(const struct cell *cell, size_t page)
{
	return cell->populated[page / 8] & 1u << page % 8;
}

/*
 * The window: two stretches of addresses, of which the ends lie in tables of their own, with a piece in one
 * last-level table, and one across a boundary of the level above. Small cells between large ones; every
 * other one is for faults.
 */
static void cut_window(bool few)
{
	struct aspace_range all = aspace_aarch64_range(&config);
	uint64_t block = granule << (config.granule_shift - 3);
	uint64_t above = block << (config.granule_shift - 3);
	uint64_t limit = aspace_range_size(all);
	uint64_t starts[3];

	starts[0] = all.start.value + block * (3 + draw(8)) + granule * draw(40);
	starts[1] = limit > 4 * above ? all.start.value + above * (1 + draw(2)) - block
				      : starts[0] + 20 * block;
	starts[2] = limit > 4 * above ? all.start.value + 3 * above + granule * draw(300)
				      : starts[0] + 40 * block;
	cell_count = 0;
	for (size_t i = few ? draw(3) : 0; i < 3 && (!few || !cell_count); i++) {
		uint64_t at = starts[i];
		/* Few: then the writer leaves tables empty in which faults are about to map. */
		size_t cells_here = few ? 2 + draw(2) : 4 + draw(CELLS_MAX / 3 - 4);
		bool large = draw(2);

		for (size_t j = 0; j < cells_here; j++) {
			struct cell *cell = &cells[cell_count++];
			uint64_t pages = draw(4) ? 1 + draw(24)
					 : large ? block / granule + draw(block / granule / 2)
						 : 16 * (1 + draw(12));

			if (j == 1 && large && !few) { /* a block's worth, for faults */
				pages = block / granule + draw(40);
				at = aspace_align_up(at, block);
			}
			if (pages > PAGES_MAX)
				pages = PAGES_MAX;
			if (draw(3)) /* a group, or a block, has room */
				at = aspace_align_up(at, pages * granule > block ? block
										 : 16 * granule);
			*cell = (struct cell){
				.start = at,
				.end = at + pages * granule,
				.owner = j % 2 ? FAULTS : (enum owner)(1 + draw(OWNERS - 1)),
			};
			at = cell->end;
			if (at > starts[i] + 3 * block)
				break;
		}
	}
}

/* ---- The writer ------------------------------------------------------------------------------------ */

static enum aspace_status apply(struct aspace_backend *backend, const struct aspace_change *change)
{
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

/* The model is as it will be: told to the machine before the change. */
static void begin_change(void)
{
	machine_turn_back(machine);
}

static void next_operation(void)
{
	memcpy(earlier, cells, sizeof(cells));
	machine_turn_back(machine);
}

/* One batch, of one change. False: no memory, and nothing has changed. */
static bool batch(const struct aspace_change *change, struct cell *cell, const struct cell *next,
		  struct cell *destination)
{
	struct aspace_backend *backend = backend_of(cell->owner);
	enum aspace_status status = backend->ops->prepare(backend, change);

	if (status == ASPACE_OK) {
		if (destination) {
			*destination = *next;
			destination->start = change->destination.value;
			destination->end = destination->start + (cell->end - cell->start);
			cell->mapped = false;
		} else {
			*cell = *next;
		}
		begin_change();
		status = apply(backend, change);
		if (status != ASPACE_OK)
			fail("after prepare: %s", aspace_status_string(status));
	} else if (status != ASPACE_NO_MEMORY) {
		fail("prepare of %u: %s", (unsigned)change->kind, aspace_status_string(status));
	} else {
		totals.refused++;
	}
	backend->ops->flush(backend);
	next_operation();
	return status == ASPACE_OK;
}

static struct aspace_change change_of(enum aspace_change_kind kind, const struct cell *cell,
				      uint64_t flags)
{
	return (struct aspace_change){
		.kind = kind,
		.range = aspace_range_of(cell->start, cell->end),
		.old_flags = cell->flags,
		.new_flags = flags,
	};
}

static uint64_t draw_flags(void)
{
	uint64_t flags = draw(3) ? RW : R;

	return draw(4) ? flags : flags | ASPACE_AARCH64_LEVEL_3;
}

static void map_cell(struct cell *cell, uint64_t flags)
{
	struct cell next = *cell;
	struct aspace_change change;

	next.mapped = true;
	next.flags = flags;
	memset(next.populated, 0, sizeof(next.populated));
	change = change_of(ASPACE_CHANGE_MAP, cell, next.flags);
	totals.maps += batch(&change, cell, &next, NULL);
}

static void unmap_cell(struct cell *cell)
{
	struct aspace_change change = change_of(ASPACE_CHANGE_UNMAP, cell, 0);
	struct cell next = *cell;

	next.mapped = false;
	totals.unmaps += batch(&change, cell, &next, NULL);
}

static void change_to(struct cell *cell, enum aspace_change_kind kind)
{
	struct cell next = *cell;
	struct aspace_change change;

	next.flags = draw_flags();
	change = change_of(kind, cell, next.flags);
	if (!batch(&change, cell, &next, NULL))
		return;
	totals.protects += kind == ASPACE_CHANGE_PROTECT;
	totals.replaces += kind == ASPACE_CHANGE_REPLACE;
}

/* To an unmapped cell of the same size, if there is one; its owner is exchanged. */
static void move_cell(struct cell *cell)
{
	struct cell *to = NULL;
	struct aspace_change change;
	struct cell next = *cell;

	for (size_t i = 0; i < cell_count && !to; i++) {
		if (!cells[i].mapped && cells[i].owner != FAULTS &&
		    cells[i].end - cells[i].start >= cell->end - cell->start)
			to = &cells[i];
	}
	if (!to || cell->owner == LINEAR)
		return;
	change = change_of(ASPACE_CHANGE_MOVE, cell, cell->flags);
	change.destination = aspace_va(to->start);
	totals.moves += batch(&change, cell, &next, to);
	/* The rest of the destination is nobody's. */
}

static bool count_visit(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	(void)mapping;
	++*(size_t *)ctx;
	return true;
}

static void work_on_all(bool compact)
{
	struct aspace_range all = aspace_aarch64_range(&config);
	size_t count = 0;

	if (compact || !config.hardware_access) {
		if (aspace_aarch64_compact(tables, all, 0) != ASPACE_OK)
			fail("compact");
		totals.compactions++;
	} else {
		if (aspace_aarch64_harvest(tables, all, ASPACE_AARCH64_ACCESSED, count_visit,
					   &count) != ASPACE_OK)
			fail("harvest");
		totals.harvests++;
	}
	next_operation();
}

static void write_on(long operations)
{
	while (operations--) {
		struct cell *cell = &cells[draw(cell_count)];

		if (draw(12) == 0)
			work_on_all(draw(3));
		else if (cell->owner == FAULTS)
			continue;
		else if (!cell->mapped)
			map_cell(cell, draw_flags());
		else if (draw(2))
			unmap_cell(cell);
		else if (draw(3))
			change_to(cell, draw(2) ? ASPACE_CHANGE_PROTECT : ASPACE_CHANGE_REPLACE);
		else
			move_cell(cell);
	}
}

/* ---- The others ----------------------------------------------------------------------------------- */

/* Where a fault is at work: a span each. */
static uint64_t at_work[CPUS], span;

static bool is_at_work(uint64_t address)
{
	for (unsigned i = 0; i < CPUS; i++) {
		if (at_work[i] != UINT64_MAX && at_work[i] / span == address / span)
			return true;
	}
	return false;
}

static void fault(unsigned me)
{
	struct cell *cell;
	struct aspace_area area;
	enum aspace_status status;
	uint64_t address;
	unsigned access;

	do
		cell = &cells[draw(cell_count)];
	while (cell->owner != FAULTS);
	address = cell->start + draw((size_t)((cell->end - cell->start) / granule)) * granule;
	if (draw(3) == 0) /* at the edge: beside a neighbour */
		address = draw(2) ? cell->start : cell->end - granule;
	if (!cell->mapped || is_at_work(address))
		return;
	at_work[me] = address;
	area = area_of(cell);
	access = cell->flags & ASPACE_AARCH64_WRITE && draw(2) ? ASPACE_ACCESS_WRITE
							       : ASPACE_ACCESS_READ;
	status = area.backend->ops->fault(area.backend, &area, aspace_va(address), access);
	if (status == ASPACE_OK) {
		size_t page = page_of(cell, address);

		cell->populated[page / 8] |= (uint8_t)(1u << page % 8);
		totals.faults++;
	} else if (status == ASPACE_NO_MEMORY) {
		totals.refused_faults++;
	} else {
		fail("fault: %s", aspace_status_string(status));
	}
	at_work[me] = UINT64_MAX;
}

static long operations_each;

static void *fault_on(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg;

	wait_for_turn(me);
	for (size_t i = draw(2) ? draw(100) : 0; i; i--) /* later */
		turn();
	for (long i = 0; i < operations_each; i++) {
		fault(me);
		turn();
	}
	end_turns(me);
	return NULL;
}

static void side_by_side(void)
{
	pthread_t threads[CPUS];

	for (unsigned i = 0; i < CPUS; i++) {
		runnable[i] = true;
		at_work[i] = UINT64_MAX;
	}
	patience = 2 + draw(12);
	for (unsigned i = 1; i < CPUS; i++) {
		if (pthread_create(&threads[i], NULL, fault_on, (void *)(uintptr_t)i))
			fail("no thread");
	}
	write_on(operations_each);
	end_turns(0);
	for (unsigned i = 1; i < CPUS; i++)
		pthread_join(threads[i], NULL);
	patience = 0;
	running = 0;
	machine_on_cpu(machine, 0);
}

/* ---- Afterwards -------------------------------------------------------------------------------------- */

struct sweep {
	uint8_t seen[FRAMES_MAX];
	uint64_t frames;
};

static bool sweep_one(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct sweep *sweep = ctx;
	uint64_t start = mapping->range.start.value;
	const struct cell *cell = cell_at(cells, start);

	if (!cell || !cell->mapped)
		fail("%#" PRIx64 " is mapped, and no area is there", start);
	totals.groups += cell->owner == FAULTS && mapping->contiguous;
	totals.blocks += cell->owner == FAULTS && mapping->level < ASP_A64_LAST_LEVEL;
	if (cell->owner == LINEAR)
		return true;
	for (uint64_t at = start; at < mapping->range.end.value; at += granule) {
		uint64_t frame = (mapping->output.value + (at - start)) / granule;

		if (sweep->seen[frame % FRAMES_MAX]++)
			fail("%#" PRIx64 " shares its frame", at);
		sweep->frames++;
	}
	return true;
}

static int compare_cells(const void *a, const void *b)
{
	const struct cell *one = a, *other = b;

	return one->start < other->start ? -1 : one->start > other->start;
}

static bool next_area(void *ctx, struct aspace_area *area)
{
	size_t *i = ctx;

	while (*i < cell_count && !cells[*i].mapped)
		++*i;
	if (*i == cell_count)
		return false;
	*area = area_of(&cells[(*i)++]);
	return true;
}

static void check_all(void)
{
	static struct sweep sweep;
	struct aspace_aarch64_difference difference;
	size_t i = 0;

	qsort(cells, cell_count, sizeof(cells[0]), compare_cells);
	if (aspace_aarch64_check(tables, next_area, &i, &difference) != ASPACE_OK)
		fail("%#" PRIx64 ": %s", difference.address.value, difference.what);
	memset(&sweep, 0, sizeof(sweep));
	if (aspace_aarch64_walk(tables, aspace_aarch64_range(&config), sweep_one, &sweep) !=
	    ASPACE_OK)
		fail("the walk is refused");
	if (sweep.frames * granule != machine_frames_in_use(machine))
		fail("%" PRIu64 " pages have %" PRIu64 " bytes of frames", sweep.frames,
		     machine_frames_in_use(machine));
	for (size_t c = 0; c < cell_count; c++) {
		size_t pages = (size_t)((cells[c].end - cells[c].start) / granule);

		for (size_t p = 0; cells[c].owner == FAULTS && p < pages; p++) {
			uint64_t at = cells[c].start + p * granule;

			if (is_populated(&cells[c], p) && !is_mapped(at))
				fail("%#" PRIx64 " was populated, and is not mapped", at);
		}
	}
	if (machine_violation(machine))
		fail("%s", machine_violation(machine));
}

static void begin(void)
{
	uint64_t probes[PROBES];

	for (size_t i = 0; i < PROBES; i++) {
		const struct cell *cell = &cells[draw(cell_count)];
		uint64_t size = cell->end - cell->start;

		probes[i] = draw(3) ? cell->start + draw((size_t)size)
				    : cell->start + (draw(2) ? 0 : size - 1);
	}
	memcpy(earlier, cells, sizeof(cells));
	machine_begin(machine, probes, PROBES);
}

static void clear_all(void)
{
	for (size_t i = 0; i < cell_count; i++) {
		if (cells[i].mapped)
			unmap_cell(&cells[i]);
	}
	if (aspace_aarch64_table_count(tables) != 1)
		fail("%zu tables are left of nothing", aspace_aarch64_table_count(tables));
	if (machine_tables_in_use(machine) != 2)
		fail("%zu tables are in use for nothing", machine_tables_in_use(machine));
	if (machine_frames_in_use(machine))
		fail("%" PRIu64 " bytes of frames are left of nothing",
		     machine_frames_in_use(machine));
}

static void run_round(void)
{
	bool few = draw(4); /* and soon over */

	cut_window(few);
	memcpy(earlier, cells, sizeof(cells));
	for (size_t i = 0; i < cell_count; i++) {
		if (few || cells[i].owner == FAULTS)
			map_cell(&cells[i], draw_flags());
	}
	perhaps = true;
	begin();
	operations_each = few ? 4 + (long)draw(8) : 10 + (long)draw(40);
	/* Each point at which memory is asked for is once the one where it ends. */
	machine_refuse(machine, round_number % 2 ? (size_t)draw(60) : 0);
	machine_refuse_frames(machine, round_number % 4 == 2 ? 1 + draw(60) : 0,
			      round_number % 4 == 3 ? granule * (1 + draw(32)) : 0);
	side_by_side();
	machine_refuse(machine, 0);
	machine_refuse_frames(machine, 0, 0);
	perhaps = false;
	next_operation();
	machine_end(machine);
	check_all();
	begin();
	clear_all();
	machine_end(machine);
	if (machine_violation(machine))
		fail("%s", machine_violation(machine));
	machine_forget_accesses(machine, 0, UINT64_MAX);
}

/* ---- At each place ------------------------------------------------------------------------------------ */

/*
 * Not drawn, but all of them: a fault in the middle of each kind of batch, before each thing that this asks of
 * the machine; each batch in the middle of a fault; and a fault in the middle of another one. As it may be on
 * one processor, in a handler: so nobody waits for who was interrupted.
 *
 * Three cells in one last-level table, the fault's between the writer's; a fourth has a table of its own. At
 * the other end of the fault's cell something is populated, or nothing. A fifth cell is a block, all of it populated,
 * for a compaction to find while a fault is looking there.
 */
enum batch { MAP, UNMAP, MAP_AND_UNMAP, PROTECT, REPLACE, MOVE, COMPACT, HARVEST, BATCHES };

static enum batch batch_kind;
static long stride = 1;         /* one place in so many */
static size_t lengths[BATCHES]; /* how many places each has */
static struct cell *fault_cell;
static uint64_t fault_pages[2]; /* of who is interrupted, and of who interrupts */

static void fault_on_page(uint64_t page)
{
	struct aspace_area area = area_of(fault_cell);

	if (area.backend->ops->fault(area.backend, &area,
				     aspace_va(fault_cell->start + page * granule),
				     ASPACE_ACCESS_READ) != ASPACE_OK)
		fail("a fault at a place");
	fault_cell->populated[page / 8] |= (uint8_t)(1u << page % 8);
	totals.faults++;
}

static void place_cells(unsigned populated)
{
	uint64_t block = granule << (config.granule_shift - 3);
	uint64_t start = aspace_aarch64_range(&config).start.value + 7 * block;
	static const unsigned pages[] = {16, 64, 16, 16, 512};
	bool full = batch_kind == COMPACT && span > granule;

	cell_count = full ? 5 : 4;
	for (size_t i = 0; i < cell_count; i++) {
		if (i == 3)
			start += block;
		if (i == 4)
			start = aspace_align_up(start, block);
		cells[i] = (struct cell){
			.start = start,
			.end = start + pages[i] * granule,
			.owner = i == 1 || i == 4 ? FAULTS : EAGER,
		};
		start = cells[i].end;
	}
	memcpy(earlier, cells, sizeof(cells));
	if (full) { /* first: then its frames follow each other */
		map_cell(&cells[4], RW);
		fault_cell = &cells[4];
		for (uint64_t page = 0; page < pages[4]; page += span / granule)
			fault_on_page(page);
	}
	fault_cell = &cells[full ? 4 : 1];
	map_cell(&cells[1], RW);
	if (batch_kind > MAP_AND_UNMAP || batch_kind == UNMAP)
		map_cell(&cells[0], RW);
	for (unsigned i = 0; i < populated; i++) {
		struct aspace_area area = area_of(&cells[1]);
		uint64_t at = cells[1].end - (i + 1) * span;

		if (area.backend->ops->fault(area.backend, &area, aspace_va(at),
					     ASPACE_ACCESS_WRITE) != ASPACE_OK)
			fail("a fault by itself");
		cells[1].populated[page_of(&cells[1], at) / 8] |=
			(uint8_t)(1u << page_of(&cells[1], at) % 8);
	}
}

static void do_batch(void)
{
	switch (batch_kind) {
	case MAP:
		map_cell(&cells[0], RW);
		break;
	case MAP_AND_UNMAP:
		map_cell(&cells[0], RW);
		unmap_cell(&cells[0]);
		break;
	case UNMAP:
		unmap_cell(&cells[0]);
		break;
	case PROTECT:
	case REPLACE:
		change_to(&cells[0],
			  batch_kind == PROTECT ? ASPACE_CHANGE_PROTECT : ASPACE_CHANGE_REPLACE);
		break;
	case MOVE:
		move_cell(&cells[0]);
		break;
	default:
		work_on_all(batch_kind == COMPACT);
		break;
	}
}

static void interrupted_fault(void)
{
	fault_on_page(fault_pages[0]);
}

static void interrupting_fault(void)
{
	fault_on_page(fault_pages[1]);
}

/* False: the operation has ended before the visitor's place. */
static bool visit_at(size_t place, unsigned populated, void (*operation)(void), void (*guest)(void),
		     unsigned guest_cpu)
{
	bool met;

	place_cells(populated);
	perhaps = true;
	begin();
	visitor.operation = guest;
	visitor.cpu = guest_cpu;
	visitor.countdown = place;
	running = !guest_cpu; /* the others have two CPUs */
	machine_on_cpu(machine, running);
	operation();
	met = !visitor.countdown;
	visitor.countdown = 0;
	running = 0;
	machine_on_cpu(machine, 0);
	perhaps = false;
	next_operation();
	machine_end(machine);
	check_all();
	begin();
	clear_all();
	machine_end(machine);
	machine_forget_accesses(machine, 0, UINT64_MAX);
	totals.places += met;
	return met;
}

static void *pausing_fault(void *arg)
{
	(void)arg;
	wait_for_turn(1);
	interrupted_fault();
	end_turns(1);
	return NULL;
}

/*
 * The same with two switches: a batch up to a place, a fault up to a place, the batch to its end, and the rest of the
 * fault. Or the other way round. These are too many: drawn.
 */
static void pause_somewhere(void)
{
	pthread_t thread;

	round_number++;
	batch_kind = (enum batch)draw(BATCHES - !config.hardware_access);
	place_cells((unsigned)draw(2));
	perhaps = true;
	begin();
	pause_after[0] = 1 + draw(lengths[batch_kind]);
	pause_after[1] = 1 + draw(40);
	if (draw(4) == 0) /* the fault first */
		pause_after[0] = 1;
	runnable[0] = runnable[1] = true;
	running = 0;
	if (pthread_create(&thread, NULL, pausing_fault, NULL))
		fail("no thread");
	do_batch();
	end_turns(0);
	pthread_join(thread, NULL);
	pause_after[0] = pause_after[1] = 0;
	running = 0;
	machine_on_cpu(machine, 0);
	perhaps = false;
	next_operation();
	machine_end(machine);
	check_all();
	begin();
	clear_all();
	machine_end(machine);
	machine_forget_accesses(machine, 0, UINT64_MAX);
}

/* Each of the first places; later ones are most often looks into one more descriptor of many. */
static size_t visit_places(unsigned populated, void (*operation)(void), void (*guest)(void),
			   unsigned guest_cpu)
{
	for (round_number = 1;
	     visit_at((size_t)round_number, populated, operation, guest, guest_cpu);
	     round_number += stride + round_number / 100)
		;
	return (size_t)round_number;
}

static void visit_everywhere(long pauses)
{
	uint64_t drawn = span;

	/* At least two spans of a cell; one, with 4K, is a group. */
	span = faulting.fault_max = granule * (draw(2) ? 16 : 1);
	for (unsigned populated = 0; populated < 2; populated++) {
		/* The same as the first cell's neighbour, or not. */
		fault_pages[0] = 0;
		fault_pages[1] = span / granule;
		for (unsigned kind = 0; kind < BATCHES; kind++) {
			batch_kind = (enum batch)kind;
			if (batch_kind == HARVEST && !config.hardware_access)
				continue;
			lengths[kind] = visit_places(populated, do_batch, interrupted_fault, 1);
			visit_places(populated, interrupted_fault, do_batch, 0);
		}
		batch_kind = MAP;
		visit_places(populated, interrupted_fault, interrupting_fault, 2);
		/* Nobody does this; but of a page it would be no harm. */
		fault_pages[1] = 0;
		if (span == granule)
			visit_places(populated, interrupted_fault, interrupting_fault, 2);
	}
	for (round_number = 0; round_number < pauses;)
		pause_somewhere();
	span = faulting.fault_max = drawn;
}

static const struct {
	enum aspace_aarch64_regime regime;
	uint8_t granule_shift, input, output;
	bool ds;
} shapes[] = {
	{ASPACE_AARCH64_EL1_LOWER, 12, 39, 48, false},
	{ASPACE_AARCH64_EL1_UPPER, 12, 48, 48, false},
	{ASPACE_AARCH64_STAGE2, 12, 40, 40, false},
	{ASPACE_AARCH64_EL2, 12, 52, 52, true},
	{ASPACE_AARCH64_EL1_LOWER, 14, 47, 48, false},
	{ASPACE_AARCH64_STAGE2, 16, 48, 52, false},
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

static void run_config(long rounds)
{
	random_state = first_seed * 1000003 + config_number + 1;
	draw64();
	config.hardware_access = draw(2);
	config.hardware_dirty = config.hardware_access && draw(2);
	config.range_tlbi = draw(2);
	config.ttl = draw(2);
	config.bbm_level = draw(2) ? 2 : 0;
	config.conflicts_tolerated = draw(3);
	config.id = config.regime == ASPACE_AARCH64_EL2 ? 0 : (uint16_t)(1 + draw(200));
	granule = UINT64_C(1) << config.granule_shift;
	machine_incoherent(draw(4) == 0 || incoherent);
	machine = machine_create(&config, draw64(), expect, NULL);
	tables = machine_tables(machine);
	use_turns();
	span = granule << (config_number ? draw(config.granule_shift - 2)
					 : config.granule_shift - 3u);
	/* From the first address to a frame beyond those of the machine. */
	if (aspace_aarch64_linear_init(
		    &linear, tables,
		    (UINT64_C(1) << (config.output_bits - 1)) + 16 * granule * draw(100) -
			    aspace_aarch64_range(&config).start.value) != ASPACE_OK ||
	    aspace_aarch64_allocated_init(&eager, tables, false, 0) != ASPACE_OK ||
	    aspace_aarch64_allocated_init(&lazy, tables, true, granule) != ASPACE_OK ||
	    aspace_aarch64_allocated_init(&faulting, tables, true, span) != ASPACE_OK)
		fail("no source");
	if (config.granule_shift == 12) /* elsewhere it takes long, and shows the same */
		visit_everywhere(60 * rounds);
	for (round_number = 0; round_number < rounds; round_number++)
		run_round();
	if (machine_destroy(machine))
		fail("tables have leaked");
}

int main(int argc, char **argv)
{
	long rounds = 20, only = -1;

	first_seed = 1;
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--incoherent"))
			incoherent = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			first_seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--rounds") && i + 1 < argc)
			rounds = strtol(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--stride") && i + 1 < argc)
			stride = strtol(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--config") && i + 1 < argc)
			only = strtol(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--log") && i + 1 < argc)
			log_file = machine_log_to(argv[++i]);
		else
			return 2;
	}
	printf("seed %" PRIu64 "\n", first_seed);
	for (config_number = 0; config_number < 2 * SHAPES; config_number++) {
		size_t i = config_number % SHAPES;

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
			run_config(rounds);
	}
	printf("%" PRIu64 " maps, %" PRIu64 " unmaps, %" PRIu64 " protects, %" PRIu64
	       " replaces, %" PRIu64 " moves, %" PRIu64 " compactions, %" PRIu64
	       " harvests, %" PRIu64 " refused\n",
	       totals.maps, totals.unmaps, totals.protects, totals.replaces, totals.moves,
	       totals.compactions, totals.harvests, totals.refused);
	printf("%" PRIu64 " faults, %" PRIu64 " leaves of groups, %" PRIu64 " blocks, %" PRIu64
	       " without memory; %" PRIu64 " turns, %" PRIu64 " places, %" PRIu64 " pauses\n",
	       totals.faults, totals.groups, totals.blocks, totals.refused_faults, totals.turns,
	       totals.places, totals.pauses);
	printf("%" PRIu64 " tables lost to another, %" PRIu64 " linked for the writer, %" PRIu64
	       " vacated slots settled, %" PRIu64 " pins met by the writer\n",
	       totals.lost_tables, totals.linked_pending, totals.settled, totals.held);
	/* A short run need not meet everything. */
	if (only < 0 && (!totals.lost_tables || !totals.linked_pending || !totals.held)) {
		fprintf(stderr, "nobody has met\n");
		return 1;
	}
	if (only < 0 && rounds >= 10 && stride == 1 &&
	    (!totals.maps || !totals.unmaps || !totals.protects || !totals.replaces ||
	     !totals.moves || !totals.compactions || !totals.harvests || !totals.refused ||
	     !totals.groups || !totals.blocks || !totals.refused_faults || !totals.lost_tables ||
	     !totals.linked_pending || !totals.settled || !totals.held)) {
		fprintf(stderr, "something was not provoked\n");
		return 1;
	}
	return 0;
}
