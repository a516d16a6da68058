/* SPDX-License-Identifier: MIT */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

void progress_begin(struct progress *progress, bool quiet)
{
	*progress = (struct progress){.shown = !quiet && isatty(STDERR_FILENO)};
}

bool progress_due(struct progress *progress, uint64_t now)
{
	if (!progress->shown || now < progress->next)
		return false;
	progress->next = now + 100 * 1000 * 1000;
	return true;
}

void progress_show(struct progress *progress, const char *text)
{
	if (progress->shown)
		fprintf(stderr, "\r%.100s\033[K", text);
}

void progress_end(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
}
