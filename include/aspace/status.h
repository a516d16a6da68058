/* SPDX-License-Identifier: MIT */
/**
 * @file
 * Status codes: what every call of the library answers.
 */
#ifndef ASPACE_STATUS_H
#define ASPACE_STATUS_H

#if defined(__GNUC__)
/** Marks what the shared library exports. */
#define ASPACE_API __attribute__((visibility("default")))
#else
#define ASPACE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/** Result of a library call or of a backend operation. Zero is success. */
enum aspace_status {
	/** Done. */
	ASPACE_OK = 0,
	/** An argument is unusable: an empty or wrapping range, a misaligned
	 * address, an alignment that is not a power of two, a range outside the
	 * limits, a flag that the backend did not declare. Nothing changed. */
	ASPACE_INVALID_PARAM,
	/** The range holds an area already. Nothing changed. */
	ASPACE_ALREADY_EXISTS,
	/** A backend refused half way and what it had done could not be undone.
	 * The space says exactly what the backend still holds. */
	ASPACE_BAD_STATE,
	/** Memory, or a kernel resource such as the mapping limit, ran out.
	 * Nothing changed. */
	ASPACE_NO_MEMORY,
	/** No gap fits the request. Nothing changed. */
	ASPACE_NO_SPACE,
	/** No area holds the address, or a hole where a strict call found one.
	 * Nothing changed. */
	ASPACE_NOT_MAPPED,
	/** The call would have to wait, for readers, a writer, a fault or an advice, and may not: it was
	 * asked not to, or the calling thread is in a read section (readers only), or has a
	 * transaction open on another space, or is in a callback of one. Nothing changed. */
	ASPACE_BUSY,
	/** The calling thread already holds this space's writer lock, because a backend
	 * or an open transaction of this thread is beneath the call; or it is in a backend's
	 * `fault` or `advise`, which the call would wait for; or a `release` of
	 * this space is beneath it, and it would wait for deferred work, which that
	 * thread is running. Waiting would never end. Nothing changed. */
	ASPACE_DEADLOCK,
	/** The backend or the mode of the space does not offer this. Nothing
	 * changed. */
	ASPACE_NOT_SUPPORTED,
	/** A fault handler found that the area does not allow the access. */
	ASPACE_ACCESS_DENIED,
};

/**
 * The name of a status, such as "ASPACE_NO_MEMORY".
 *
 * Context: anywhere, signal handlers included. Never NULL: an unknown value
 * gives "ASPACE_STATUS_UNKNOWN". The string is static. O(1).
 */
ASPACE_API const char *aspace_status_string(enum aspace_status status);

#ifdef __cplusplus
}
#endif

#endif
