/* SPDX-License-Identifier: MIT */
/*
 * Which sanitizer is this built with? For programs and tests, whose figures, children or mappings are
 * others under one; gcc and clang say it in different ways.
 */
#ifndef STRESS_SANITIZERS_H
#define STRESS_SANITIZERS_H

#if defined(__has_feature)
#define SANITIZERS_HAVE(feature) __has_feature(feature)
#else
#define SANITIZERS_HAVE(feature) 0
#endif

#if defined(__SANITIZE_THREAD__) || SANITIZERS_HAVE(thread_sanitizer)
#define SANITIZED_THREAD 1
#else
#define SANITIZED_THREAD 0
#endif

#if defined(__SANITIZE_ADDRESS__) || SANITIZERS_HAVE(address_sanitizer)
#define SANITIZED_ADDRESS 1
#else
#define SANITIZED_ADDRESS 0
#endif

#define SANITIZED (SANITIZED_THREAD || SANITIZED_ADDRESS)

#endif
