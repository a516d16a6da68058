/* SPDX-License-Identifier: MIT */
/*
 * The MMU on and the backend's tables live: real loads, stores and fetches, at this exception
 * level and at EL0, against the library's query.
 *
 * Started at EL1: the EL1&0 regime. Started at EL2: the EL2 regime, or with the word "vhe"
 * EL2&0 (HCR_EL2.E2H and TGE). In the regimes of two halves, the window is in the lower one
 * and then in the upper one. With the word "stage2": stage 2, under a guest at EL1 and EL0
 * that has no stage 1; the image at EL2 has its MMU off.
 *
 * The image itself runs on the tables (for an upper half, on others in the lower one). A
 * window of pages shows frames whose first words are code that returns the frame's number, so
 * that a load and a fetch both say which frame they met, and a stale translation of either is
 * seen. What faults is decoded from ESR_ELx and FAR_ELx: kind, level, direction and address
 * must be those that the query says (permissions) or that a second reading of the tables says
 * (the level at which a walk ends).
 *
 *  1. Permissions: from each set of flags to each other, for every size of a leaf.
 *  2. Random operations on pages and contiguous groups.
 *  3. Access flag and dirty state, set by the processor and harvested.
 *  4. Guarded pages (BTI).
 *  5. What the processor lacks, the helpers refuse; and it does lack it (at EL1 only).
 *
 * Words: "no-tlbi": invalidations are lost, which must be found out.
 */
#include "board.h"

static struct aspace_aarch64_id id;
static enum aspace_aarch64_regime regime;
static struct aspace_aarch64_config config, image_config;
static struct aspace_aarch64 *tables, *image_tables;
static struct aspace_aarch64_linear identity;
static uint64_t granule, window;
static uint64_t accesses, faults[OTHER + 1], operations, configurations;

static bool is_upper(void)
{
	return regime == ASPACE_AARCH64_EL1_UPPER || regime == ASPACE_AARCH64_EL2_UPPER;
}

static bool is_stage2(void)
{
	return regime == ASPACE_AARCH64_STAGE2;
}

static bool has_el0(void)
{
	return regime != ASPACE_AARCH64_EL2;
}

/* ---- One access ------------------------------------------------------------------------ */

static const char *const access_names[] = {"load", "store", "fetch"};

static bool is_allowed(uint64_t flags, enum access access, bool el0)
{
	if (access == FETCH)
		return flags & (el0 ? ASPACE_AARCH64_USER_EXECUTE : ASPACE_AARCH64_EXECUTE);
	if (is_stage2())
		return flags & (access == LOAD ? ASPACE_AARCH64_READ : ASPACE_AARCH64_WRITE);
	if (el0 && !(flags & ASPACE_AARCH64_USER))
		return false;
	return access == LOAD || (flags & ASPACE_AARCH64_WRITE);
}

static void wrong(const char *what, uint64_t address, enum access access, bool el0,
		  const struct outcome *o, uint64_t wanted)
{
	fail("%s: %s at EL%d of %lx: value %lx ESR %lx FAR %lx, wanted %lx; %uK, input %u%s, "
	     "after %lu operations",
	     what, access_names[access], el0 ? 0 : (int)current_el(), address, o->value, o->esr,
	     o->far, wanted, 1u << (config.granule_shift - 10), config.input_bits,
	     config.ds ? ", DS" : "", operations);
}

/* By the guest, of stage 2; else here or at EL0. */
static struct outcome act(enum access access, bool el0, uint64_t address, uint64_t value)
{
	return is_stage2() ? attempt_guest(access, el0, address, value)
			   : attempt(access, el0, address, value);
}

/* What does the library say of it? */
static enum fault_kind expect(uint64_t address, enum access access, bool el0, int *level)
{
	struct aspace_aarch64_mapping mapping;
	enum aspace_status status = aspace_aarch64_query(tables, aspace_va(address), &mapping);
	uint64_t descriptor = *naive_entry(&config, tables, address, level);

	if ((status == ASPACE_OK) != (descriptor & 1))
		fail("query says %d of %lx, the descriptor is %lx", (int)status, address,
		     descriptor);
	if (status != ASPACE_OK)
		return TRANSLATION;
	if (mapping.level != *level || mapping.descriptor != descriptor)
		fail("query: level %d, %lx; the second reading: level %d, %lx", mapping.level,
		     mapping.descriptor, *level, descriptor);
	return is_allowed(mapping.flags, access, el0) ? NO_FAULT : PERMISSION;
}

/* The frame at physical address `frame`, seen at `address`. */
static void check(uint64_t address, uint64_t frame, enum access access, bool el0)
{
	unsigned number = (unsigned)((frame - FRAMES) / 4096);
	int level;
	enum fault_kind kind = expect(address, access, el0, &level);
	/* Stores go to the second word, and leave the code alone. */
	uint64_t at = access == STORE ? address + 8 : address;
	uint64_t value = access == STORE ? draw(UINT64_MAX) : 0, wanted = value;
	struct outcome o = act(access, el0, at, value);
	struct fault fault = decode(o.esr);

	accesses++;
	faults[o.faulted ? fault.kind : NO_FAULT]++;
	if (kind == NO_FAULT) {
		if (o.faulted)
			wrong("a fault", at, access, el0, &o, kind);
		if (access == STORE)
			o.value = *(volatile uint64_t *)(uintptr_t)(frame + 8);
		else
			wanted = access == LOAD ? code_word(number) : number & 0xffff;
		if (o.value != wanted)
			wrong("another frame", at, access, el0, &o, wanted);
		return;
	}
	if (!o.faulted)
		wrong("no fault", at, access, el0, &o, kind);
	if (fault.kind != kind)
		wrong(fault_names[fault.kind], at, access, el0, &o, kind);
	if (fault.level != level)
		wrong("another level", at, access, el0, &o, (uint64_t)level);
	if (o.far != at)
		wrong("another FAR", at, access, el0, &o, at);
	/* The page's IPA; after a permission fault as well where stage 1 was not walked. */
	if (is_stage2() && ASPACE_AARCH64_MRS(hpfar_el2) << 8 != (at & ~UINT64_C(0xfff)))
		wrong("another IPA", at, access, el0, &o, ASPACE_AARCH64_MRS(hpfar_el2) << 8);
	if (fault.fetch != (access == FETCH) || fault.write != (access == STORE) ||
	    fault.below != (el0 || is_stage2()))
		wrong("another access", at, access, el0, &o, 0);
}

static void check_all(uint64_t address, uint64_t frame)
{
	for (int access = LOAD; access <= FETCH; access++) {
		check(address, frame, (enum access)access, false);
		if (has_el0())
			check(address, frame, (enum access)access, true);
	}
}

/* ---- Permissions -------------------------------------------------------------------------- */

/* Every set of flags that stage 2 can say. */
static size_t list_stage2_flags(uint64_t *flags)
{
	size_t count = 0;

	for (uint64_t f = 0; f < 16; f++) {
		uint64_t set = (f & 1 ? ASPACE_AARCH64_WRITE : 0) |
			       (f & 2 ? ASPACE_AARCH64_EXECUTE : 0) |
			       (f & 4 ? ASPACE_AARCH64_USER_EXECUTE : 0) |
			       (f & 8 ? ASPACE_AARCH64_READ : 0);

		if (config.xnx || !(f & 2) == !(f & 4))
			flags[count++] = set;
	}
	return count;
}

/* Every set of flags that the regime can say. */
static size_t list_flags(uint64_t *flags)
{
	size_t count = 0;

	if (is_stage2())
		return list_stage2_flags(flags);

	for (uint64_t f = 0; f < (has_el0() ? 32 : 4); f++) {
		uint64_t set = ASPACE_AARCH64_READ | (f & 1 ? ASPACE_AARCH64_WRITE : 0) |
			       (f & 2 ? ASPACE_AARCH64_EXECUTE : 0) |
			       (f & 4 ? ASPACE_AARCH64_USER : 0) |
			       (f & 8 ? ASPACE_AARCH64_USER_EXECUTE : 0) |
			       (f & 16 ? ASPACE_AARCH64_GLOBAL : 0);

		if ((f & 7) != 7) /* what EL0 may write, EL1 does not execute */
			flags[count++] = set;
	}
	return count;
}

/* Of this page nothing is remembered. */
static void forget(uint64_t address)
{
	struct aspace_aarch64_tlbi tlbi = {
		.kind = has_el0() ? ASPACE_AARCH64_TLBI_VA_ALL_IDS : ASPACE_AARCH64_TLBI_VA,
		.regime = regime,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
		.operand = (address >> 12) & ((UINT64_C(1) << 44) - 1),
	};

	__asm__ volatile("dsb ish" ::: "memory");
	aspace_aarch64_cpu_tlbi(NULL, &tlbi);
	__asm__ volatile("dsb ish\n\tisb" ::: "memory");
}

/*
 * The last page of a leaf. QEMU 7.2 remembers translated code by its virtual address, and at a
 * TLBI by address forgets only that of the page which is named; it does drop the whole leaf
 * for loads and stores. So fetches need a TLBI of their own here.
 */
static void check_last(uint64_t address, uint64_t frame)
{
	for (int el0 = 0; el0 <= has_el0(); el0++) {
		check(address, frame, LOAD, el0);
		check(address, frame, STORE, el0);
	}
	forget(address);
	for (int el0 = 0; el0 <= has_el0(); el0++)
		check(address, frame, FETCH, el0);
}

/* One leaf of this size, or a contiguous group, changed from everything to everything. */
static void run_permissions(uint64_t size, int level, bool contiguous)
{
	uint64_t base = aspace_align_down(FRAMES, size), end = window + size;
	uint64_t address = window + (FRAMES - base), last = address, flags[32];
	size_t count = list_flags(flags);
	struct aspace_aarch64_linear source;
	struct aspace_aarch64_mapping m;
	uint64_t cap = (uint64_t)level * ASPACE_AARCH64_LEVEL_1;

	if (size <= FRAMES_SIZE)
		last = end - granule;
	if (aspace_aarch64_linear_init(&source, tables, base - window) != ASPACE_OK)
		fail("no source");
	check_all(address, FRAMES);
	map_pages(&source, window, end, flags[0] | cap);
	if (aspace_aarch64_query(tables, aspace_va(address), &m) != ASPACE_OK || m.level != level ||
	    m.contiguous != contiguous)
		fail("no leaf of %lx, but level %d, descriptor %lx", size, m.level, m.descriptor);
	for (size_t i = 0, old = 0; i < count * count; i++) {
		/* Every pair, in some order. */
		size_t new = (i + i / count) % count;

		protect_pages(&source, window, end, flags[old], flags[new]);
		check_all(address, FRAMES);
		check_last(last, last - window + base);
		old = new;
		operations++;
	}
	unmap_pages(&source, window, end, flags[0]);
	check_all(address, FRAMES);
}

/* ---- Random operations ------------------------------------------------------------------------ */

#define CELLS 160 /* more than a group of any granule */

static struct {
	int source; /* -1: nothing is mapped */
	uint64_t flags;
} cells[CELLS];

static void operate(struct aspace_aarch64_linear *sources, const uint64_t *flags, size_t count)
{
	size_t first = (size_t)draw(CELLS), end = first;
	uint64_t old = cells[first].flags, new = flags[draw(count)];
	int source = cells[first].source, next = source;
	uint64_t length = draw(3) ? 1 + draw(CELLS) : 1 + draw(4);
	uint64_t start = window + first * granule;

	while (end < CELLS && end - first < length && cells[end].source == source)
		end++;
	if (source < 0) {
		next = (int)draw(2);
		map_pages(&sources[next], start, window + end * granule, new);
	} else if (draw(2)) {
		protect_pages(&sources[source], start, window + end * granule, old, new);
	} else {
		next = -1;
		unmap_pages(&sources[source], start, window + end * granule, old);
	}
	for (size_t i = first; i < end; i++) {
		cells[i].source = next;
		cells[i].flags = new;
	}
	operations++;
}

static void run_random(void)
{
	struct aspace_aarch64_linear sources[2];
	uint64_t flags[32], offset = 0;
	size_t count = list_flags(flags);

	for (size_t i = 0; i < 2; i++) {
		/* The second one's frames are not aligned to a group. */
		offset = i * (granule * 200 + granule);
		if (offset + CELLS * granule > FRAMES_SIZE)
			offset = granule;
		if (aspace_aarch64_linear_init(&sources[i], tables, FRAMES + offset - window) !=
		    ASPACE_OK)
			fail("no source");
	}
	for (size_t i = 0; i < CELLS; i++)
		cells[i].source = -1;
	for (unsigned n = 0; n < 150; n++) {
		operate(sources, flags, count);
		for (size_t i = draw(7); i < CELLS; i += 1 + draw(13))
			check_all(window + i * granule,
				  FRAMES + i * granule + (cells[i].source == 1 ? offset : 0));
	}
	for (size_t i = 0; i < CELLS; i++) {
		if (cells[i].source >= 0)
			unmap_pages(&sources[cells[i].source], window + i * granule,
				    window + (i + 1) * granule, cells[i].flags);
	}
}

/* ---- Configurations ------------------------------------------------------------------------------ */

static void number_frames(void)
{
	for (uint64_t frame = FRAMES; frame < FRAMES + FRAMES_SIZE; frame += 4096) {
		*(volatile uint64_t *)(uintptr_t)frame =
			code_word((unsigned)((frame - FRAMES) / 4096));
		sync_code(frame);
	}
}

/* Tables as in config, live. */
static void begin(uint64_t sctlr)
{
	static struct aspace_aarch64_ops ops;

	ops = board_ops;
	if (argument("no-tlbi"))
		ops.tlbi = ignore_tlbi;
	granule = UINT64_C(1) << config.granule_shift;
	image_config = config;
	image_tables = tables = make_tables(&config, &ops);
	if (is_upper()) {
		/* TTBR0 and TTBR1 differ in more than the half. */
		image_config.regime--;
		image_config.input_bits = 48;
		image_tables = make_tables(&image_config, &ops);
	}
	if (aspace_aarch64_linear_init(&identity, image_tables, 0) != ASPACE_OK)
		fail("no source");
	if (is_stage2()) {
		map_pages(&identity, (uint64_t)(uintptr_t)text_end, (uint64_t)(uintptr_t)user_end,
			  ASPACE_AARCH64_READ | ASPACE_AARCH64_EXECUTE |
				  ASPACE_AARCH64_USER_EXECUTE);
		stage2_on(&config, tables);
		return;
	}
	map_image(&identity, &image_config);
	mmu_on(&image_config, image_tables, sctlr);
	if (is_upper())
		mmu_upper(&config, tables);
}

static void end(void)
{
	if (is_stage2())
		stage2_off();
	else
		mmu_off();
	if (image_tables != tables)
		aspace_aarch64_destroy(image_tables);
	aspace_aarch64_destroy(tables);
	if (pool_used)
		fail("%lu tables are left", (uint64_t)pool_used);
}

static void set_window(void)
{
	window = aspace_aarch64_range(&config).start.value +
		 (UINT64_C(1) << (config.input_bits - 1));
}

static void run_config(void)
{
	unsigned g = config.granule_shift;
	/* Pages in a contiguous group (D8.7.1): 16, 128, 32. */
	uint64_t group = granule = UINT64_C(1) << g;

	group *= g == 12 ? 16 : g == 14 ? 128 : 32;
	set_window();
	begin(0);
	run_permissions(granule, 3, false);
	run_permissions(group, 3, true);
	if (!is_stage2() || config.start_level <= 2)
		run_permissions(granule << (g - 3), 2, false); /* 2M, 32M, 512M */
	if (g == 12 && (!is_stage2() || config.start_level <= 1))
		run_permissions(granule << 18, 1, false); /* 1G */
	run_random();
	end();
	configurations++;
	say("  %s, %uK, input %u bits%s", regime_names[regime], 1u << (g - 10), config.input_bits,
	    config.ds ? ", DS" : "");
	if (is_stage2())
		say(", start level %d", config.start_level);
	say(": agrees\n");
}

static void run_configs(void)
{
	static const uint8_t inputs[] = {39, 48, 52};
	const char *reason;

	for (unsigned g = 12; g <= 16; g += 2) {
		struct aspace_aarch64_config best;

		if (aspace_aarch64_config_for(&id, regime, g, &best, &reason) != ASPACE_OK) {
			say("  %uK: %s\n", 1u << (g - 10), reason);
			continue;
		}
		for (size_t i = 0; i < 2 * sizeof(inputs); i++) {
			config = best;
			config.ds = i % 2;
			config.input_bits = inputs[i / 2];
			config.id = has_el0() ? 5 : 0;
			if (!config.ds && g != 16 && config.output_bits > 48)
				config.output_bits = 48;
			if (aspace_aarch64_config_check(&config, &id, NULL) == ASPACE_OK)
				run_config();
		}
	}
}

/* Those of its start levels that a stage 1 would not have are concatenated roots, or deeper. */
static void run_stage2_configs(void)
{
	static const uint8_t inputs[] = {32, 36, 40, 42, 48, 52};

	for (unsigned g = 12; g <= 16; g += 2) {
		struct aspace_aarch64_config best;
		const char *reason;

		if (aspace_aarch64_config_for(&id, regime, g, &best, &reason) != ASPACE_OK) {
			say("  %uK: %s\n", 1u << (g - 10), reason);
			continue;
		}
		for (size_t i = 0; i < 10 * sizeof(inputs); i++) {
			config = best;
			config.ds = i % 2;
			config.start_level = (int)(i / 2 % 5) - 1;
			config.input_bits = inputs[i / 10];
			config.id = 3;
			if (!config.ds && g != 16 && config.output_bits > 48)
				config.output_bits = 48;
			if (aspace_aarch64_config_check(&config, &id, NULL) == ASPACE_OK &&
			    !qemu_refuses(&config))
				run_config();
		}
	}
}

/* ---- Access flag and dirty state ------------------------------------------------------------------- */

#define PAGES 48 /* the first 32 in groups */

/* What was accessed since it was last harvested; and what must be gone after it. */
static bool accessed[PAGES], dirty[PAGES];
static uint64_t harvested;

struct harvest {
	unsigned what;
	bool covered[PAGES];
};

static bool take(void *ctx, const struct aspace_aarch64_mapping *m)
{
	struct harvest *h = ctx;
	size_t first = (size_t)((m->range.start.value - window) / granule);
	size_t last = (size_t)((m->range.end.value - window) / granule);
	bool any = false;

	for (size_t i = first; i < last && i < PAGES; i++) {
		any = any || ((h->what & ASPACE_AARCH64_ACCESSED) && accessed[i]) ||
		      ((h->what & ASPACE_AARCH64_DIRTY) && dirty[i]);
		h->covered[i] = true;
	}
	if (!any)
		fail("harvested, and nobody was there: [%lx, %lx)", m->range.start.value,
		     m->range.end.value);
	harvested++;
	return true;
}

static void harvest(size_t first, size_t last, unsigned what)
{
	struct harvest h = {.what = what};

	if (aspace_aarch64_harvest(
		    tables, aspace_range_of(window + first * granule, window + last * granule),
		    what, take, &h) != ASPACE_OK)
		fail("harvest is refused");
	for (size_t i = 0; i < PAGES; i++) {
		bool had = ((what & ASPACE_AARCH64_ACCESSED) && accessed[i]) ||
			   ((what & ASPACE_AARCH64_DIRTY) && dirty[i]);

		if (i >= first && i < last && had && !h.covered[i])
			fail("lost: page %lu was accessed", (uint64_t)i);
		if (!h.covered[i])
			continue;
		accessed[i] = accessed[i] && !(what & ASPACE_AARCH64_ACCESSED);
		dirty[i] = dirty[i] && !(what & ASPACE_AARCH64_DIRTY);
	}
}

static bool is_accessed(uint64_t address)
{
	struct aspace_aarch64_mapping m;

	return aspace_aarch64_query(tables, aspace_va(address), &m) == ASPACE_OK && m.accessed;
}

/* Was any page accessed, or written, of those that say it together? */
static bool any_of(const bool *history, size_t i, bool contiguous)
{
	size_t count = contiguous ? (granule == 4096 ? 16 : 32) : 1, first = i - i % count;

	for (size_t j = first; j < first + count; j++) {
		if (history[j])
			return true;
	}
	return false;
}

/* No page says that it was accessed that was not, it or one of its group; and each says so that was. */
static void check_history(void)
{
	for (size_t i = 0; i < PAGES; i++) {
		struct aspace_aarch64_mapping m;

		if (aspace_aarch64_query(tables, aspace_va(window + i * granule), &m) != ASPACE_OK)
			fail("page %lu is gone", (uint64_t)i);
		if (m.accessed != any_of(accessed, i, m.contiguous) ||
		    m.dirty != any_of(dirty, i, m.contiguous))
			fail("page %lu: accessed %d, dirty %d; the descriptor %lx", (uint64_t)i,
			     accessed[i], dirty[i], m.descriptor);
	}
}

static void run_history(void)
{
	const uint64_t rw = ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE;
	struct aspace_aarch64_linear source;
	uint64_t end_of_groups, flags[PAGES];

	harvested = 0;
	begin(0);
	end_of_groups = window + 32 * granule;
	if (aspace_aarch64_linear_init(&source, tables, FRAMES - window) != ASPACE_OK)
		fail("no source");
	map_pages(&source, window, end_of_groups, rw);
	map_pages(&source, end_of_groups, window + PAGES * granule,
		  rw | ASPACE_AARCH64_NO_CONTIGUOUS);
	for (size_t i = 0; i < PAGES; i++)
		flags[i] = rw;
	for (unsigned n = 0; n < 4000; n++) {
		size_t i = (size_t)draw(PAGES), last;
		uint64_t address = window + i * granule;
		struct outcome o;

		switch (draw(12)) {
		case 0:
			last = i + 1 + draw(PAGES - i);
			harvest(i, last, 1 + (unsigned)draw(3));
			break;
		case 1: /* whole pages alone: a cut group would not be one any more */
			i = 32 + (size_t)draw(PAGES - 32);
			address = window + i * granule;
			protect_pages(&source, address, address + granule, flags[i],
				      flags[i] ^ ASPACE_AARCH64_WRITE);
			flags[i] ^= ASPACE_AARCH64_WRITE;
			break;
		case 2:
		case 3:
		case 4:
			o = act(STORE, false, address + 8, n);
			if (o.faulted != !(flags[i] & ASPACE_AARCH64_WRITE))
				fail("a store of page %lu: ESR %lx", (uint64_t)i, o.esr);
			dirty[i] = dirty[i] || !o.faulted;
			/* A store that is refused may set the flag, or not. */
			accessed[i] = accessed[i] || !o.faulted || is_accessed(address);
			break;
		default:
			o = act(LOAD, false, address, 0);
			if (o.faulted || o.value != code_word((unsigned)(i * granule / 4096)))
				fail("a load of page %lu: ESR %lx, %lx", (uint64_t)i, o.esr,
				     o.value);
			accessed[i] = true;
			break;
		}
		check_history();
		operations++;
	}
	unmap_pages(&source, window, end_of_groups, rw);
	for (size_t i = 32; i < PAGES; i++)
		unmap_pages(&source, window + i * granule, window + (i + 1) * granule, flags[i]);
	for (size_t i = 0; i < PAGES; i++)
		accessed[i] = dirty[i] = false;
	end();
	say("  access flag and dirty state: %lu harvested\n", harvested);
	if (harvested < 100)
		fail("too few");
}

/* ---- What the processor lacks ------------------------------------------------------------------------ */

static void invalidate_range(const void *shareability)
{
	struct aspace_aarch64_tlbi tlbi = {
		.kind = ASPACE_AARCH64_TLBI_RANGE,
		.regime = ASPACE_AARCH64_EL1_LOWER,
		.shareability = *(const enum aspace_aarch64_shareability *)shareability,
		.operand = UINT64_C(1) << 46,
	};

	aspace_aarch64_cpu_tlbi(NULL, &tlbi);
}

static void invalidate_outer(const void *unused)
{
	struct aspace_aarch64_tlbi tlbi = {
		.kind = ASPACE_AARCH64_TLBI_ALL,
		.regime = ASPACE_AARCH64_EL1_LOWER,
		.shareability = ASPACE_AARCH64_OUTER_SHAREABLE,
	};

	(void)unused;
	aspace_aarch64_cpu_tlbi(NULL, &tlbi);
}

/* The helper has answered; does the processor agree? */
static void compare(const char *what, enum aspace_status status, const char *reason, bool has)
{
	if ((status == ASPACE_OK) != has)
		fail("%s: the helper says %d, the processor %s", what, (int)status,
		     has ? "has it" : "lacks it");
	say("  %s: %s, and so the processor behaves\n", what, reason ? reason : "offered");
}

static bool try_range(void)
{
	enum aspace_aarch64_shareability local = ASPACE_AARCH64_NON_SHAREABLE;
	struct outcome o = attempt_call(invalidate_range, &local);

	if (o.faulted && decode(o.esr).kind != UNDEFINED)
		fail("a TLBI: ESR %lx", o.esr);
	return !o.faulted;
}

static bool try_outer(void)
{
	struct outcome o = attempt_call(invalidate_outer, NULL);

	if (o.faulted && decode(o.esr).kind != UNDEFINED)
		fail("a TLBI: ESR %lx", o.esr);
	return !o.faulted;
}

/* A page whose access flag is off, with TCR_EL1.HA on. */
static bool try_access_flag(void)
{
	struct aspace_aarch64_linear source;
	volatile uint64_t *entry;
	struct outcome o;
	struct fault f;
	int level;

	begin(0);
	MSR(tcr_el1, ASPACE_AARCH64_MRS(tcr_el1) | UINT64_C(1) << 39);
	ISB();
	if (aspace_aarch64_linear_init(&source, tables, FRAMES - window) != ASPACE_OK)
		fail("no source");
	map_pages(&source, window, window + granule, ASPACE_AARCH64_READ);
	entry = naive_entry(&config, tables, window, &level);
	*entry &= ~(UINT64_C(1) << 10);
	forget(window);
	o = attempt(LOAD, false, window, 0);
	f = decode(o.esr);
	if (o.faulted && (f.kind != ACCESS_FLAG || f.level != level || o.far != window))
		fail("not an access flag fault: ESR %lx", o.esr);
	if (o.faulted == !!(*entry & UINT64_C(1) << 10))
		fail("a fault, or the flag: %lx", *entry);
	unmap_pages(&source, window, window + granule, ASPACE_AARCH64_READ);
	end();
	return !o.faulted;
}

/* A page of guarded code: calls must find a landing pad. (A frame of its own for each answer: QEMU
 * keeps its translation of the code when only this bit of the descriptor changes.) */
static bool try_guarded(bool guarded)
{
	const uint64_t frame = FRAMES + (guarded ? granule : 0);
	const uint64_t flags =
		ASPACE_AARCH64_READ | ASPACE_AARCH64_EXECUTE | (guarded ? ASPACE_AARCH64_BTI : 0);
	volatile uint32_t *code = (volatile uint32_t *)(uintptr_t)frame;
	struct aspace_aarch64_linear source;
	struct outcome with, without;

	code[0x40] = 0xd503245f; /* bti c */
	code[0x41] = 0xd28000e0; /* mov x0, #7 */
	code[0x42] = 0xd65f03c0; /* ret */
	sync_code(frame + 0x100);
	begin(UINT64_C(1) << 36); /* BT1 */
	if (aspace_aarch64_linear_init(&source, tables, frame - window) != ASPACE_OK)
		fail("no source");
	map_pages(&source, window, window + granule, flags);
	with = attempt(FETCH, false, window + 0x100, 0);
	without = attempt(FETCH, false, window, 0);
	if (with.faulted || with.value != 7)
		fail("a landing pad is no landing pad: ESR %lx", with.esr);
	if (without.faulted && decode(without.esr).kind != BRANCH_TARGET)
		fail("not a branch target exception: ESR %lx", without.esr);
	unmap_pages(&source, window, window + granule, flags);
	end();
	return without.faulted;
}

/* Asked of the helper alone: nothing at EL1 shows it. */
static const char *wish(unsigned n, struct aspace_aarch64_config *c)
{
	switch (n) {
	case 0:
		c->granule_shift = 14;
		return "16K";
	case 1:
		c->ds = true;
		c->input_bits = c->output_bits = 52;
		return "52 bits by LPA2";
	case 2:
		c->granule_shift = 16;
		c->input_bits = 52;
		return "52-bit inputs with 64K";
	case 3:
		c->output_bits = 48;
		return "48-bit outputs";
	case 4:
		c->input_bits = 24;
		return "24-bit inputs";
	case 5:
		c->id_16_bits = true;
		return "16-bit ASIDs";
	case 6:
		c->hardware_access = c->hardware_dirty = true;
		return "hardware dirty state";
	case 7:
		c->ttl = true;
		return "TTL";
	case 8:
		c->cnp = true;
		return "CnP";
	case 9:
		c->bbm_level = 1;
		return "BBM level 1";
	case 10:
		c->bbm_level = 2;
		return "BBM level 2";
	case 11:
		c->tagged = true;
		return "tagged memory";
	case 12:
		c->regime = ASPACE_AARCH64_EL2_LOWER;
		return "EL2&0";
	case 13:
		c->regime = ASPACE_AARCH64_STAGE2;
		c->input_bits = 40;
		c->fwb = true;
		return "FWB";
	case 14:
		c->regime = ASPACE_AARCH64_STAGE2;
		c->input_bits = 40;
		c->xnx = true;
		return "XNX";
	default:
		return NULL;
	}
}

static void run_wishes(void)
{
	/* What every processor has. */
	const struct aspace_aarch64_config least = {
		.size = sizeof(least),
		.granule_shift = 12,
		.input_bits = 39,
		.output_bits = 40,
		.start_level = ASPACE_AARCH64_START_ANY,
		.shareability = ASPACE_AARCH64_INNER_SHAREABLE,
	};
	struct aspace_aarch64_config c;
	const char *reason, *name;
	enum aspace_status status;

	config = least;
	granule = 4096;
	window = UINT64_C(1) << 38;
	if (aspace_aarch64_config_check(&config, &id, &reason) != ASPACE_OK)
		fail("the least configuration is refused: %s", reason);
	for (unsigned n = 0; c = least, (name = wish(n, &c)); n++) {
		status = aspace_aarch64_config_check(&c, &id, &reason);
		if ((status == ASPACE_OK) != !reason ||
		    (status != ASPACE_OK && status != ASPACE_NOT_SUPPORTED))
			fail("%s: %d, and the reason is %s", name, (int)status,
			     reason ? reason : "missing");
		say("  %s: %s\n", name, reason ? reason : "offered");
	}
	c = least;
	c.range_tlbi = true;
	status = aspace_aarch64_config_check(&c, &id, &reason);
	compare("TLBI by range", status, reason, try_range());
	c = least;
	c.shareability = ASPACE_AARCH64_OUTER_SHAREABLE;
	status = aspace_aarch64_config_check(&c, &id, &reason);
	compare("outer-shareable TLBI", status, reason, try_outer());
	c = least;
	c.hardware_access = true;
	status = aspace_aarch64_config_check(&c, &id, &reason);
	compare("hardware access flag", status, reason, try_access_flag());
	if (status == ASPACE_OK) {
		config.hardware_access = config.hardware_dirty = true;
		run_history();
		config = least;
	}
	c = least;
	c.bti = true;
	status = aspace_aarch64_config_check(&c, &id, &reason);
	config.bti = true;
	if (try_guarded(false))
		fail("a page that is not guarded is");
	compare("guarded pages", status, reason, try_guarded(true));
}

/* In the regimes above EL1, whose TCR differs. */
static void run_history_here(void)
{
	if (aspace_aarch64_config_for(&id, regime, 12, &config, NULL) != ASPACE_OK)
		fail("no 4K");
	config.hardware_access = config.hardware_dirty = true;
	if (is_stage2()) { /* one root table */
		config.input_bits = 39;
		config.start_level = 1;
	}
	if (aspace_aarch64_config_check(&config, &id, NULL) != ASPACE_OK)
		return;
	granule = 4096;
	set_window();
	run_history();
}

int main(void)
{
	const char *reason;

	id = aspace_aarch64_cpu_id();
	number_frames();
	if (current_el() == 1) {
		regime = ASPACE_AARCH64_EL1_LOWER;
		run_wishes();
		run_configs();
	} else if (argument("stage2")) {
		regime = ASPACE_AARCH64_STAGE2;
		run_history_here();
		run_stage2_configs();
	} else if (!argument("vhe")) {
		regime = ASPACE_AARCH64_EL2;
		run_history_here();
		run_configs();
	} else {
		regime = ASPACE_AARCH64_EL2_LOWER;
		if (aspace_aarch64_config_for(&id, regime, 12, &config, &reason) != ASPACE_OK)
			fail("%s", reason);
		MSR(hcr_el2, UINT64_C(1) << 34 | UINT64_C(1) << 31 | 1 << 27); /* E2H, RW, TGE */
		ISB();
		run_history_here();
		run_configs();
	}
	if (has_el0() && !is_stage2()) {
		regime++;
		run_history_here();
		run_configs();
	}
	say("%lu configurations, %lu operations, %lu accesses: %lu went through, %lu translation "
	    "and %lu permission faults, all foreseen\n",
	    configurations, operations, accesses, faults[NO_FAULT], faults[TRANSLATION],
	    faults[PERMISSION]);
	return !(faults[NO_FAULT] && faults[TRANSLATION] && faults[PERMISSION]);
}
