/* SPDX-License-Identifier: MIT */
/*
 * Records: notes about things that have left the newest version and may not be
 * reclaimed yet. A note stands apart from the thing, because a published node
 * is never written again, not even when it is retired.
 */
#ifndef ASPACE_MEMORY_RECORD_H
#define ASPACE_MEMORY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <aspace/aspace.h>

#include "memory/notes.h"

struct asp_node;

/* Nodes that one record is about: as many as most updates retire. */
#define ASP_RECORD_NODES 5

/* What becomes of a reference in a plan. */
enum asp_reference_event {
	ASP_REFERENCE_GONE,  /* its area is gone; to be released */
	ASP_REFERENCE_BORN,  /* an area has a new one */
	ASP_REFERENCE_MOVED, /* its area starts elsewhere now */
};

struct aspace_record {
	struct aspace_record *next;
	/* The first version that does not show the thing. */
	uint64_t retired;
	union {
		/* Nodes, on lists of nodes, whose count is one of nodes. */
		struct {
			struct asp_node *node[ASP_RECORD_NODES];
			size_t nodes;
		};
		/* What becomes of an area, or of its reference. */
		struct {
			union {
				/* A reference to a user object, which the area that started at
				 * `address` owned; or, on the list of deferred changes, a leaving
				 * area that starts there. In a plan: what becomes of a
				 * reference. */
				struct {
					struct aspace_backend *backend;
					void *user;
					uint64_t address;
					/* The first version that shows it; 0: none that is older
					 * than a version with a snapshot. */
					uint64_t birth;
				};
				/* On the list of deferred changes: a pending area (pending.c), found
				 * by its start, and the flags that its backend holds. */
				struct {
					struct asp_note note;
					uint64_t held_flags;
				};
			};
			union {
				/* The stamp of the grace period that a deferred thing waits for;
				 * 0: none yet. Deferred lists only. */
				uint64_t stamp;
				uint64_t to; /* ASP_REFERENCE_MOVED: where its area starts now */
			};
			/* The list of leaving areas only: */
			bool pending; /* to protect a pending area, not to unmap a leaving one; */
			bool drops;   /* by which that loses contents */
			enum asp_reference_event event; /* plans only */
		};
	};
};

/* The record of a pending area. */
static inline const struct aspace_record *asp_record_of(const struct asp_note *note)
{
	return (const struct aspace_record *)(const void *)((const char *)note -
							    offsetof(struct aspace_record, note));
}

/* Where the area starts that a record of the list of leaving areas is about. */
static inline uint64_t asp_late_start(const struct aspace_record *record)
{
	return record->pending ? record->note.start : record->address;
}

static inline void asp_list_push(struct aspace_record_list *list, struct aspace_record *record)
{
	record->next = NULL;
	if (list->tail)
		list->tail->next = record;
	else
		list->head = record;
	list->tail = record;
	list->count++;
}

static inline struct aspace_record *asp_list_pop(struct aspace_record_list *list)
{
	struct aspace_record *record = list->head;

	if (record) {
		list->head = record->next;
		if (!list->head)
			list->tail = NULL;
		list->count--;
	}
	return record;
}

/* The same for lists of nodes. */
static inline void asp_list_push_nodes(struct aspace_record_list *list,
				       struct aspace_record *record)
{
	asp_list_push(list, record);
	list->count += record->nodes - 1;
}

static inline struct aspace_record *asp_list_pop_nodes(struct aspace_record_list *list)
{
	struct aspace_record *record = asp_list_pop(list);

	if (record)
		list->count -= record->nodes - 1;
	return record;
}

/* Moves all of `from` behind `to`. */
static inline void asp_list_splice(struct aspace_record_list *to, struct aspace_record_list *from)
{
	if (!from->head)
		return;
	if (to->tail)
		to->tail->next = from->head;
	else
		to->head = from->head;
	to->tail = from->tail;
	to->count += from->count;
	*from = (struct aspace_record_list){0};
}

#endif
