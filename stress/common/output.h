/* SPDX-License-Identifier: MIT */
/*
 * Where a program's summaries go: as text to the standard output, and as an array of JSON
 * objects to a file, or to the standard output in place of the text.
 */
#ifndef STRESS_OUTPUT_H
#define STRESS_OUTPUT_H

#include <stdbool.h>
#include <stdio.h>

struct output {
	FILE *text, *json; /* NULL: none */
	const char *program, *path;
	unsigned objects;
};

/* `path`: of the JSON, "-" for the standard output, or NULL. False: it was said why. */
bool output_open(struct output *output, const char *program, const char *path, bool quiet);
/* Before an object of the array: where it goes, or NULL. */
FILE *output_next(struct output *output);
/* False: not all could be written; it was said. */
bool output_close(struct output *output);

#endif
