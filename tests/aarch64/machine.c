/* SPDX-License-Identifier: MIT */
/*
 * The adversarial machine; machine.h says what it does.
 *
 * The code below the operations is written from the manual's pseudocode, from register values
 * and descriptor bits, and shares nothing with the library.
 */
#include "machine.h"

#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES       768 /* granules of table memory; address space, mostly never touched */
#define PROBES_MAX  64
#define OLDS_MAX    3
#define PATH_MAX_   24
#define RUBBISH     UINT64_C(0x0badbadbadbadbad)
#define CPUS        4 /* that call operations; the walkers are others */
#define CLEANED_MAX 64
#define IGNORED     (UINT64_C(0xff) << 51) /* in a pointer to a table: bits 58 to 51 (D8.3.1) */
#define KEEP_MAX    1024                   /* entries that may live into the next operation */
#define FRAMES      (1u << 15) /* granules of memory for areas, from FRAMES * granule on */

/* What an entry of a table may still be seen as. */
struct meta {
	uint64_t olds[OLDS_MAX];
	uint32_t when, last; /* the last store that a walk can tell; the last one of all */
	uint8_t by, last_by; /* whose */
	uint8_t count;
	bool watched; /* some probe's walk has been here */
};

struct page {
	uint64_t *entries;
	struct meta *meta;
	size_t size;        /* 0: not the first granule of a block in use */
	uint32_t allocated; /* when */
	uint8_t by;
	bool linked;     /* a table descriptor has pointed here */
	uint8_t cleaned; /* all of it, since it was allocated, by these CPUs */
	bool clean;      /* and that was completed */
};

enum kind { POINTER, LEAF, COMBINED };

struct entry {
	enum kind kind;
	int level;
	uint64_t start, last;
	uint64_t output; /* of start; POINTER: the next table */
	uint64_t descriptor;
	const uint64_t *source;
	uint16_t id;
	bool global, contiguous;
	uint8_t cpus;        /* bit by bit */
	uint8_t dying[CPUS]; /* the same, by who has invalidated it */
};

/* A CPU that calls operations. Time is counted in its stores. */
struct cpu {
	uint32_t now;         /* of its last store */
	uint32_t stored;      /* of the last that walks can tell */
	uint32_t ordered;     /* up to here, walks see its stores */
	uint32_t knows[CPUS]; /* of other CPUs' stores: up to here. Its barrier orders them too. */
	bool outstanding;     /* invalidations since the last full barrier */
	bool outstanding_ipa; /* some of them by IPA */
	bool unsynchronized;  /* something was ordered, or invalidated, since the last ISB */
	uint16_t vmid;
	const uint64_t *uncleaned; /* the last store was there, and no clean of it came */
	/* Where it has cleaned what others have stored: its next barrier completes that too. */
	struct meta *cleaned[CLEANED_MAX];
	unsigned cleaned_count;
};

struct probe {
	uint64_t address;
	const uint64_t *path[PATH_MAX_]; /* what its walks have read */
	size_t path_count;
	uint64_t *leaf; /* the last leaf that a walk found in memory */
	int level;      /* of it */
	struct expectation before, after;
	bool faulted;
};

/* A page that was accessed, as its descriptor has to say from then on. */
struct access {
	uint64_t page;
	bool accessed, wrote;
};

/* What the registers say. */
struct mmu {
	bool stage2, ids, ds, ha, hd, upper;
	unsigned granule, stride, input, output;
	int start;
	unsigned shareability;
	uint64_t root, mair;
	uint16_t id;
};

struct machine {
	struct aspace_aarch64_config config;
	struct mmu mmu;
	struct aspace_aarch64 *tables;
	struct log log;
	machine_expect_fn *expect;
	void *ctx;

	struct page pages[PAGES];
	uint64_t memory_base;
	size_t granule;
	size_t refuse;
	size_t in_use;

	uint8_t frames[FRAMES];  /* is it allocated? */
	uint32_t pieces[FRAMES]; /* granules of the piece that begins here; 0: none does */
	size_t frames_in_use;    /* granules */
	bool scattered;
	size_t refuse_frames;
	uint64_t largest_frame;

	struct cpu cpus[CPUS];
	unsigned cpu; /* who calls now */

	struct entry *entries;
	size_t count, capacity;
	struct probe probes[PROBES_MAX];
	size_t probe_count;
	bool running;
	bool incoherent;

	struct access *accesses;
	size_t access_count, access_capacity;

	uint64_t random;
	struct machine_tally tally;
	const char *violation;
};

static void violate(struct machine *m, const char *what)
{
	if (!m->violation)
		m->violation = what;
}

static uint32_t draw(struct machine *m, uint32_t n)
{
	m->random = m->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(m->random >> 33) % n;
}

static uint64_t field(uint64_t value, unsigned high, unsigned low)
{
	return (value >> low) & ((UINT64_C(2) << (high - low)) - 1);
}

/* ---- Memory ------------------------------------------------------------------------- */

static struct page *page_of(struct machine *m, uint64_t address)
{
	uint64_t offset = address - m->memory_base;
	struct page *page;

	if (address < m->memory_base || offset / m->granule >= PAGES)
		return NULL;
	page = &m->pages[offset / m->granule];
	return page->size ? page : NULL;
}

static bool is_in(const struct page *page, const uint64_t *entry)
{
	return page->size > 1 && entry >= page->entries && entry < page->entries + page->size / 8;
}

/* The page that an entry is in. */
static struct page *page_with(struct machine *m, const uint64_t *entry)
{
	/* By 4 KiB of our own memory, of which a page has one or several. */
	static _Thread_local struct page *last[1024];
	struct page **guess = &last[(uintptr_t)entry >> 12 & 1023];

	if (*guess && *guess >= m->pages && *guess < m->pages + PAGES && is_in(*guess, entry))
		return *guess;
	for (size_t i = 0; i < PAGES; i++) {
		if (is_in(&m->pages[i], entry))
			return *guess = &m->pages[i];
	}
	return NULL;
}

static struct meta *meta_of(struct machine *m, const uint64_t *entry)
{
	struct page *page = page_with(m, entry);

	return page ? &page->meta[entry - page->entries] : NULL;
}

/* May walks still see what was there before? */
static bool shows_olds(const struct machine *m, const struct meta *meta)
{
	return meta->count && meta->when > m->cpus[meta->by].ordered;
}

static bool is_pending(struct machine *m, const uint64_t *entry)
{
	struct meta *meta = meta_of(m, entry);

	return meta && shows_olds(m, meta);
}

/* May walks still see what was in a table's memory before it was allocated? */
static bool is_fresh(const struct machine *m, const struct page *page)
{
	return m->incoherent ? !page->clean : page->allocated > m->cpus[page->by].ordered;
}

/* The CPU has read what another has stored: it has seen all that this one stored before, and what
 * this one has seen. Loads acquire and stores release. */
static void observe(struct machine *m, const struct meta *meta)
{
	struct cpu *cpu = &m->cpus[m->cpu];
	const struct cpu *other = &m->cpus[meta->last_by];

	if (cpu == other)
		return;
	if (cpu->knows[meta->last_by] < meta->last)
		cpu->knows[meta->last_by] = meta->last;
	for (unsigned i = 0; i < CPUS; i++) {
		if (cpu->knows[i] < other->knows[i])
			cpu->knows[i] = other->knows[i];
	}
}

static bool page_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	struct machine *m = ctx;
	size_t granules = size / m->granule;

	if (m->refuse && --m->refuse == 0) {
		m->refuse = 1;
		return false;
	}
	for (size_t i = 0; i + granules <= PAGES; i += granules) {
		struct page *page = &m->pages[i];
		size_t taken = 0;

		for (size_t j = 0; j < granules; j++)
			taken += m->pages[i + j].size != 0;
		/* Not always the first: reuse shall come sooner or later. */
		if (taken || (granules == 1 && i < PAGES / 2 && draw(m, 4) == 0))
			continue;
		page->entries = calloc(1, size);
		page->meta = calloc(size / 8, sizeof(*page->meta));
		if (!page->entries || !page->meta)
			abort();
		page->size = size;
		/* Zeroed, that is, stored to. */
		page->allocated = ++m->cpus[m->cpu].now;
		page->by = (uint8_t)m->cpu;
		page->linked = page->clean = false;
		page->cleaned = 0;
		for (size_t j = 1; j < granules; j++)
			m->pages[i + j].size = 1; /* taken, and nobody's address */
		m->in_use++;
		*table = aspace_pa(m->memory_base + i * m->granule);
		return true;
	}
	fprintf(stderr, "the machine is out of memory\n");
	abort();
}

/* Can a walk still get there? */
static void check_unreachable(struct machine *m, struct page *page, uint64_t address)
{
	if (!page->linked)
		return;
	if (m->cpus[m->cpu].stored > m->cpus[m->cpu].ordered)
		violate(m, "a table is freed before the store that unlinked it is ordered");
	for (size_t i = 0; i < m->count; i++) {
		if (m->entries[i].kind == POINTER && m->entries[i].output == address)
			violate(m, "a table is freed that a walk can still reach");
	}
}

static void page_free(void *ctx, struct aspace_paddr table, size_t size)
{
	struct machine *m = ctx;
	struct page *page = page_of(m, table.value);

	if (!page || page->size != size) {
		violate(m, "a table is freed that was not allocated");
		return;
	}
	if (m->running)
		check_unreachable(m, page, table.value);
	for (unsigned i = 0; i < CPUS; i++)
		m->cpus[i].cleaned_count = 0; /* some may be in this page; seldom any */
	free(page->entries);
	free(page->meta);
	for (size_t j = 0; j < size / m->granule; j++)
		page[j].size = 0;
	m->in_use--;
}

static void page_retire(void *ctx, struct aspace_paddr table, size_t size)
{
	struct machine *m = ctx;

	m->tally.retired++;
	page_free(ctx, table, size);
}

/* ---- Frames ---------------------------------------------------------------------------- */

static uint64_t frame_base(const struct machine *m)
{
	return (uint64_t)FRAMES * m->granule;
}

/* The number of the granule; FRAMES: none of ours. */
static size_t frame_index(const struct machine *m, uint64_t address)
{
	uint64_t offset = address - frame_base(m);

	return address < frame_base(m) || offset / m->granule >= FRAMES
		       ? FRAMES
		       : (size_t)(offset / m->granule);
}

static bool frame_alloc(void *ctx, uint64_t size, struct aspace_paddr *frame)
{
	struct machine *m = ctx;
	size_t count = (size_t)(size / m->granule);

	if (m->refuse_frames && --m->refuse_frames == 0) {
		m->refuse_frames = 1;
		return false;
	}
	if (count > FRAMES / 4 || (m->largest_frame && size > m->largest_frame))
		return false;
	for (size_t i = 0; i < FRAMES; i += count) {
		/* Not always the first: reuse shall come sooner or later. */
		if (memchr(&m->frames[i], 1, count) ||
		    (m->scattered && i < FRAMES / 2 && draw(m, 4) == 0))
			continue;
		memset(&m->frames[i], 1, count);
		m->pieces[i] = (uint32_t)count;
		m->frames_in_use += count;
		*frame = aspace_pa(frame_base(m) + i * m->granule);
		return true;
	}
	return false;
}

/* Can an access still get there? */
static void frame_free(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	struct machine *m = ctx;
	size_t index = frame_index(m, frame.value), count = (size_t)(size / m->granule);

	if (index + count > FRAMES || memchr(&m->frames[index], 0, count)) {
		violate(m, "a frame is freed that was not allocated");
		return;
	}
	if (m->pieces[index] != count)
		violate(m, "a frame is freed in a piece that was not handed out");
	memset(&m->frames[index], 0, count);
	m->pieces[index] = 0;
	m->frames_in_use -= count;
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		uint64_t last = e->output + (e->last - e->start);

		if (e->kind != POINTER && e->output < frame.value + size && frame.value <= last)
			violate(m, "a frame is freed that a TLB entry leads to");
	}
}

static void frame_clear(void *ctx, struct aspace_paddr start, uint64_t size)
{
	struct machine *m = ctx;
	size_t index = frame_index(m, start.value), count = (size_t)(size / m->granule);

	if (!count || (start.value | size) % m->granule || index + count > FRAMES ||
	    memchr(&m->frames[index], 0, count)) {
		violate(m, "a frame is cleared that was not allocated");
		return;
	}
	m->tally.cleared += count;
}

static void frame_retire(void *ctx, struct aspace_paddr frame, uint64_t size)
{
	((struct machine *)ctx)->tally.frames_retired++;
	frame_free(ctx, frame, size);
}

static void frame_split(void *ctx, struct aspace_paddr frame, uint64_t size, uint64_t part)
{
	struct machine *m = ctx;
	size_t index = frame_index(m, frame.value), count = (size_t)(size / m->granule);

	m->tally.split++;
	if (index + count > FRAMES || m->pieces[index] != count || !part || part >= size ||
	    size % part) {
		violate(m, "a frame is split that was not handed out like that");
		return;
	}
	for (size_t i = 0; i < count; i += (size_t)(part / m->granule))
		m->pieces[index + i] = (uint32_t)(part / m->granule);
}

void machine_refuse_frames(struct machine *m, size_t nth, uint64_t largest)
{
	m->scattered = draw(m, 2); /* or one after the other */
	m->refuse_frames = nth;
	m->largest_frame = largest;
}

uint64_t machine_frames_in_use(const struct machine *m)
{
	return m->frames_in_use * m->granule;
}

static uint64_t *page_pointer(void *ctx, struct aspace_paddr table)
{
	struct page *page = page_of(ctx, table.value);

	if (!page || page->size == 1)
		abort();
	return page->entries;
}

/* ---- Descriptors, as the manual's pseudocode reads them ------------------------------ */

static void read_registers(struct machine *m)
{
	uint64_t mask, tcr = aspace_aarch64_tcr(&m->config, &mask);
	uint64_t ttbr = aspace_aarch64_ttbr(m->tables);
	static const unsigned outputs[] = {32, 36, 40, 42, 44, 48, 52};
	enum aspace_aarch64_regime regime = m->config.regime;
	struct mmu *u = &m->mmu;
	bool halves = regime != ASPACE_AARCH64_EL2 && regime != ASPACE_AARCH64_STAGE2;
	unsigned tg;

	u->upper = regime == ASPACE_AARCH64_EL1_UPPER || regime == ASPACE_AARCH64_EL2_UPPER;
	u->stage2 = regime == ASPACE_AARCH64_STAGE2;
	u->ids = halves;
	u->input = 64 - (unsigned)(u->upper ? field(tcr, 21, 16) : field(tcr, 5, 0));
	u->shareability = (unsigned)(u->upper ? field(tcr, 29, 28) : field(tcr, 13, 12));
	tg = (unsigned)(u->upper ? field(tcr, 31, 30) : field(tcr, 15, 14));
	if (u->upper)
		u->granule = tg == 1 ? 14 : tg == 2 ? 12 : 16;
	else
		u->granule = tg == 0 ? 12 : tg == 1 ? 16 : 14;
	u->stride = u->granule - 3;
	u->output = outputs[halves ? field(tcr, 34, 32) : field(tcr, 18, 16)];
	u->ha = field(tcr, halves ? 39 : 21, halves ? 39 : 21);
	u->hd = field(tcr, halves ? 40 : 22, halves ? 40 : 22);
	u->ds = field(tcr, halves ? 59 : 32, halves ? 59 : 32);
	if (u->stage2) {
		unsigned sl = (unsigned)(field(tcr, 33, 33) << 2 | field(tcr, 7, 6));

		if (u->granule == 12)
			u->start = sl == 4 ? -1 : sl == 3 ? 3 : 2 - (int)sl;
		else
			u->start = 3 - (int)sl;
	} else {
		u->start = 3 - (int)((u->input - 1 - u->granule) / u->stride);
	}
	u->root = ttbr & UINT64_C(0xfffffffffffe);
	if (u->output == 52)
		u->root = (u->root & ~UINT64_C(0x3f)) | field(ttbr, 5, 2) << 48;
	u->id = (uint16_t)(ttbr >> 48);
	u->mair = aspace_aarch64_mair(&m->config);
}

static unsigned shift_of(const struct mmu *u, int level)
{
	return u->granule + (unsigned)(3 - level) * u->stride;
}

static uint64_t size_of(const struct mmu *u, int level)
{
	return UINT64_C(1) << shift_of(u, level);
}

static uint64_t address_in(const struct mmu *u, uint64_t d)
{
	if (u->granule == 16)
		return (d & UINT64_C(0xffffffff0000)) |
		       (u->output == 52 ? field(d, 15, 12) << 48 : 0);
	if (u->ds)
		return (d & UINT64_C(0x3fffffffff000) & (0 - (UINT64_C(1) << u->granule))) |
		       field(d, 9, 8) << 50;
	return d & UINT64_C(0xfffffffff000) & (0 - (UINT64_C(1) << u->granule));
}

static bool block_supported(const struct mmu *u, int level)
{
	switch (u->granule) {
	case 12:
		return level == 2 || level == 1 || (level == 0 && u->ds);
	case 14:
		return level == 2 || (level == 1 && u->ds);
	default:
		return level == 2 || (level == 1 && u->output == 52);
	}
}

static unsigned contiguous_count(const struct mmu *u, int level)
{
	if (u->granule == 12)
		return level >= 1 ? 16 : 0;
	if (u->granule == 14)
		return level == 3 ? 128 : level == 2 ? 32 : 0;
	return level >= 2 ? 32 : 0;
}

static struct rights rights_of(struct machine *m, uint64_t d)
{
	const struct mmu *u = &m->mmu;
	struct rights r = {0};
	bool dbm = u->hd && field(d, 51, 51);

	r.shareability = (uint8_t)(u->ds ? u->shareability : field(d, 9, 8));
	if (u->stage2) {
		unsigned xn = (unsigned)field(d, 54, 53);

		r.read = r.user_read = field(d, 6, 6);
		r.write = r.user_write = field(d, 7, 7) || dbm;
		if (m->config.xnx) {
			r.execute = xn == 0 || xn == 3;
			r.user_execute = xn == 0 || xn == 1;
		} else {
			r.execute = r.user_execute = !(xn & 2);
		}
		r.memory = (uint8_t)field(d, 5, 2);
		return r;
	}
	r.read = true;
	r.write = !field(d, 7, 7) || dbm;
	r.memory = (uint8_t)(u->mair >> (8 * field(d, 4, 2)));
	r.guarded = field(d, 50, 50);
	r.nonsecure = field(d, 5, 5);
	r.execute = !field(d, 54, 54);
	if (!u->ids)
		return r;
	r.user_read = field(d, 6, 6);
	r.user_write = r.user_read && r.write;
	r.user_execute = !field(d, 54, 54);
	r.execute = !field(d, 53, 53) && !r.user_write;
	r.global = !field(d, 11, 11);
	return r;
}

static bool rights_equal(const struct rights *a, const struct rights *b)
{
	return a->read == b->read && a->write == b->write && a->execute == b->execute &&
	       a->user_read == b->user_read && a->user_write == b->user_write &&
	       a->user_execute == b->user_execute && a->memory == b->memory &&
	       a->shareability == b->shareability && a->global == b->global &&
	       a->guarded == b->guarded && a->nonsecure == b->nonsecure;
}

static bool is_expected(const struct machine *m, const struct expectation *e, uint64_t output,
			const struct rights *rights)
{
	size_t frame = frame_index(m, output);

	if (e->anywhere ? frame == FRAMES || !m->frames[frame] : e->output != output)
		return false;
	return e->mapped && rights_equal(&e->rights, rights);
}

/* ---- The TLBs -------------------------------------------------------------------------- */

static bool same_translation(struct machine *m, const struct entry *a, const struct entry *b)
{
	bool sizes = m->config.bbm_level == 2 && m->config.conflicts_tolerated;
	struct rights ra = rights_of(m, a->descriptor), rb = rights_of(m, b->descriptor);

	if (a->output - a->start != b->output - b->start || ra.memory != rb.memory ||
	    ra.shareability != rb.shareability || ra.global != rb.global ||
	    ra.nonsecure != rb.nonsecure)
		return false;
	return sizes || (a->level == b->level && a->contiguous == b->contiguous);
}

static void check_conflict(struct machine *m, const struct entry *new)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *old = &m->entries[i];

		if (old->kind != new->kind || old->last < new->start || new->last < old->start ||
		    !(old->cpus & new->cpus))
			continue;
		if (old->id != new->id && !old->global && !new->global)
			continue;
		if (old->kind == POINTER) {
			if (old->level == new->level && old->output != new->output)
				violate(m, "two pointers to tables for one address: a break is "
					   "missing");
			continue;
		}
		if (!same_translation(m, old, new))
			violate(m, "two TLB entries for one address: a break is missing");
	}
}

static void insert(struct machine *m, const struct entry *new)
{
	for (size_t i = 0; i < m->count; i++) {
		struct entry *old = &m->entries[i];

		if (old->kind == new->kind && old->level == new->level &&
		    old->start == new->start && old->last == new->last &&
		    old->descriptor == new->descriptor && old->output == new->output &&
		    old->id == new->id && old->source == new->source) {
			old->cpus |= new->cpus;
			memset(old->dying, 0, sizeof(old->dying)); /* fetched once more */
			return;
		}
	}
	check_conflict(m, new);
	if (m->count == m->capacity) {
		m->capacity = m->capacity ? 2 * m->capacity : 256;
		m->entries = realloc(m->entries, m->capacity * sizeof(*m->entries));
		if (!m->entries)
			abort();
	}
	m->entries[m->count++] = *new;
	m->tally.entries++;
}

/* ---- Hardware updates --------------------------------------------------------------------- */

static struct access *find_access(const struct machine *m, uint64_t address)
{
	for (size_t i = 0; i < m->access_count; i++) {
		if (m->accesses[i].page == (address & ~(m->granule - 1)))
			return &m->accesses[i];
	}
	return NULL;
}

static void remember_access(struct machine *m, uint64_t address, bool wrote)
{
	struct access *access = find_access(m, address);

	if (!access) {
		if (m->access_count == m->access_capacity) {
			m->access_capacity = m->access_capacity ? 2 * m->access_capacity : 64;
			m->accesses =
				realloc(m->accesses, m->access_capacity * sizeof(*m->accesses));
			if (!m->accesses)
				abort();
		}
		access = &m->accesses[m->access_count++];
		*access = (struct access){address & ~(m->granule - 1), true, false};
	}
	access->accessed = true;
	access->wrote = access->wrote || wrote;
}

bool machine_accessed(const struct machine *m, uint64_t address)
{
	const struct access *access = find_access(m, address);

	return access && access->accessed;
}

bool machine_wrote(const struct machine *m, uint64_t address)
{
	const struct access *access = find_access(m, address);

	return access && access->wrote;
}

void machine_forget_accesses(struct machine *m, uint64_t start, uint64_t end)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->access_count; i++) {
		if (m->accesses[i].page < start || m->accesses[i].page >= end)
			m->accesses[kept++] = m->accesses[i];
	}
	m->access_count = kept;
}

void machine_revise_accesses(struct machine *m, machine_access_fn *keep, void *ctx)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->access_count; i++) {
		struct access a = m->accesses[i];

		keep(ctx, a.page, &a.accessed, &a.wrote);
		if (a.accessed || a.wrote)
			m->accesses[kept++] = a;
	}
	m->access_count = kept;
}

/* The descriptors that one TLB entry may stand for: a leaf alone, or a contiguous group. */
struct run {
	uint64_t *entries;
	unsigned count;
	int level;
	uint64_t output; /* of the first */
};

/* The run of the leaf `d`, which was read from `source`; false: its table is gone. */
static bool run_of(struct machine *m, int level, const uint64_t *source, uint64_t d,
		   struct run *run)
{
	struct page *page = page_with(m, source);
	unsigned group = field(d, 52, 52) ? contiguous_count(&m->mmu, level) : 0;
	size_t index, first;

	if (!page)
		return false;
	index = (size_t)(source - page->entries);
	first = group ? index & ~(size_t)(group - 1) : index;
	*run = (struct run){
		.entries = &page->entries[first],
		.count = group ? group : 1,
		.level = level,
		.output = address_in(&m->mmu, d) - (index - first) * size_of(&m->mmu, level),
	};
	return (first + run->count) * 8 <= page->size;
}

/* May the processor note something there? Only in a leaf that is valid and leads where the run
 * does; whether it still says that it is of a group is of no account to who has an older entry. */
static bool takes_note(struct machine *m, const struct run *run, unsigned i, bool write)
{
	uint64_t d = run->entries[i];

	return (d & 1) && (run->level == 3) == !!(d & 2) &&
	       address_in(&m->mmu, d) == run->output + i * size_of(&m->mmu, run->level) &&
	       (!write || field(d, 51, 51));
}

static bool is_written(const struct mmu *u, uint64_t d)
{
	return u->stage2 ? field(d, 7, 7) : !field(d, 7, 7);
}

/* `d` after an access, a write or not. */
static uint64_t noted(const struct mmu *u, uint64_t d, bool write)
{
	d |= UINT64_C(1) << 10;
	if (write)
		d = u->stage2 ? d | UINT64_C(1) << 7 : d & ~(UINT64_C(1) << 7);
	return d;
}

/*
 * An access to `address` by the leaf `*d`, which a walk has just read or a TLB has kept. What it
 * does not say yet, the processor notes in any descriptor of the run: in `wanted`, if that is one
 * of them, else anywhere. Then *d says it. False: it can be noted nowhere, so it was none.
 */
static bool access_run(struct machine *m, uint64_t address, const struct run *run,
		       const uint64_t *wanted, uint64_t *d)
{
	const struct mmu *u = &m->mmu;
	bool write = u->hd && field(*d, 51, 51) && draw(m, 2);
	uint64_t says = noted(u, *d, write);
	unsigned i = draw(m, run->count), tried = 0;

	if (wanted && wanted >= run->entries && wanted < run->entries + run->count)
		i = (unsigned)(wanted - run->entries);
	if (says != *d) {
		while (tried < run->count && !takes_note(m, run, i, write)) {
			i = (i + 1) % run->count;
			tried++;
		}
		if (tried == run->count)
			return false;
		m->tally.hardware_updates += run->entries[i] != noted(u, run->entries[i], write);
		m->tally.elsewhere += run->count > 1 && run->entries[i] != says;
		run->entries[i] = noted(u, run->entries[i], write);
	}
	*d = says;
	remember_access(m, address, write);
	return true;
}

/* An access through what a TLB has kept, be it stale. */
static void access_by_entry(struct machine *m, struct entry *e, const struct probe *probe,
			    const uint64_t *wanted)
{
	uint64_t d = e->descriptor;
	struct run run;

	if (run_of(m, e->level, e->source, d, &run) &&
	    access_run(m, probe->address, &run, wanted, &d)) {
		m->tally.by_entries++;
		e->descriptor = d;
	}
}

static bool covers(const struct entry *e, const struct probe *probe)
{
	return e->kind != POINTER && e->start <= probe->address && probe->address <= e->last;
}

/* The processor has the time for an access, at any time. */
static void access_something(struct machine *m, const uint64_t *wanted)
{
	const struct probe *probe;
	size_t first;

	if (!m->running || !m->mmu.ha || !m->probe_count || !m->count)
		return;
	probe = &m->probes[draw(m, (uint32_t)m->probe_count)];
	first = draw(m, (uint32_t)m->count);
	for (size_t i = 0; i < m->count; i++) {
		struct entry *e = &m->entries[(first + i) % m->count];

		if (covers(e, probe)) {
			access_by_entry(m, e, probe, wanted);
			break;
		}
	}
}

/* The last moment of what is being invalidated. */
static void access_by_dying(struct machine *m)
{
	for (size_t i = 0; m->running && m->mmu.ha && i < m->count; i++) {
		struct entry *e = &m->entries[i];

		for (size_t j = 0; e->dying[m->cpu] && e->kind != POINTER && j < m->probe_count;
		     j++) {
			if (covers(e, &m->probes[j]) && draw(m, 4) == 0)
				access_by_entry(m, e, &m->probes[j], NULL);
		}
	}
}

/* ---- Walks ---------------------------------------------------------------------------------- */

static void walk(struct machine *m, struct probe *probe, uint16_t id, int level, uint64_t table);

static void note(struct probe *probe, const uint64_t *entry)
{
	for (size_t i = 0; i < probe->path_count; i++) {
		if (probe->path[i] == entry)
			return;
	}
	if (probe->path_count < PATH_MAX_)
		probe->path[probe->path_count++] = entry;
}

static void insert_leaf(struct machine *m, struct probe *probe, uint16_t id, int level,
			const uint64_t *source, uint64_t d)
{
	const struct mmu *u = &m->mmu;
	uint64_t size = size_of(u, level), start = probe->address & ~(size - 1);
	uint64_t output = address_in(u, d);
	struct rights rights = rights_of(m, d);
	unsigned group = field(d, 52, 52) ? contiguous_count(u, level) : 0;
	struct entry e = {
		.kind = LEAF,
		.level = level,
		.start = start,
		.last = start + (size - 1),
		.output = output,
		.descriptor = d,
		.source = source,
		.id = id,
		.global = u->ids && rights.global,
		.contiguous = group,
		.cpus = 3,
	};

	if (field(d, 52, 52) && !group)
		violate(m, "a contiguous bit at a level that has no groups");
	if (output & (size - 1))
		violate(m, "a leaf whose address is not aligned to it");
	if (output >> u->output)
		violate(m, "an output address that is too large");
	if (!is_expected(m, &probe->before, output + (probe->address - start), &rights) &&
	    !is_expected(m, &probe->after, output + (probe->address - start), &rights))
		violate(m, "a translation that holds neither before nor after");
	insert(m, &e);
	if (group) { /* what one of them says may be taken for all */
		e.start &= ~(size * group - 1);
		e.last = e.start + (size * group - 1);
		e.output = output - (start - e.start);
		if (e.output & (size * group - 1))
			violate(m, "a contiguous group whose address is not aligned to it");
		insert(m, &e);
	}
	if (u->stage2) {
		e.kind = COMBINED;
		insert(m, &e);
	}
}

static void see_leaf(struct machine *m, struct probe *probe, uint16_t id, int level,
		     uint64_t *source, uint64_t d)
{
	const struct mmu *u = &m->mmu;

	if (level < 3 && !block_supported(u, level)) {
		violate(m, "a block at a level that has none");
		return;
	}
	if (*source == d) {
		struct run run;

		probe->leaf = source;
		probe->level = level;
		if (u->ha && draw(m, 32) == 0 && run_of(m, level, source, d, &run))
			access_run(m, probe->address, &run, NULL, &d);
	}
	if (field(d, 10, 10))
		insert_leaf(m, probe, id, level, source, d);
	else if (!u->ha)
		probe->faulted = true; /* no access flag, and nobody to set it */
}

static void see(struct machine *m, struct probe *probe, uint16_t id, int level, uint64_t *source,
		uint64_t d)
{
	uint64_t size = size_of(&m->mmu, level);
	struct entry e = {
		.kind = POINTER,
		.level = level,
		.start = probe->address & ~(size - 1),
		.output = address_in(&m->mmu, d),
		.descriptor = d & ~IGNORED,
		.source = source,
		.id = id,
		.cpus = 3,
	};

	e.last = e.start + (size - 1);
	if (d == RUBBISH) {
		violate(m, "a walk reads a table before its contents are ordered");
		return;
	}
	if (!(d & 1)) {
		probe->faulted = true;
		return;
	}
	if (level == 3 && !(d & 2)) {
		violate(m, "a reserved descriptor at level 3");
		return;
	}
	if (level == 3 || !(d & 2)) {
		see_leaf(m, probe, id, level, source, d);
		return;
	}
	insert(m, &e);
	walk(m, probe, id, level + 1, e.output);
}

/* Every value that the walker may read there. */
static void walk(struct machine *m, struct probe *probe, uint16_t id, int level, uint64_t table)
{
	const struct mmu *u = &m->mmu;
	struct page *page = page_of(m, table);
	unsigned bits = level == u->start ? u->input - shift_of(u, level) : u->stride;
	size_t index = (size_t)(probe->address >> shift_of(u, level)) & (((size_t)1 << bits) - 1);
	struct meta *meta;

	if (!page || page->size == 1) {
		violate(m, "a walk goes into memory that holds no table");
		return;
	}
	meta = &page->meta[index];
	meta->watched = true;
	note(probe, &page->entries[index]);
	if (is_fresh(m, page))
		see(m, probe, id, level, &page->entries[index], RUBBISH);
	for (uint8_t i = 0; shows_olds(m, meta) && i < meta->count; i++)
		see(m, probe, id, level, &page->entries[index], meta->olds[i]);
	see(m, probe, id, level, &page->entries[index], page->entries[index]);
}

static void walk_probe(struct machine *m, struct probe *probe)
{
	size_t kept = m->count;

	probe->path_count = 0;
	probe->faulted = false;
	m->tally.walks++;
	for (uint16_t other = 0; other <= m->config.all_asids; other++) {
		uint16_t id = (uint16_t)(m->mmu.id + other);

		for (size_t i = 0; i < kept; i++) {
			struct entry e = m->entries[i];

			if (e.kind == POINTER && e.id == id && e.start <= probe->address &&
			    probe->address <= e.last)
				walk(m, probe, id, e.level + 1, e.output);
		}
		walk(m, probe, id, m->mmu.start, m->mmu.root);
	}
	if (!probe->faulted || !m->running || !probe->before.mapped || !probe->after.mapped)
		return;
	m->tally.transients++;
	if (m->config.no_transient_faults)
		violate(m, "a fault where none is allowed");
}

static void walk_all(struct machine *m)
{
	for (size_t i = 0; m->running && i < m->probe_count; i++)
		walk_probe(m, &m->probes[i]);
}

/* ---- Access to descriptors -------------------------------------------------------------------- */

/* Does a walk from `table` at `level`, by memory as it is, end at this leaf? */
static bool leads_to(struct machine *m, const struct probe *probe, int level, uint64_t table)
{
	const struct mmu *u = &m->mmu;

	for (;; level++) {
		struct page *page = page_of(m, table);
		unsigned bits = level == u->start ? u->input - shift_of(u, level) : u->stride;
		const uint64_t *entry;

		if (!page || page->size == 1)
			return false;
		entry = &page->entries[(probe->address >> shift_of(u, level)) &
				       ((UINT64_C(1) << bits) - 1)];
		if (!(*entry & 1))
			return false;
		if (level == 3 || !(*entry & 2))
			return entry == probe->leaf;
		table = address_in(u, *entry);
	}
}

/* May the processor still write to the leaf that the probe's walk has found? */
static bool is_reachable(struct machine *m, const struct probe *probe)
{
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];

		if (e->kind == POINTER && e->start <= probe->address && probe->address <= e->last &&
		    leads_to(m, probe, e->level + 1, e->output))
			return true;
	}
	return leads_to(m, probe, m->mmu.start, m->mmu.root);
}

static uint64_t load(void *ctx, const uint64_t *entry)
{
	struct machine *m = ctx;
	uint64_t value = *entry;
	const struct page *page;
	const struct meta *meta = meta_of(m, entry);

	if (meta)
		observe(m, meta);

	/* Now and then the processor gets in between the load and the exchange after it. */
	if (!m->running || !m->mmu.ha || draw(m, 8))
		return value;
	if (draw(m, 8) == 0)
		access_something(m, entry);
	page = page_with(m, entry);
	for (size_t i = 0; page && i < m->probe_count; i++) {
		const struct probe *probe = &m->probes[i];
		struct run run;
		uint64_t d;

		/* In the same table, and in the same run? */
		if (!probe->leaf || !is_in(page, probe->leaf) ||
		    !run_of(m, probe->level, probe->leaf, d = *probe->leaf, &run) ||
		    entry < run.entries || entry >= run.entries + run.count || !(d & 1) ||
		    !is_reachable(m, probe))
			continue;
		access_run(m, probe->address, &run, entry, &d);
		break;
	}
	return value;
}

static void mark_linked(struct machine *m, uint64_t value)
{
	struct page *page = (value & 3) == 3 ? page_of(m, address_in(&m->mmu, value)) : NULL;

	if (page)
		page->linked = true;
}

/* A pointer to a table that changes in bits that no walk looks at? */
static bool is_remark(struct machine *m, uint64_t old, uint64_t value)
{
	return (old & 3) == 3 && !((old ^ value) & ~IGNORED) &&
	       page_of(m, address_in(&m->mmu, old));
}

static void put(struct machine *m, uint64_t *entry, uint64_t value)
{
	struct cpu *cpu = &m->cpus[m->cpu];
	struct meta *meta = meta_of(m, entry);

	if (!meta) {
		violate(m, "a store outside of all tables");
		return;
	}
	observe(m, meta);
	if (cpu->uncleaned)
		violate(m, "a store was not cleaned");
	cpu->uncleaned = m->incoherent ? entry : NULL;
	meta->last = ++cpu->now;
	meta->last_by = (uint8_t)m->cpu;
	/* No walk can tell one invalid descriptor from another either. */
	if (is_remark(m, *entry, value) || (!(*entry & 1) && !(value & 1))) {
		*entry = value;
		return;
	}
	if (!shows_olds(m, meta))
		meta->count = 0;
	if (meta->count < OLDS_MAX)
		meta->olds[meta->count++] = *entry;
	meta->when = cpu->stored = cpu->now;
	meta->by = (uint8_t)m->cpu;
	m->tally.stores++;
	*entry = value;
	mark_linked(m, value);
	if (meta->watched && draw(m, 16) == 0)
		access_something(m, NULL);
	for (size_t i = 0; meta->watched && m->running && i < m->probe_count; i++) {
		struct probe *probe = &m->probes[i];

		for (size_t j = 0; j < probe->path_count; j++) {
			if (probe->path[j] == entry) {
				walk_probe(m, probe);
				break;
			}
		}
	}
}

static void store(void *ctx, uint64_t *entry, uint64_t value)
{
	put(ctx, entry, value);
}

static bool swap(void *ctx, uint64_t *entry, uint64_t expected, uint64_t value)
{
	if (*entry != expected)
		return false;
	put(ctx, entry, value);
	return true;
}

/* ---- Barriers and invalidations ---------------------------------------------------------------- */

static void clean(void *ctx, const void *start, size_t size)
{
	struct machine *m = ctx;
	struct cpu *cpu = &m->cpus[m->cpu];
	struct page *page = page_with(m, start);

	if (!page) {
		violate(m, "what is cleaned is no table");
		return;
	}
	if (start == page->entries && size == page->size)
		page->cleaned |= (uint8_t)(1u << m->cpu);
	for (size_t i = 0; i < size / 8; i++) {
		struct meta *meta = &page->meta[(const uint64_t *)start + i - page->entries];

		if (meta->by != m->cpu && shows_olds(m, meta) && cpu->cleaned_count < CLEANED_MAX)
			cpu->cleaned[cpu->cleaned_count++] = meta;
	}
	if (cpu->uncleaned && (const char *)cpu->uncleaned >= (const char *)start &&
	    (const char *)cpu->uncleaned < (const char *)start + size)
		cpu->uncleaned = NULL;
}

/* Has the barrier that waits for cache maintenance cleaned memory to wait for? Of this CPU's: it
 * waits for no other's. What no clean has reached, a walk goes on to see as it was. */
static void complete_cleaning(struct machine *m)
{
	struct cpu *cpu = &m->cpus[m->cpu];

	if (cpu->uncleaned)
		violate(m, "a store was not cleaned");
	while (cpu->cleaned_count)
		cpu->cleaned[--cpu->cleaned_count]->count = 0;
	for (size_t i = 0; i < PAGES; i++)
		m->pages[i].clean = m->pages[i].clean || m->pages[i].cleaned & 1u << m->cpu;
}

/* What this CPU has stored, and what it has seen of others, walks see from here on. */
static void order_stores(struct machine *m)
{
	struct cpu *cpu = &m->cpus[m->cpu];

	cpu->ordered = cpu->now;
	/* Of others, in an incoherent system, only what it has cleaned itself: see clean(). */
	for (unsigned i = 0; i < CPUS && !m->incoherent; i++) {
		if (m->cpus[i].ordered < cpu->knows[i])
			m->cpus[i].ordered = cpu->knows[i];
	}
}

static void dsb(void *ctx, enum aspace_aarch64_barrier barrier,
		enum aspace_aarch64_shareability shareability)
{
	struct machine *m = ctx;
	struct cpu *cpu = &m->cpus[m->cpu];
	size_t kept = 0;

	m->tally.barriers++;
	if (shareability == ASPACE_AARCH64_NON_SHAREABLE &&
	    m->config.shareability != ASPACE_AARCH64_NON_SHAREABLE)
		return; /* the other processor has not taken part */
	/* Without cleaning completed, walks see what they saw. */
	if (!m->incoherent || barrier == ASPACE_AARCH64_BARRIER_SYSTEM) {
		cpu->unsynchronized = cpu->unsynchronized || cpu->stored > cpu->ordered;
		order_stores(m);
		if (m->incoherent)
			complete_cleaning(m);
	}
	cpu->unsynchronized = cpu->unsynchronized || cpu->outstanding;
	if (barrier == ASPACE_AARCH64_BARRIER_STORES || !cpu->outstanding)
		return;
	access_by_dying(m);
	for (size_t i = 0; i < m->count; i++) {
		struct entry *e = &m->entries[i];

		e->cpus &= (uint8_t)~e->dying[m->cpu];
		e->dying[m->cpu] = 0;
		if (e->cpus)
			m->entries[kept++] = *e;
	}
	m->tally.invalidated += m->count - kept;
	m->count = kept;
	cpu->outstanding = cpu->outstanding_ipa = false;
	walk_all(m);
}

static void isb(void *ctx)
{
	struct machine *m = ctx;

	m->tally.isbs++;
	m->cpus[m->cpu].unsynchronized = false;
}

static uint64_t extend(uint64_t value, unsigned top)
{
	return field(value, top, top) ? value | UINT64_MAX << top : value;
}

/* The addresses that an operand names; false: none, since its hint is not of this granule. */
struct target {
	uint64_t start, last;
	unsigned ttl; /* the level; 0: any */
	uint16_t id;
};

static bool decode_address(const struct mmu *u, uint64_t operand, struct target *target)
{
	unsigned ttl = (unsigned)field(operand, 47, 44), code = (u->granule - 12) / 2 + 1;

	target->start = extend(field(operand, 43, 0) << 12, 55);
	target->start &= ~((UINT64_C(1) << u->granule) - 1);
	target->last = target->start;
	target->id = (uint16_t)(operand >> 48);
	target->ttl = ttl & 3;
	return !ttl || ttl >> 2 == code;
}

static bool decode_range(const struct mmu *u, uint64_t operand, struct target *target)
{
	unsigned code = (u->granule - 12) / 2 + 1, scale = (unsigned)field(operand, 45, 44);
	unsigned shift = u->ds ? 16 : u->granule;
	uint64_t pages = (field(operand, 43, 39) + 1) << (5 * scale + 1);

	target->start = extend(field(operand, 36, 0) << shift, 36 + shift);
	target->last = target->start + (pages << u->granule) - 1;
	target->id = (uint16_t)(operand >> 48);
	target->ttl = (unsigned)field(operand, 38, 37);
	return field(operand, 47, 46) == code;
}

static bool hits(struct machine *m, const struct aspace_aarch64_tlbi *tlbi,
		 const struct target *target, const struct entry *e)
{
	const struct cpu *cpu = &m->cpus[m->cpu];
	bool all_ids = tlbi->kind == ASPACE_AARCH64_TLBI_VA_ALL_IDS ||
		       tlbi->kind == ASPACE_AARCH64_TLBI_RANGE_ALL_IDS;

	switch (tlbi->kind) {
	case ASPACE_AARCH64_TLBI_ALL:
		/* After stage 2: only what combines both stages, and only if no stage-2 entry
		 * is left that it could be made of again. */
		if (m->mmu.stage2)
			return e->kind == COMBINED && cpu->vmid == m->mmu.id &&
			       !cpu->outstanding_ipa;
		return true;
	case ASPACE_AARCH64_TLBI_VMID:
		return cpu->vmid == m->mmu.id;
	case ASPACE_AARCH64_TLBI_ID:
		return !e->global && e->id == tlbi->operand >> 48;
	default:
		break;
	}
	if (e->kind == COMBINED || e->last < target->start || target->last < e->start)
		return false;
	if (e->kind == POINTER && (tlbi->leaf || target->ttl))
		return false;
	if (e->kind == LEAF && target->ttl && (int)target->ttl != e->level)
		return false;
	if (m->mmu.stage2)
		return cpu->vmid == m->mmu.id;
	return !m->mmu.ids || all_ids || e->global || e->id == target->id;
}

/* Does a walk from `table` at `level`, by anything that it may see, read what is in `page`? */
static bool leads_into(struct machine *m, uint64_t address, int level, uint64_t table,
		       const struct page *page)
{
	const struct mmu *u = &m->mmu;
	const struct page *here = page_of(m, table);
	unsigned bits = level == u->start ? u->input - shift_of(u, level) : u->stride;
	size_t index = (size_t)(address >> shift_of(u, level)) & (((size_t)1 << bits) - 1);

	if (!here || here->size == 1 || here == page || level == 3)
		return here == page;
	for (unsigned i = 0; i <= here->meta[index].count; i++) {
		bool old = i < here->meta[index].count;
		uint64_t value = old ? here->meta[index].olds[i] : here->entries[index];

		if ((!old || shows_olds(m, &here->meta[index])) && (value & 3) == 3 &&
		    leads_into(m, address, level + 1, address_in(u, value), page))
			return true;
	}
	return false;
}

/* Can a walk read again what the entry was made of? */
static bool comes_back(struct machine *m, const struct entry *e)
{
	const struct page *page = page_with(m, e->source);

	for (size_t i = 0; i < m->count; i++) {
		const struct entry *other = &m->entries[i];

		if (other->kind == POINTER && other->start <= e->start && e->start <= other->last &&
		    (other->cpus & ~other->dying[m->cpu]) &&
		    leads_into(m, e->start, other->level + 1, other->output, page))
			return true;
	}
	return leads_into(m, e->start, m->mmu.start, m->mmu.root, page);
}

static bool kind_fits(const struct mmu *u, enum aspace_aarch64_tlbi_kind kind)
{
	bool ipa = kind == ASPACE_AARCH64_TLBI_IPA || kind == ASPACE_AARCH64_TLBI_IPA_RANGE;
	bool id = kind == ASPACE_AARCH64_TLBI_ID || kind == ASPACE_AARCH64_TLBI_VA_ALL_IDS ||
		  kind == ASPACE_AARCH64_TLBI_RANGE_ALL_IDS;

	if (u->stage2)
		return ipa || kind == ASPACE_AARCH64_TLBI_VMID || kind == ASPACE_AARCH64_TLBI_ALL;
	return !ipa && kind != ASPACE_AARCH64_TLBI_VMID && (u->ids || !id);
}

static void tlbi_issue(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	struct machine *m = ctx;
	struct target target = {0};
	bool range = tlbi->kind == ASPACE_AARCH64_TLBI_RANGE ||
		     tlbi->kind == ASPACE_AARCH64_TLBI_RANGE_ALL_IDS ||
		     tlbi->kind == ASPACE_AARCH64_TLBI_IPA_RANGE;
	bool single = tlbi->kind == ASPACE_AARCH64_TLBI_VA ||
		      tlbi->kind == ASPACE_AARCH64_TLBI_VA_ALL_IDS ||
		      tlbi->kind == ASPACE_AARCH64_TLBI_IPA;
	uint8_t cpus = tlbi->shareability == ASPACE_AARCH64_NON_SHAREABLE ? 1 : 3;

	m->tally.tlbis++;
	m->tally.ranges += range;
	m->tally.alls += !range && !single;
	m->cpus[m->cpu].outstanding = true;
	if (!kind_fits(&m->mmu, tlbi->kind))
		violate(m, "an invalidation that is not of the regime");
	if (range && !m->config.range_tlbi)
		violate(m, "a range invalidation that the processor lacks");
	if (single && field(tlbi->operand, 47, 44) && !m->config.ttl)
		violate(m, "a TTL that the processor lacks");
	if ((range && !decode_range(&m->mmu, tlbi->operand, &target)) ||
	    (single && !decode_address(&m->mmu, tlbi->operand, &target)))
		return;
	/* By the stricter reading the range is UNPREDICTABLE then. */
	if (range && target.ttl && (target.start & (size_of(&m->mmu, (int)target.ttl) - 1)))
		violate(m, "a range with a TTL whose base is not aligned to the level");
	if (tlbi->kind == ASPACE_AARCH64_TLBI_IPA || tlbi->kind == ASPACE_AARCH64_TLBI_IPA_RANGE)
		m->cpus[m->cpu].outstanding_ipa = true;
	/* A store that is not ordered before us may be seen old after us, if a walk gets there. */
	for (unsigned pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < m->count; i++) {
			struct entry *e = &m->entries[i];

			if (is_pending(m, e->source) == pass && hits(m, tlbi, &target, e) &&
			    (!pass || !comes_back(m, e)))
				e->dying[m->cpu] |= e->cpus & cpus;
		}
	}
}

static void vmid_enter(void *ctx, uint16_t vmid)
{
	struct machine *m = ctx;

	m->cpus[m->cpu].vmid = vmid;
}

static void vmid_leave(void *ctx)
{
	struct machine *m = ctx;

	if (m->cpus[m->cpu].outstanding)
		violate(m, "the VMID changes before the invalidations are complete");
	m->cpus[m->cpu].vmid = UINT16_MAX;
}

static const struct aspace_aarch64_ops ops = {
	.size = sizeof(ops),
	.table_alloc = page_alloc,
	.table_free = page_free,
	.table_retire = page_retire,
	.table_pointer = page_pointer,
	.load = load,
	.store = store,
	.swap = swap,
	.dsb = dsb,
	.isb = isb,
	.tlbi = tlbi_issue,
	.vmid_enter = vmid_enter,
	.vmid_leave = vmid_leave,
	.frame_alloc = frame_alloc,
	.frame_free = frame_free,
	.frame_retire = frame_retire,
	.frame_split = frame_split,
	.frame_clear = frame_clear,
};

static struct aspace_aarch64_ops incoherent_ops;
static bool make_incoherent;

void machine_incoherent(bool incoherent)
{
	make_incoherent = incoherent;
	incoherent_ops = ops;
	incoherent_ops.clean = clean;
}

const struct aspace_aarch64_ops *machine_ops(void)
{
	return &ops;
}

/* ---- Operations ---------------------------------------------------------------------------------- */

/* Some of what earlier operations left; the more recent the likelier. */
static void forget_some(struct machine *m)
{
	while (m->count > KEEP_MAX) {
		m->count--;
		m->entries[draw(m, (uint32_t)(m->count / 2))] = m->entries[m->count];
	}
}

void machine_begin(struct machine *m, const uint64_t *probes, size_t count)
{
	if (count > PROBES_MAX)
		abort();
	forget_some(m);
	m->probe_count = count;
	for (size_t i = 0; i < count; i++) {
		struct probe *probe = &m->probes[i];

		memset(probe, 0, sizeof(*probe));
		probe->address = probes[i];
		m->expect(m->ctx, probes[i], false, &probe->before);
		m->expect(m->ctx, probes[i], true, &probe->after);
	}
	m->running = true;
	walk_all(m);
}

void machine_turn_back(struct machine *m)
{
	for (size_t i = 0; i < m->probe_count; i++) {
		m->probes[i].before = m->probes[i].after;
		m->expect(m->ctx, m->probes[i].address, true, &m->probes[i].after);
	}
}

/* What memory says of a leaf: of a group, any of its descriptors says it for all. */
static uint64_t history_of(struct machine *m, const struct probe *probe)
{
	uint64_t all = *probe->leaf;
	struct run run;

	if (!run_of(m, probe->level, probe->leaf, all, &run))
		return all;
	for (unsigned i = 0; i < run.count; i++) {
		all |= run.entries[i] & UINT64_C(1) << 10;
		if (is_written(&m->mmu, run.entries[i]))
			all = noted(&m->mmu, all, true);
	}
	return all;
}

/* Would an access by a TLB entry leave no trace, though memory waits for one? */
static void check_history(struct machine *m, const struct entry *e, uint64_t now)
{
	if (m->mmu.ha && field(e->descriptor, 10, 10) && !field(now, 10, 10))
		violate(m, "an access through a TLB entry would leave no trace");
	if (m->mmu.hd && field(now, 51, 51) && is_written(&m->mmu, e->descriptor) &&
	    !is_written(&m->mmu, now))
		violate(m, "a write through a TLB entry would leave no trace");
}

static void check_probe(struct machine *m, struct probe *probe)
{
	probe->before = probe->after;
	walk_probe(m, probe);
	if (probe->faulted && probe->after.mapped)
		violate(m, "a mapped address faults");
	for (size_t i = 0; i < m->count; i++) {
		const struct entry *e = &m->entries[i];
		struct rights rights;

		if (e->kind == POINTER || probe->address < e->start || e->last < probe->address)
			continue;
		rights = rights_of(m, e->descriptor);
		if (!is_expected(m, &probe->after, e->output + (probe->address - e->start),
				 &rights))
			violate(m, e->kind == COMBINED ? "a combined TLB entry is stale"
						       : "a TLB entry is stale");
		if (probe->leaf && is_reachable(m, probe))
			check_history(m, e, history_of(m, probe));
	}
}

void machine_end(struct machine *m)
{
	for (unsigned i = 0; i < CPUS; i++) {
		if (m->cpus[i].stored > m->cpus[i].ordered)
			violate(m, "a store is not ordered at the end");
		if (m->cpus[i].outstanding)
			violate(m, "an invalidation is not complete at the end");
		if (m->cpus[i].unsynchronized)
			violate(m, "no ISB at the end");
	}
	for (size_t i = 0; i < m->probe_count; i++)
		check_probe(m, &m->probes[i]);
	m->running = false;
}

void machine_on_cpu(struct machine *m, unsigned cpu)
{
	if (cpu >= CPUS)
		abort();
	m->cpu = cpu;
}

void machine_refuse(struct machine *m, size_t nth)
{
	m->refuse = nth;
}

size_t machine_tables_in_use(const struct machine *m)
{
	return m->in_use;
}

const char *machine_violation(const struct machine *m)
{
	return m->violation;
}

const struct machine_tally *machine_tally(const struct machine *m)
{
	return &m->tally;
}

struct aspace_aarch64 *machine_tables(struct machine *m)
{
	return m->tables;
}

bool machine_translate(struct machine *m, uint64_t address, uint64_t *output, struct rights *rights)
{
	const struct mmu *u = &m->mmu;
	uint64_t table = u->root;

	for (int level = u->start; level <= 3; level++) {
		struct page *page = page_of(m, table);
		unsigned bits = level == u->start ? u->input - shift_of(u, level) : u->stride;
		uint64_t d = page->entries[(address >> shift_of(u, level)) &
					   ((UINT64_C(1) << bits) - 1)];

		if (!(d & 1))
			return false;
		table = address_in(u, d);
		if (level < 3 && (d & 2))
			continue;
		*output = table + (address & (size_of(u, level) - 1));
		*rights = rights_of(m, d);
		return true;
	}
	return false;
}

static FILE *log_file;

FILE *machine_log_to(const char *path)
{
	log_file = strcmp(path, "-") ? fopen(path, "w") : stdout;
	if (!log_file) {
		perror(path);
		exit(2);
	}
	return log_file;
}

struct machine *machine_create(const struct aspace_aarch64_config *config, uint64_t seed,
			       machine_expect_fn *expect, void *ctx)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config = *config,
		.ops = make_incoherent ? &incoherent_ops : &ops,
		.ctx = m,
	};

	if (!m)
		abort();
	if (log_file) {
		options.ops = log_begin(&m->log, log_file, options.ops, m);
		options.ctx = &m->log;
	}
	m->config = *config;
	m->incoherent = make_incoherent;
	m->expect = expect;
	m->ctx = ctx;
	m->random = seed;
	m->granule = (size_t)1 << config->granule_shift;
	for (unsigned i = 0; i < CPUS; i++)
		m->cpus[i].vmid = UINT16_MAX;
	/* At the top of what a descriptor can say: its highest bits are in use. */
	m->memory_base = (UINT64_C(1) << config->output_bits) - (uint64_t)PAGES * m->granule;
	if (aspace_aarch64_create(&options, &m->tables) != ASPACE_OK) {
		fprintf(stderr, "no tables for this configuration\n");
		abort();
	}
	read_registers(m);
	return m;
}

size_t machine_destroy(struct machine *m)
{
	size_t left;

	aspace_aarch64_destroy(m->tables);
	left = m->in_use;
	for (size_t i = 0; i < PAGES; i++) {
		if (m->pages[i].size > 1) {
			free(m->pages[i].entries);
			free(m->pages[i].meta);
		}
	}
	if (m->log.out)
		log_end(&m->log);
	free(m->entries);
	free(m->accesses);
	free(m);
	return left;
}
