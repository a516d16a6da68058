/* SPDX-License-Identifier: MIT */
/*
 * Figures as summaries show them.
 */
#ifndef STRESS_FIGURES_H
#define STRESS_FIGURES_H

#include <stdint.h>
#include <stdio.h>

/* In per cent; 0 of nothing. */
double figure_share(uint64_t part, uint64_t whole);
/* A second; 0 in no time. */
double figure_rate(uint64_t count, double seconds);
/* 12345678 as "11.8 MiB". */
const char *figure_bytes(uint64_t bytes, char out[32]);
/* `text` as a string of JSON. */
void figure_string(FILE *out, const char *text);

#endif
