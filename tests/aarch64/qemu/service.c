/* SPDX-License-Identifier: MIT */
/*
 * The whole service on bare metal: a space whose areas are the image's own text, data, stacks and
 * device, and a window; its tables are those that all CPUs run on, at EL1.
 *
 * CPU 0 maps, unmaps, protects, replaces and commits transactions in the window; the other CPUs
 * look up, load, store and fetch, everywhere. What faults goes to a handler that asks the space,
 * as a kernel's would: nothing there, or not allowed: the access is given up; there and
 * allowed: an operation was under way, and the access is tried again. What is loaded must be the
 * stamp of a frame that may stand behind that address; free frames hold POISON.
 *
 * A second window is populated by faults, beside each other and beside CPU 0's operations: the
 * handler calls aspace_fault() (lazy.h).
 *
 * With "grace", unmapped memory stays until readers are gone: what a read section has found is
 * loaded until the section ends, if not at once because of a break-before-make. With "steady"
 * too there are none of these (FEAT_BBM level 2, no_transient_faults): no load in a section faults.
 *
 * Now and then, and at the end: aspace_validate(), the areas against an array, and the
 * tables against the areas, in both directions; at the end also by AT.
 *
 * Other words: "no-tlbi": there are no invalidations; "local": they stay on their CPU.
 */
#include "lazy.h"
#include "retire.h"

#include <aspace/aspace.h>
#include <aspace/bare_metal.h>
#include <stdatomic.h>

#define PAGE       UINT64_C(4096)
#define CELLS      1024
#define SETS       3
#define UNMAPPED   SETS
#define POISON     UINT64_C(0xfefefefefefefefe)
#define OPERATIONS 20000
#define UART       UINT64_C(0x09000000)

#define R  ((uint64_t)ASPACE_AARCH64_READ)
#define RW (R | ASPACE_AARCH64_WRITE)

static struct aspace_aarch64_config config;
static struct aspace_aarch64 *tables;
static struct aspace_aarch64_linear identity, sources[SETS];
static struct aspace *space;
static struct piece pieces[PIECES];
static size_t piece_count;
static uint64_t window;
static bool grace, steady;

/* The array; CPU 0's. leaving: sets whose frames may still be seen here, a bit each. */
static struct {
	unsigned set, leaving;
	uint64_t flags;
} cells[CELLS];

enum {
	LOADED,
	STORED,
	FETCHED,
	HOLES,
	DENIED,
	RETRIED,
	HELD,
	IMAGE,
	POPULATED,
	STARVED,
	LAZY,
	BESIDE,
	SEEN
};
static const char *const names[SEEN] = {
	"loads",
	"stores",
	"fetches",
	"faults in holes",
	"denied",
	"tried again",
	"loads in a section",
	"of the image",
	"faults that populate",
	"without memory",
	"in the lazy window",
	"barriers of a batch beside a fault",
};

/* Release and acquire: the readers have stopped. */
static _Atomic bool stop;
static _Atomic unsigned running;

/* ---- Frames ---------------------------------------------------------------------------- */

static uint64_t address_of(size_t cell)
{
	return window + cell * PAGE;
}

static uint64_t frame_of(size_t cell, unsigned set)
{
	return FRAMES + (set * CELLS + cell) * PAGE;
}

static volatile uint64_t *word(uint64_t frame, unsigned n)
{
	return (volatile uint64_t *)(uintptr_t)frame + n;
}

/* The first word is code; the third is for stores. */
static void take_frame(size_t i, unsigned set)
{
	uint64_t frame = frame_of(i, set);

	if (cells[i].leaving & 1u << set)
		cells[i].leaving &= ~(1u << set); /* still as it was */
	else if (*word(frame, 0) != POISON || *word(frame, 2) != POISON)
		fail("stale store: frame %lx was written to while it was free", frame);
	*word(frame, 0) = code_word((unsigned)(i * SETS + set));
	sync_code(frame);
}

static void drop_frame(size_t i, unsigned set)
{
	*word(frame_of(i, set), 0) = *word(frame_of(i, set), 2) = POISON;
}

/* The cell's frame goes; nobody sees it any more, but in a space with grace. */
static void leave_frame(size_t i)
{
	unsigned set = cells[i].set;

	if (set == UNMAPPED)
		return;
	cells[i].set = UNMAPPED;
	if (grace)
		cells[i].leaving |= 1u << set;
	else
		drop_frame(i, set);
}

/* ---- CPU 0: updates ------------------------------------------------------------------------ */

static void expect(enum aspace_status status, enum aspace_status wanted, const char *what)
{
	if (status != wanted)
		fail("%s: %s, wanted %s", what, aspace_status_string(status),
		     aspace_status_string(wanted));
}

static struct aspace_range range_of_cells(size_t first, size_t end)
{
	return aspace_range_of(address_of(first), address_of(end));
}

static bool is_free(size_t first, size_t end)
{
	for (size_t i = first; i < end; i++) {
		if (cells[i].set != UNMAPPED)
			return false;
	}
	return true;
}

static uint64_t draw_flags(void)
{
	return R | (draw(2) ? ASPACE_AARCH64_WRITE : ASPACE_AARCH64_EXECUTE) |
	       (draw(2) && !steady ? ASPACE_AARCH64_GLOBAL : 0) |
	       (draw(8) ? 0 : ASPACE_AARCH64_LEVEL_3) |
	       (draw(8) ? 0 : ASPACE_AARCH64_NO_CONTIGUOUS);
}

static void quiesce(void)
{
	expect(aspace_quiesce(space, 0), ASPACE_OK, "quiesce");
	for (size_t i = 0; i < CELLS; i++) {
		for (unsigned set = 0; set < SETS; set++) {
			if (cells[i].leaving & 1u << set)
				drop_frame(i, set);
		}
		cells[i].leaving = 0;
	}
}

static void note_mapped(size_t first, size_t end, unsigned set, uint64_t flags)
{
	for (size_t i = first; i < end; i++) {
		cells[i].set = set;
		cells[i].flags = flags;
	}
}

static void map_cells(size_t first, size_t end)
{
	unsigned set = (unsigned)draw(SETS);
	bool replace = !grace && !draw(3), free = is_free(first, end);
	uint64_t flags = draw_flags();

	if (free || replace) {
		/* What is replaced must not get the frames that it has. */
		for (size_t i = first; i < end; i++) {
			if (cells[i].set == set)
				return;
		}
		for (size_t i = first; i < end; i++)
			take_frame(i, set);
	}
	expect(aspace_map(space, range_of_cells(first, end), flags, &sources[set].backend, NULL,
			  replace ? ASPACE_REPLACE : 0),
	       free || replace ? ASPACE_OK : ASPACE_ALREADY_EXISTS, "map");
	if (!free && !replace)
		return;
	for (size_t i = first; i < end; i++)
		leave_frame(i);
	note_mapped(first, end, set, flags);
}

static void unmap_cells(size_t first, size_t end)
{
	expect(aspace_unmap(space, range_of_cells(first, end), 0), ASPACE_OK, "unmap");
	for (size_t i = first; i < end; i++)
		leave_frame(i);
}

static void protect_cells(size_t first, size_t end)
{
	uint64_t flags = draw_flags();

	expect(aspace_protect(space, range_of_cells(first, end), flags, 0), ASPACE_OK, "protect");
	for (size_t i = first; i < end; i++)
		cells[i].flags = flags;
}

/* Unmap one range and map another, in one version. */
static void move_cells(size_t first, size_t end)
{
	size_t to = (size_t)draw(CELLS - (end - first) + 1);
	unsigned set = (unsigned)draw(SETS);
	uint64_t flags = draw_flags();
	struct aspace_txn *txn;

	/* Leaving areas make the transaction busy. */
	if (grace)
		quiesce();
	if ((to < end && to + (end - first) > first) || !is_free(to, to + (end - first)))
		return;
	for (size_t i = to; i < to + (end - first); i++)
		take_frame(i, set);
	expect(aspace_txn_begin(space, 0, &txn), ASPACE_OK, "begin");
	expect(aspace_txn_unmap(txn, range_of_cells(first, end), 0), ASPACE_OK, "unmap in txn");
	expect(aspace_txn_map(txn, range_of_cells(to, to + (end - first)), flags,
			      &sources[set].backend, NULL, 0),
	       ASPACE_OK, "map in txn");
	expect(aspace_txn_commit(txn), ASPACE_OK, "commit");
	for (size_t i = first; i < end; i++)
		leave_frame(i);
	note_mapped(to, to + (end - first), set, flags);
}

/* Where the space finds room. */
static void map_somewhere(size_t length)
{
	struct aspace_gap gap = {
		.size = length * PAGE,
		.limits = range_of_cells(0, CELLS),
		.downward = draw(2),
	};
	struct aspace_vaddr start;
	size_t first;

	if (grace)
		quiesce();
	if (aspace_find_free(space, &gap, &start) != ASPACE_OK)
		return;
	first = (size_t)((start.value - window) / PAGE);
	if (!is_free(first, first + length))
		fail("find_free answers %lx, which is mapped", start.value);
	for (size_t i = first; i < first + length; i++)
		take_frame(i, 1);
	expect(aspace_map_anywhere(space, &gap, RW, &sources[1].backend, NULL, 0, &start),
	       ASPACE_OK, "map_anywhere");
	if (start.value != address_of(first))
		fail("map_anywhere answers %lx, not %lx", start.value, address_of(first));
	note_mapped(first, first + length, 1, RW);
}

static void operate(void)
{
	size_t first = draw(8) ? (size_t)draw(CELLS) : 0;
	size_t end = first + 1 + (size_t)draw(draw(3) ? 40 : CELLS);

	if (end > CELLS)
		end = CELLS;
	switch (draw(8)) {
	case 0:
	case 1:
	case 2:
		map_cells(first, end);
		break;
	case 3:
	case 4:
		unmap_cells(first, end);
		break;
	case 5:
		move_cells(first, end);
		break;
	case 6:
		map_somewhere(1 + (size_t)draw(64));
		break;
	default:
		protect_cells(first, end);
		break;
	}
	if (grace && !draw(8))
		quiesce();
}

/* ---- Frames compared with tables, while nobody populates ------------------------------------- */

/* A fault gets its frame first and maps it then, with no lock, beside whatever CPU 0 does. So CPU 0
 * says that it compares, and waits for those at work; who comes then tries again. Each stores, then
 * looks at what the other has stored: sequentially consistent. */
static _Atomic bool comparing;
static _Atomic unsigned populating;

static void hold_populating(void)
{
	atomic_store(&comparing, true);
	while (atomic_load(&populating))
		;
}

/* False: not now. */
static bool may_populate(void)
{
	atomic_fetch_add(&populating, 1);
	if (!atomic_load(&comparing))
		return true;
	atomic_fetch_sub(&populating, 1);
	return false;
}

/* ---- CPU 0: areas, tables and the array ------------------------------------------------------- */

static void check_cells(const struct aspace_view *view)
{
	for (size_t i = 0; i < CELLS; i++) {
		struct aspace_area area;
		bool found = aspace_view_find(view, aspace_va(address_of(i)), &area) == ASPACE_OK;

		if (found != (cells[i].set != UNMAPPED))
			fail("cell %lu: found %d", (uint64_t)i, found);
		if (found && (area.backend != &sources[cells[i].set].backend ||
			      area.flags != cells[i].flags))
			fail("cell %lu: another area", (uint64_t)i);
	}
}

struct comparison {
	const struct aspace_view *view;
	uint64_t bytes, leaves;
};

static bool compare_leaf(void *ctx, const struct aspace_aarch64_mapping *m)
{
	const struct aspace_aarch64_linear *source;
	struct comparison *c = ctx;
	struct aspace_area area;

	if (aspace_view_find(c->view, m->range.start, &area) != ASPACE_OK)
		fail("the tables map %lx, and there is no area", m->range.start.value);
	if (lazy_is(&area)) {
		lazy_note(m);
		return true;
	}
	source = (const struct aspace_aarch64_linear *)area.backend;
	if (m->range.end.value > area.end.value ||
	    m->output.value != m->range.start.value + source->offset ||
	    m->flags != (area.flags & ASPACE_AARCH64_KEPT_MASK))
		fail("the tables say %lx of %lx", m->descriptor, m->range.start.value);
	c->bytes += aspace_range_size(m->range);
	c->leaves++;
	return true;
}

static uint64_t compare(size_t *areas)
{
	struct aspace_violation violation = {0, {0}, "nothing"};
	struct comparison c = {0};
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	uint64_t bytes = 0;

	quiesce(); /* what leaves is still in the tables */
	if (aspace_validate(space, &violation, 0) != ASPACE_OK)
		fail("invariant %u at %lx: %s", violation.invariant, violation.address.value,
		     violation.what);
	hold_populating();
	lazy_forget();
	aspace_read_begin(space, &view);
	check_cells(&view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	for (*areas = 0; aspace_iter_next(&iter, &area); (*areas)++)
		bytes += lazy_is(&area) ? 0 : area.end.value - area.start.value;
	c.view = &view;
	expect(aspace_aarch64_walk(tables, aspace_aarch64_range(&config), compare_leaf, &c),
	       ASPACE_OK, "walk");
	if (c.bytes != bytes || *areas != aspace_count(space))
		fail("the areas hold %lx bytes, the tables %lx", bytes, c.bytes);
	lazy_compare();
	aspace_read_end(&view);
	atomic_store(&comparing, false);
	return c.leaves;
}

/* What the processor's own walk says of an address, for EL1 to read and to write. */
static void ask(uint64_t address, const struct aspace_area *area)
{
	const struct aspace_aarch64_linear *source;
	uint64_t read, write;

	__asm__ volatile("at s1e1r, %0\n\tisb" ::"r"(address) : "memory");
	read = ASPACE_AARCH64_MRS(par_el1);
	__asm__ volatile("at s1e1w, %0\n\tisb" ::"r"(address) : "memory");
	write = ASPACE_AARCH64_MRS(par_el1);
	if ((read & 1) != !area || (write & 1) != !(area && (area->flags & ASPACE_AARCH64_WRITE)))
		fail("AT says %lx and %lx of %lx", read, write, address);
	if (!area)
		return;
	source = (const struct aspace_aarch64_linear *)area->backend;
	if ((read & UINT64_C(0xffffffffff000)) != address + source->offset)
		fail("AT says %lx of %lx", read, address);
}

static uint64_t ask_all(void)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	uint64_t last = 0, asked = 0;

	aspace_read_begin(space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		if (area.start.value != last) {
			ask(area.start.value - PAGE, NULL);
			ask(last, NULL);
		}
		if (!lazy_is(&area)) {
			ask(area.start.value, &area);
			ask(area.end.value - PAGE, &area);
		}
		last = area.end.value;
		asked += 4;
	}
	ask(last, NULL);
	aspace_read_end(&view);
	return asked;
}

/* ---- The handler ---------------------------------------------------------------------------------- */

/* Of each CPU: how often the same access was tried again; does a section hold what is loaded? */
static struct {
	_Alignas(64) uint64_t tries, populated;
	bool held;
} mine[CPUS_MAX];

static uint64_t needed(const struct fault *fault)
{
	if (fault->fetch)
		return ASPACE_AARCH64_EXECUTE;
	return fault->write ? ASPACE_AARCH64_WRITE : ASPACE_AARCH64_READ;
}

/* As a kernel's handler would; the flags are those of enum aspace_access. */
static bool populate(uint64_t address, unsigned access)
{
	enum aspace_status status = ASPACE_BUSY;

	/* It waits for nobody: who is waited for and does not run, because the host has given its
	 * core away, would hold up all others. */
	if (may_populate()) {
		status = aspace_fault(space, aspace_va(address), access, ASPACE_NOWAIT);
		atomic_fetch_sub(&populating, 1);
	}
	switch (status) {
	case ASPACE_OK:
		if (mine[cpu_number()].populated++ > 1000000)
			fail("%lx is populated, and faults for ever", address);
		count(POPULATED);
		return true;
	case ASPACE_BUSY:
		count(RETRIED);
		return true;
	case ASPACE_NOT_MAPPED: /* by now */
		count(HOLES);
		return false;
	case ASPACE_ACCESS_DENIED:
		count(DENIED);
		return false;
	case ASPACE_NO_MEMORY:
		count(STARVED);
		return false;
	default:
		fail("aspace_fault at %lx: %s", address, aspace_status_string(status));
	}
}

/* An abort: true if the access is to be tried again; else it is given up. */
static bool handle_abort(struct frame *frame)
{
	struct fault fault = decode(frame->esr);
	unsigned cpu = cpu_number();
	struct aspace_area area;

	if (fault.kind != TRANSLATION && fault.kind != PERMISSION)
		return false;
	if (mine[cpu].held && steady)
		fail("a section found it, and it faults: CPU %u ESR %lx FAR %lx", cpu, frame->esr,
		     frame->far);
	if (!mine[cpu].held && aspace_find(space, aspace_va(frame->far), &area) != ASPACE_OK) {
		count(HOLES);
		return false;
	}
	if (!mine[cpu].held && !(area.flags & needed(&fault))) {
		count(DENIED);
		return false;
	}
	if (!mine[cpu].held && lazy_is(&area))
		return populate(frame->far, (unsigned)needed(&fault));
	/* It is there by now, or soon: an operation has gone between, perhaps with a
	 * break-before-make of a leaf that it shares. */
	if (mine[cpu].tries++ > 50000000)
		fail("it is mapped, and faults for ever: ESR %lx FAR %lx", frame->esr, frame->far);
	count(RETRIED);
	return true;
}

/* ---- The other CPUs --------------------------------------------------------------------------------- */

/* A page of the window: may this word stand there? */
static void check_stamp(size_t cell, uint64_t value, const char *what)
{
	for (unsigned set = 0; set < SETS; set++) {
		if (value == code_word((unsigned)(cell * SETS + set)))
			return;
	}
	fail("%s: CPU %u at %lx: %lx", what, cpu_number(), address_of(cell), value);
}

static struct outcome try_access(enum access access, uint64_t address)
{
	mine[cpu_number()].tries = 0;
	return attempt(access, false, address, 0);
}

static void look_at_window(void)
{
	size_t cell = (size_t)draw(CELLS);
	enum access access = draw(4) ? LOAD : draw(2) ? STORE : FETCH;
	struct outcome o = try_access(access, address_of(cell) + (access == STORE ? 16 : 0));

	if (o.faulted)
		return;
	count(access == LOAD ? LOADED : access == STORE ? STORED : FETCHED);
	if (access == LOAD)
		check_stamp(cell, o.value, "stale load");
	else if (access == FETCH)
		check_stamp(cell, code_word((unsigned)o.value), "stale fetch");
}

/* What one section finds stays until it ends: several loads of the area. */
static void look_in_section(void)
{
	size_t cell = (size_t)draw(CELLS), end;
	struct aspace_view view;
	struct aspace_area area;
	unsigned set = 0;

	aspace_read_begin(space, &view);
	if (aspace_view_find(&view, aspace_va(address_of(cell)), &area) == ASPACE_OK) {
		while (area.backend != &sources[set].backend)
			set++;
		end = (size_t)((area.end.value - window) / PAGE);
		mine[cpu_number()].held = true;
		for (unsigned n = 0; n < 8 && cell < end; n++, cell += 1 + (size_t)draw(8)) {
			struct outcome o = try_access(LOAD, address_of(cell));

			if (o.value != code_word((unsigned)(cell * SETS + set)))
				fail("a section found it, and it is another: %lx at %lx", o.value,
				     address_of(cell));
			count(HELD);
		}
		mine[cpu_number()].held = false;
	}
	aspace_read_end(&view);
}

/* The image: its areas do not change. */
static void look_at_image(void)
{
	const struct piece *piece = &pieces[draw(piece_count)];
	uint64_t start = piece->range.start.value;
	uint64_t address = start + draw(aspace_range_size(piece->range) / 8) * 8;
	struct aspace_area area;
	struct outcome o;

	expect(aspace_find(space, aspace_va(address), &area), ASPACE_OK, piece->name);
	if (area.user != piece || area.flags != piece->flags)
		fail("%s: another area", piece->name);
	if (start == UART) { /* its identification: a PL011 */
		o = try_access(LOAD, UART + 0xfe0);
		if (o.faulted || (o.value & 0xff) != 0x11)
			fail("the UART: ESR %lx value %lx", o.esr, o.value);
	} else {
		o = try_access(LOAD, address);
		if (o.faulted)
			fail("%s: ESR %lx FAR %lx", piece->name, o.esr, o.far);
	}
	if (!(piece->flags & ASPACE_AARCH64_WRITE) && !try_access(STORE, address).faulted)
		fail("%s can be written to", piece->name);
	if (!(piece->flags & ASPACE_AARCH64_EXECUTE) && !try_access(FETCH, address).faulted)
		fail("%s can be executed", piece->name);
	/* Below each stack is a hole, and so is address 0. */
	if (!try_access(LOAD, (uint64_t)(uintptr_t)data_end + draw(STACK_SIZE / 8) * 8).faulted ||
	    !try_access(LOAD, draw(512) * 8).faulted)
		fail("a hole can be read");
	count(IMAGE);
}

static void look_at_lazy(void)
{
	mine[cpu_number()].tries = mine[cpu_number()].populated = 0;
	if (lazy_look())
		count(LAZY);
}

void other_main(void)
{
	mmu_on(&config, tables, 0);
	aspace_bare_cpu_online();
	atomic_fetch_add(&running, 1);
	while (!atomic_load_explicit(&stop, memory_order_acquire)) {
		if (!draw(16))
			look_at_image();
		else if (!draw(16))
			look_at_lazy();
		else if (grace && draw(2))
			look_in_section();
		else
			look_at_window();
	}
	aspace_bare_cpu_offline();
	atomic_fetch_sub(&running, 1);
	for (;;)
		__asm__ volatile("wfi");
}

/* In the middle of an operation's batch, under the writer lock. CPU 0 has no faults of its own. */
static void watched_dsb(void *ctx, enum aspace_aarch64_barrier barrier,
			enum aspace_aarch64_shareability shareability)
{
	if (!cpu_number() && lazy_populates())
		count(BESIDE);
	aspace_aarch64_cpu_dsb(ctx, barrier, shareability);
}

/* ---- The run -------------------------------------------------------------------------------------------- */

static void make_space(void)
{
	static struct aspace_aarch64_ops ops;
	struct aspace_aarch64_id id = aspace_aarch64_cpu_id();
	struct aspace_options options = {.size = sizeof(options), .granule = PAGE};
	const char *reason;

	if (aspace_aarch64_config_for(&id, ASPACE_AARCH64_EL1_LOWER, 12, &config, &reason) !=
	    ASPACE_OK)
		fail("%s", reason);
	config.id = 1;
	steady = argument("steady");
	if (steady) {
		config.conflicts_tolerated = config.no_transient_faults = true;
		if (config.bbm_level < 2)
			fail("this needs FEAT_BBM level 2");
	}
	ops = retire_ops;
	if (argument("no-tlbi"))
		ops.tlbi = ignore_tlbi;
	if (argument("local"))
		ops.tlbi = local_tlbi;
	ops.dsb = watched_dsb;
	lazy_ops(&ops);
	tables = make_tables(&config, &ops);
	grace = argument("grace");
	options.mode = grace ? ASPACE_GRACE_UNMAP : 0;
	options.limits = aspace_aarch64_range(&config);
	expect(aspace_create(&options, &space), ASPACE_OK, "create");
	expect(aspace_aarch64_linear_init(&identity, tables, 0), ASPACE_OK, "source");
	window = UINT64_C(1) << (config.input_bits - 1);
	lazy_init(space, tables, window + (UINT64_C(1) << 30));
	for (unsigned set = 0; set < SETS; set++)
		expect(aspace_aarch64_linear_init(&sources[set], tables, frame_of(0, set) - window),
		       ASPACE_OK, "source");
	for (size_t i = 0; i < CELLS; i++) {
		cells[i].set = UNMAPPED;
		for (unsigned set = 0; set < SETS; set++)
			drop_frame(i, set);
	}
	piece_count = image_pieces(pieces, false);
	for (size_t i = 0; i < piece_count; i++)
		expect(aspace_map(space, pieces[i].range, pieces[i].flags, &identity.backend,
				  &pieces[i], 0),
		       ASPACE_OK, pieces[i].name);
}

static void say_statistics(size_t areas)
{
	struct aspace_stats stats = {.size = sizeof(stats)};

	expect(aspace_stats(space, &stats, 0), ASPACE_OK, "stats");
	if (stats.areas != areas || stats.leaving || stats.releases_pending)
		fail("%lu areas, %lu leaving", stats.areas, stats.leaving);
	say("%lu areas in %lu nodes, version %lu, %lu grace periods; %lu tables, %lu retired\n",
	    stats.areas, stats.nodes, stats.version, stats.grace_periods,
	    (uint64_t)aspace_aarch64_table_count(tables), (uint64_t)tables_retired);
	if (stats.version < OPERATIONS / 4 || tables_retired < 100)
		fail("too little was done");
}

static bool seen_enough(void)
{
	for (unsigned k = 0; k < SEEN; k++) {
		if (sum(k) < (k < POPULATED ? 500 : 50) && (grace || k != HELD))
			return false;
	}
	return true;
}

static void stop_others(void)
{
	atomic_store_explicit(&stop, true, memory_order_release);
	while (atomic_load(&running))
		;
}

int main(void)
{
	unsigned cpus = 1;
	uint64_t leaves;
	size_t areas;

	retire_init();
	make_space();
	mmu_on(&config, tables, 0);
	compare(&areas);
	if (areas != piece_count)
		fail("%lu areas, not %lu", (uint64_t)areas, (uint64_t)piece_count);
	exception_hook = handle_abort;
	while (cpus < CPUS_MAX && start_cpu(cpus))
		cpus++;
	if (cpus < 2)
		fail("there is one CPU only");
	while (atomic_load(&running) < cpus - 1)
		;
	for (uint64_t n = 0; n < 4 * OPERATIONS && !(n >= OPERATIONS && seen_enough()); n++) {
		operate();
		if (n % 4 == 0)
			lazy_operate();
		if (n % 512 == 0)
			compare(&areas);
	}
	stop_others();
	leaves = compare(&areas);
	say("%u CPUs, %s: %lu areas and %lu leaves agree, AT with them at %lu pages\n", cpus,
	    grace ? "grace-period unmap" : "immediate unmap", (uint64_t)areas, leaves, ask_all());
	say_statistics(areas);
	for (unsigned k = 0; k < SEEN; k++)
		say("%lu %s%s", sum(k), names[k], k + 1 < SEEN ? ", " : "\n");
	if (!seen_enough())
		fail("not enough was seen");
	unmap_cells(0, CELLS);
	lazy_clear();
	compare(&areas);
	if (areas != piece_count)
		fail("%lu areas are left, not %lu", (uint64_t)areas, (uint64_t)piece_count);
	retire_poll();
	if (tables_reclaimed != tables_retired)
		fail("%lu tables wait", (uint64_t)(tables_retired - tables_reclaimed));
	say("the service agrees with its tables\n");
	return 0;
}
