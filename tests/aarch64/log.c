/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- Addresses ------------------------------------------------------------------ */

static void remember(struct log *log, uint64_t address, size_t size)
{
	if (log->count == log->capacity) {
		log->capacity = log->capacity ? 2 * log->capacity : 64;
		log->tables = realloc(log->tables, log->capacity * sizeof(*log->tables));
		if (!log->tables)
			abort();
	}
	log->tables[log->count++] = (struct log_table){
		address, log->below->table_pointer(log->ctx, aspace_pa(address)), size};
}

static void forget(struct log *log, uint64_t address)
{
	for (size_t i = 0; i < log->count; i++) {
		if (log->tables[i].address == address)
			log->tables[i] = log->tables[--log->count];
	}
}

/* The physical address of an entry; 0: it is in no table. */
static uint64_t address_of(const struct log *log, const uint64_t *entry)
{
	for (size_t i = 0; i < log->count; i++) {
		const struct log_table *table = &log->tables[i];

		if (entry >= table->pointer && entry < table->pointer + table->size / 8)
			return table->address + 8 * (uint64_t)(entry - table->pointer);
	}
	return 0;
}

/* ---- Events -------------------------------------------------------------------------- */

static bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	struct log *log = ctx;
	bool done = log->below->table_alloc(log->ctx, size, table);

	if (!done) {
		fprintf(log->out, "alloc none %zu\n", size);
		return false;
	}
	remember(log, table->value, size);
	fprintf(log->out, "alloc %#" PRIx64 " %zu\n", table->value, size);
	return true;
}

static void table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	struct log *log = ctx;

	fprintf(log->out, "free %#" PRIx64 " %zu\n", table.value, size);
	forget(log, table.value);
	log->below->table_free(log->ctx, table, size);
}

static void table_retire(void *ctx, struct aspace_paddr table, size_t size)
{
	struct log *log = ctx;

	fprintf(log->out, "retire %#" PRIx64 " %zu\n", table.value, size);
	forget(log, table.value);
	log->below->table_retire(log->ctx, table, size);
}

static uint64_t *table_pointer(void *ctx, struct aspace_paddr table)
{
	struct log *log = ctx;

	return log->below->table_pointer(log->ctx, table);
}

static uint64_t load(void *ctx, const uint64_t *entry)
{
	struct log *log = ctx;
	uint64_t value = log->below->load(log->ctx, entry);

	fprintf(log->out, "load %#" PRIx64 " %#" PRIx64 "\n", address_of(log, entry), value);
	return value;
}

static void store(void *ctx, uint64_t *entry, uint64_t value)
{
	struct log *log = ctx;

	fprintf(log->out, "store %#" PRIx64 " %#" PRIx64 "\n", address_of(log, entry), value);
	log->below->store(log->ctx, entry, value);
}

static bool swap(void *ctx, uint64_t *entry, uint64_t expected, uint64_t value)
{
	struct log *log = ctx;
	bool done;

	/* First, as for a store: what the machine makes of it comes after. */
	fprintf(log->out, "swap %#" PRIx64 " %#" PRIx64 " %#" PRIx64 "\n", address_of(log, entry),
		expected, value);
	done = log->below->swap(log->ctx, entry, expected, value);
	if (!done)
		fprintf(log->out, "swap-lost %#" PRIx64 "\n", address_of(log, entry));
	return done;
}

static const char *share_name(enum aspace_aarch64_shareability shareability)
{
	switch (shareability) {
	case ASPACE_AARCH64_OUTER_SHAREABLE:
		return "outer";
	case ASPACE_AARCH64_INNER_SHAREABLE:
		return "inner";
	default:
		return "local";
	}
}

static void dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		enum aspace_aarch64_shareability shareability)
{
	struct log *log = ctx;

	fprintf(log->out, "dsb %s %s\n",
		barrier == ASPACE_AARCH64_BARRIER_STORES ? "stores"
		: barrier == ASPACE_AARCH64_BARRIER_ALL  ? "all"
							 : "system",
		share_name(shareability));
	log->below->dsb(log->ctx, barrier, shareability);
}

static void clean(void *ctx, const void *start, size_t size)
{
	struct log *log = ctx;

	fprintf(log->out, "clean %#" PRIx64 " %zu\n", address_of(log, start), size);
	log->below->clean(log->ctx, start, size);
}

static void isb(void *ctx)
{
	struct log *log = ctx;

	fprintf(log->out, "isb\n");
	log->below->isb(log->ctx);
}

static void tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	static const char *const kinds[] = {
		[ASPACE_AARCH64_TLBI_VA] = "va",
		[ASPACE_AARCH64_TLBI_VA_ALL_IDS] = "va-all-ids",
		[ASPACE_AARCH64_TLBI_RANGE] = "range",
		[ASPACE_AARCH64_TLBI_RANGE_ALL_IDS] = "range-all-ids",
		[ASPACE_AARCH64_TLBI_ID] = "id",
		[ASPACE_AARCH64_TLBI_ALL] = "all",
		[ASPACE_AARCH64_TLBI_IPA] = "ipa",
		[ASPACE_AARCH64_TLBI_IPA_RANGE] = "ipa-range",
		[ASPACE_AARCH64_TLBI_VMID] = "vmid",
	};
	struct log *log = ctx;

	fprintf(log->out, "tlbi %s %s %s %#" PRIx64 " %#" PRIx64 " %#" PRIx64 "\n",
		kinds[tlbi->kind], share_name(tlbi->shareability), tlbi->leaf ? "leaf" : "any",
		tlbi->operand, tlbi->range.start.value, tlbi->range.end.value);
	log->below->tlbi(log->ctx, tlbi);
}

static void vmid_enter(void *ctx, uint16_t vmid)
{
	struct log *log = ctx;

	fprintf(log->out, "vmid-enter %u\n", vmid);
	log->below->vmid_enter(log->ctx, vmid);
}

static void vmid_leave(void *ctx)
{
	struct log *log = ctx;

	fprintf(log->out, "vmid-leave\n");
	log->below->vmid_leave(log->ctx);
}

static bool frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	struct log *log = ctx;
	bool done = log->below->frame_alloc(log->ctx, size, frame);

	if (done)
		fprintf(log->out, "frame-alloc %#" PRIx64 " %" PRIu64 "\n", frame->value, size);
	else
		fprintf(log->out, "frame-alloc none %" PRIu64 "\n", size);
	return done;
}

static void frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	struct log *log = ctx;

	fprintf(log->out, "frame-free %#" PRIx64 " %" PRIu64 "\n", frame.value, size);
	log->below->frame_free(log->ctx, frame, size);
}

static void frame_retire(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	struct log *log = ctx;

	fprintf(log->out, "frame-retire %#" PRIx64 " %" PRIu64 "\n", frame.value, size);
	log->below->frame_retire(log->ctx, frame, size);
}

static void frame_split(void *ctx, struct aspace_paddr frame, uint64_t size, uint64_t part)
{
	struct log *log = ctx;

	fprintf(log->out, "frame-split %#" PRIx64 " %" PRIu64 " %" PRIu64 "\n", frame.value, size,
		part);
	log->below->frame_split(log->ctx, frame, size, part);
}

static void frame_clear(void *ctx, struct aspace_paddr start, uint64_t size)
{
	struct log *log = ctx;

	fprintf(log->out, "frame-clear %#" PRIx64 " %" PRIu64 "\n", start.value, size);
	log->below->frame_clear(log->ctx, start, size);
}

/* What the machine has; it has no readers, and not always a cache to be cleaned. */
static const struct aspace_aarch64_ops ops = {
	.size = sizeof(ops),
	.table_alloc = table_alloc,
	.table_free = table_free,
	.table_retire = table_retire,
	.table_pointer = table_pointer,
	.load = load,
	.store = store,
	.swap = swap,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi,
	.vmid_enter = vmid_enter,
	.vmid_leave = vmid_leave,
	.frame_alloc = frame_alloc,
	.frame_free = frame_free,
	.frame_retire = frame_retire,
	.frame_split = frame_split,
	.frame_clear = frame_clear,
};

const struct aspace_aarch64_ops *log_begin(struct log *log, FILE *out,
					   const struct aspace_aarch64_ops *below, void *ctx)
{
	*log = (struct log){.ops = ops, .out = out, .below = below, .ctx = ctx};
	log->ops.clean = below->clean ? clean : NULL;
	return &log->ops;
}

void log_end(struct log *log)
{
	free(log->tables);
	fflush(log->out);
}
