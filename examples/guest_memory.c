/* SPDX-License-Identifier: MIT */
/*
 * A hypervisor's part: the memory of a guest, in stage-2 tables that it keeps with the library, and
 * a live migration that copies what the guest goes on to write.
 *
 * The guest's physical addresses are a space. Its RAM is populated where it is touched, in blocks
 * if there are any; its ROM comes with the image; a device is passed through; where no area is, a
 * device is emulated. For the migration the RAM is cut into pages, where it is and with nothing
 * unmapped, and the pages that the processor has marked as written are harvested, round by round.
 *
 * So that it runs anywhere, the processor is played by "The processor" below: walks by VTTBR_EL2,
 * dirty state, and a TLB that forgets nothing that it is not told to. At EL2 all that falls away;
 * the operations of "The board" are then those of <aspace/backend/aarch64_cpu.h>, and vm_abort() is
 * called with HPFAR_EL2 and ESR_EL2.
 */
#include <aspace/aspace.h>
#include <aspace/backend/aarch64.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE  UINT64_C(0x1000)
#define BLOCK UINT64_C(0x200000)

/* The guest's map. */
#define UART_BASE UINT64_C(0x09000000)
#define ROM_BASE  UINT64_C(0x08000000)
#define ROM_SIZE  (16 * PAGE)
#define RAM_BASE  UINT64_C(0x40000000)
#define RAM_SIZE  (16 * BLOCK)

/* The host's: memory for tables, then for frames, then the ROM's image; and the real UART. */
#define HOST_BASE   UINT64_C(0x80000000)
#define TABLE_PAGES 128
#define FRAMES_AT   BLOCK
#define IMAGE_AT    (FRAMES_AT + RAM_SIZE + 2 * BLOCK)
#define HOST_SIZE   (IMAGE_AT + ROM_SIZE)
#define HOST_UART   UINT64_C(0x1c090000)

static void must(enum aspace_status status, const char *what)
{
	if (status == ASPACE_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, aspace_status_string(status));
	exit(1);
}

/* ---- The board: memory, and what the tables ask of the processor ------------------------- */

#define FRAMES ((IMAGE_AT - FRAMES_AT) / PAGE)
#define TLB    64

struct translation {
	uint64_t ipa, pa; /* of a page */
	bool valid, dirty, may_write;
};

struct board {
	unsigned char *memory; /* of the host, from HOST_BASE on */
	bool table_used[TABLE_PAGES];
	bool frame_used[FRAMES];
	size_t frames_in_use;
	uint64_t invalidations;
	struct translation tlb[TLB]; /* of the processor that runs the guest */
};

static void *host_pointer(struct board *board, uint64_t pa)
{
	return board->memory + (pa - HOST_BASE);
}

/* `count` neighbours that are free, aligned to their number. */
static bool take(bool *used, size_t all, size_t count, size_t *first)
{
	for (size_t i = 0; i + count <= all; i += count) {
		if (memchr(used + i, true, count))
			continue;
		memset(used + i, true, count);
		*first = i;
		return true;
	}
	return false;
}

static bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	struct board *board = ctx;
	size_t first;

	if (!take(board->table_used, TABLE_PAGES, size / PAGE, &first))
		return false;
	*table = aspace_pa(HOST_BASE + first * PAGE);
	memset(host_pointer(board, table->value), 0, size);
	return true;
}

static void table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	struct board *board = ctx;

	memset(&board->table_used[(table.value - HOST_BASE) / PAGE], false, size / PAGE);
}

static uint64_t *table_pointer(void *ctx, struct aspace_paddr table)
{
	return host_pointer(ctx, table.value);
}

/* Zeroed, for the guest must not see what was there before. Counts pages, so parts of what it has
 * handed out may come back at any time, and frame_split need not be listened to. */
static bool frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	struct board *board = ctx;
	size_t first;

	if (size > BLOCK || !take(board->frame_used, FRAMES, (size_t)(size / PAGE), &first))
		return false;
	board->frames_in_use += (size_t)(size / PAGE);
	*frame = aspace_pa(HOST_BASE + FRAMES_AT + first * PAGE);
	memset(host_pointer(board, frame->value), 0, (size_t)size);
	return true;
}

static void frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	struct board *board = ctx;

	memset(&board->frame_used[(frame.value - HOST_BASE - FRAMES_AT) / PAGE], false,
	       (size_t)(size / PAGE));
	board->frames_in_use -= (size_t)(size / PAGE);
}

/* aspace_aarch64_cpu_dsb() and _isb(); here one thread plays everything, in its order. */
static void dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		enum aspace_aarch64_shareability shareability)
{
	(void)ctx;
	(void)barrier;
	(void)shareability;
}

static void isb(void *ctx)
{
	(void)ctx;
}

/* aspace_aarch64_cpu_tlbi(). Stage 2 goes by IPA, by range of IPAs, or by VMID; and what follows,
 * for entries that combine both stages, has nothing to find in a TLB of stage 2 alone. */
static void tlbi(void *ctx, const struct aspace_aarch64_tlbi *t)
{
	struct board *board = ctx;

	board->invalidations++;
	if (t->kind == ASPACE_AARCH64_TLBI_ALL)
		return;
	for (size_t i = 0; i < TLB; i++) {
		struct translation *entry = &board->tlb[i];

		if (entry->ipa >= t->range.start.value && entry->ipa < t->range.end.value)
			entry->valid = false;
	}
}

static const struct aspace_aarch64_ops board_ops = {
	.size = sizeof(board_ops),
	.table_alloc = table_alloc,
	.table_free = table_free,
	.table_pointer = table_pointer,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi,
	.frame_alloc = frame_alloc,
	.frame_free = frame_free,
};

/* ---- The guest's memory --------------------------------------------------------------------- */

#define LOG_WORDS (RAM_SIZE / PAGE / 64)

struct vm {
	struct board *board;
	struct aspace *space; /* guest physical addresses */
	struct aspace_aarch64 *tables;
	struct aspace_aarch64_allocated ram;
	struct aspace_aarch64_linear rom, uart;
	uint64_t vttbr, vtcr;
	uint64_t dirty[LOG_WORDS]; /* a bit for each page of RAM */
	unsigned populated, emulated, denied;
};

#define R_X     (ASPACE_AARCH64_READ | ASPACE_AARCH64_EXECUTE | (uint64_t)ASPACE_AARCH64_USER_EXECUTE)
#define RWX     (R_X | ASPACE_AARCH64_WRITE)
#define DEVICE  ASPACE_AARCH64_TYPE(ASPACE_AARCH64_DEVICE_nGnRE)
#define BY_PAGE (RWX | ASPACE_AARCH64_LEVEL_3 | ASPACE_AARCH64_NO_CONTIGUOUS)

static struct aspace_range ram_range(void)
{
	return aspace_range_of(RAM_BASE, RAM_BASE + RAM_SIZE);
}

/* The processor's ID registers: aspace_aarch64_cpu_id(). These are a Neoverse N1's, with 40-bit
 * physical addresses. */
static struct aspace_aarch64_id cpu_id(void)
{
	return (struct aspace_aarch64_id){
		.mmfr0 = 0x00101122,
		.mmfr1 = 0x10212122,
		.mmfr2 = 0x00001011,
		.isar0 = UINT64_C(0x0000100010211120),
	};
}

static void vm_create(struct vm *vm, struct board *board, uint16_t vmid)
{
	struct aspace_aarch64_id id = cpu_id();
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.ops = &board_ops,
		.ctx = board,
	};
	struct aspace_aarch64_config *config = &options.config;
	struct aspace_options space_options = {.size = sizeof(space_options), .granule = PAGE};
	const char *reason;
	uint64_t mask;

	*vm = (struct vm){.board = board};
	if (aspace_aarch64_config_for(&id, ASPACE_AARCH64_STAGE2, 12, config, &reason) !=
	    ASPACE_OK) {
		fprintf(stderr, "no stage 2: %s\n", reason);
		exit(1);
	}
	config->id = vmid;
	/* Decisions: the processor is to keep both, so that nothing need fault for the log. */
	config->hardware_access = config->hardware_dirty = true;
	if (aspace_aarch64_config_check(config, &id, &reason) != ASPACE_OK) {
		fprintf(stderr, "no dirty state: %s\n", reason);
		exit(1);
	}
	must(aspace_aarch64_create(&options, &vm->tables), "tables");
	space_options.limits = aspace_aarch64_range(config);
	must(aspace_create(&space_options, &vm->space), "space");
	vm->vttbr = aspace_aarch64_ttbr(vm->tables);
	vm->vtcr = aspace_aarch64_tcr(config, &mask);

	/* RAM by the block, where it is touched; the others are there from the beginning. */
	must(aspace_aarch64_allocated_init(&vm->ram, vm->tables, true, BLOCK), "RAM's source");
	must(aspace_aarch64_linear_init(&vm->rom, vm->tables, HOST_BASE + IMAGE_AT - ROM_BASE),
	     "ROM's source");
	must(aspace_aarch64_linear_init(&vm->uart, vm->tables, HOST_UART - UART_BASE),
	     "the UART's source");
	must(aspace_map(vm->space, ram_range(), RWX, &vm->ram.backend, NULL, 0), "RAM");
	must(aspace_map(vm->space, aspace_range_of(ROM_BASE, ROM_BASE + ROM_SIZE), R_X,
			&vm->rom.backend, NULL, 0),
	     "ROM");
	must(aspace_map(vm->space, aspace_range_of(UART_BASE, UART_BASE + PAGE),
			ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE | DEVICE, &vm->uart.backend,
			NULL, 0),
	     "UART");
}

/* The guest does not run any more, and its VMID has been invalidated. */
static void vm_destroy(struct vm *vm)
{
	must(aspace_clear(vm->space, 0), "clear");
	must(aspace_destroy(vm->space, 0), "destroy");
	aspace_aarch64_destroy(vm->tables);
}

/* An abort at stage 2. True: the guest tries again; false: it goes on behind the instruction. */
static bool vm_abort(struct vm *vm, uint64_t ipa, unsigned access)
{
	enum aspace_status status = aspace_fault(vm->space, aspace_va(ipa), access, 0);

	switch (status) {
	case ASPACE_OK: /* populated now, or by another processor meanwhile */
		vm->populated++;
		return true;
	case ASPACE_NOT_MAPPED: /* a device of ours, by the instruction's syndrome */
		vm->emulated++;
		return false;
	case ASPACE_ACCESS_DENIED: /* a write to the ROM: an external abort for the guest */
	case ASPACE_NOT_SUPPORTED: /* what is populated from the beginning, and does not allow it */
		vm->denied++;
		return false;
	default:
		must(status, "an abort");
		return false;
	}
}

/* Give memory back (a balloon): what the guest touches there again is new. */
static void vm_discard(struct vm *vm, struct aspace_range range, uint64_t flags)
{
	struct aspace_txn *txn;

	/* One version to the next: nobody meets a hole. */
	must(aspace_txn_begin(vm->space, 0, &txn), "begin");
	must(aspace_txn_unmap(txn, range, 0), "unmap");
	must(aspace_txn_map(txn, range, flags, &vm->ram.backend, NULL, 0), "map");
	must(aspace_txn_commit(txn), "commit");
}

/* ---- The dirty log ------------------------------------------------------------------------------ */

static bool log_page(void *ctx, const struct aspace_aarch64_mapping *mapping)
{
	struct vm *vm = ctx;

	for (uint64_t ipa = mapping->range.start.value; ipa < mapping->range.end.value;
	     ipa += PAGE) {
		uint64_t page = (ipa - RAM_BASE) / PAGE;

		vm->dirty[page / 64] |= UINT64_C(1) << (page % 64);
	}
	return true;
}

/*
 * Add to the log what was written since the last time. Harvesting works on the tables beside the
 * library: it wants the place of a writer, which an empty transaction is.
 */
static void log_collect(struct vm *vm)
{
	struct aspace_txn *txn;

	must(aspace_txn_begin(vm->space, 0, &txn), "begin");
	must(aspace_aarch64_harvest(vm->tables, ram_range(), ASPACE_AARCH64_DIRTY, log_page, vm),
	     "harvest");
	aspace_txn_abort(txn);
}

/* The log is by pages: so are the tables, from here on, and what is populated later. All that there
 * is counts as written: the first round copies it. */
static void log_start(struct vm *vm)
{
	must(aspace_protect(vm->space, ram_range(), BY_PAGE, 0), "by page");
	log_collect(vm);
}

/* Blocks come back. */
static void log_stop(struct vm *vm)
{
	struct aspace_txn *txn;

	must(aspace_protect(vm->space, ram_range(), RWX, 0), "by block");
	must(aspace_txn_begin(vm->space, 0, &txn), "begin");
	must(aspace_aarch64_compact(vm->tables, ram_range(), 0), "compact");
	aspace_txn_abort(txn);
}

/* ---- The processor ---------------------------------------------------------------------------------- */

/* A walk of stage 2 from level 1, with the access flag and dirty state that VTCR_EL2.HA and HD ask for
 * (D8.5): NULL is a fault. */
static struct translation *cpu_walk(struct vm *vm, uint64_t ipa, bool write)
{
	uint64_t table = vm->vttbr & UINT64_C(0x0000fffffffff000), *entry, d;
	struct translation *t = &vm->board->tlb[(ipa / PAGE) % TLB];
	unsigned shift = 30;

	for (;; shift -= 9) {
		entry = (uint64_t *)host_pointer(vm->board, table) +
			((ipa >> shift) & (shift == 30 ? 1023 : 511));
		d = __atomic_load_n(entry, __ATOMIC_ACQUIRE);
		if (!(d & 1))
			return NULL;
		table = d & UINT64_C(0x0000fffffffff000);
		if (shift == 12 || !(d & 2))
			break;
	}
	/* S2AP, and DBM: writable, but clean so far. */
	if (!(d & (write ? UINT64_C(1) << 7 | UINT64_C(1) << 51 : UINT64_C(1) << 6)))
		return NULL;
	d = __atomic_or_fetch(entry, UINT64_C(1) << 10 | (write ? UINT64_C(1) << 7 : 0),
			      __ATOMIC_ACQ_REL);
	*t = (struct translation){
		.ipa = ipa & ~(PAGE - 1),
		.pa = (table | (ipa & ((UINT64_C(1) << shift) - 1))) & ~(PAGE - 1),
		.valid = true,
		.dirty = d >> 7 & 1,
	};
	return t;
}

static uint64_t *cpu_translate(struct vm *vm, uint64_t ipa, bool write)
{
	struct translation *t = &vm->board->tlb[(ipa / PAGE) % TLB];

	/* By the TLB as long as it says enough: a page that it holds as written leaves no trace. */
	while (!t->valid || t->ipa != (ipa & ~(PAGE - 1)) || (write && !t->dirty)) {
		if (!cpu_walk(vm, ipa, write) &&
		    !vm_abort(vm, ipa, write ? ASPACE_ACCESS_WRITE : ASPACE_ACCESS_READ))
			return NULL;
	}
	return (uint64_t *)((unsigned char *)host_pointer(vm->board, t->pa) + ipa % PAGE);
}

static void guest_write(struct vm *vm, uint64_t ipa, uint64_t value)
{
	uint64_t *word = cpu_translate(vm, ipa, true);

	if (word)
		*word = value;
}

static uint64_t guest_read(struct vm *vm, uint64_t ipa)
{
	uint64_t *word = cpu_translate(vm, ipa, false);

	return word ? *word : 0;
}

/* ---- The guest, and its migration -------------------------------------------------------------------- */

static uint64_t random_state = 1;

static uint64_t draw(uint64_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (random_state >> 33) % n;
}

/* Writes all over a part of its RAM. */
static void guest_work(struct vm *vm, unsigned writes, uint64_t pages)
{
	for (unsigned i = 0; i < writes; i++) {
		uint64_t page = draw(pages), word = draw(PAGE / 8);

		guest_write(vm, RAM_BASE + page * PAGE + word * 8, i + 1);
	}
}

static void print(struct vm *vm, const char *what)
{
	size_t leaves[2] = {0, 0};

	for (uint64_t ipa = RAM_BASE; ipa < RAM_BASE + RAM_SIZE;) {
		struct aspace_aarch64_mapping mapping;
		bool mapped =
			aspace_aarch64_query(vm->tables, aspace_va(ipa), &mapping) == ASPACE_OK;

		if (mapped)
			leaves[mapping.level == 3]++;
		ipa = mapped ? mapping.range.end.value : ipa + PAGE;
	}
	printf("%-20s %4zu pages of frames; RAM in %2zu blocks and %4zu pages; %2zu tables\n", what,
	       vm->board->frames_in_use, leaves[0], leaves[1],
	       aspace_aarch64_table_count(vm->tables));
}

/* Copy what the log says, and clear it. */
static size_t copy_dirty(struct vm *vm, unsigned char *destination)
{
	size_t copied = 0;

	for (uint64_t page = 0; page < RAM_SIZE / PAGE; page++) {
		struct aspace_aarch64_mapping mapping;

		if (!(vm->dirty[page / 64] >> (page % 64) & 1))
			continue;
		vm->dirty[page / 64] &= ~(UINT64_C(1) << (page % 64));
		must(aspace_aarch64_query(vm->tables, aspace_va(RAM_BASE + page * PAGE), &mapping),
		     "a page of the log");
		memcpy(destination + page * PAGE, host_pointer(vm->board, mapping.output.value),
		       PAGE);
		copied++;
	}
	return copied;
}

static void migrate(struct vm *vm, unsigned char *destination)
{
	unsigned round = 0;
	size_t copied;

	log_start(vm);
	print(vm, "log started");
	do {
		copied = copy_dirty(vm, destination);
		printf("round %u: %zu pages copied\n", ++round, copied);
		/* The guest goes on: a little less far each time, and into new memory too. */
		guest_work(vm, 2000 >> (2 * round), 3000 >> round);
		if (round == 1)
			guest_write(vm, RAM_BASE + RAM_SIZE - PAGE, 4711);
		log_collect(vm);
	} while (copied > 100);
	/* It stands still, and the rest follows. */
	printf("last round: %zu pages copied\n", copy_dirty(vm, destination));
}

/* What the guest would read there is what it reads here. */
static size_t count_differences(struct vm *vm, const unsigned char *destination)
{
	size_t different = 0;

	for (uint64_t page = 0; page < RAM_SIZE / PAGE; page++) {
		static const unsigned char zeroes[PAGE];
		struct aspace_aarch64_mapping mapping;
		const void *here = zeroes;

		if (aspace_aarch64_query(vm->tables, aspace_va(RAM_BASE + page * PAGE), &mapping) ==
		    ASPACE_OK)
			here = host_pointer(vm->board, mapping.output.value);
		different += memcmp(here, destination + page * PAGE, PAGE) != 0;
	}
	return different;
}

int main(void)
{
	static struct board board;
	static struct vm vm;
	unsigned char *destination = calloc(1, RAM_SIZE);

	board.memory = calloc(1, HOST_SIZE);
	if (!board.memory || !destination)
		return 1;
	memset(board.memory + IMAGE_AT, 0x1f, ROM_SIZE);
	vm_create(&vm, &board, 5);
	printf("VTCR_EL2 %#" PRIx64 ", VTTBR_EL2 %#" PRIx64 "\n", vm.vtcr, vm.vttbr);

	/* It boots: reads its ROM, tries to write there, asks a device that is emulated. */
	if (guest_read(&vm, ROM_BASE + 8) != UINT64_C(0x1f1f1f1f1f1f1f1f))
		return 1;
	guest_write(&vm, ROM_BASE, 1);
	guest_read(&vm, UART_BASE + BLOCK);
	guest_work(&vm, 20000, 3000);
	printf("%u faults populated, %u emulated, %u denied\n", vm.populated, vm.emulated,
	       vm.denied);
	print(&vm, "booted");
	vm_discard(&vm, aspace_range_of(RAM_BASE + BLOCK, RAM_BASE + 2 * BLOCK - 3 * PAGE), RWX);
	print(&vm, "a balloon inflated");
	guest_work(&vm, 500, 3000);

	migrate(&vm, destination);
	printf("%zu pages differ\n", count_differences(&vm, destination));
	log_stop(&vm);
	print(&vm, "log stopped");
	must(aspace_validate(vm.space, NULL, 0), "areas and tables");

	vm_destroy(&vm);
	printf("%zu pages of frames left\n", board.frames_in_use);
	free(board.memory);
	free(destination);
	return 0;
}
