/* SPDX-License-Identifier: MIT */
/*
 * Fuzzing the public API: the fuzzer's bytes choose a configuration and then the
 * operations of tests/model, which check every answer against an array.
 *
 * With libFuzzer: LLVMFuzzerTestOneInput. With -DFUZZ_REPLAY, a program that runs the
 * files that it is given, and as many made-up ones as --random N says.
 */
#include "../model/engine.h"

#include <aspace/aspace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t draw_byte(struct source *source, uint32_t n)
{
	uint32_t value = 0;

	/* As many bytes as n needs, so that a byte changed is a choice changed. */
	for (uint32_t left = n - 1; left && source->left; left >>= 8, source->left--)
		value = value << 8 | *source->bytes++;
	if (!source->left)
		source->dry = true;
	return value % n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct source source = {.draw = draw_byte, .bytes = data, .left = size};
	struct tally tally = {0};
	struct config config = {.check_every = 1, .unit = 1};
	uint8_t choice;

	if (size < 2)
		return 0;
	choice = data[0];
	source.bytes++;
	source.left--;
	config.cells = 8 + 20 * (choice & 3);
	if (choice & 4)
		config.mode |= ASPACE_GRACE_UNMAP;
	if (choice & 8)
		config.mode |= ASPACE_ALWAYS_STRICT;
	config.users = choice & 16;
	config.refusals = choice & 32;
	if (choice & 64)
		config.mode |= ASPACE_NEVER_MERGE;
	if (choice & 128)
		config.base = UINT64_MAX - config.cells;
	model_run(&config, &source, "fuzz_api", &tally);
	return 0;
}

#ifdef FUZZ_REPLAY
static int run_file(const char *name)
{
	static uint8_t data[1 << 16];
	FILE *file = fopen(name, "rb");
	size_t size;

	if (!file) {
		perror(name);
		return 1;
	}
	size = fread(data, 1, sizeof(data), file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, size);
	return 0;
}

static void run_random(unsigned seed)
{
	uint8_t data[600];

	srand(seed);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(rand() >> 7);
	LLVMFuzzerTestOneInput(data, sizeof(data));
}

int main(int argc, char **argv)
{
	unsigned count = 0;

	if (argc > 2 && !strcmp(argv[1], "--random")) {
		count = (unsigned)strtoul(argv[2], NULL, 0);
		argv += 2;
		argc -= 2;
	}
	for (unsigned i = 0; i < count; i++)
		run_random(i);
	for (int i = 1; i < argc; i++) {
		if (run_file(argv[i]))
			return 1;
	}
	printf("fuzz_api: %u made-up inputs, %d files\n", count, argc - 1);
	return 0;
}
#endif
