/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <errno.h>
#include <string.h>

bool output_open(struct output *output, const char *program, const char *path, bool quiet)
{
	*output = (struct output){
		.text = quiet ? NULL : stdout,
		.program = program,
		.path = path,
	};
	if (!path)
		return true;
	if (!strcmp(path, "-")) {
		output->json = stdout;
		output->text = NULL;
	} else {
		output->json = fopen(path, "we");
		if (!output->json) {
			fprintf(stderr, "%s: %s: %s\n", program, path, strerror(errno));
			return false;
		}
	}
	fputs("[\n", output->json);
	return true;
}

FILE *output_next(struct output *output)
{
	if (output->json && output->objects++)
		fputs(",\n", output->json);
	return output->json;
}

bool output_close(struct output *output)
{
	bool fine = true;

	if (output->json) {
		fputs("\n]\n", output->json);
		fine = !ferror(output->json) && !fflush(output->json);
		if (output->json != stdout)
			fine = !fclose(output->json) && fine;
		if (!fine)
			fprintf(stderr, "%s: %s: not written\n", output->program, output->path);
	}
	/* What could not be written may have been flushed, and lost, before. */
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "%s: the standard output: not written\n", output->program);
		fine = false;
	}
	return fine;
}
