/* SPDX-License-Identifier: MIT */
/*
 * May what the torture keeps for itself order its threads? Not under ThreadSanitizer, which is to see what
 * the library alone orders.
 */
#ifndef TORTURE_ORDERED_H
#define TORTURE_ORDERED_H

#if defined(__SANITIZE_THREAD__)
#define ORDERED 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ORDERED 0
#endif
#endif
#ifndef ORDERED
#define ORDERED 1
#endif

#endif
