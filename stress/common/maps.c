/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* memmem */
#include "maps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "array.h"

/* A line of the text, and what smaps has below it. */
struct mapping {
	uint64_t start, end;
	char permissions[5];
	uint64_t inode;
	const char *path; /* up to the end of the line */
	bool flags;       /* VmFlags were there, */
	bool noreserve;   /* with "nr": not charged against overcommit */
};

/* Not sscanf: a text of 65,000 lines would take it minutes (it calls strlen). */
static bool parse_mapping(const char *line, struct mapping *out)
{
	char *at;

	errno = 0;
	out->start = strtoull(line, &at, 16);
	if (*at++ != '-')
		return false;
	out->end = strtoull(at, &at, 16);
	if (*at++ != ' ' || out->end <= out->start || strnlen(at, 5) < 5 || at[4] != ' ')
		return false;
	memcpy(out->permissions, at, 4);
	out->permissions[4] = 0;
	at += 5;
	strtoull(at, &at, 16); /* offset */
	if (*at++ != ' ')
		return false;
	strtoull(at, &at, 16); /* device */
	if (*at++ != ':')
		return false;
	strtoull(at, &at, 16);
	out->inode = strtoull(at, &at, 10);
	out->path = at + strspn(at, " ");
	return !errno;
}

static const char *next_line(const char *line)
{
	const char *newline = strchr(line, '\n');

	return newline ? newline + 1 : line + strlen(line);
}

/* The lines that smaps has below a mapping's: they begin with capital letters. Answers the one
 * behind them. */
static const char *parse_details(const char *line, struct mapping *out)
{
	out->flags = out->noreserve = false;
	while (*line >= 'A' && *line <= 'Z') {
		const char *next = next_line(line);

		if (strncmp(line, "VmFlags:", 8) == 0) {
			out->flags = true;
			out->noreserve = memmem(line, (size_t)(next - line), " nr", 3);
		}
		line = next;
	}
	return line;
}

/* An anonymous private mapping; the kernel may give such one a name in brackets. */
static bool is_memory(const struct mapping *mapping, unsigned *protection)
{
	if (mapping->inode || mapping->permissions[3] != 'p' ||
	    (*mapping->path && *mapping->path != '\n' && strncmp(mapping->path, "[anon", 5) != 0))
		return false;
	*protection = (mapping->permissions[0] == 'r' ? PROT_READ : 0) |
		      (mapping->permissions[1] == 'w' ? PROT_WRITE : 0) |
		      (mapping->permissions[2] == 'x' ? PROT_EXEC : 0);
	return true;
}

/* What the host backend says of its window; where it can be told. */
static bool is_free(const struct mapping *mapping, unsigned protection)
{
	return mapping->flags && !mapping->noreserve && !protection;
}

static bool is_area(const struct mapping *mapping)
{
	return !mapping->flags || mapping->noreserve;
}

static void show(const struct area *area, char out[60])
{
	if (!area) {
		snprintf(out, 60, "nothing more");
		return;
	}
	snprintf(out, 60, "%" PRIx64 "-%" PRIx64 " %c%c%c", area->start, area->end,
		 area->protection & PROT_READ ? 'r' : '-',
		 area->protection & PROT_WRITE ? 'w' : '-',
		 area->protection & PROT_EXEC ? 'x' : '-');
}

static bool compare(const struct areas *seen, const struct areas *wanted, char reason[200])
{
	size_t count = seen->at_count > wanted->at_count ? seen->at_count : wanted->at_count;

	for (size_t i = 0; i < count; i++) {
		const struct area *a = i < seen->at_count ? &seen->at[i] : NULL;
		const struct area *b = i < wanted->at_count ? &wanted->at[i] : NULL;
		char left[60], right[60];

		if (a && b && a->start == b->start && a->end == b->end &&
		    a->protection == b->protection)
			continue;
		show(a, left);
		show(b, right);
		snprintf(reason, 200, "the kernel has %s where the model has %s", left, right);
		return false;
	}
	return true;
}

/* Without the areas that cannot be told from free addresses. */
static void drop_inaccessible(struct areas *areas)
{
	size_t kept = 0;

	for (size_t i = 0; i < areas->at_count; i++) {
		if (areas->at[i].protection)
			areas->at[kept++] = areas->at[i];
	}
	areas->at_count = kept;
}

bool maps_compare(const char *text, uint64_t start, uint64_t end, const struct areas *areas,
		  char reason[200])
{
	struct areas seen = {.at = NULL}, wanted = {.at = NULL};
	uint64_t reached = start;
	bool fine = true, told = true;

	for (const char *line = text; fine && *line && reached < end;) {
		struct mapping mapping;
		unsigned protection;

		if (!parse_mapping(line, &mapping)) {
			snprintf(reason, 200, "a line of /proc/self/smaps cannot be read: %.80s",
				 line);
			fine = false;
			break;
		}
		line = parse_details(next_line(line), &mapping);
		if (mapping.end <= start || mapping.start >= end)
			continue;
		/* The kernel may show what is beyond the window and equal in one line with it. */
		mapping.start = mapping.start < start ? start : mapping.start;
		mapping.end = mapping.end > end ? end : mapping.end;
		if (mapping.start != reached)
			break;
		reached = mapping.end;
		told &= mapping.flags;
		if (is_memory(&mapping, &protection)) {
			if (is_free(&mapping, protection))
				continue;
			if (is_area(&mapping)) {
				areas_map(&seen, mapping.start, mapping.end, protection);
				continue;
			}
		}
		snprintf(reason, 200, "a mapping that is neither an area nor free: %s %.*s",
			 mapping.permissions, (int)strcspn(mapping.path, "\n"), mapping.path);
		fine = false;
	}
	if (fine && reached != end) {
		snprintf(reason, 200, "the window has a hole at %" PRIx64, reached);
		fine = false;
	}
	if (fine) {
		areas_copy(&wanted, areas);
		if (!told) {
			drop_inaccessible(&seen);
			drop_inaccessible(&wanted);
		}
		fine = compare(&seen, &wanted, reason);
	}
	areas_free(&seen);
	areas_free(&wanted);
	return fine;
}

/* Does smaps tell areas from free addresses? Not where the kernel ignores MAP_NORESERVE; and an
 * emulator's may be of other addresses. */
static bool smaps_tells(void)
{
	int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY | O_CLOEXEC);
	char mode = '2';
	bool known = fd >= 0 && read(fd, &mode, 1) == 1;

	if (fd >= 0)
		close(fd);
	return known && mode != '2' && !MAPS_SMAPS_IS_SLOW && !getenv("ASPACE_EMULATED");
}

char *maps_read(void)
{
	int fd = smaps_tells() ? open("/proc/self/smaps", O_RDONLY | O_CLOEXEC) : -1;
	size_t length = 0, capacity = 0;
	char *text = NULL;

	/* Some kernels are built without smaps. */
	if (fd < 0)
		fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	for (;;) {
		ssize_t got;

		text = array_reserve(text, &capacity, length + 65536 + 1, 1);
		got = read(fd, text + length, 65536);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			int error = got < 0 ? errno : 0;

			close(fd);
			if (error) {
				free(text);
				errno = error;
				return NULL;
			}
			text[length] = 0;
			return text;
		}
		length += (size_t)got;
	}
}
