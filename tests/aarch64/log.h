/* SPDX-License-Identifier: MIT */
/*
 * What AArch64 tables ask of their machine, as text: one event a line (docs/aarch64.md says which),
 * so that a sequence can be read, or fed to a checker that shares nothing with us.
 *
 * A table of operations that writes a line and calls the one below. It is part of the tests: a
 * program can put its own table in between in the same way, and write as it likes.
 */
#ifndef TESTS_AARCH64_LOG_H
#define TESTS_AARCH64_LOG_H

#include <aspace/backend/aarch64.h>

#include <stdio.h>

struct log_table {
	uint64_t address;
	const uint64_t *pointer;
	size_t size;
};

struct log {
	struct aspace_aarch64_ops ops;
	FILE *out;
	const struct aspace_aarch64_ops *below;
	void *ctx;
	struct log_table *tables; /* those that are allocated */
	size_t count, capacity;
};

/* The operations of a log, whose ctx is the log: for those of `below`, with its `ctx`. */
const struct aspace_aarch64_ops *log_begin(struct log *log, FILE *out,
					   const struct aspace_aarch64_ops *below, void *ctx);
void log_end(struct log *log);

#endif
