/* SPDX-License-Identifier: MIT */
/*
 * Each instruction of <aspace/backend/aarch64_cpu.h>, by what it does to the TLBs of two CPUs.
 *
 * A descriptor is changed from frame A to frame B behind the back of both; both still load A,
 * or this test could not fail. Then CPU 0 executes one form of TLBI. It must load B then;
 * CPU 1 too where the form is broadcast, and still A where it is local.
 *
 * Stage 2: what is changed is where the guest's last table lies, from one whose entry says A to
 * one that says B. Invalidation by IPA takes the guest's walks to the new table, but not
 * before the entries that combine both stages are gone as well.
 *
 * Started at EL1: EL1&0. At EL2: the EL2 regime; with the word "vhe" EL2&0; with "stage2"
 * stage 2. Forms that the processor has not are left out, with a word.
 */
#include "board.h"

#include <stdatomic.h>

#define PAGE     UINT64_C(4096)
#define A        UINT64_C(0xaaaa)
#define B        UINT64_C(0xbbbb)
#define VMID     3
#define GUEST_EL 0x3c5 /* SPSR: EL1 with its own stack, all masked */

static struct aspace_aarch64_id id;
static struct aspace_aarch64_config config, guest_config;
static struct aspace_aarch64 *tables, *guest;
static struct aspace_aarch64_linear identity, guest_identity, source;
static uint64_t window, executed, inert, left_out;
static bool stage2;

static _Alignas(4096) uint64_t other_table[512];

/* ---- Two CPUs ------------------------------------------------------------------------------ */

/* CPU 0 stores an address and advances `asked`; CPU 1 stores what it loads and advances `answered`.
 * Each advance releases what was stored before it. */
static uint64_t mail_address, mail_value;
static _Atomic uint64_t asked, answered;

void guest_load(void);

static uint64_t load_here(uint64_t address)
{
	struct outcome o = stage2 ? run_below((uint64_t)(uintptr_t)guest_load, GUEST_EL, address, 0)
				  : attempt(LOAD, false, address, 0);

	if (o.faulted)
		fail("a load of %lx by CPU %u: ESR %lx FAR %lx", address, cpu_number(), o.esr,
		     o.far);
	return o.value;
}

static uint64_t load_there(uint64_t address)
{
	uint64_t n = atomic_load_explicit(&asked, memory_order_relaxed) + 1;

	mail_address = address;
	atomic_store_explicit(&asked, n, memory_order_release);
	while (atomic_load_explicit(&answered, memory_order_acquire) != n)
		;
	return mail_value;
}

/* This CPU's registers. */
static void enter_regime(void)
{
	uint64_t hcr = UINT64_C(1) << 31, mask; /* RW */

	if (config.regime == ASPACE_AARCH64_EL2_LOWER)
		MSR(hcr_el2, hcr | UINT64_C(1) << 34 | 1 << 27); /* E2H, TGE */
	ISB();
	if (!stage2) {
		mmu_on(&config, tables, 0);
		return;
	}
	mmu_on(&guest_config, guest, 0);
	MSR(vtcr_el2, aspace_aarch64_tcr(&config, &mask));
	MSR(vttbr_el2, aspace_aarch64_ttbr(tables));
	MSR(hcr_el2, hcr | 1 | (config.fwb ? UINT64_C(1) << 46 : 0)); /* VM, FWB */
	ISB();
}

void other_main(void)
{
	uint64_t n = 0;

	enter_regime();
	for (;;) {
		while (atomic_load_explicit(&asked, memory_order_acquire) == n)
			;
		mail_value = load_here(mail_address);
		atomic_store_explicit(&answered, ++n, memory_order_release);
	}
}

/* ---- Forms --------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {
	[ASPACE_AARCH64_TLBI_VA] = "VA",         [ASPACE_AARCH64_TLBI_VA_ALL_IDS] = "VAA",
	[ASPACE_AARCH64_TLBI_RANGE] = "RVA",     [ASPACE_AARCH64_TLBI_RANGE_ALL_IDS] = "RVAA",
	[ASPACE_AARCH64_TLBI_ID] = "ASID",       [ASPACE_AARCH64_TLBI_ALL] = "ALL",
	[ASPACE_AARCH64_TLBI_IPA] = "IPA",       [ASPACE_AARCH64_TLBI_IPA_RANGE] = "RIPA",
	[ASPACE_AARCH64_TLBI_VMID] = "VMALLS12",
};

static bool is_range(enum aspace_aarch64_tlbi_kind kind)
{
	return kind == ASPACE_AARCH64_TLBI_RANGE || kind == ASPACE_AARCH64_TLBI_RANGE_ALL_IDS ||
	       kind == ASPACE_AARCH64_TLBI_IPA_RANGE;
}

static bool is_by_ipa(enum aspace_aarch64_tlbi_kind kind)
{
	return kind == ASPACE_AARCH64_TLBI_IPA || kind == ASPACE_AARCH64_TLBI_IPA_RANGE;
}

static bool has_leaf_form(enum aspace_aarch64_tlbi_kind kind)
{
	return kind != ASPACE_AARCH64_TLBI_ID && kind != ASPACE_AARCH64_TLBI_ALL &&
	       kind != ASPACE_AARCH64_TLBI_VMID;
}

/* Of the regime? */
static bool is_usable(enum aspace_aarch64_tlbi_kind kind)
{
	switch (kind) {
	case ASPACE_AARCH64_TLBI_ALL:
		return true;
	case ASPACE_AARCH64_TLBI_VA:
	case ASPACE_AARCH64_TLBI_RANGE:
		return !stage2;
	case ASPACE_AARCH64_TLBI_VA_ALL_IDS:
	case ASPACE_AARCH64_TLBI_RANGE_ALL_IDS:
	case ASPACE_AARCH64_TLBI_ID:
		return !stage2 && config.regime != ASPACE_AARCH64_EL2;
	default:
		return stage2;
	}
}

/* QEMU 7.2 has these as no operations. */
static bool may_be_inert(enum aspace_aarch64_tlbi_kind kind, enum aspace_aarch64_shareability sh)
{
	return is_by_ipa(kind) && sh == ASPACE_AARCH64_OUTER_SHAREABLE;
}

/* Of the processor? ID_AA64ISAR0_EL1.TLB: 1, outer-shareable forms; 2, ranges too. */
static bool is_implemented(enum aspace_aarch64_tlbi_kind kind, enum aspace_aarch64_shareability sh)
{
	unsigned tlb = (unsigned)(id.isar0 >> 56) & 15;

	return tlb >= (is_range(kind) ? 2 : sh == ASPACE_AARCH64_OUTER_SHAREABLE ? 1 : 0);
}

/* Operands: C5.5. A range is of two pages. */
static void invalidate(enum aspace_aarch64_tlbi_kind kind, bool leaf,
		       enum aspace_aarch64_shareability sh, uint64_t address)
{
	struct aspace_aarch64_tlbi tlbi = {
		.kind = kind,
		.regime = config.regime,
		.leaf = leaf,
		.shareability = sh,
	};

	if (has_leaf_form(kind))
		tlbi.operand = address >> 12;
	if (is_range(kind))
		tlbi.operand |= UINT64_C(1) << 46;
	if (kind == ASPACE_AARCH64_TLBI_VA || kind == ASPACE_AARCH64_TLBI_RANGE ||
	    kind == ASPACE_AARCH64_TLBI_ID)
		tlbi.operand |= (uint64_t)config.id << 48;
	aspace_aarch64_cpu_dsb(NULL, ASPACE_AARCH64_BARRIER_STORES, sh);
	aspace_aarch64_cpu_tlbi(NULL, &tlbi);
	aspace_aarch64_cpu_dsb(NULL, ASPACE_AARCH64_BARRIER_ALL, sh);
	aspace_aarch64_cpu_isb(NULL);
}

/* Everything, everywhere. */
static void invalidate_all(void)
{
	invalidate(stage2 ? ASPACE_AARCH64_TLBI_VMID : ASPACE_AARCH64_TLBI_ALL, false,
		   ASPACE_AARCH64_INNER_SHAREABLE, 0);
}

static const char *label(enum aspace_aarch64_tlbi_kind kind, bool leaf,
			 enum aspace_aarch64_shareability sh)
{
	static char text[40];
	const char *parts[] = {kind_names[kind], leaf ? ", leaf" : "",
			       sh == ASPACE_AARCH64_NON_SHAREABLE     ? ", local"
			       : sh == ASPACE_AARCH64_OUTER_SHAREABLE ? ", outer"
								      : ", inner"};
	size_t n = 0;

	for (size_t i = 0; i < 3; i++) {
		for (const char *p = parts[i]; *p; p++)
			text[n++] = *p;
	}
	text[n] = 0;
	return text;
}

static void expect(uint64_t here, uint64_t there, const char *when, const char *form)
{
	uint64_t got_here = load_here(window), got_there = load_there(window);

	if (got_here != here || got_there != there)
		fail("%s %s: CPU 0 loads %lx and not %lx, CPU 1 %lx and not %lx", when, form,
		     got_here, here, got_there, there);
}

/* The descriptor that is changed, and to what. */
static volatile uint64_t *choose_entry(enum aspace_aarch64_tlbi_kind kind, uint64_t *from,
				       uint64_t *to, uint64_t *address)
{
	volatile uint64_t *entry;
	int level;

	*address = window;
	if (stage2 && kind != ASPACE_AARCH64_TLBI_ALL) {
		*address = (uint64_t)(uintptr_t)naive_entry(&guest_config, guest, window, &level) &
			   ~(PAGE - 1);
		entry = naive_entry(&config, tables, *address, &level);
		*to = *entry - *address + (uint64_t)(uintptr_t)other_table;
	} else {
		entry = stage2 ? naive_entry(&guest_config, guest, window, &level)
			       : naive_entry(&config, tables, window, &level);
		*to = *entry + PAGE;
	}
	if (level != 3 || !(*entry & 1))
		fail("no page: %lx", *entry);
	*from = *entry;
	return entry;
}

static void try_form(enum aspace_aarch64_tlbi_kind kind, bool leaf,
		     enum aspace_aarch64_shareability sh)
{
	const char *form = label(kind, leaf, sh);
	uint64_t from, to, address, there = sh == ASPACE_AARCH64_NON_SHAREABLE ? A : B;
	volatile uint64_t *entry = choose_entry(kind, &from, &to, &address);

	expect(A, A, "before", form);
	*entry = to;
	__asm__ volatile("dsb ish" ::: "memory");
	expect(A, A, "without", form);
	if (is_by_ipa(kind)) {
		invalidate(ASPACE_AARCH64_TLBI_ALL, false, ASPACE_AARCH64_INNER_SHAREABLE, 0);
		expect(A, A, "without stage 2 in", form);
	}
	invalidate(kind, leaf, sh, address);
	if (is_by_ipa(kind))
		invalidate(ASPACE_AARCH64_TLBI_ALL, false, ASPACE_AARCH64_INNER_SHAREABLE, 0);
	if (may_be_inert(kind, sh) && load_here(window) == A) {
		inert++;
		say("  %s: executed, and this QEMU does nothing\n", form);
	} else {
		/* QEMU 7.2 broadcasts this one, as it may. */
		if (kind == ASPACE_AARCH64_TLBI_VMID)
			there = load_there(window) == A ? there : B;
		expect(B, there, "after", form);
		executed++;
		say("  %s\n", form);
	}
	*entry = from;
	__asm__ volatile("dsb ish" ::: "memory");
	invalidate_all();
}

static void try_all(void)
{
	static const enum aspace_aarch64_shareability reaches[] = {ASPACE_AARCH64_NON_SHAREABLE,
								   ASPACE_AARCH64_INNER_SHAREABLE,
								   ASPACE_AARCH64_OUTER_SHAREABLE};

	for (unsigned k = 0; k < sizeof(kind_names) / sizeof(kind_names[0]); k++) {
		enum aspace_aarch64_tlbi_kind kind = (enum aspace_aarch64_tlbi_kind)k;

		for (size_t i = 0; i < 3 && is_usable(kind); i++) {
			for (int leaf = 0; leaf <= has_leaf_form(kind); leaf++) {
				if (is_implemented(kind, reaches[i]))
					try_form(kind, leaf, reaches[i]);
				else
					left_out++;
			}
		}
	}
}

/* ---- The run ------------------------------------------------------------------------------------------ */

static void must(enum aspace_status status, const char *what)
{
	if (status != ASPACE_OK)
		fail("%s: %d", what, (int)status);
}

/* A page of the window, whose frame is A's; B's is the next. */
static void map_window(struct aspace_aarch64 *t, uint64_t flags)
{
	*(volatile uint64_t *)(uintptr_t)FRAMES = A;
	*(volatile uint64_t *)(uintptr_t)(FRAMES + PAGE) = B;
	window = UINT64_C(1) << 38;
	must(aspace_aarch64_linear_init(&source, t, FRAMES - window), "source");
	map_pages(&source, window, window + PAGE, flags);
}

static void make_stage1(void)
{
	tables = make_tables(&config, &board_ops);
	must(aspace_aarch64_linear_init(&identity, tables, 0), "source");
	map_image(&identity, &config);
	map_window(tables, ASPACE_AARCH64_READ);
}

/* A guest with a stage 1 of its own, and all of its memory in pages. */
static void make_stage2(void)
{
	const uint64_t all = ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE | ASPACE_AARCH64_EXECUTE |
			     ASPACE_AARCH64_USER_EXECUTE;
	uint64_t table;
	int level;

	must(aspace_aarch64_config_for(&id, ASPACE_AARCH64_EL1_LOWER, 12, &guest_config, NULL),
	     "the guest");
	guest_config.input_bits = 39;
	guest_config.output_bits = 40;
	guest_config.ds = false;
	guest = make_tables(&guest_config, &board_ops);
	must(aspace_aarch64_linear_init(&guest_identity, guest, 0), "source");
	map_pages(&guest_identity, (uint64_t)(uintptr_t)text_end, (uint64_t)(uintptr_t)user_end,
		  ASPACE_AARCH64_READ | ASPACE_AARCH64_EXECUTE);
	map_window(guest, ASPACE_AARCH64_READ);
	table = (uint64_t)(uintptr_t)naive_entry(&guest_config, guest, window, &level) &
		~(PAGE - 1);
	for (size_t i = 0; i < 512; i++)
		other_table[i] = ((volatile uint64_t *)(uintptr_t)table)[i];
	other_table[(window >> 12) % 512] += PAGE;
	config.id = VMID;
	config.start_level = 1;
	tables = make_tables(&config, &board_ops);
	must(aspace_aarch64_linear_init(&identity, tables, 0), "source");
	map_pages(&identity, 0x40000000, 0x50000000, all | ASPACE_AARCH64_LEVEL_3);
}

static enum aspace_aarch64_regime choose_regime(void)
{
	if (current_el() == 1)
		return ASPACE_AARCH64_EL1_LOWER;
	return argument("stage2") ? ASPACE_AARCH64_STAGE2
	       : argument("vhe")  ? ASPACE_AARCH64_EL2_LOWER
				  : ASPACE_AARCH64_EL2;
}

int main(void)
{
	const char *reason;

	id = aspace_aarch64_cpu_id();
	if (aspace_aarch64_config_for(&id, choose_regime(), 12, &config, &reason) != ASPACE_OK)
		fail("%s", reason);
	config.input_bits = 39;
	config.output_bits = 40;
	config.ds = false;
	stage2 = config.regime == ASPACE_AARCH64_STAGE2;
	if (stage2) {
		make_stage2();
	} else {
		config.id = config.regime == ASPACE_AARCH64_EL2 ? 0 : 5;
		make_stage1();
	}
	enter_regime();
	if (!start_cpu(1))
		fail("there is one CPU only");
	try_all();
	say("%s: %lu forms do what they say, %lu do nothing here, %lu are not of this processor\n",
	    regime_names[config.regime], executed, inert, left_out);
	return executed < 6;
}
