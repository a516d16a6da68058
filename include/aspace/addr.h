/* SPDX-License-Identifier: MIT */
/**
 * @file
 * Addresses, ranges and page arithmetic.
 *
 * Virtual and physical addresses are distinct structure types, so that mixing
 * them does not compile. What can be done with one can be done with the other:
 *
 * | on                       | the functions are called                   |
 * |--------------------------|--------------------------------------------|
 * | plain numbers            | aspace_align_up(), aspace_checked_add(), … |
 * | struct aspace_vaddr      | aspace_va_align_up(), …                    |
 * | struct aspace_paddr      | aspace_pa_align_up(), …                    |
 * | struct aspace_range      | aspace_range_contains(), …                 |
 * | struct aspace_phys_range | aspace_phys_range_contains(), …            |
 * | struct aspace_page_iter  | aspace_page_iter_next(), …                 |
 * | struct aspace_phys_page_iter | aspace_phys_page_iter_next(), …        |
 *
 * The unit is the byte throughout. Arithmetic that can leave [0, 2^64 - 1] comes
 * in three forms, of which only the first fails:
 *  - *checked* answers whether the result fits, and stores it only then;
 *  - *wrapping* is modulo 2^64;
 *  - *overflowing* stores the wrapped result and answers whether it wrapped.
 *
 * Everything here is inline, O(1), touches no memory but what it is passed, and may
 * be called anywhere, signal handlers included. Nothing here aborts: an
 * alignment or a page size that is not a power of two is refused by the calls
 * that can refuse, and gives the others a meaningless number.
 */
#ifndef ASPACE_ADDR_H
#define ASPACE_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** @p value as a @p type, without a warning from a C++ compiler that wants no old-style casts. */
#ifdef __cplusplus
#define ASPACE_CAST(type, value) (static_cast<type>(value))
#else
#define ASPACE_CAST(type, value) ((type)(value))
#endif

/** Bytes in a 4 KiB page. */
#define ASPACE_PAGE_4K UINT64_C(0x1000)
/** Bytes in a 2 MiB page. */
#define ASPACE_PAGE_2M UINT64_C(0x200000)
/** Bytes in a 1 GiB page. */
#define ASPACE_PAGE_1G UINT64_C(0x40000000)

/** A virtual address. A distinct type: it does not mix with struct aspace_paddr. */
struct aspace_vaddr {
	/** In bytes. */
	uint64_t value;
};

/** A physical address. */
struct aspace_paddr {
	/** In bytes. */
	uint64_t value;
};

/**
 * A half-open range [start, end) of virtual addresses. Empty where start == end,
 * unusable where start > end; the last byte of the 64-bit space is in no range.
 */
struct aspace_range {
	/** The first address inside. */
	struct aspace_vaddr start;
	/** The first address beyond. */
	struct aspace_vaddr end;
};

/** A half-open range [start, end) of physical addresses, like struct aspace_range. */
struct aspace_phys_range {
	/** The first address inside. */
	struct aspace_paddr start;
	/** The first address beyond. */
	struct aspace_paddr end;
};

/**
 * A walk over the pages of a range, upward.
 *
 * aspace_page_iter_begin() refuses a page size that is not a power of two, a start
 * or an end that is not a multiple of it, and a start above the end. An empty
 * range has no pages. An inverted range, start above end, is thus an error here (the
 * Rust crate walks it as an empty one). Change nothing by hand after that.
 */
struct aspace_page_iter {
	/** The page that comes next. */
	struct aspace_vaddr at;
	/** Where the walk ends. */
	struct aspace_vaddr end;
	/** Bytes in a page. */
	uint64_t page_size;
};

/** A walk over the pages of a physical range, like struct aspace_page_iter. */
struct aspace_phys_page_iter {
	/** The page that comes next. */
	struct aspace_paddr at;
	/** Where the walk ends. */
	struct aspace_paddr end;
	/** Bytes in a page. */
	uint64_t page_size;
};

/* ---- Plain numbers -------------------------------------------------------- */

/** Is @p value a power of two? Zero is none. */
static inline bool aspace_is_power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

/** The greatest multiple of @p align, a power of two, that is at most @p value. */
static inline uint64_t aspace_align_down(uint64_t value, uint64_t align)
{
	return value & ~(align - 1);
}

/**
 * The least multiple of @p align, a power of two, that is at least @p value.
 *
 * Wraps to 0 where that would be 2^64: see aspace_checked_align_up().
 */
static inline uint64_t aspace_align_up(uint64_t value, uint64_t align)
{
	return aspace_align_down(value + (align - 1), align);
}

/**
 * aspace_align_up() that does not wrap.
 *
 * Answers false, and leaves @p result alone, where the result would be 2^64 or
 * @p align is not a power of two.
 */
static inline bool aspace_checked_align_up(uint64_t value, uint64_t align, uint64_t *result)
{
	if (!aspace_is_power_of_two(align) || value > aspace_align_down(UINT64_MAX, align))
		return false;
	*result = aspace_align_up(value, align);
	return true;
}

/** Bytes from the multiple of @p align, a power of two, below @p value to @p value. */
static inline uint64_t aspace_align_offset(uint64_t value, uint64_t align)
{
	return value & (align - 1);
}

/** Is @p value a multiple of @p align, a power of two? */
static inline bool aspace_is_aligned(uint64_t value, uint64_t align)
{
	return aspace_align_offset(value, align) == 0;
}

/** aspace_align_down() to 4096. */
static inline uint64_t aspace_align_down_4k(uint64_t value)
{
	return aspace_align_down(value, ASPACE_PAGE_4K);
}

/** aspace_align_up() to 4096. */
static inline uint64_t aspace_align_up_4k(uint64_t value)
{
	return aspace_align_up(value, ASPACE_PAGE_4K);
}

/** aspace_align_offset() in 4096. */
static inline uint64_t aspace_align_offset_4k(uint64_t value)
{
	return aspace_align_offset(value, ASPACE_PAGE_4K);
}

/** aspace_is_aligned() to 4096. */
static inline bool aspace_is_aligned_4k(uint64_t value)
{
	return aspace_is_aligned(value, ASPACE_PAGE_4K);
}

/** @p a + @p b modulo 2^64. */
static inline uint64_t aspace_wrapping_add(uint64_t a, uint64_t b)
{
	return a + b;
}

/** @p a - @p b modulo 2^64. */
static inline uint64_t aspace_wrapping_sub(uint64_t a, uint64_t b)
{
	return a - b;
}

/** Store @p a + @p b modulo 2^64; true if it wrapped. */
static inline bool aspace_overflowing_add(uint64_t a, uint64_t b, uint64_t *result)
{
	*result = a + b;
	return *result < a;
}

/** Store @p a - @p b modulo 2^64; true if it wrapped. */
static inline bool aspace_overflowing_sub(uint64_t a, uint64_t b, uint64_t *result)
{
	*result = a - b;
	return b > a;
}

/** Store @p a + @p b; false, and nothing stored, if it does not fit. */
static inline bool aspace_checked_add(uint64_t a, uint64_t b, uint64_t *result)
{
	if (b > UINT64_MAX - a)
		return false;
	*result = a + b;
	return true;
}

/** Store @p a - @p b; false, and nothing stored, if it would be negative. */
static inline bool aspace_checked_sub(uint64_t a, uint64_t b, uint64_t *result)
{
	if (b > a)
		return false;
	*result = a - b;
	return true;
}

/** @p value moved by @p offset, which may be negative, modulo 2^64. */
static inline uint64_t aspace_wrapping_offset(uint64_t value, int64_t offset)
{
	return value + ASPACE_CAST(uint64_t, offset);
}

/** Store @p value moved by @p offset, which may be negative; false, and nothing
 * stored, if it does not fit. */
static inline bool aspace_checked_offset(uint64_t value, int64_t offset, uint64_t *result)
{
	if (offset >= 0)
		return aspace_checked_add(value, ASPACE_CAST(uint64_t, offset), result);
	/* 0 - offset, unlike -offset, is right for INT64_MIN too. */
	return aspace_checked_sub(value, 0 - ASPACE_CAST(uint64_t, offset), result);
}

/** Store the signed distance @p value - @p base; false, and nothing stored, if it
 * lies outside [-2^63, 2^63 - 1]. */
static inline bool aspace_checked_offset_from(uint64_t value, uint64_t base, int64_t *result)
{
	if (value >= base) {
		if (value - base > INT64_MAX)
			return false;
		*result = ASPACE_CAST(int64_t, value - base);
	} else {
		if (base - value - 1 > INT64_MAX)
			return false;
		/* Written so that -2^63 comes about without an overflow on the way. */
		*result = -ASPACE_CAST(int64_t, base - value - 1) - 1;
	}
	return true;
}

/* ---- Addresses, ranges and pages ------------------------------------------ */

/** The virtual address @p value. */
static inline struct aspace_vaddr aspace_va(uint64_t value)
{
	struct aspace_vaddr address = {value};

	return address;
}

/** The physical address @p value. */
static inline struct aspace_paddr aspace_pa(uint64_t value)
{
	struct aspace_paddr address = {value};

	return address;
}

/** The range [start, end), unchecked: for literals and for values that were checked. */
static inline struct aspace_range aspace_range_of(uint64_t start, uint64_t end)
{
	struct aspace_range range = {{start}, {end}};

	return range;
}

/** The physical range [start, end), unchecked, like aspace_range_of(). */
static inline struct aspace_phys_range aspace_phys_range_of(uint64_t start, uint64_t end)
{
	struct aspace_phys_range range = {{start}, {end}};

	return range;
}

/**
 * The functions on addresses of type @p ADDR, with names that begin with @p NAME.
 *
 * A template, so that virtual and physical addresses cannot come to differ. It
 * is instantiated twice, just below.
 */
#define ASPACE_ADDRESS_FUNCTIONS(NAME, ADDR)                                                       \
	/** Negative, 0 or positive as @p a is below, at or above @p b. */                         \
	static inline int NAME##_compare(ADDR a, ADDR b)                                           \
	{                                                                                          \
		return (a.value > b.value) - (a.value < b.value);                                  \
	}                                                                                          \
	/** aspace_align_down() of an address. */                                                  \
	static inline ADDR NAME##_align_down(ADDR address, uint64_t align)                         \
	{                                                                                          \
		return NAME(aspace_align_down(address.value, align));                              \
	}                                                                                          \
	/** aspace_align_up() of an address. */                                                    \
	static inline ADDR NAME##_align_up(ADDR address, uint64_t align)                           \
	{                                                                                          \
		return NAME(aspace_align_up(address.value, align));                                \
	}                                                                                          \
	/** aspace_checked_align_up() of an address. */                                            \
	static inline bool NAME##_checked_align_up(ADDR address, uint64_t align, ADDR *result)     \
	{                                                                                          \
		return aspace_checked_align_up(address.value, align, &result->value);              \
	}                                                                                          \
	/** aspace_align_offset() of an address. */                                                \
	static inline uint64_t NAME##_align_offset(ADDR address, uint64_t align)                   \
	{                                                                                          \
		return aspace_align_offset(address.value, align);                                  \
	}                                                                                          \
	/** aspace_is_aligned() of an address. */                                                  \
	static inline bool NAME##_is_aligned(ADDR address, uint64_t align)                         \
	{                                                                                          \
		return aspace_is_aligned(address.value, align);                                    \
	}                                                                                          \
	/** aspace_align_down_4k() of an address. */                                               \
	static inline ADDR NAME##_align_down_4k(ADDR address)                                      \
	{                                                                                          \
		return NAME(aspace_align_down_4k(address.value));                                  \
	}                                                                                          \
	/** aspace_align_up_4k() of an address. */                                                 \
	static inline ADDR NAME##_align_up_4k(ADDR address)                                        \
	{                                                                                          \
		return NAME(aspace_align_up_4k(address.value));                                    \
	}                                                                                          \
	/** aspace_align_offset_4k() of an address. */                                             \
	static inline uint64_t NAME##_align_offset_4k(ADDR address)                                \
	{                                                                                          \
		return aspace_align_offset_4k(address.value);                                      \
	}                                                                                          \
	/** aspace_is_aligned_4k() of an address. */                                               \
	static inline bool NAME##_is_aligned_4k(ADDR address)                                      \
	{                                                                                          \
		return aspace_is_aligned_4k(address.value);                                        \
	}                                                                                          \
	/** The address @p bytes above, modulo 2^64. */                                            \
	static inline ADDR NAME##_wrapping_add(ADDR address, uint64_t bytes)                       \
	{                                                                                          \
		return NAME(aspace_wrapping_add(address.value, bytes));                            \
	}                                                                                          \
	/** The address @p bytes below, modulo 2^64. */                                            \
	static inline ADDR NAME##_wrapping_sub(ADDR address, uint64_t bytes)                       \
	{                                                                                          \
		return NAME(aspace_wrapping_sub(address.value, bytes));                            \
	}                                                                                          \
	/** Store the address @p bytes above, modulo 2^64; true if it wrapped. */                  \
	static inline bool NAME##_overflowing_add(ADDR address, uint64_t bytes, ADDR *result)      \
	{                                                                                          \
		return aspace_overflowing_add(address.value, bytes, &result->value);               \
	}                                                                                          \
	/** Store the address @p bytes below, modulo 2^64; true if it wrapped. */                  \
	static inline bool NAME##_overflowing_sub(ADDR address, uint64_t bytes, ADDR *result)      \
	{                                                                                          \
		return aspace_overflowing_sub(address.value, bytes, &result->value);               \
	}                                                                                          \
	/** Store the address @p bytes above; false, and nothing stored, if none is. */            \
	static inline bool NAME##_checked_add(ADDR address, uint64_t bytes, ADDR *result)          \
	{                                                                                          \
		return aspace_checked_add(address.value, bytes, &result->value);                   \
	}                                                                                          \
	/** Store the address @p bytes below; false, and nothing stored, if none is. */            \
	static inline bool NAME##_checked_sub(ADDR address, uint64_t bytes, ADDR *result)          \
	{                                                                                          \
		return aspace_checked_sub(address.value, bytes, &result->value);                   \
	}                                                                                          \
	/** aspace_wrapping_offset() of an address, in bytes. */                                   \
	static inline ADDR NAME##_wrapping_offset(ADDR address, int64_t bytes)                     \
	{                                                                                          \
		return NAME(aspace_wrapping_offset(address.value, bytes));                         \
	}                                                                                          \
	/** aspace_checked_offset() of an address, in bytes. */                                    \
	static inline bool NAME##_checked_offset(ADDR address, int64_t bytes, ADDR *result)        \
	{                                                                                          \
		return aspace_checked_offset(address.value, bytes, &result->value);                \
	}                                                                                          \
	/** aspace_checked_offset_from() of addresses: bytes from @p base to @p address. */        \
	static inline bool NAME##_checked_offset_from(ADDR address, ADDR base, int64_t *bytes)     \
	{                                                                                          \
		return aspace_checked_offset_from(address.value, base.value, bytes);               \
	}                                                                                          \
	/** The distance in bytes from @p base up to @p address, modulo 2^64. */                   \
	static inline uint64_t NAME##_wrapping_distance(ADDR address, ADDR base)                   \
	{                                                                                          \
		return aspace_wrapping_sub(address.value, base.value);                             \
	}                                                                                          \
	/** Store the distance from @p base up to @p address modulo 2^64; true if it wrapped. */   \
	static inline bool NAME##_overflowing_distance(ADDR address, ADDR base, uint64_t *bytes)   \
	{                                                                                          \
		return aspace_overflowing_sub(address.value, base.value, bytes);                   \
	}                                                                                          \
	/** Store the distance from @p base up; false, and nothing stored, if that is above. */    \
	static inline bool NAME##_checked_distance(ADDR address, ADDR base, uint64_t *bytes)       \
	{                                                                                          \
		return aspace_checked_sub(address.value, base.value, bytes);                       \
	}

/**
 * The functions on ranges of type @p RANGE over addresses of type @p ADDR, with
 * names that begin with @p NAME. A template, instantiated twice below.
 *
 * An empty range holds no address and overlaps nothing; it is contained where
 * its start and end lie within the other's. An unusable range (start > end) is
 * treated as empty, but is contained nowhere.
 */
#define ASPACE_RANGE_FUNCTIONS(NAME, RANGE, ADDR)                                                  \
	/** Store [start, end); false, and nothing stored, if @p start is above @p end. */         \
	static inline bool NAME##_try_new(ADDR start, ADDR end, RANGE *range)                      \
	{                                                                                          \
		if (start.value > end.value)                                                       \
			return false;                                                              \
		*range = NAME##_of(start.value, end.value);                                        \
		return true;                                                                       \
	}                                                                                          \
	/** Store [start, start + size); false, and nothing stored, if its end does not fit. */    \
	static inline bool NAME##_try_from_size(ADDR start, uint64_t size, RANGE *range)           \
	{                                                                                          \
		uint64_t end;                                                                      \
                                                                                                   \
		if (!aspace_checked_add(start.value, size, &end))                                  \
			return false;                                                              \
		*range = NAME##_of(start.value, end);                                              \
		return true;                                                                       \
	}                                                                                          \
	/** Is no address in @p range? */                                                          \
	static inline bool NAME##_is_empty(RANGE range)                                            \
	{                                                                                          \
		return range.start.value >= range.end.value;                                       \
	}                                                                                          \
	/** Bytes in @p range. */                                                                  \
	static inline uint64_t NAME##_size(RANGE range)                                            \
	{                                                                                          \
		return NAME##_is_empty(range) ? 0 : range.end.value - range.start.value;           \
	}                                                                                          \
	/** Have @p a and @p b the same start and the same end? */                                 \
	static inline bool NAME##_equal(RANGE a, RANGE b)                                          \
	{                                                                                          \
		return a.start.value == b.start.value && a.end.value == b.end.value;               \
	}                                                                                          \
	/** Is @p address in @p range? */                                                          \
	static inline bool NAME##_contains(RANGE range, ADDR address)                              \
	{                                                                                          \
		return range.start.value <= address.value && address.value < range.end.value;      \
	}                                                                                          \
	/** Does @p inner lie within @p range? */                                                  \
	static inline bool NAME##_contains_range(RANGE range, RANGE inner)                         \
	{                                                                                          \
		return range.start.value <= inner.start.value &&                                   \
		       inner.start.value <= inner.end.value && inner.end.value <= range.end.value; \
	}                                                                                          \
	/** Does @p range lie within @p outer? */                                                  \
	static inline bool NAME##_contained_in(RANGE range, RANGE outer)                           \
	{                                                                                          \
		return NAME##_contains_range(outer, range);                                        \
	}                                                                                          \
	/** Is any address in both? */                                                             \
	static inline bool NAME##_overlaps(RANGE a, RANGE b)                                       \
	{                                                                                          \
		return !NAME##_is_empty(a) && !NAME##_is_empty(b) &&                               \
		       a.start.value < b.end.value && b.start.value < a.end.value;                 \
	}                                                                                          \
	/** Are start and end multiples of @p align, a power of two? */                            \
	static inline bool NAME##_is_aligned(RANGE range, uint64_t align)                          \
	{                                                                                          \
		return aspace_is_aligned(range.start.value | range.end.value, align);              \
	}

/**
 * The functions on walks of type @p ITER over ranges of type @p RANGE, with names
 * that begin with @p NAME. A template, instantiated twice below.
 */
#define ASPACE_PAGE_ITER_FUNCTIONS(NAME, ITER, RANGE_NAME, RANGE, ADDR)                            \
	/** Begin a walk by pages of @p page_size bytes; false, and nothing stored, if refused. */ \
	static inline bool NAME##_begin(RANGE range, uint64_t page_size, ITER *iter)               \
	{                                                                                          \
		if (!aspace_is_power_of_two(page_size) ||                                          \
		    !RANGE_NAME##_is_aligned(range, page_size) ||                                  \
		    range.start.value > range.end.value)                                           \
			return false;                                                              \
		iter->at = range.start;                                                            \
		iter->end = range.end;                                                             \
		iter->page_size = page_size;                                                       \
		return true;                                                                       \
	}                                                                                          \
	/** Begin a walk by 4 KiB pages. */                                                        \
	static inline bool NAME##_begin_4k(RANGE range, ITER *iter)                                \
	{                                                                                          \
		return NAME##_begin(range, ASPACE_PAGE_4K, iter);                                  \
	}                                                                                          \
	/** Begin a walk by 2 MiB pages. */                                                        \
	static inline bool NAME##_begin_2m(RANGE range, ITER *iter)                                \
	{                                                                                          \
		return NAME##_begin(range, ASPACE_PAGE_2M, iter);                                  \
	}                                                                                          \
	/** Begin a walk by 1 GiB pages. */                                                        \
	static inline bool NAME##_begin_1g(RANGE range, ITER *iter)                                \
	{                                                                                          \
		return NAME##_begin(range, ASPACE_PAGE_1G, iter);                                  \
	}                                                                                          \
	/** Store the start of the next page; false, and nothing stored, at the end. */            \
	static inline bool NAME##_next(ITER *iter, ADDR *page)                                     \
	{                                                                                          \
		if (iter->at.value >= iter->end.value)                                             \
			return false;                                                              \
		*page = iter->at;                                                                  \
		/* Cannot wrap: end is a multiple of the page size, and above. */                  \
		iter->at.value += iter->page_size;                                                 \
		return true;                                                                       \
	}

ASPACE_ADDRESS_FUNCTIONS(aspace_va, struct aspace_vaddr)
ASPACE_ADDRESS_FUNCTIONS(aspace_pa, struct aspace_paddr)

ASPACE_RANGE_FUNCTIONS(aspace_range, struct aspace_range, struct aspace_vaddr)
ASPACE_RANGE_FUNCTIONS(aspace_phys_range, struct aspace_phys_range, struct aspace_paddr)

ASPACE_PAGE_ITER_FUNCTIONS(aspace_page_iter, struct aspace_page_iter, aspace_range,
			   struct aspace_range, struct aspace_vaddr)
ASPACE_PAGE_ITER_FUNCTIONS(aspace_phys_page_iter, struct aspace_phys_page_iter, aspace_phys_range,
			   struct aspace_phys_range, struct aspace_paddr)

#endif
