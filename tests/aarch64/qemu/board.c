/* SPDX-License-Identifier: MIT */
/*
 * What the bare-metal images share. See board.h.
 */
#include "board.h"

#include <stdarg.h>
#include <stdatomic.h>

void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* The volatile pointers keep the compiler from making each a call of itself. */
void *memset(void *to, int value, size_t size)
{
	volatile char *p = to;

	while (size--)
		*p++ = (char)value;
	return to;
}

void *memmove(void *to, const void *from, size_t size)
{
	volatile char *t = to;
	const char *f = from;

	if ((uintptr_t)to <= (uintptr_t)from) {
		for (size_t i = 0; i < size; i++)
			t[i] = f[i];
	} else {
		while (size--)
			t[size] = f[size];
	}
	return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
	return memmove(to, from, size);
}

int memcmp(const void *a, const void *b, size_t size)
{
	const volatile unsigned char *left = a, *right = b;

	for (; size; size--, left++, right++) {
		if (*left != *right)
			return *left < *right ? -1 : 1;
	}
	return 0;
}

/* ---- Talking to QEMU ------------------------------------------------------------------- */

void finish(int status)
{
	const uint64_t block[2] = {0x20026, (uint64_t)status};

	for (;;)
		semihosting(0x18, block);
}

static void print_number(uint64_t value, unsigned base)
{
	char text[24], *p = &text[sizeof(text) - 1];

	*p = 0;
	do
		*--p = "0123456789abcdef"[value % base];
	while (value /= base);
	if (base == 16)
		semihosting(4, "0x");
	semihosting(4, p);
}

static void say_list(const char *format, va_list list)
{
	char one[2] = {0, 0};

	for (; *format; format++) {
		bool wide = format[0] == '%' && format[1] == 'l';

		if (*format != '%') {
			one[0] = *format;
			semihosting(4, one);
			continue;
		}
		format += wide ? 2 : 1;
		if (*format == 's') {
			semihosting(4, va_arg(list, const char *));
		} else if (*format == 'd') {
			int value = va_arg(list, int);

			if (value < 0)
				semihosting(4, "-");
			print_number(value < 0 ? -(unsigned)value : (unsigned)value, 10);
		} else {
			print_number(wide ? va_arg(list, unsigned long) : va_arg(list, unsigned),
				     *format == 'x' ? 16 : 10);
		}
	}
}

void say(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	say_list(format, list);
	va_end(list);
}

void fail(const char *format, ...)
{
	va_list list;

	semihosting(4, "FAIL: ");
	va_start(list, format);
	say_list(format, list);
	va_end(list);
	semihosting(4, "\n");
	finish(1);
}

bool argument(const char *word)
{
	static char line[256];
	uint64_t block[2] = {(uint64_t)(uintptr_t)line, sizeof(line) - 1};

	if (semihosting(0x15, block)) /* SYS_GET_CMDLINE */
		return false;
	for (const char *at = line; *at; at++) {
		size_t i = 0;

		while (word[i] && at[i] == word[i])
			i++;
		if (!word[i])
			return true;
	}
	return false;
}

uint64_t draw(uint64_t n)
{
	static uint64_t state[CPUS_MAX][8]; /* a line each */
	uint64_t *s = &state[cpu_number()][0];

	if (!*s)
		*s = 0x123456789abcdef + cpu_number();
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return (*s >> 11) % n;
}

/* ---- CPUs -------------------------------------------------------------------------------- */

void start_other(void);

bool start_cpu(unsigned cpu)
{
	register uint64_t x0 __asm__("x0") = 0xc4000003; /* CPU_ON */
	register uint64_t x1 __asm__("x1") = cpu;
	register uint64_t x2 __asm__("x2") = (uint64_t)(uintptr_t)start_other;
	register uint64_t x3 __asm__("x3") =
		(uint64_t)(uintptr_t)data_end + (cpu + 1) * 2 * STACK_SIZE;

	/* The level above: QEMU itself. */
	if (current_el() == 2)
		__asm__ volatile("smc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"memory");
	else
		__asm__ volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)::"memory");
	return !x0;
}

/* A line or two for each CPU. Relaxed: numbers, they order nothing. */
static struct {
	_Alignas(64) _Atomic uint64_t of[COUNTERS];
} counters[CPUS_MAX];

void count(unsigned which)
{
	_Atomic uint64_t *counter = &counters[cpu_number()].of[which];
	uint64_t old = atomic_load_explicit(counter, memory_order_relaxed);

	atomic_store_explicit(counter, old + 1, memory_order_relaxed);
}

uint64_t sum(unsigned which)
{
	uint64_t total = 0;

	for (size_t cpu = 0; cpu < CPUS_MAX; cpu++)
		total += atomic_load_explicit(&counters[cpu].of[which], memory_order_relaxed);
	return total;
}

/* ---- Memory for tables --------------------------------------------------------------------- */

#define POOL_SIZE  (UINT64_C(24) << 20)
#define POOL_UNITS (POOL_SIZE / 4096)

static _Alignas(1 << 20) uint8_t pool[POOL_SIZE];
static uint8_t used[POOL_UNITS];
size_t pool_used, pool_taken;
uint64_t free_table_filling;

static void fill(void *memory, size_t size, uint64_t value)
{
	for (uint64_t *p = memory, *end = p + size / 8; p < end; p++)
		*p = value;
}

/* Of what all CPUs' faults and CPU 0's updates take from, tables and frames. */
static atomic_flag memory_taken = ATOMIC_FLAG_INIT;

void memory_lock(void)
{
	/* Acquire, and release below: one CPU after the other. */
	while (atomic_flag_test_and_set_explicit(&memory_taken, memory_order_acquire))
		;
}

void memory_unlock(void)
{
	atomic_flag_clear_explicit(&memory_taken, memory_order_release);
}

static bool take_table(size_t size, struct aspace_paddr *table)
{
	size_t units = size / 4096;

	for (size_t i = 0; i + units <= POOL_UNITS; i += units) {
		size_t taken = 0;

		for (size_t j = 0; j < units; j++)
			taken += used[i + j];
		if (taken)
			continue;
		for (size_t j = 0; j < units; j++)
			used[i + j] = 1;
		fill(&pool[i * 4096], size, 0);
		pool_used++;
		pool_taken++;
		*table = aspace_pa((uint64_t)(uintptr_t)&pool[i * 4096]);
		return true;
	}
	return false;
}

bool table_alloc(void *ctx, size_t size, struct aspace_paddr *table)
{
	bool taken;

	(void)ctx;
	memory_lock();
	taken = take_table(size, table);
	memory_unlock();
	return taken;
}

void table_free(void *ctx, struct aspace_paddr table, size_t size)
{
	size_t first = (table.value - (uint64_t)(uintptr_t)pool) / 4096;

	(void)ctx;
	memory_lock();
	if (free_table_filling)
		fill(&pool[first * 4096], size, free_table_filling);
	for (size_t j = 0; j < size / 4096; j++)
		used[first + j] = 0;
	pool_used--;
	memory_unlock();
}

uint64_t *table_pointer(void *ctx, struct aspace_paddr table)
{
	(void)ctx;
	return (uint64_t *)(uintptr_t)table.value;
}

void ignore_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	(void)ctx;
	(void)tlbi;
}

void local_tlbi(void *ctx, const struct aspace_aarch64_tlbi *tlbi)
{
	struct aspace_aarch64_tlbi local = *tlbi;

	local.shareability = ASPACE_AARCH64_NON_SHAREABLE;
	aspace_aarch64_cpu_tlbi(ctx, &local);
}

const struct aspace_aarch64_ops board_ops = {
	.size = sizeof(board_ops),
	.table_alloc = table_alloc,
	.table_free = table_free,
	.table_pointer = table_pointer,
	.dsb = aspace_aarch64_cpu_dsb,
	.isb = aspace_aarch64_cpu_isb,
	.tlbi = aspace_aarch64_cpu_tlbi,
};

static struct piece piece_of(const char *name, const char *start, const char *end, uint64_t flags)
{
	return (struct piece){
		name, aspace_range_of((uint64_t)(uintptr_t)start, (uint64_t)(uintptr_t)end), flags};
}

size_t image_pieces(struct piece *pieces, bool el0)
{
	static const char *const stacks[CPUS_MAX] = {"stack 0", "stack 1", "stack 2", "stack 3"};
	const uint64_t rw = ASPACE_AARCH64_READ | ASPACE_AARCH64_WRITE;
	const uint64_t device = rw | ASPACE_AARCH64_TYPE(ASPACE_AARCH64_DEVICE_nGnRnE);
	size_t n = 0;

	pieces[n++] = piece_of("text", text_start, text_end,
			       ASPACE_AARCH64_READ | ASPACE_AARCH64_EXECUTE);
	if (el0)
		pieces[n++] = piece_of("EL0's text", text_end, user_end,
				       ASPACE_AARCH64_READ | ASPACE_AARCH64_USER_EXECUTE);
	pieces[n++] = piece_of("constants", user_end, rodata_end, ASPACE_AARCH64_READ);
	pieces[n++] = piece_of("data", rodata_end, data_end, rw);
	for (size_t i = 0; i < CPUS_MAX; i++)
		pieces[n++] = piece_of(stacks[i], data_end + (2 * i + 1) * STACK_SIZE,
				       data_end + (2 * i + 2) * STACK_SIZE, rw);
	pieces[n++] = piece_of("UART", (char *)0x09000000, (char *)0x09010000, device);
	pieces[n++] = piece_of("frames", (char *)FRAMES, (char *)FRAMES + FRAMES_SIZE, rw);
	return n;
}

/* ---- Registers ------------------------------------------------------------------------------ */

/* SCTLR_ELx: RES1 bits (of a v8.0 processor; in EL1's, SPAN among them), I, C, M. */
#define SCTLR_EL1_OFF UINT64_C(0x30d00800)
#define SCTLR_EL2_OFF UINT64_C(0x30c50830)
#define SCTLR_ON      UINT64_C(0x1005)

static void invalidate_here(void)
{
	if (current_el() == 2)
		__asm__ volatile("dsb sy\n\ttlbi alle2\n\ttlbi alle1\n\tdsb sy\n\tisb" ::
					 : "memory");
	else
		__asm__ volatile("dsb sy\n\ttlbi vmalle1\n\tdsb sy\n\tisb" ::: "memory");
}

void mmu_on(const struct aspace_aarch64_config *config, const struct aspace_aarch64 *tables,
	    uint64_t sctlr)
{
	uint64_t mask, tcr = aspace_aarch64_tcr(config, &mask), ttbr = aspace_aarch64_ttbr(tables);

	if (config->regime == ASPACE_AARCH64_EL2) {
		MSR(mair_el2, aspace_aarch64_mair(config));
		MSR(tcr_el2, tcr);
		MSR(ttbr0_el2, ttbr);
		ISB();
		invalidate_here();
		MSR(sctlr_el2, SCTLR_EL2_OFF | SCTLR_ON | sctlr);
	} else {
		/* At EL2 with E2H these names mean EL2's own registers. */
		MSR(mair_el1, aspace_aarch64_mair(config));
		MSR(tcr_el1, tcr | 1 << 23 | 16 << 16 | UINT64_C(2) << 30); /* EPD1 */
		MSR(ttbr0_el1, ttbr);
		ISB();
		invalidate_here();
		MSR(sctlr_el1, SCTLR_EL1_OFF | SCTLR_ON | sctlr);
	}
	ISB();
}

void mmu_upper(const struct aspace_aarch64_config *config, const struct aspace_aarch64 *tables)
{
	uint64_t mask, tcr = aspace_aarch64_tcr(config, &mask);

	MSR(ttbr1_el1, aspace_aarch64_ttbr(tables));
	MSR(tcr_el1, (ASPACE_AARCH64_MRS(tcr_el1) & ~mask) | tcr);
	ISB();
	invalidate_here();
}

void mmu_off(void)
{
	if (current_el() == 2)
		MSR(sctlr_el2, SCTLR_EL2_OFF);
	else
		MSR(sctlr_el1, SCTLR_EL1_OFF);
	ISB();
	invalidate_here();
}

#define HCR_RW UINT64_C(0x80000000)

void guest_vectors(void);

void stage2_on(const struct aspace_aarch64_config *config, const struct aspace_aarch64 *tables)
{
	uint64_t mask;

	MSR(sctlr_el1, SCTLR_EL1_OFF);
	MSR(vbar_el1, (uint64_t)(uintptr_t)guest_vectors);
	MSR(vtcr_el2, aspace_aarch64_tcr(config, &mask));
	MSR(vttbr_el2, aspace_aarch64_ttbr(tables));
	MSR(hcr_el2, HCR_RW | 1 | (config->fwb ? UINT64_C(1) << 46 : 0)); /* VM, FWB */
	ISB();
	invalidate_here();
}

void stage2_off(void)
{
	MSR(hcr_el2, HCR_RW);
	ISB();
	invalidate_here();
}

bool qemu_refuses(const struct aspace_aarch64_config *c)
{
	if (c->regime != ASPACE_AARCH64_STAGE2 || !c->ds)
		return false;
	return (c->granule_shift == 14 && (c->start_level == 0 || c->input_bits > 51)) ||
	       (c->start_level == -1 && c->input_bits < 52);
}

/* ---- Accesses that may fault ------------------------------------------------------------------ */

uint64_t do_load(uint64_t address, uint64_t unused);
uint64_t do_store(uint64_t address, uint64_t value);
uint64_t do_fetch(uint64_t address, uint64_t unused);
void user_load(void);
void user_store(void);
void user_fetch(void);
uint64_t go_below(uint64_t x0, uint64_t x1, uint64_t pc, uint64_t spsr);
void back_from_below(void);

bool (*exception_hook)(struct frame *frame);
static struct outcome *awaited[CPUS_MAX][8]; /* the first of each line */

const char *const regime_names[] = {"EL1&0, TTBR0", "EL1&0, TTBR1", "EL2",
				    "EL2&0, TTBR0", "EL2&0, TTBR1", "stage 2"};
const char *const fault_names[] = {"no fault",      "translation", "access flag", "permission",
				   "branch target", "undefined",   "other"};

static void unexpected(uint64_t vector, const struct frame *f)
{
	fail("an exception: CPU %u vector %lu ESR %lx ELR %lx FAR %lx", cpu_number(), vector,
	     f->esr, f->elr, f->far);
}

void on_exception(uint64_t vector, struct frame *f)
{
	struct outcome *o = awaited[cpu_number()][0];
	unsigned class = (unsigned)(f->esr >> 26);

	if (vector == 4 && exception_hook && exception_hook(f))
		return;
	if (!o || (vector != 4 && vector != 8))
		unexpected(vector, f);
	awaited[cpu_number()][0] = NULL;
	o->esr = f->esr;
	o->far = f->far;
	if (vector == 4) {
		o->faulted = true;
		f->elr = f->x[30];
		return;
	}
	o->faulted = class != 0x15 && class != 0x16; /* SVC, HVC */
	f->elr = (uint64_t)(uintptr_t)back_from_below;
	f->spsr = current_el() << 2 | 1 | 0x3c0; /* its own stack, all masked */
}

static struct outcome catch (uint64_t (*call)(uint64_t, uint64_t), uint64_t x0, uint64_t x1)
{
	struct outcome o = {0};

	/* Volatile: the exception writes it. */
	*(struct outcome *volatile *)&awaited[cpu_number()][0] = &o;
	o.value = call(x0, x1);
	__asm__ volatile("" : "+m"(o)::"memory");
	*(struct outcome *volatile *)&awaited[cpu_number()][0] = NULL;
	return o;
}

struct outcome run_below(uint64_t pc, uint64_t spsr, uint64_t x0, uint64_t x1)
{
	struct outcome o = {0};

	*(struct outcome *volatile *)&awaited[cpu_number()][0] = &o;
	o.value = go_below(x0, x1, pc, spsr);
	__asm__ volatile("" : "+m"(o)::"memory");
	return o;
}

struct outcome attempt(enum access access, bool el0, uint64_t address, uint64_t value)
{
	static uint64_t (*const here[])(uint64_t, uint64_t) = {do_load, do_store, do_fetch};
	static void (*const there[])(void) = {user_load, user_store, user_fetch};

	if (el0)
		return run_below((uint64_t)(uintptr_t)there[access], 0x3c0, address, value);
	return catch (here[access], address, value);
}

void guest_load(void);
void guest_store(void);
void guest_fetch(void);

struct outcome attempt_guest(enum access access, bool el0, uint64_t address, uint64_t value)
{
	static void (*const at_el1[])(void) = {guest_load, guest_store, guest_fetch};
	static void (*const at_el0[])(void) = {user_load, user_store, user_fetch};

	/* What EL0 says by SVC, EL1's vectors pass on. */
	return run_below((uint64_t)(uintptr_t)(el0 ? at_el0 : at_el1)[access], el0 ? 0x3c0 : 0x3c5,
			 address, value);
}

struct outcome attempt_call(void (*call)(const void *), const void *argument_)
{
	return catch ((uint64_t(*)(uint64_t, uint64_t))(void (*)(void))call,
		      (uint64_t)(uintptr_t)argument_, 0);
}

/* Classes: D24.2.40. Fault status codes: of data and instruction aborts. */
struct fault decode(uint64_t esr)
{
	unsigned class = (unsigned)(esr >> 26), code = esr & 63;
	struct fault fault = {.kind = OTHER, .level = code & 3};

	if (class == 0 || class == 0xd) {
		fault.kind = class ? BRANCH_TARGET : UNDEFINED;
		return fault;
	}
	if (class != 0x20 && class != 0x21 && class != 0x24 && class != 0x25)
		return fault;
	fault.fetch = class < 0x24;
	fault.below = !(class & 1);
	fault.write = !fault.fetch && (esr & 64);
	if (code == 0x2b) {
		fault.kind = TRANSLATION;
		fault.level = -1;
	} else if (code >> 2 <= 3 && code >> 2) {
		fault.kind = code >> 2 == 1   ? TRANSLATION
			     : code >> 2 == 2 ? ACCESS_FLAG
					      : PERMISSION;
	}
	return fault;
}

void sync_code(uint64_t address)
{
	__asm__ volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %0\n\tdsb ish\n\tisb" ::"r"(address)
			 : "memory");
}

/* ---- One change of the tables --------------------------------------------------------------------- */

enum aspace_status change(struct aspace_aarch64_linear *source, enum aspace_change_kind kind,
			  uint64_t start, uint64_t end, uint64_t old_flags, uint64_t new_flags)
{
	const struct aspace_backend_ops *o = source->backend.ops;
	struct aspace_backend *backend = &source->backend;
	struct aspace_change c = {
		.kind = kind,
		.range = aspace_range_of(start, end),
		.old_flags = old_flags,
		.new_flags = new_flags,
	};
	enum aspace_status status = o->prepare(backend, &c);

	if (status == ASPACE_OK)
		status = kind == ASPACE_CHANGE_MAP     ? o->map(backend, &c)
			 : kind == ASPACE_CHANGE_UNMAP ? o->unmap(backend, &c)
						       : o->protect(backend, &c);
	o->flush(backend);
	return status;
}

static void must(enum aspace_status status, const char *what, uint64_t start, uint64_t end,
		 uint64_t flags)
{
	if (status != ASPACE_OK)
		fail("%s of [%lx, %lx), flags %lx, is refused: %d", what, start, end, flags,
		     (int)status);
}

void map_pages(struct aspace_aarch64_linear *source, uint64_t start, uint64_t end, uint64_t flags)
{
	must(change(source, ASPACE_CHANGE_MAP, start, end, 0, flags), "map", start, end, flags);
}

void unmap_pages(struct aspace_aarch64_linear *source, uint64_t start, uint64_t end, uint64_t flags)
{
	must(change(source, ASPACE_CHANGE_UNMAP, start, end, flags, 0), "unmap", start, end, flags);
}

void protect_pages(struct aspace_aarch64_linear *source, uint64_t start, uint64_t end,
		   uint64_t old_flags, uint64_t new_flags)
{
	must(change(source, ASPACE_CHANGE_PROTECT, start, end, old_flags, new_flags), "protect",
	     start, end, new_flags);
}

struct aspace_aarch64 *make_tables(const struct aspace_aarch64_config *config,
				   const struct aspace_aarch64_ops *ops)
{
	struct aspace_aarch64_options options = {
		.size = sizeof(options),
		.config = *config,
		.ops = ops,
	};
	struct aspace_aarch64 *tables;

	if (aspace_aarch64_create(&options, &tables) != ASPACE_OK)
		fail("no tables");
	return tables;
}

void map_image(struct aspace_aarch64_linear *identity, const struct aspace_aarch64_config *config)
{
	struct piece pieces[PIECES];
	size_t count = image_pieces(pieces, config->regime != ASPACE_AARCH64_EL2);

	for (size_t i = 0; i < count; i++)
		map_pages(
			identity, pieces[i].range.start.value, pieces[i].range.end.value,
			pieces[i].flags |
				(config->regime != ASPACE_AARCH64_EL2 ? ASPACE_AARCH64_GLOBAL : 0));
}

volatile uint64_t *naive_entry(const struct aspace_aarch64_config *config,
			       const struct aspace_aarch64 *tables, uint64_t address, int *level)
{
	unsigned g = config->granule_shift, stride = g - 3;
	uint64_t mask = ((UINT64_C(1) << 48) - 1) & ~((UINT64_C(1) << g) - 1);
	uint64_t table =
		aspace_aarch64_ttbr(tables) & (((UINT64_C(1) << 48) - 1) & ~UINT64_C(0x3f));
	int at = 3 - (int)((config->input_bits - 1u - g) / stride);
	unsigned bits; /* of the index; concatenated roots have more than others */

	if (config->regime == ASPACE_AARCH64_STAGE2)
		at = config->start_level;
	bits = config->input_bits - g - stride * (unsigned)(3 - at);
	for (;; at++, bits = stride) {
		unsigned shift = g + stride * (unsigned)(3 - at);
		uint64_t index = address >> shift & ((UINT64_C(1) << bits) - 1);
		volatile uint64_t *d = (volatile uint64_t *)(uintptr_t)table + index;

		*level = at;
		if (at == 3 || (*d & 3) != 3)
			return d;
		table = *d & mask;
	}
}
