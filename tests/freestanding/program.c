/* SPDX-License-Identifier: MIT */
/*
 * The least that a program without a libc supplies, and a look at what it gets: linked with
 * -nostdlib -static; where Linux runs it, it ends with 0 if all went well.
 */
#include <aspace/aspace.h>
#include <aspace/backend/null.h>
#include <aspace/bare_metal.h>

/* ---- What bare_metal.h asks for -------------------------------------------- */

static _Alignas(4096) unsigned char pages[4 << 20];
static size_t used;

unsigned aspace_bare_cpu(void)
{
	return 0;
}

void *aspace_bare_pages_alloc(size_t size)
{
	if (size > sizeof(pages) - used)
		return NULL;
	used += size;
	return pages + used - size;
}

void aspace_bare_pages_free(void *block, size_t size)
{
	(void)block;
	(void)size;
}

/* ---- What compilers call, freestanding or not ------------------------------- */

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);

/* The volatile pointers keep the compiler from making each a call of itself. */
void *memcpy(void *to, const void *from, size_t size)
{
	return memmove(to, from, size);
}

void *memmove(void *to, const void *from, size_t size)
{
	volatile unsigned char *t = to;
	const volatile unsigned char *f = from;

	if ((uintptr_t)to <= (uintptr_t)from) {
		for (size_t i = 0; i < size; i++)
			t[i] = f[i];
	} else {
		while (size--)
			t[size] = f[size];
	}
	return to;
}

void *memset(void *to, int byte, size_t size)
{
	volatile unsigned char *t = to;

	while (size--)
		*t++ = (unsigned char)byte;
	return to;
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

/* ---- The program ------------------------------------------------------------ */

static int use(void)
{
	struct aspace *space, *other;
	struct aspace_txn *txn;
	struct aspace_area area;

	if (aspace_create(NULL, &space) != ASPACE_OK)
		return 1;
	if (aspace_map(space, aspace_range_of(0x1000, 0x9000), 3, aspace_null_backend(), NULL, 0) ||
	    aspace_protect(space, aspace_range_of(0x3000, 0x5000), 1, 0) ||
	    aspace_unmap(space, aspace_range_of(0x8000, 0x9000), 0))
		return 2;
	if (aspace_find(space, aspace_va(0x4321), &area) || area.start.value != 0x3000 ||
	    area.end.value != 0x5000 || area.flags != 1 || aspace_count(space) != 3 ||
	    aspace_find(space, aspace_va(0x8000), NULL) != ASPACE_NOT_MAPPED)
		return 3;
	/* Who holds the lock of a space waits for the readers of none. */
	if (aspace_create(NULL, &other) != ASPACE_OK ||
	    aspace_txn_begin(space, 0, &txn) != ASPACE_OK)
		return 4;
	if (aspace_destroy(other, 0) != ASPACE_BUSY)
		return 5;
	aspace_txn_abort(txn);
	if (aspace_destroy(other, 0) != ASPACE_OK)
		return 6;
	return aspace_destroy(space, 0) == ASPACE_OK ? 0 : 7;
}

void _start(void);

/* The kernel enters with an aligned stack and no return address. */
__attribute__((force_align_arg_pointer, noreturn)) void _start(void)
{
	long status = use();

	for (;;)
		__asm__ volatile("syscall"
				 :
				 : "a"(60L), "D"(status)
				 : "rcx", "r11", "memory"); /* exit */
}
