/* SPDX-License-Identifier: MIT */
/*
 * AT: the tables against the processor's own walker.
 *
 * The image stays at EL3 (or EL2, for stage 1 of EL1 and stage 2) with its MMU off, points the
 * registers at the tables and asks the processor by AT instructions. Operations are random,
 * on a window of 48 cells of one size; a cell is a page, a contiguous group or a
 * block. After every operation each cell is probed: what AT says of reading and writing,
 * at EL1 and EL0, must be what the library's query and a naive array say.
 *
 * AT walks the tables afresh: this is about descriptors and register values, not about TLBs.
 */
#include "board.h"

/* ---- The naive array ----------------------------------------------------------------------------- */

#define CELLS   48
#define SOURCES 2

static struct aspace_aarch64_config config;
static struct aspace_aarch64 *tables;
static struct aspace_aarch64_linear sources[SOURCES];
static uint64_t cell_size, window;
static struct {
	bool mapped;
	int source;
	uint64_t flags;
} cells[CELLS];

#define PROBES_MIN 1000000

static uint64_t probes, operations, configurations;

static void disagree(const char *what, uint64_t address, uint64_t a, uint64_t b)
	__attribute__((noreturn));

static void disagree(const char *what, uint64_t address, uint64_t a, uint64_t b)
{
	fail("%s at %lx: %lx, %lx\nregime %u granule %u input %u output %u%s cell %lx operation "
	     "%lu",
	     what, address, a, b, (unsigned)config.regime, config.granule_shift, config.input_bits,
	     config.output_bits, config.ds ? " DS" : "", cell_size, operations);
}

/* ---- Asking the processor ------------------------------------------------------------------------------ */

static unsigned level_el;

enum ask { EL1_READ, EL1_WRITE, EL0_READ, EL0_WRITE };

#define AT(name, address) __asm__ volatile("at " #name ", %0\n\tisb" ::"r"(address) : "memory")

static uint64_t ask_stage1(enum ask ask, uint64_t address)
{
	switch (ask) {
	case EL1_READ:
		AT(s1e1r, address);
		break;
	case EL1_WRITE:
		AT(s1e1w, address);
		break;
	case EL0_READ:
		AT(s1e0r, address);
		break;
	case EL0_WRITE:
		AT(s1e0w, address);
		break;
	}
	return ASPACE_AARCH64_MRS(par_el1);
}

static uint64_t ask_stage2(enum ask ask, uint64_t address)
{
	switch (ask) {
	case EL1_READ:
		AT(s12e1r, address);
		break;
	case EL1_WRITE:
		AT(s12e1w, address);
		break;
	case EL0_READ:
		AT(s12e0r, address);
		break;
	case EL0_WRITE:
		AT(s12e0w, address);
		break;
	}
	return ASPACE_AARCH64_MRS(par_el1);
}

static uint64_t ask_el2(enum ask ask, uint64_t address)
{
	if (ask == EL1_READ)
		AT(s1e2r, address);
	else
		AT(s1e2w, address);
	return ASPACE_AARCH64_MRS(par_el1);
}

/* Fault status: translation faults are 0b0001LL and, at level -1, 0b101011; permission
 * faults 0b0011LL (D24.2.117). */
static bool is_translation_fault(uint64_t par)
{
	unsigned fst = (unsigned)(par >> 1) & 63;

	return (fst >> 2) == 1 || fst == 0x2b;
}

static bool is_permission_fault(uint64_t par)
{
	return (((unsigned)(par >> 1) & 63) >> 2) == 3;
}

static void check_memory(uint64_t address, uint64_t par, uint64_t flags)
{
	static const uint8_t mair[] = {0xff, 0xbb, 0x44, 0x00, 0x04, 0x08, 0x0c, 0xf0};
	unsigned type = (unsigned)((flags & ASPACE_AARCH64_TYPE_MASK) >> ASPACE_AARCH64_TYPE_SHIFT);
	unsigned byte = (unsigned)(par >> 56);

	if (config.regime != ASPACE_AARCH64_STAGE2) {
		if (byte != mair[type])
			disagree("another memory type", address, byte, mair[type]);
		if (type == ASPACE_AARCH64_NORMAL &&
		    ((par >> 7) & 3) != (uint64_t)config.shareability)
			disagree("another shareability", address, (par >> 7) & 3,
				 (uint64_t)config.shareability);
		return;
	}
	/* Stage 1 says write-back; what comes out is stage 2's, with other hints. */
	if ((type >= ASPACE_AARCH64_DEVICE_nGnRnE) != !(byte >> 4) ||
	    (type >= ASPACE_AARCH64_DEVICE_nGnRnE && byte != mair[type]) ||
	    (type == ASPACE_AARCH64_NON_CACHEABLE) != (byte == 0x44))
		disagree("another memory type after stage 2", address, byte, type);
}

static void check_answer(uint64_t address, enum ask ask, uint64_t par, bool mapped, bool allowed,
			 uint64_t output, uint64_t flags)
{
	uint64_t pa = par & UINT64_C(0x000ffffffffff000);

	probes++;
	if (!mapped) {
		if (!(par & 1) || !is_translation_fault(par))
			disagree("not mapped, and no translation fault", address, par, ask);
	} else if (!allowed) {
		if (!(par & 1) || !is_permission_fault(par))
			disagree("not allowed, and no permission fault", address, par, flags);
	} else if (par & 1) {
		disagree("a fault", address, par, flags);
	} else if (pa != (output & ~UINT64_C(0xfff))) {
		disagree("another output address", address, pa, output);
	} else {
		check_memory(address, par, flags);
	}
}

static void probe(uint64_t address)
{
	size_t i = (size_t)((address - window) / cell_size);
	bool mapped = cells[i].mapped;
	uint64_t flags = cells[i].flags, output = 0;
	bool user = config.regime == ASPACE_AARCH64_STAGE2 || (flags & ASPACE_AARCH64_USER);
	bool allowed[4] = {flags & ASPACE_AARCH64_READ, flags & ASPACE_AARCH64_WRITE,
			   user && (flags & ASPACE_AARCH64_READ),
			   user && (flags & ASPACE_AARCH64_WRITE)};
	struct aspace_aarch64_mapping mapping;
	enum aspace_status status = aspace_aarch64_query(tables, aspace_va(address), &mapping);

	if (status != (mapped ? ASPACE_OK : ASPACE_NOT_MAPPED))
		disagree("the query and the array differ", address, status, mapped);
	if (mapped) {
		output = address + sources[cells[i].source].offset;
		if (mapping.output.value != output ||
		    mapping.flags != (flags & ASPACE_AARCH64_KEPT_MASK))
			disagree("the query and the array differ", address, mapping.flags, flags);
	}
	for (int ask = EL1_READ; ask <= EL0_WRITE; ask++) {
		uint64_t par;

		if (config.regime == ASPACE_AARCH64_STAGE2)
			par = ask_stage2((enum ask)ask, address);
		else if (config.regime == ASPACE_AARCH64_EL2 && ask > EL1_WRITE)
			break;
		else if (config.regime == ASPACE_AARCH64_EL2)
			par = ask_el2((enum ask)ask, address);
		else
			par = ask_stage1((enum ask)ask, address);
		check_answer(address, (enum ask)ask, par, mapped, allowed[ask], output, flags);
	}
}

/* ---- Registers ------------------------------------------------------------------------------------------- */

static void load_registers(void)
{
	uint64_t mask, tcr = aspace_aarch64_tcr(&config, &mask), ttbr = aspace_aarch64_ttbr(tables);
	uint64_t hcr = UINT64_C(1) << 31; /* RW */

	MSR(sctlr_el1, 0x30d00800);
	switch (config.regime) {
	case ASPACE_AARCH64_STAGE2:
		hcr |= 1 | UINT64_C(1) << 12; /* VM; DC: stage 1 says write-back */
		hcr |= config.fwb ? UINT64_C(1) << 46 : 0;
		MSR(vtcr_el2, tcr);
		MSR(vttbr_el2, ttbr);
		break;
	case ASPACE_AARCH64_EL2:
		MSR(tcr_el2, tcr);
		MSR(mair_el2, aspace_aarch64_mair(&config));
		MSR(ttbr0_el2, ttbr);
		MSR(sctlr_el2, 0x30c50831);
		break;
	case ASPACE_AARCH64_EL1_UPPER:
		MSR(tcr_el1, tcr | 1 << 7 | 16); /* EPD0 */
		MSR(ttbr1_el1, ttbr);
		break;
	default:
		MSR(tcr_el1, tcr | 1 << 23 | 16 << 16 | UINT64_C(2) << 30); /* EPD1 */
		MSR(ttbr0_el1, ttbr);
		break;
	}
	if (config.regime != ASPACE_AARCH64_STAGE2 && config.regime != ASPACE_AARCH64_EL2) {
		MSR(mair_el1, aspace_aarch64_mair(&config));
		MSR(sctlr_el1, 0x30d00801);
	}
	MSR(hcr_el2, hcr);
	__asm__ volatile("dsb sy\n\ttlbi alle1\n\ttlbi alle2\n\tdsb sy\n\tisb" ::: "memory");
}

/* ---- Operations ----------------------------------------------------------------------------------------------- */

static uint64_t draw_flags(void)
{
	bool stage2 = config.regime == ASPACE_AARCH64_STAGE2,
	     el2 = config.regime == ASPACE_AARCH64_EL2;
	uint64_t flags = ASPACE_AARCH64_READ;
	unsigned type = (unsigned)draw(7);

	flags |= draw(2) ? ASPACE_AARCH64_WRITE : 0;
	if (stage2) {
		flags &= draw(5) ? ~UINT64_C(0) : ~(uint64_t)ASPACE_AARCH64_READ;
		if (config.fwb && type == ASPACE_AARCH64_WRITE_THROUGH)
			type = 0;
	} else if (!el2) {
		flags |= draw(2) ? ASPACE_AARCH64_USER : 0;
		flags |= draw(2) ? ASPACE_AARCH64_GLOBAL : 0;
		flags |= draw(2) ? ASPACE_AARCH64_USER_EXECUTE : 0;
	}
	/* Millions of pages take too long under emulation. */
	flags |= draw(6) ? 0
			 : ASPACE_AARCH64_LEVEL_1 *
				   (1 + draw(cell_size >> config.granule_shift > 512 ? 2 : 3));
	flags |= draw(6) ? 0 : ASPACE_AARCH64_NO_CONTIGUOUS;
	return flags | ASPACE_AARCH64_TYPE(draw(2) ? type : 0) | draw(8) << 12;
}

static void operate(void)
{
	size_t first = (size_t)draw(CELLS), last = first, i;
	struct aspace_change change = {.new_flags = draw_flags()};
	enum aspace_status status = ASPACE_OK;
	struct aspace_backend *backend;
	int source = (int)draw(SOURCES);

	if (cells[first].mapped) {
		source = cells[first].source;
		change.kind = draw(2) ? ASPACE_CHANGE_UNMAP : ASPACE_CHANGE_PROTECT;
		change.old_flags = cells[first].flags;
	} else {
		change.kind = ASPACE_CHANGE_MAP;
	}
	while (last < CELLS && last - first < 1 + draw(40) &&
	       cells[last].mapped == cells[first].mapped &&
	       (!cells[first].mapped || cells[last].source == source))
		last++;
	if (last == first)
		return;
	change.range = aspace_range_of(window + first * cell_size, window + last * cell_size);
	backend = &sources[source].backend;
	status = backend->ops->prepare(backend, &change);
	if (status == ASPACE_OK)
		status = change.kind == ASPACE_CHANGE_MAP ? backend->ops->map(backend, &change)
			 : change.kind == ASPACE_CHANGE_UNMAP
				 ? backend->ops->unmap(backend, &change)
				 : backend->ops->protect(backend, &change);
	backend->ops->flush(backend);
	if (status == ASPACE_NO_MEMORY) /* the pool is small */
		return;
	if (status != ASPACE_OK)
		disagree("refused", change.range.start.value, status, change.new_flags);
	operations++;
	for (i = first; i < last; i++) {
		cells[i].mapped = change.kind != ASPACE_CHANGE_UNMAP;
		cells[i].flags = change.new_flags;
		cells[i].source = source;
	}
}

static void probe_all(void)
{
	for (size_t i = 0; i < CELLS; i++) {
		probe(window + i * cell_size);
		probe(window + i * cell_size + draw(cell_size));
		probe(window + (i + 1) * cell_size - 1);
	}
}

/* Cells of one size, somewhere in the range, with frames somewhere. */
static bool place(uint64_t size)
{
	struct aspace_range range = aspace_aarch64_range(&config);
	uint64_t span = UINT64_C(1) << config.input_bits;
	uint64_t output = UINT64_C(1) << config.output_bits;

	cell_size = size;
	if (span / size <= CELLS || output / size <= 2 * CELLS)
		return false;
	window = range.start.value + draw(span / size - CELLS) * size;
	for (int i = 0; i < SOURCES; i++) {
		/* Aligned to the cell, or only to a page. */
		uint64_t frame = draw(output / size - CELLS - 1) * size;
		uint64_t granule = UINT64_C(1) << config.granule_shift;

		if (i == 1 && size <= granule * 512)
			frame += draw(size / granule) * granule;
		if (aspace_aarch64_linear_init(&sources[i], tables, frame - window) != ASPACE_OK)
			disagree("no source", window, frame, 0);
	}
	for (size_t i = 0; i < CELLS; i++)
		cells[i].mapped = false;
	return true;
}

static void clear(void)
{
	for (size_t i = 0; i < CELLS; i++) {
		struct aspace_change change = {
			.kind = ASPACE_CHANGE_UNMAP,
			.range = aspace_range_of(window + i * cell_size,
						 window + (i + 1) * cell_size),
			.old_flags = cells[i].flags,
		};
		struct aspace_backend *backend = &sources[cells[i].source].backend;

		if (cells[i].mapped && backend->ops->unmap(backend, &change) != ASPACE_OK)
			disagree("the last unmap is refused", change.range.start.value, 0, 0);
		cells[i].mapped = false;
	}
	sources[0].backend.ops->flush(&sources[0].backend);
	if (aspace_aarch64_table_count(tables) != 1)
		disagree("tables are left", 0, aspace_aarch64_table_count(tables), 1);
}

static void run_config(void)
{
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config = config,
		.ops = &board_ops,
	};
	uint64_t granule = UINT64_C(1) << config.granule_shift;
	unsigned stride = config.granule_shift - 3u;
	uint64_t sizes[] = {granule, granule * 16, granule * 128, granule << stride,
			    granule << stride << stride};

	if (aspace_aarch64_create(&options, &tables) != ASPACE_OK)
		disagree("no tables", 0, 0, 0);
	load_registers();
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (!place(sizes[i]))
			continue;
		for (int n = 0; n < 8; n++) {
			operate();
			if (n % 2)
				probe_all();
		}
		clear();
	}
	aspace_aarch64_destroy(tables);
	configurations++;
}

/* What was probed, by regime and granule. */
static struct coverage {
	const char *refused;
	uint64_t configurations, ds, not_asked;
	unsigned least_input, greatest_input, outputs; /* a bit for each 2 output bits */
	unsigned starts;                               /* a bit for each start level given */
	uint64_t fwb;
} coverage[ASPACE_AARCH64_STAGE2 + 1][3];

static void note(struct coverage *c)
{
	if (!c->configurations++ || config.input_bits < c->least_input)
		c->least_input = config.input_bits;
	if (config.input_bits > c->greatest_input)
		c->greatest_input = config.input_bits;
	c->outputs |= 1u << config.output_bits / 2;
	c->ds += config.ds;
	if (config.start_level != ASPACE_AARCH64_START_ANY)
		c->starts |= 1u << (config.start_level + 1);
	c->fwb += config.fwb;
}

static void say_coverage(const char *regime, unsigned granule, const struct coverage *c)
{
	say("%s, %uK: ", regime, 1u << (granule - 10));
	if (c->refused) {
		say("%s\n", c->refused);
		return;
	}
	say("%lu configurations, %lu with DS, inputs of %u to %u bits, outputs of",
	    c->configurations, c->ds, c->least_input, c->greatest_input);
	for (unsigned bits = 32; bits <= 52; bits += 2)
		if (c->outputs >> bits / 2 & 1)
			say(" %u", bits);
	if (c->starts)
		say(", start levels");
	for (int level = -1; level <= 3; level++)
		if (c->starts >> (level + 1) & 1)
			say(" %d", level);
	if (c->fwb)
		say(", %lu with FWB", c->fwb);
	if (c->not_asked)
		say("; %lu that this QEMU cannot walk", c->not_asked);
	say("\n");
}

/* As many bits as the configuration may have, or fewer. */
static uint8_t draw_output(unsigned greatest)
{
	static const uint8_t sizes[] = {32, 36, 40, 42, 44, 48, 52};
	unsigned least = config.regime == ASPACE_AARCH64_STAGE2 ? config.input_bits : 32;
	size_t first = 0, end = sizeof(sizes);

	if (greatest > 48 && !config.ds && config.granule_shift != 16)
		greatest = 48;
	while (first + 1 < end && sizes[first] < least)
		first++;
	while (end > first + 1 && sizes[end - 1] > greatest)
		end--;
	return sizes[draw(2) ? end - 1 : first + draw(end - first)];
}

/* Everything that this processor has: from its best configuration downward. */
static void run_shapes(const struct aspace_aarch64_id *id, enum aspace_aarch64_regime regime,
		       unsigned granule)
{
	struct aspace_aarch64_config best;
	const char *reason;

	struct coverage *covered = &coverage[regime][(granule - 12) / 2];

	if (aspace_aarch64_config_for(id, regime, granule, &best, &reason) != ASPACE_OK) {
		covered->refused = reason;
		return;
	}
	for (uint8_t input = 16; input <= 52; input++) {
		for (int ds = 0; ds < 2; ds++) {
			for (int start = -2; start <= 3; start++) {
				if (start >= -1 && regime != ASPACE_AARCH64_STAGE2)
					break;
				config = best;
				config.input_bits = input;
				config.ds = ds;
				config.start_level = start < -1 ? ASPACE_AARCH64_START_ANY : start;
				config.id = regime == ASPACE_AARCH64_EL2 ? 0 : 5;
				config.tagged = false; /* needs more than tables */
				config.fwb = config.fwb && draw(2);
				config.range_tlbi = config.range_tlbi && draw(2);
				config.ttl = config.ttl && draw(2);
				config.output_bits = draw_output(best.output_bits);
				if (aspace_aarch64_config_check(&config, id, NULL) != ASPACE_OK)
					continue;
				if (qemu_refuses(&config)) {
					covered->not_asked++;
					continue;
				}
				run_config();
				note(covered);
			}
		}
	}
}

/* EL2's own walks are asked for from above; QEMU 7.2 has no AT for EL2&0. */
static bool askable(int regime)
{
	return (regime != ASPACE_AARCH64_EL2 || level_el == 3) &&
	       regime != ASPACE_AARCH64_EL2_LOWER && regime != ASPACE_AARCH64_EL2_UPPER;
}

int main(void)
{
	struct aspace_aarch64_id id = aspace_aarch64_cpu_id();

	level_el = current_el();
	if (level_el == 3) {
		MSR(scr_el3, 1 | 0x30 | 1 << 8 | 1 << 10); /* NS, RES1, HCE, RW */
		__asm__ volatile("isb");
	}
	do {
		for (int regime = 0; regime <= ASPACE_AARCH64_STAGE2; regime++) {
			for (unsigned granule = 12; granule <= 16 && askable(regime); granule += 2)
				run_shapes(&id, (enum aspace_aarch64_regime)regime, granule);
		}
	} while (probes < PROBES_MIN);
	for (int regime = 0; regime <= ASPACE_AARCH64_STAGE2; regime++) {
		if (!askable(regime))
			say("%s: this QEMU cannot be asked\n", regime_names[regime]);
		for (unsigned granule = 12; granule <= 16 && askable(regime); granule += 2)
			say_coverage(regime_names[regime], granule,
				     &coverage[regime][(granule - 12) / 2]);
	}
	say("%lu configurations, %lu operations, %lu probes agree\n", configurations, operations,
	    probes);
	return 0;
}
