/* SPDX-License-Identifier: MIT */
/*
 * Several CPUs on one tree: CPU 0 maps, unmaps, protects and remaps, the others load and store
 * through their own TLBs, and walk the tables without a lock.
 *
 * Frames and tables are used again and again. The first word of a mapped frame is a stamp that is
 * never used twice; a free frame holds POISON; a free table is full of descriptors of a
 * frame that is nobody's. So whoever goes by a translation that is gone meets something that it
 * cannot have met otherwise. A store through one spoils the poison.
 *
 * Each cell (a page) has a history of versions. CPU 0 writes down version n + 1, advances
 * `started`, changes the tables, and then advances `done`. A reader notes `done` before its access
 * and `started` after it: what it met must fit one of the versions between. A fault decoded from
 * ESR_EL1 must fit one too. Cells that an operation cuts out of a contiguous group or a block
 * with others get a version that may fault for a moment (break-before-make).
 *
 * Words: "local": invalidations stay on their CPU; "no-tlbi": there are none; "early-free":
 * unlinked tables are freed at once. Each must be found out.
 */
#include "retire.h"

#include <stdatomic.h>

#define REGIONS    4
#define PER_REGION 512
#define CELLS      (REGIONS * PER_REGION)
#define SETS       3
#define HISTORY    64
#define OPERATIONS 20000
#define POISON     UINT64_C(0xfefefefefefefefe)
#define NOBODY     (FRAMES + FRAMES_SIZE - 4096)

/* In a version, beside the set. REMAPPED: for a moment nothing is mapped. */
enum { UNMAPPED = SETS, MAY_FAULT = 4, WRITABLE = 8, REMAPPED = 16 };

struct version {
	/* Stored relaxed: the release of `started` orders them. Loaded with acquire: a reader
	 * that was too slow notices by the next load of `started`. */
	_Atomic uint64_t stamp;
	_Atomic unsigned what;
};

static struct cell {
	/* Release: with the version; acquire in the readers. */
	_Atomic uint64_t started, done;
	struct version history[HISTORY];
	/* CPU 0's own. */
	unsigned set;
	uint64_t flags;
} cells[CELLS];

static struct aspace_aarch64_config config;
static struct aspace_aarch64 *tables;
static struct aspace_aarch64_linear identity, sources[REGIONS][SETS];
static uint64_t window, operations, remaps, cut, stamps;

/* What the readers have seen: see count(). */
enum { LOADS, FAULTS, STORES, REFUSED, QUERIES, OVERLAPPING, TRANSIENT, SEEN };
/* Where CPU 0 is at work. Relaxed: a hint. */
static _Atomic uint64_t hot = 1;
static bool early_free;
/* Release and acquire: the readers have stopped. */
static _Atomic bool stop;
static _Atomic unsigned running;

static uint64_t address_of(size_t cell)
{
	return window + cell / PER_REGION * ((UINT64_C(1) << 30) + (UINT64_C(1) << 21)) +
	       cell % PER_REGION * 4096;
}

static uint64_t frame_of(size_t cell, unsigned set)
{
	return FRAMES + (cell / PER_REGION * SETS + set) * (PER_REGION * UINT64_C(4096)) +
	       cell % PER_REGION * 4096;
}

static volatile uint64_t *word(uint64_t frame, unsigned n)
{
	return (volatile uint64_t *)(uintptr_t)frame + n;
}

/* ---- CPU 0 --------------------------------------------------------------------------------- */

static void begin_version(size_t i, unsigned what, uint64_t stamp)
{
	struct cell *c = &cells[i];
	uint64_t n = atomic_load_explicit(&c->started, memory_order_relaxed) + 1;

	atomic_store_explicit(&c->history[n % HISTORY].stamp, stamp, memory_order_relaxed);
	atomic_store_explicit(&c->history[n % HISTORY].what, what, memory_order_relaxed);
	atomic_store_explicit(&c->started, n, memory_order_release);
	/* Before any change of the tables. */
	__asm__ volatile("dmb ish" ::: "memory");
}

static void end_version(size_t i)
{
	atomic_store_explicit(&cells[i].done,
			      atomic_load_explicit(&cells[i].started, memory_order_relaxed),
			      memory_order_release);
}

static uint64_t stamp_of(size_t i)
{
	return cells[i].set == UNMAPPED ? 0 : *word(frame_of(i, cells[i].set), 0);
}

static unsigned what_of(unsigned set, uint64_t flags)
{
	return set | (set != UNMAPPED && (flags & ASPACE_AARCH64_WRITE) ? WRITABLE : 0);
}

/* Frames come into use: nobody has written to them since they were free. */
static void take_frames(size_t first, size_t end, unsigned set)
{
	for (size_t i = first; i < end; i++) {
		uint64_t frame = frame_of(i, set);

		if (*word(frame, 0) != POISON || *word(frame, 1) != POISON)
			fail("stale store: frame %lx was written to while it was free", frame);
		*word(frame, 0) = ++stamps << 8;
	}
}

static void drop_frames(size_t first, size_t end, unsigned set)
{
	for (size_t i = first; i < end; i++)
		*word(frame_of(i, set), 0) = *word(frame_of(i, set), 1) = POISON;
}

/* The cells that share a leaf or a group with [first, end) and are not in it. */
static void find_neighbours(size_t first, size_t end, size_t *low, size_t *high)
{
	size_t ends[2] = {first, end - 1};

	*low = first;
	*high = end;
	for (int side = 0; side < 2; side++) {
		struct aspace_aarch64_mapping m;
		uint64_t size, start, address = address_of(ends[side]);

		if (aspace_aarch64_query(tables, aspace_va(address), &m) != ASPACE_OK)
			fail("a mapped cell is not mapped");
		size = aspace_range_size(m.range) * (m.contiguous ? 16 : 1);
		start = aspace_align_down(address, size);
		if (start < address_of(*low))
			*low -= (size_t)((address_of(*low) - start) / 4096);
		if (start + size > address_of(*high - 1) + 4096)
			*high += (size_t)((start + size - address_of(*high - 1) - 4096) / 4096);
	}
}

static uint64_t draw_flags(void)
{
	return ASPACE_AARCH64_READ | (draw(2) ? ASPACE_AARCH64_WRITE : 0) |
	       (draw(2) ? ASPACE_AARCH64_GLOBAL : 0) | (draw(8) ? 0 : ASPACE_AARCH64_LEVEL_3) |
	       (draw(8) ? 0 : ASPACE_AARCH64_NO_CONTIGUOUS);
}

enum kind { MAP, PROTECT, UNMAP, REMAP };

/* One operation on cells [first, end) of one region, all in the same state. */
static void operate_on(size_t first, size_t end, enum kind kind)
{
	size_t region = first / PER_REGION, low = first, high = end;
	unsigned old = cells[first].set, set = old;
	uint64_t old_flags = cells[first].flags, flags = draw_flags();
	uint64_t start = address_of(first), stop_at = address_of(end - 1) + 4096;
	unsigned may_fault = kind == PROTECT ? MAY_FAULT : kind == REMAP ? MAY_FAULT | REMAPPED : 0;

	if (kind == MAP)
		set = (unsigned)draw(SETS);
	else if (kind == REMAP)
		set = (old + 1) % SETS;
	else if (kind == UNMAP)
		set = UNMAPPED;
	if (old != UNMAPPED)
		find_neighbours(first, end, &low, &high);
	if (set != UNMAPPED && set != old)
		take_frames(first, end, set);
	cut += low != first || high != end;
	for (size_t i = low; i < high; i++) {
		if (i < first || i >= end)
			begin_version(i, what_of(cells[i].set, cells[i].flags) | MAY_FAULT,
				      stamp_of(i));
		else
			begin_version(i, what_of(set, flags) | may_fault,
				      set == UNMAPPED ? 0 : *word(frame_of(i, set), 0));
	}
	if (kind == UNMAP || kind == REMAP)
		unmap_pages(&sources[region][old], start, stop_at, old_flags);
	if (set != UNMAPPED && set != old)
		map_pages(&sources[region][set], start, stop_at, flags);
	if (kind == PROTECT)
		protect_pages(&sources[region][old], start, stop_at, old_flags, flags);
	for (size_t i = low; i < high; i++)
		end_version(i);
	/* Nobody may see it through the tables any more. */
	if (old != UNMAPPED && set != old)
		drop_frames(first, end, old);
	for (size_t i = first; i < end; i++) {
		cells[i].set = set;
		cells[i].flags = flags;
	}
	remaps += kind == REMAP;
	operations++;
}

/* The cells from `first` on that are in the same state, at most so many. */
static size_t run_of(size_t first, size_t length)
{
	size_t end = first, last = (first / PER_REGION + 1) * PER_REGION;

	while (end < last && end - first < length && cells[end].set == cells[first].set &&
	       (cells[end].set == UNMAPPED || cells[end].flags == cells[first].flags))
		end++;
	atomic_store_explicit(&hot, first << 32 | (end - first), memory_order_relaxed);
	return end;
}

static enum kind draw_kind(size_t first)
{
	return cells[first].set == UNMAPPED ? MAP : (enum kind)(PROTECT + draw(3));
}

/* Its tables become free; then there are as large leaves as can be. */
static void renew_region(size_t first)
{
	size_t last = first + PER_REGION, end;

	for (size_t i = first; i < last; i = end) {
		end = run_of(i, PER_REGION);
		if (cells[i].set != UNMAPPED)
			operate_on(i, end, UNMAP);
	}
	operate_on(first, run_of(first, PER_REGION), MAP);
}

static void operate(void)
{
	size_t region = (size_t)draw(REGIONS) * PER_REGION;
	size_t first = region + (draw(3) ? (size_t)draw(PER_REGION) : 0);

	if (!draw(12))
		renew_region(region);
	else
		operate_on(first, run_of(first, draw(3) ? 1 + (size_t)draw(40) : PER_REGION),
			   draw_kind(first));
}

/* ---- Readers ----------------------------------------------------------------------------------- */

struct met {
	enum access access;
	bool query;
	struct outcome outcome;    /* of an access */
	struct fault fault;        /* decoded */
	enum aspace_status status; /* of a query */
	struct aspace_aarch64_mapping mapping;
};

static bool fits(size_t cell, const struct met *met, unsigned what, uint64_t stamp)
{
	unsigned set = what & 3;
	bool unmapped = set == UNMAPPED;

	if (met->query) {
		if (met->status != ASPACE_OK)
			return unmapped || (what & REMAPPED) ||
			       (met->status == ASPACE_BUSY && (what & MAY_FAULT));
		return !unmapped && met->mapping.output.value == frame_of(cell, set) &&
		       !(met->mapping.flags & ASPACE_AARCH64_WRITE) == !(what & WRITABLE);
	}
	if (met->outcome.faulted && met->fault.kind == TRANSLATION)
		return unmapped || (what & MAY_FAULT);
	if (met->outcome.faulted)
		return met->access == STORE && met->fault.kind == PERMISSION && !unmapped &&
		       !(what & WRITABLE);
	if (met->access == STORE)
		return !unmapped && (what & WRITABLE);
	return !unmapped && met->outcome.value == stamp;
}

static void report(size_t cell, const struct met *met, uint64_t from, uint64_t to)
{
	const char *what = met->query             ? "a wrong walk"
			   : met->outcome.faulted ? "a wrong fault"
			   : met->access == STORE ? "stale store"
						  : "stale load";

	fail("%s: CPU %u at %lx, versions %lu to %lu: value %lx ESR %lx; query %d %lx", what,
	     cpu_number(), address_of(cell), from, to, met->outcome.value, met->outcome.esr,
	     (int)met->status, met->mapping.descriptor);
}

static void judge(size_t i, const struct met *met, uint64_t from)
{
	struct cell *c = &cells[i];
	uint64_t to = atomic_load_explicit(&c->started, memory_order_acquire), last;
	bool good = false, may_fault = false;

	for (uint64_t n = from; n <= to && n - from < HISTORY; n++) {
		struct version *v = &c->history[n % HISTORY];
		unsigned what = atomic_load_explicit(&v->what, memory_order_acquire);

		may_fault = may_fault || (what & MAY_FAULT);
		good = good ||
		       fits(i, met, what, atomic_load_explicit(&v->stamp, memory_order_acquire));
	}
	/* Slots that have been used again by now say nothing. The acquires above keep this load
	 * behind them. */
	last = atomic_load_explicit(&c->started, memory_order_relaxed);
	if (last - from >= HISTORY)
		return;
	if (!good)
		report(i, met, from, to);
	if (to != from)
		count(OVERLAPPING);
	if (may_fault && met->outcome.faulted)
		count(TRANSIENT);
}

static void look(size_t i)
{
	uint64_t from = atomic_load_explicit(&cells[i].done, memory_order_acquire);
	uint64_t address = address_of(i);
	struct met met = {.access = draw(4) ? LOAD : STORE, .query = early_free || !draw(4)};

	if (met.query) {
		met.status = aspace_aarch64_query(tables, aspace_va(address), &met.mapping);
		count(QUERIES);
	} else {
		uint64_t at = met.access == STORE ? address + 8 : address;

		met.outcome = attempt(met.access, false, at, from);
		met.fault = decode(met.outcome.esr);
		if (met.outcome.faulted &&
		    (met.outcome.far != at || met.fault.write != (met.access == STORE) ||
		     met.fault.fetch || met.fault.below))
			fail("another fault than ours: ESR %lx FAR %lx", met.outcome.esr,
			     met.outcome.far);
		if (met.outcome.faulted)
			count(met.access == LOAD ? FAULTS : REFUSED);
		else
			count(met.access == LOAD ? LOADS : STORES);
	}
	/* The access before the next load of `started`. */
	__asm__ volatile("dmb ish" ::: "memory");
	judge(i, &met, from);
}

void other_main(void)
{
	mmu_on(&config, tables, 0);
	atomic_fetch_add(&running, 1);
	while (!atomic_load_explicit(&stop, memory_order_acquire)) {
		uint64_t at = atomic_load_explicit(&hot, memory_order_relaxed);

		look(draw(4) ? (size_t)((at >> 32) + draw(at & 0xffffffff)) : (size_t)draw(CELLS));
	}
	atomic_fetch_sub(&running, 1);
	for (;;)
		__asm__ volatile("wfi");
}

/* ---- The run ----------------------------------------------------------------------------------------- */

/* So that a walk takes as long as an operation does. */
static uint64_t *slow_pointer(void *ctx, struct aspace_paddr table)
{
	for (unsigned n = 0; cpu_number() && n < 10000; n++)
		__asm__ volatile("");
	return table_pointer(ctx, table);
}

static void choose_ops(struct aspace_aarch64_ops *ops)
{
	*ops = retire_ops;
	early_free = argument("early-free");
	if (argument("local"))
		ops->tlbi = local_tlbi;
	if (argument("no-tlbi"))
		ops->tlbi = ignore_tlbi;
	if (early_free) {
		ops->table_retire = ops->table_free;
		ops->table_pointer = slow_pointer;
	}
}

static void set_up_cells(void)
{
	for (size_t i = 0; i < CELLS; i++) {
		cells[i].set = UNMAPPED;
		begin_version(i, UNMAPPED, 0);
		end_version(i);
		for (unsigned set = 0; set < SETS; set++)
			drop_frames(i, i + 1, set);
	}
	for (size_t r = 0; r < REGIONS; r++) {
		for (unsigned set = 0; set < SETS; set++) {
			size_t cell = r * PER_REGION;

			if (aspace_aarch64_linear_init(&sources[r][set], tables,
						       frame_of(cell, set) - address_of(cell)) !=
			    ASPACE_OK)
				fail("no source");
		}
	}
}

static void set_up(void)
{
	static struct aspace_aarch64_ops ops;
	struct aspace_aarch64_id id = aspace_aarch64_cpu_id();
	const char *reason;

	if (aspace_aarch64_config_for(&id, ASPACE_AARCH64_EL1_LOWER, 12, &config, &reason) !=
	    ASPACE_OK)
		fail("%s", reason);
	config.id = 7;
	choose_ops(&ops);
	window = UINT64_C(1) << (config.input_bits - 1);
	tables = make_tables(&config, &ops);
	if (aspace_aarch64_linear_init(&identity, tables, 0) != ASPACE_OK)
		fail("no source");
	map_image(&identity, &config);
	set_up_cells();
	*word(NOBODY, 0) = *word(NOBODY, 1) = POISON;
	/* As a descriptor: a page, readable and writable, accessed. */
	free_table_filling = NOBODY | 0x403;
}

int main(void)
{
	static const char *const names[SEEN] = {"loads",          "load faults", "stores",
						"stores refused", "queries",     "overlapping",
						"transient"};
	unsigned cpus = 1;
	bool enough = false;

	set_up();
	retire_init();
	mmu_on(&config, tables, 0);
	while (cpus < CPUS_MAX && start_cpu(cpus))
		cpus++;
	if (cpus < 2)
		fail("there is one CPU only");
	while (atomic_load(&running) < cpus - 1)
		;
	/* Until enough was seen, and not for ever. */
	for (uint64_t n = 0; n < 200000 && !(enough && n >= OPERATIONS); n++) {
		operate();
		enough = !early_free;
		for (unsigned k = 0; k < SEEN; k++)
			enough = enough && sum(k) >= 500;
	}
	atomic_store_explicit(&stop, true, memory_order_release);
	while (atomic_load(&running))
		;
	for (size_t i = 0; i < CELLS; i++) {
		if (cells[i].set != UNMAPPED)
			unmap_pages(&sources[i / PER_REGION][cells[i].set], address_of(i),
				    address_of(i) + 4096, cells[i].flags);
	}
	retire_poll();
	say("%u CPUs, %lu operations, %lu of them remaps, %lu that cut a leaf; %lu tables freed "
	    "and "
	    "%lu taken\n",
	    cpus, operations, remaps, cut, (uint64_t)tables_reclaimed, (uint64_t)pool_taken);
	for (unsigned k = 0; k < SEEN; k++)
		say("%lu %s%s", sum(k), names[k], k + 1 < SEEN ? ", " : "\n");
	if (!enough || tables_reclaimed < 100 || !remaps || !cut)
		fail("not enough was seen");
	if (tables_reclaimed != tables_retired)
		fail("%lu tables wait", (uint64_t)(tables_retired - tables_reclaimed));
	say("every access fits\n");
	return 0;
}
