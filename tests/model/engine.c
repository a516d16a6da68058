/* SPDX-License-Identifier: MIT */
/*
 * The model and its operations; see engine.h.
 */
#include "engine.h"
#include "guests.h"

#include <aspace/aspace.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BACKENDS = 3, USERS = 4, FLAGS = 4, SNAPSHOTS = 3 };
enum state { FREE, MAPPED, LEAVING };

/* Cells with the same number are one area, which owns one reference to its user object: the
 * number is that reference's name, too, as long as it lives. */
struct cell {
	uint8_t state, backend, flags, user;
	uint8_t fresh;   /* mapped by the open transaction: an unmap there leaves nothing */
	uint8_t pending; /* 0, or what its backend holds until readers have gone, flags + 1 */
	uint32_t number; /* 0 where nothing is */
};

/* Which neighbours a backend lets merge: one of an equivalence each. */
enum merging { BY_POINTER, ALWAYS, BY_PARITY, MERGINGS };

/* A backend that keeps what it was told, cell by cell, and refuses what is not so. */
struct recorder {
	struct aspace_backend backend;
	struct model *model;
	struct aspace_backend_ops ops;
	enum merging merging;
	uint8_t *held; /* 0: nothing, else flags + 1 */
	uint64_t span; /* of faults, in bytes; 0: the whole area */
};

/* A fault or advice of a guest (guests.h), as long as it is on the library's list. */
struct visit {
	bool listed;
	bool queued;               /* behind the other */
	bool met;                  /* by the operation at hand */
	uint32_t at;               /* the cell that it is about */
	uint32_t lo, hi;           /* what it holds off writers from */
	uint32_t work_lo, work_hi; /* of that, what it works on, alone */
	uint8_t backend, held;
};

typedef long counts[BACKENDS][USERS];

struct kept {
	struct aspace_snapshot snapshot;
	struct cell *cells;
	bool taken;
};

/* References that were passed to the open transaction: ours again if it fails. */
struct given {
	unsigned count;
	struct cell cells[8];
};

struct model {
	struct config config;
	struct source *source;
	const char *label;
	struct tally *tally;
	struct aspace *space;
	struct cell *cells, *saved;
	struct recorder recorders[BACKENDS];
	uint32_t numbers; /* given out so far */
	/* References that the space has: passed or cloned, and not released. Changed by
	 * whichever thread releases. And the copies that it has made of pointers, where a backend
	 * has no clone; a release comes for each. */
	_Atomic long references[BACKENDS][USERS];
	counts copies, saved_copies;
	/* After ASPACE_BAD_STATE, until no snapshot is open: the numbers are not those that
	 * snapshots know. */
	bool renumbered;
	struct kept kept[SNAPSHOTS];
	struct given given;
	/* By cell: how often the last advice was given; and how many cells a backend does at once. */
	uint8_t *told;
	uint32_t told_at_once;
	struct guests guests;
	struct visit visits[GUESTS];
	bool met;       /* the operation changes what a guest is at work in, */
	bool waits;     /* and waits for it */
	long refuse_in; /* calls until one refuses; -1: none does */
	bool refused;   /* one did, in this operation */
	/* Deferred unmaps and protects run when readers let them. Where they may be refused the
	 * model is such a reader, so that it knows when: between two let_leave(). */
	bool holds_leaving;
	struct aspace_view section;
	bool leaves; /* they run now */
	uint64_t leaving_refused, came_back;
	uint64_t step;
	const char *operation;
};

static void fail(struct model *m, const char *what, uint64_t at)
{
	fflush(stdout);
	fprintf(stderr, "%s: step %llu (%s): %s at cell %llu\n", m->label,
		(unsigned long long)m->step, m->operation, what, (unsigned long long)at);
	for (int i = 0; i < GUESTS; i++) {
		const struct guest *guest = &m->guests.at[i];
		const struct visit *visit = &m->visits[i];

		if (visit->listed)
			fprintf(stderr,
				"    a guest %s cell %u, %u, in [%u, %u)%s: state %d, status %d of "
				"%d\n",
				guest->advises ? "advises" : "faults at", visit->at, guest->what,
				visit->lo, visit->hi, visit->queued ? ", queued" : "",
				(int)guest->state, (int)guest->status, (int)guest->answer);
	}
	abort();
}

static void expect(struct model *m, bool condition, const char *what, uint64_t at)
{
	if (!condition)
		fail(m, what, at);
}

static uint32_t draw(struct model *m, uint32_t n)
{
	return m->source->draw(m->source, n);
}

static uint64_t address(const struct model *m, uint64_t cell)
{
	return m->config.base + cell * m->config.unit;
}

static struct aspace_range range_of(const struct model *m, uint32_t lo, uint32_t hi)
{
	return aspace_range_of(address(m, lo), address(m, hi));
}

/* ---- Backends and user objects -------------------------------------------- */

static bool refuses(struct model *m)
{
	if (m->refuse_in < 0 || m->refuse_in-- > 0)
		return false;
	m->refused = true;
	m->tally->refused++;
	m->leaving_refused += m->leaves;
	return true;
}

static void cells_of(const struct model *m, struct aspace_range range, uint32_t *lo, uint32_t *hi)
{
	*lo = (uint32_t)((range.start.value - m->config.base) / m->config.unit);
	*hi = (uint32_t)((range.end.value - m->config.base) / m->config.unit);
}

static enum aspace_status change(struct aspace_backend *backend, const struct aspace_change *c)
{
	struct recorder *r = (struct recorder *)backend;
	struct model *m = r->model;
	uint32_t lo, hi, to;
	uint8_t old = (uint8_t)(c->old_flags + 1), new = (uint8_t)(c->new_flags + 1);

	cells_of(m, c->range, &lo, &hi);
	expect(m, lo < hi && hi <= m->config.cells, "a backend was told a wrong range", lo);
	if (refuses(m))
		return ASPACE_ACCESS_DENIED;
	to = (uint32_t)((c->destination.value - m->config.base) / m->config.unit);
	for (uint32_t i = lo; i < hi; i++) {
		switch (c->kind) {
		case ASPACE_CHANGE_MAP:
			expect(m, !r->held[i], "map of what is mapped", i);
			r->held[i] = new;
			break;
		case ASPACE_CHANGE_UNMAP:
			expect(m, r->held[i] == old, "unmap of what is not mapped so", i);
			r->held[i] = 0;
			break;
		case ASPACE_CHANGE_PROTECT:
			expect(m, r->held[i] == old && old != new, "protect of what is not so", i);
			r->held[i] = new;
			break;
		case ASPACE_CHANGE_REPLACE:
			r->held[i] = new;
			break;
		case ASPACE_CHANGE_MOVE:
			expect(m, r->held[i] == old && !r->held[to + i - lo],
			       "move of what is not so", i);
			r->held[to + i - lo] = old;
			r->held[i] = 0;
			break;
		}
	}
	return ASPACE_OK;
}

/* Half of what it would do is done before a refusal. */
static enum aspace_status advise(struct aspace_backend *backend, const struct aspace_area *area,
				 struct aspace_range range, enum aspace_advice advice,
				 struct aspace_vaddr *reached)
{
	struct recorder *r = (struct recorder *)backend;
	struct model *m = r->model;
	struct guest *guest = guest_self();
	bool refused = !guest && refuses(m);
	uint32_t lo, hi;

	cells_of(m, range, &lo, &hi);
	expect(m, lo < hi && hi <= m->config.cells && advice, "a backend was told a wrong range",
	       lo);
	expect(m, area->start.value <= range.start.value && range.end.value <= area->end.value,
	       "advice outside of the area", lo);
	for (uint32_t i = lo; i < hi; i++)
		expect(m, r->held[i] == area->flags + 1, "advice about what is not so", i);
	if (guest)
		return guest_enter(guest, area);
	if (hi - lo > m->told_at_once)
		hi = lo + m->told_at_once;
	if (refused)
		hi = lo + (hi - lo) / 2;
	for (uint32_t i = lo; i < hi; i++)
		m->told[i]++;
	reached->value = address(m, hi);
	m->tally->advised++;
	return refused ? ASPACE_ACCESS_DENIED : ASPACE_OK;
}

static enum aspace_status fault(struct aspace_backend *backend, const struct aspace_area *area,
				struct aspace_vaddr at, unsigned access)
{
	struct recorder *r = (struct recorder *)backend;
	struct model *m = r->model;
	uint64_t cell = (at.value - m->config.base) / m->config.unit;

	(void)access;
	expect(m, area->start.value <= at.value && at.value < area->end.value,
	       "a fault outside of the area", cell);
	expect(m, r->held[cell] == area->flags + 1, "a fault in what is not so", cell);
	return guest_enter(guest_self(), area);
}

static uint64_t fault_span(struct aspace_backend *backend, const struct aspace_area *area)
{
	(void)area;
	return ((struct recorder *)backend)->span;
}

static enum aspace_status prepare(struct aspace_backend *backend, const struct aspace_change *c)
{
	(void)c;
	return refuses(((struct recorder *)backend)->model) ? ASPACE_NO_MEMORY : ASPACE_OK;
}

/* Each flag is an access. One kind of backend can give some and take others, one cannot. */
static unsigned lost_by(const struct recorder *r, uint64_t from, uint64_t to, uint64_t *meanwhile)
{
	if (r == &r->model->recorders[0])
		*meanwhile = from | to;
	return from & ~to ? ASPACE_LOSES_ACCESS : 0;
}

static unsigned loses(struct aspace_backend *backend, uint64_t from, uint64_t to,
		      uint64_t *meanwhile)
{
	return lost_by((struct recorder *)backend, from, to, meanwhile);
}

static enum aspace_status clone(struct aspace_backend *backend, void *user, void **copy)
{
	struct model *m = ((struct recorder *)backend)->model;

	if (refuses(m))
		return ASPACE_NO_MEMORY;
	m->references[(struct recorder *)backend - m->recorders][(uintptr_t)user - 1]++;
	*copy = user;
	return ASPACE_OK;
}

static void release(struct aspace_backend *backend, void *user)
{
	struct model *m = ((struct recorder *)backend)->model;

	m->references[(struct recorder *)backend - m->recorders][(uintptr_t)user - 1]--;
}

static bool users_merge(enum merging merging, uintptr_t left, uintptr_t right)
{
	switch (merging) {
	case ALWAYS:
		return true;
	case BY_PARITY:
		return (left + right) % 2 == 0;
	default:
		return left == right;
	}
}

static bool can_merge(struct aspace_backend *backend, const struct aspace_area *left,
		      const struct aspace_area *right)
{
	struct recorder *r = (struct recorder *)backend;

	expect(r->model,
	       left->backend == backend && right->backend == backend &&
		       left->flags == right->flags && left->end.value == right->start.value,
	       "can_merge of what are no equal neighbours", right->start.value);
	return users_merge(r->merging, (uintptr_t)left->user, (uintptr_t)right->user);
}

/* Three kinds: one with all operations, one with as few as possible, one whose unmap
 * can be taken back. What they do with user objects is drawn: each mix of clone, release and
 * can_merge comes up. */
static void init_recorder(struct model *m, unsigned i)
{
	struct recorder *r = &m->recorders[i];
	uint32_t mix = m->config.users ? draw(m, 12) : 0;

	r->model = m;
	r->span = m->config.unit * (draw(m, 3) + 1);
	r->span = r->span & (r->span - 1) ? 0 : 2 * r->span; /* 2 cells, 4, or the whole area */
	r->merging = m->config.users ? (enum merging)draw(m, MERGINGS) : BY_POINTER;
	r->ops = (struct aspace_backend_ops){
		.size = sizeof(r->ops),
		.map = change,
		.unmap = change,
		.protect = change,
		.prepare = i == 1 ? NULL : prepare,
		.replace = i == 0 ? change : NULL,
		.move = i == 1 ? NULL : change,
		.advise = i == 1 ? NULL : advise,
		.fault = i == 1 ? NULL : fault,
		.fault_span = r->span ? fault_span : NULL,
		.can_merge = r->merging == BY_POINTER ? NULL : can_merge,
		.clone = m->config.users && mix % 2 == 0 ? clone : NULL,
		.release = m->config.users && mix % 6 < 4 ? release : NULL,
		.loses = m->holds_leaving && i != 1 ? loses : NULL,
	};
	r->backend = (struct aspace_backend){
		.ops = &r->ops,
		.flags_mask = FLAGS - 1,
		.remap_restores = i == 2,
	};
	r->held = calloc(m->config.cells, 1);
}

static struct aspace_backend *backend_of(struct model *m, const struct cell *cell)
{
	return &m->recorders[cell->backend].backend;
}

static void *user_of(const struct cell *cell)
{
	return (void *)(uintptr_t)cell->user;
}

/* ---- Comparing ------------------------------------------------------------ */

static bool same_area(const struct cell *a, const struct cell *b)
{
	return a->number == b->number;
}

static void compare_view(struct model *m, const struct aspace_view *view, const struct cell *cells)
{
	struct aspace_iter iter;
	struct aspace_area area;
	uint32_t n = m->config.cells;

	aspace_iter_begin(view, aspace_va(0), &iter);
	for (uint32_t lo = 0, hi; lo < n; lo = hi) {
		const struct cell *cell = &cells[lo];

		hi = lo + 1;
		if (cell->state != MAPPED)
			continue;
		while (hi < n && same_area(cell, &cells[hi]))
			hi++;
		expect(m, aspace_iter_next(&iter, &area), "an area is missing", lo);
		expect(m, area.start.value == address(m, lo), "an area starts elsewhere", lo);
		expect(m, area.end.value == address(m, hi), "an area ends elsewhere", lo);
		expect(m, area.flags == cell->flags, "an area has other flags", lo);
		expect(m, area.backend == backend_of(m, cell), "an area has another backend", lo);
		expect(m, area.user == user_of(cell), "an area has another user object", lo);
	}
	expect(m, !aspace_iter_next(&iter, &area), "there is an area too many", n);
}

static void compare_held(struct model *m)
{
	for (uint32_t i = 0; i < m->config.cells; i++) {
		if (m->cells[i].state == LEAVING)
			continue;
		for (unsigned b = 0; b < BACKENDS; b++) {
			const struct cell *cell = &m->cells[i];
			uint8_t want = 0;

			if (cell->state == MAPPED && cell->backend == b)
				want = cell->pending ? cell->pending : (uint8_t)(cell->flags + 1);
			expect(m, m->recorders[b].held[i] == want, "a backend holds something else",
			       i);
		}
	}
}

/* The references that must be there: one for each area of the newest version and of each
 * snapshot, but one only for the same in several. */
static void count_live(struct model *m, counts live)
{
	size_t bytes = (m->numbers + 1) * sizeof(bool);
	bool *seen = calloc(1, bytes);

	memset(live, 0, sizeof(counts));
	for (unsigned i = 0; i <= SNAPSHOTS; i++) {
		const struct cell *cells = i < SNAPSHOTS ? m->kept[i].cells : m->cells;

		if (i < SNAPSHOTS && !m->kept[i].taken)
			continue;
		for (uint32_t at = 0; at < m->config.cells; at++) {
			const struct cell *cell = &cells[at];

			if (cell->state != MAPPED || !cell->user || seen[cell->number])
				continue;
			seen[cell->number] = true;
			live[cell->backend][cell->user - 1]++;
		}
	}
	free(seen);
}

/* None has gone too early; none is left, either, if everything due has run. */
static void check_references(struct model *m, bool all_has_run)
{
	counts live;

	if (!m->config.users || m->renumbered)
		return;
	count_live(m, live);
	for (unsigned b = 0; b < BACKENDS; b++) {
		for (unsigned u = 0; u < USERS && m->recorders[b].ops.release; u++) {
			long there = m->references[b][u] + m->copies[b][u];

			expect(m, there >= live[b][u], "a reference was released early", u);
			expect(m, there == live[b][u] || !all_has_run, "references are left over",
			       u);
		}
	}
}

static void check(struct model *m)
{
	struct aspace_violation violation;
	struct aspace_view view;

	m->tally->checks++;
	aspace_read_begin(m->space, &view);
	compare_view(m, &view, m->cells);
	aspace_read_end(&view);
	compare_held(m);
	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		if (!m->kept[i].taken)
			continue;
		aspace_snapshot_view(&m->kept[i].snapshot, &view);
		compare_view(m, &view, m->kept[i].cells);
	}
	if (m->config.cells < 1000)
		check_references(m, false);
	if (aspace_validate(m->space, &violation, 0) != ASPACE_OK) {
		fprintf(stderr, "invariant %u: %s\n", violation.invariant, violation.what);
		fail(m, "aspace_validate", violation.address.value);
	}
}

/* ---- The operations on cells ---------------------------------------------- */

/* The number of an area that is new. */
static uint32_t next_number(struct model *m)
{
	return ++m->numbers;
}

static uint32_t end_of(const struct model *m, uint32_t at)
{
	uint32_t number = m->cells[at].number;

	while (at < m->config.cells && m->cells[at].number == number)
		at++;
	return at;
}

/* [lo, hi), of one area, becomes one of its own, with a reference that is cloned or copied. */
static void split_off(struct model *m, uint32_t lo, uint32_t hi)
{
	uint32_t number = next_number(m);
	const struct cell *cell = &m->cells[lo];

	if (cell->user && !m->recorders[cell->backend].ops.clone)
		m->copies[cell->backend][cell->user - 1]++;
	for (; lo < hi; lo++)
		m->cells[lo].number = number;
}

static void split_rest_off(struct model *m, uint32_t at)
{
	split_off(m, at, end_of(m, at));
}

/* The first part of an area keeps its reference, wherever that is. */
static void cells_clear(struct model *m, uint32_t lo, uint32_t hi)
{
	if (lo && hi < m->config.cells && m->cells[hi].state == MAPPED &&
	    same_area(&m->cells[lo - 1], &m->cells[hi]))
		split_rest_off(m, hi);
	memset(&m->cells[lo], 0, (hi - lo) * sizeof(*m->cells));
}

/* Equal neighbours that meet at a border in [lo, hi]: the left one's object stays. */
static void cells_merge(struct model *m, uint32_t lo, uint32_t hi)
{
	if (m->config.mode & ASPACE_NEVER_MERGE)
		return;
	for (uint32_t at = lo ? lo : 1; at <= hi && at < m->config.cells; at++) {
		struct cell left = m->cells[at - 1], right = m->cells[at];

		if (left.state != MAPPED || right.state != MAPPED || same_area(&left, &right) ||
		    left.pending || right.pending || left.backend != right.backend ||
		    left.flags != right.flags ||
		    !users_merge(m->recorders[left.backend].merging, left.user, right.user))
			continue;
		m->tally->merges += left.user != right.user;
		for (uint32_t i = at, end = end_of(m, at); i < end; i++) {
			m->cells[i].number = left.number;
			m->cells[i].user = left.user;
		}
	}
}

static void cells_map(struct model *m, uint32_t lo, uint32_t hi, struct cell cell)
{
	cells_clear(m, lo, hi);
	cell.state = MAPPED;
	cell.number = next_number(m);
	for (uint32_t i = lo; i < hi; i++)
		m->cells[i] = cell;
	cells_merge(m, lo, hi);
}

/* One change of a backend from `at` on: in a transaction, what the base has as one area; 0 if
 * it is none. */
static uint32_t end_of_part(const struct model *m, uint32_t at, uint32_t hi, bool txn)
{
	uint32_t number = m->saved[at].number, end = at;

	if (!txn)
		return hi;
	while (end < hi && m->cells[end].fresh == m->cells[at].fresh &&
	       (m->cells[at].fresh || m->saved[end].number == number))
		end++;
	return end;
}

/* [lo, hi), of one area, leaves, part by part. The first that stays, or leaves, keeps the
 * reference. */
static void cells_leave(struct model *m, uint32_t lo, uint32_t hi, bool txn)
{
	uint32_t number = m->cells[lo].number, last = end_of(m, lo);
	bool keeps = !lo || m->cells[lo - 1].number != number; /* it has not been kept yet */

	for (uint32_t at = lo, end; at < hi; at = end) {
		end = end_of_part(m, at, hi, txn);
		if (m->cells[at].fresh) {
			memset(&m->cells[at], 0, (end - at) * sizeof(*m->cells));
			continue;
		}
		if (!keeps)
			split_off(m, at, end);
		keeps = false;
		for (uint32_t i = at; i < end; i++) {
			m->cells[i].state = LEAVING;
			m->cells[i].pending = 0;
			if (txn)
				m->cells[i].flags = m->saved[i].flags;
		}
	}
	if (hi < last && !keeps)
		split_off(m, hi, last);
}

static void cells_unmap(struct model *m, uint32_t lo, uint32_t hi, bool txn)
{
	if (!(m->config.mode & ASPACE_GRACE_UNMAP)) {
		cells_clear(m, lo, hi);
		return;
	}
	for (uint32_t at = lo, end; at < hi; at = end) {
		end = end_of(m, at) < hi ? end_of(m, at) : hi;
		if (m->cells[at].state == MAPPED)
			cells_leave(m, at, end, txn);
	}
}

/* What the callback of protect_with says; stable, so that the model can ask too. */
static bool decide_flags(uint32_t key, uint32_t old, uint32_t *flags)
{
	if ((key + old) % 3 == 0)
		return false;
	*flags = (old ^ key) % FLAGS;
	return true;
}

static bool decide(void *ctx, const struct aspace_area *area, uint64_t *flags)
{
	uint32_t new;

	if (!decide_flags(*(uint32_t *)ctx, (uint32_t)area->flags, &new))
		return false;
	*flags = new;
	return true;
}

/* [lo, hi), of one area, is to be one of its own; in a grace-unmap space each part that a
 * backend knows, from the last to the first, so that the first keeps the reference. */
static void split_piece(struct model *m, uint32_t lo, uint32_t hi, bool txn)
{
	bool parts = txn && m->config.mode & ASPACE_GRACE_UNMAP;
	uint32_t last = end_of(m, lo), from, end;

	if (hi < last)
		split_off(m, hi, last);
	for (; lo < hi; hi = from) {
		from = lo;
		while (parts && (end = end_of_part(m, from, hi, true)) < hi)
			from = end;
		if (from && same_area(&m->cells[from - 1], &m->cells[from]))
			split_off(m, from, hi);
	}
}

/* What the backend is to hold meanwhile, flags + 1; 0: it has what the cell shows. */
static uint8_t pending_of(const struct model *m, const struct cell *cell, uint8_t base)
{
	const struct recorder *r = &m->recorders[cell->backend];
	uint64_t meanwhile = base;

	if (!r->ops.loses || !lost_by(r, base, cell->flags, &meanwhile))
		return 0;
	m->tally->pending++;
	return (uint8_t)(meanwhile + 1);
}

static void cells_protect(struct model *m, uint32_t lo, uint32_t hi, uint32_t key, bool all,
			  uint32_t flags, bool txn)
{
	for (uint32_t at = lo, next; at < hi; at = next) {
		struct cell cell = m->cells[at];
		uint32_t new = flags, end = end_of(m, at);

		next = end < hi ? end : hi;
		if (cell.state != MAPPED)
			continue;
		if ((!all && !decide_flags(key, cell.flags, &new)) || new == cell.flags)
			continue;
		split_piece(m, at, next, txn);
		for (uint32_t i = at; i < next; i++) {
			m->cells[i].flags = (uint8_t) new;
			m->cells[i].pending = m->cells[i].fresh ? 0
								: pending_of(m, &m->cells[i],
									     txn ? m->saved[i].flags
										 : cell.flags);
		}
	}
	cells_merge(m, lo, hi);
}

static bool all_mapped(const struct model *m, uint32_t lo, uint32_t hi)
{
	for (; lo < hi; lo++) {
		if (m->cells[lo].state != MAPPED)
			return false;
	}
	return true;
}

static bool any_mapped(const struct model *m, uint32_t lo, uint32_t hi)
{
	for (; lo < hi; lo++) {
		if (m->cells[lo].state == MAPPED)
			return true;
	}
	return false;
}

static bool any_leaving(const struct model *m, uint32_t lo, uint32_t hi)
{
	for (; lo < hi; lo++) {
		if (m->cells[lo].state == LEAVING)
			return true;
	}
	return false;
}

/* Is something there pending that others know of? In a transaction: since before it. */
static bool any_pending(const struct model *m, uint32_t lo, uint32_t hi, bool txn)
{
	for (; lo < hi; lo++) {
		const struct cell *cell = &m->cells[lo];

		if (cell->state == MAPPED && (txn ? m->saved[lo].pending : cell->pending))
			return true;
	}
	return false;
}

/* Would a protect change some of that? */
static bool changes_pending(const struct model *m, uint32_t lo, uint32_t hi, uint32_t key, bool all,
			    uint32_t flags, bool txn)
{
	for (; lo < hi; lo++) {
		uint32_t old = m->cells[lo].flags, new = flags;

		if (any_pending(m, lo, lo + 1, txn) && (all || decide_flags(key, old, &new)) &&
		    new != old)
			return true;
	}
	return false;
}

/* ---- Guests ----------------------------------------------------------------
 *
 * What they hold off: nobody who changes other areas, or other parts of theirs, unless references are
 * counted; whoever changes that waits, or is told so.
 */

static void wrong(void *ctx, const char *what)
{
	fail(ctx, what, 0);
}

static bool counts_references(const struct recorder *r)
{
	return r->ops.clone || r->ops.release;
}

/* By who works on [lo, hi), beside the writers too? */
static bool is_met_at_work(struct model *m, uint32_t lo, uint32_t hi)
{
	bool met = false;

	for (int i = 0; i < GUESTS; i++) {
		struct visit *visit = &m->visits[i];

		visit->met = visit->listed && visit->work_lo < hi && lo < visit->work_hi;
		met |= visit->met;
	}
	return met;
}

/* By a change in [lo, hi)? */
static bool is_met(struct model *m, uint32_t lo, uint32_t hi)
{
	bool met = false;

	for (int i = 0; i < GUESTS; i++) {
		struct visit *visit = &m->visits[i];

		visit->met = visit->listed && visit->lo < hi && lo < visit->hi;
		met |= visit->met;
	}
	return met;
}

static uint32_t listed(const struct model *m)
{
	uint32_t count = 0;

	for (int i = 0; i < GUESTS; i++)
		count += m->visits[i].listed;
	return count;
}

/* Is what the fault `b` wants done by `a`, for which it waits? */
static bool is_served(const struct model *m, int a, int b)
{
	const struct guest *first = &m->guests.at[a], *second = &m->guests.at[b];
	const struct visit *visit = &m->visits[a];
	uint64_t span = m->recorders[visit->backend].span;

	return !first->advises && !second->advises && first->answer == ASPACE_OK &&
	       m->visits[b].at >= visit->work_lo && m->visits[b].at < visit->work_hi &&
	       !((first->address ^ second->address) & (span ? ~(span - 1) : UINT64_MAX)) &&
	       !(second->what & ~first->what);
}

/* What it was called with, and whether it was. */
static void check_visit(struct model *m, int i)
{
	const struct guest *guest = &m->guests.at[i];
	const struct visit *visit = &m->visits[i];
	const struct aspace_area *area = &guest->area;
	bool served = visit->queued && is_served(m, !i, i);

	expect(m, guest->status == (served ? ASPACE_OK : guest->answer),
	       "another answer of a guest", visit->at);
	expect(m, guest->entered == !served, "a guest was called too often, or not", visit->at);
	m->tally->served += served;
	if (served)
		return;
	expect(m,
	       area->backend == &m->recorders[visit->backend].backend &&
		       area->flags + 1 == visit->held,
	       "a guest was called with another area", visit->at);
	/* While it waited the area may have been cut. */
	expect(m,
	       visit->queued ? area->start.value < address(m, visit->hi) &&
				       area->end.value > address(m, visit->lo)
			     : area->start.value <= address(m, visit->lo) &&
				       area->end.value >= address(m, visit->hi),
	       "a guest was called with an area that is elsewhere", visit->at);
}

/* All guests go, whatever they are at. */
static void part(struct model *m)
{
	if (!listed(m))
		return;
	guests_set_mode(&m->guests, GUESTS_GO);
	for (int i = 0; i < GUESTS; i++) {
		if (m->visits[i].listed)
			guest_await(&m->guests.at[i], GUEST_BACK);
	}
	for (int i = 0; i < GUESTS; i++) {
		if (m->visits[i].listed)
			check_visit(m, i);
	}
	memset(m->visits, 0, sizeof(m->visits));
	guests_set_mode(&m->guests, GUESTS_STAY);
}

/* Before an operation that changes [lo, hi) if it is not refused before that: `wanted`, or what it is if it may not
 * wait. */
static enum aspace_status meet(struct model *m, bool met, unsigned *how, enum aspace_status wanted)
{
	m->met = met && wanted == ASPACE_OK;
	m->waits = m->met && draw(m, 2);
	if (m->waits)
		guests_set_mode(&m->guests, GUESTS_YIELD);
	if (!m->met || m->waits)
		return wanted;
	*how |= ASPACE_NOWAIT;
	return ASPACE_BUSY;
}

/* After it: who was waited for has gone, and nobody else has made it wait. `done`: it came as far as those that it
 * met. */
static void go_on(struct model *m, bool done)
{
	if (!m->waits) {
		m->tally->told_busy += m->met;
		m->tally->passed += !m->met && listed(m);
		m->met = false;
		return;
	}
	for (int i = 0; i < GUESTS; i++) {
		const struct visit *visit = &m->visits[i];

		if (done && visit->listed && visit->met && !visit->queued)
			expect(m, guest_has_left(&m->guests.at[i]),
			       "something was changed where a guest is at work", visit->at);
	}
	m->met = m->waits = false;
	m->tally->waited++;
	part(m);
}

/* Where it is at work. */
static void aim(const struct model *m, const struct cell *cells, const struct guest *guest,
		struct visit *visit)
{
	const struct recorder *r = &m->recorders[visit->backend];
	uint32_t lo = visit->at, hi = lo + 1, number = cells[lo].number, below, n = m->config.cells;

	while (lo && cells[lo - 1].number == number)
		lo--;
	while (hi < n && cells[hi].number == number)
		hi++;
	visit->work_lo = visit->lo = lo;
	visit->work_hi = visit->hi = hi;
	if (guest->advises) {
		visit->work_lo = visit->at;
		visit->work_hi = (uint32_t)((guest->end - m->config.base) / m->config.unit);
	} else if (r->span) {
		below = (uint32_t)((guest->address & (r->span - 1)) / m->config.unit);
		if (visit->at - lo > below)
			visit->work_lo = visit->at - below;
		if (hi - visit->at > r->span / m->config.unit - below)
			visit->work_hi = visit->at - below + (uint32_t)(r->span / m->config.unit);
	}
	if (counts_references(r))
		return;
	visit->lo = visit->work_lo;
	visit->hi = visit->work_hi;
}

/* Who waits looks anew whenever it is woken, and then holds off whoever changes what its area has grown by: when that
 * is, only its thread knows. */
static void part_if_grown(struct model *m)
{
	for (int i = 0; i < GUESTS; i++) {
		struct visit visit = m->visits[i];

		if (!visit.listed || !visit.queued)
			continue;
		aim(m, m->cells, &m->guests.at[i], &visit);
		if (visit.lo != m->visits[i].lo || visit.hi != m->visits[i].hi ||
		    visit.work_lo != m->visits[i].work_lo ||
		    visit.work_hi != m->visits[i].work_hi) {
			part(m);
			return;
		}
	}
}

/* In a grace-unmap space it may be that what one waits for leaves before its turn comes: when that is, is the helper
 * thread's affair. */
static void part_from_leaving(struct model *m, uint32_t lo, uint32_t hi)
{
	for (int i = 0; i < GUESTS && m->config.mode & ASPACE_GRACE_UNMAP; i++) {
		if (m->visits[i].queued && m->visits[i].lo < hi && lo < m->visits[i].hi) {
			part(m);
			return;
		}
	}
}

/* Is there anything for a guest to be at work in? Else what it is told. */
static enum aspace_status refusal_of(const struct model *m, const struct cell *cell, bool advises)
{
	if (cell->state == FREE || (advises && cell->state == LEAVING))
		return ASPACE_NOT_MAPPED;
	return m->recorders[cell->backend].ops.fault ? ASPACE_OK : ASPACE_NOT_SUPPORTED;
}

/* A guest comes, about one of `cells`, which are what is published. */
static void invite(struct model *m, const struct cell *cells)
{
	static const enum aspace_advice advices[] = {ASPACE_ADVICE_WILL_NEED, ASPACE_ADVICE_COLD,
						     ASPACE_ADVICE_DROP};
	bool grace = m->config.mode & ASPACE_GRACE_UNMAP;
	uint32_t n = m->config.cells, at = draw(m, n), end, i = m->visits[0].listed;
	struct guest *guest = &m->guests.at[i];
	struct visit *visit = &m->visits[i];
	const struct cell *cell;
	enum aspace_status refusal;

	if (listed(m) == GUESTS) {
		part(m);
		return;
	}
	/* Often where the other is. */
	if (listed(m) && draw(m, 2))
		at = m->visits[!i].at;
	cell = &cells[at];
	if (cell->state == LEAVING && !m->holds_leaving)
		return; /* gone or not: the helper thread decides */
	guest->advises = !draw(m, 3);
	guest->address = address(m, at);
	guest->answer = draw(m, 4) ? ASPACE_OK : ASPACE_ACCESS_DENIED;
	guest->what = 1 + draw(m, 3);
	if (guest->advises) {
		for (end = at + 1; end < n && cells[end].number == cell->number && draw(m, 4);)
			end++;
		guest->end = address(m, end);
		/* What loses contents waits for readers in a grace-unmap space. */
		guest->what = advices[draw(m, grace ? 2 : 3)];
	}
	refusal = refusal_of(m, cell, guest->advises);
	if (refusal == ASPACE_NOT_MAPPED && guest->advises &&
	    !(m->config.mode & ASPACE_ALWAYS_STRICT))
		refusal = ASPACE_OK; /* there is nothing to be done */
	if (refusal != ASPACE_OK || cell->state == FREE ||
	    (guest->advises && cell->state == LEAVING)) {
		guest_call(guest);
		guest_await(guest, GUEST_INSIDE);
		expect(m, guest->state == GUEST_BACK && guest->status == refusal,
		       "a guest was not refused", at);
		return;
	}
	*visit = (struct visit){
		.at = at,
		.backend = cell->backend,
		.held = cell->pending ? cell->pending : (uint8_t)(cell->flags + 1),
	};
	aim(m, cells, guest, visit);
	visit->queued = is_met_at_work(m, visit->work_lo, visit->work_hi);
	visit->listed = true;
	guest_call(guest);
	m->tally->guests++;
	m->tally->queued += visit->queued;
	if (visit->queued) {
		guest_await_listed(guest);
		return;
	}
	guest_await(guest, GUEST_INSIDE);
	expect(m, guest->state == GUEST_INSIDE, "a guest was not called", at);
	expect(m, cell->state == LEAVING || guest->area.user == user_of(cell),
	       "a guest was called with another object", at);
}

/* ---- Operations ----------------------------------------------------------- */

static void draw_range(struct model *m, uint32_t *lo, uint32_t *hi)
{
	uint32_t n = m->config.cells, most = draw(m, m->config.full ? 256 : 8) ? 12 : n;

	*lo = draw(m, n);
	*hi = *lo + 1 + draw(m, most < n ? most : n);
	if (*hi > n)
		*hi = n;
}

static struct cell draw_cell(struct model *m)
{
	return (struct cell){
		.state = MAPPED,
		.backend = (uint8_t)(draw(m, 4) ? 0 : draw(m, BACKENDS)),
		.flags = (uint8_t)draw(m, FLAGS),
		.user = (uint8_t)(m->config.users ? draw(m, USERS + 1) : 0),
	};
}

static void add_reference(struct model *m, const struct cell *cell, long n)
{
	if (cell->user)
		m->references[cell->backend][cell->user - 1] += n;
}

static void give_reference(struct model *m, const struct cell *cell)
{
	m->given.cells[m->given.count++] = *cell;
}

static void take_back(struct model *m)
{
	for (unsigned i = 0; i < m->given.count; i++)
		add_reference(m, &m->given.cells[i], -1);
	m->given.count = 0;
}

/* After BAD_STATE the space itself says what is so; backends must agree. */
static void learn(struct model *m)
{
	struct aspace_view view;
	struct aspace_iter iter;
	struct aspace_area area;
	uint32_t lo, hi;

	m->tally->bad_states++;
	/* What is pending since before stays so. */
	memcpy(m->saved, m->cells, m->config.cells * sizeof(*m->cells));
	for (uint32_t i = 0; i < m->config.cells; i++) {
		if (m->cells[i].state != LEAVING)
			m->cells[i] = (struct cell){0};
	}
	aspace_read_begin(m->space, &view);
	aspace_iter_begin(&view, aspace_va(0), &iter);
	while (aspace_iter_next(&iter, &area)) {
		struct cell cell = {
			.flags = (uint8_t)area.flags,
			.backend = (uint8_t)((struct recorder *)area.backend - m->recorders),
			.user = (uint8_t)(uintptr_t)area.user,
		};

		cells_of(m, (struct aspace_range){area.start, area.end}, &lo, &hi);
		cell.pending = m->saved[lo].state == MAPPED ? m->saved[lo].pending : 0;
		cells_map(m, lo, hi, cell);
	}
	aspace_read_end(&view);
	m->renumbered = true;
}

/* Did the operation end as it had to? True if the model has to follow. */
static bool settled(struct model *m, enum aspace_status status, enum aspace_status wanted)
{
	if (m->refused && status != wanted) {
		if (status == ASPACE_BAD_STATE)
			learn(m);
		else
			expect(m, status == ASPACE_ACCESS_DENIED || status == ASPACE_NO_MEMORY,
			       aspace_status_string(status), (uint64_t)wanted);
		return false;
	}
	expect(m, status == wanted, aspace_status_string(status), (uint64_t)wanted);
	return status == ASPACE_OK;
}

static void op_map(struct model *m, struct aspace_txn *txn)
{
	struct cell cell = draw_cell(m);
	unsigned how = draw(m, 3) ? 0 : ASPACE_REPLACE;
	enum aspace_status status, wanted = ASPACE_OK;
	uint32_t lo, hi;

	m->operation = how ? "map, replace" : "map";
	draw_range(m, &lo, &hi);
	if (how && (m->config.mode & ASPACE_GRACE_UNMAP))
		wanted = ASPACE_NOT_SUPPORTED;
	else if (!how && any_mapped(m, lo, hi))
		wanted = ASPACE_ALREADY_EXISTS;
	else if (m->holds_leaving && any_leaving(m, lo, hi))
		wanted = ASPACE_BUSY;
	else if (txn && any_leaving(m, lo, hi))
		return; /* BUSY or not: the helper thread decides */
	else if (any_leaving(m, lo, hi))
		part(m); /* it may wait for what a guest is at work in */
	if (!txn)
		wanted = meet(m, how && is_met(m, lo, hi), &how, wanted);
	cell.fresh = txn != NULL;
	add_reference(m, &cell, 1);
	status = txn ? aspace_txn_map(txn, range_of(m, lo, hi), cell.flags, backend_of(m, &cell),
				      user_of(&cell), how)
		     : aspace_map(m->space, range_of(m, lo, hi), cell.flags, backend_of(m, &cell),
				  user_of(&cell), how);
	if (!txn)
		go_on(m, true);
	if (status != ASPACE_OK)
		add_reference(m, &cell, -1);
	else if (txn)
		give_reference(m, &cell);
	if (settled(m, status, wanted))
		cells_map(m, lo, hi, cell);
}

static void op_unmap(struct model *m, struct aspace_txn *txn)
{
	unsigned how = draw(m, 4) ? 0 : ASPACE_STRICT;
	enum aspace_status status, wanted = ASPACE_OK;
	bool strict = how || (m->config.mode & ASPACE_ALWAYS_STRICT);
	bool grace = m->config.mode & ASPACE_GRACE_UNMAP;
	uint32_t lo, hi;

	m->operation = "unmap";
	draw_range(m, &lo, &hi);
	if (strict && !all_mapped(m, lo, hi))
		wanted = ASPACE_NOT_MAPPED;
	else if (any_pending(m, lo, hi, txn != NULL))
		wanted = ASPACE_BUSY;
	part_from_leaving(m, lo, hi);
	/* With a grace period nothing is taken now. */
	if (!txn)
		wanted = meet(m, !grace && is_met(m, lo, hi), &how, wanted);
	status = txn ? aspace_txn_unmap(txn, range_of(m, lo, hi), how)
		     : aspace_unmap(m->space, range_of(m, lo, hi), how);
	if (!txn)
		go_on(m, true);
	if (settled(m, status, wanted))
		cells_unmap(m, lo, hi, txn != NULL);
}

/* Would a protect ask a backend at once, for changes or for references? */
static bool asks_now(const struct model *m, uint32_t lo, uint32_t hi, uint32_t flags)
{
	for (uint32_t at = lo; at < hi; at++) {
		const struct cell *cell = &m->cells[at];
		const struct recorder *r = &m->recorders[cell->backend];
		uint64_t meanwhile = cell->flags;
		bool cut = (at == lo && lo && same_area(cell, &m->cells[lo - 1])) ||
			   (at + 1 == hi && hi < m->config.cells && same_area(cell, &m->cells[hi]));

		if (cell->state != MAPPED || cell->flags == flags)
			continue;
		if (!r->ops.loses || !lost_by(r, cell->flags, flags, &meanwhile) ||
		    meanwhile != cell->flags || (cut && cell->user && r->ops.clone))
			return true;
	}
	return false;
}

static void op_protect(struct model *m, struct aspace_txn *txn)
{
	unsigned how = draw(m, 4) ? 0 : ASPACE_STRICT;
	enum aspace_status status, wanted = ASPACE_OK;
	bool strict = how || (m->config.mode & ASPACE_ALWAYS_STRICT), all = draw(m, 2);
	uint32_t lo, hi, key = draw(m, 64);
	uint64_t flags = draw(m, FLAGS);
	struct aspace_range range;

	m->operation = all ? "protect" : "protect_with";
	draw_range(m, &lo, &hi);
	if (!draw(m, 32))
		hi = lo;
	range = range_of(m, lo, hi);
	if (strict && !all_mapped(m, lo, hi))
		wanted = ASPACE_NOT_MAPPED;
	/* Before it asks the callback, or a backend. */
	if (!txn && !all && lo < hi)
		wanted = meet(m, is_met(m, lo, hi), &how, wanted);
	if (wanted == ASPACE_OK &&
	    changes_pending(m, lo, hi, key, all, (uint32_t)flags, txn != NULL))
		wanted = ASPACE_BUSY;
	if (!txn && all)
		wanted = meet(m, is_met(m, lo, hi) && asks_now(m, lo, hi, (uint32_t)flags), &how,
			      wanted);
	if (txn)
		status = all ? aspace_txn_protect(txn, range, flags, how)
			     : aspace_txn_protect_with(txn, range, decide, &key, how);
	else
		status = all ? aspace_protect(m->space, range, flags, how)
			     : aspace_protect_with(m->space, range, decide, &key, how);
	if (!txn)
		go_on(m, true);
	if (settled(m, status, wanted))
		cells_protect(m, lo, hi, key, all, (uint32_t)flags, txn != NULL);
}

/* The lowest or highest start that fits, by trying all of them. */
static bool brute_force(const struct model *m, const struct aspace_gap *gap, uint64_t lo,
			uint64_t hi, uint64_t *answer)
{
	uint64_t unit = m->config.unit, align = gap->align > unit ? gap->align : unit;
	uint64_t end = address(m, m->config.cells);
	bool found = false;

	for (uint64_t start = (lo + align - 1) & ~(align - 1); start >= lo && start < hi;
	     start += align) {
		uint64_t from, to;
		bool is_free = true;

		if (hi - start < gap->size)
			break;
		from = start > gap->guard ? start - gap->guard : 0;
		to = start + gap->size + gap->guard;
		if (to < start)
			to = UINT64_MAX;
		if (from < m->config.base)
			from = m->config.base;
		for (uint64_t at = from; is_free && at < to && at < end;
		     at = (at - m->config.base) / unit * unit + m->config.base + unit)
			is_free = m->cells[(at - m->config.base) / unit].state == FREE;
		if (is_free) {
			*answer = start;
			found = true;
			if (!gap->downward)
				break;
		}
		if (start + align < start)
			break;
	}
	return found;
}

static struct aspace_gap draw_gap(struct model *m)
{
	uint32_t n = m->config.cells;
	uint64_t unit = m->config.unit;
	struct aspace_gap gap = {
		.size = (1 + draw(m, 8)) * unit,
		.downward = draw(m, 2),
		.wrap = draw(m, 2),
		.limits = range_of(m, 0, n),
	};

	if (draw(m, 2))
		gap.align = unit << draw(m, 4);
	if (draw(m, 2))
		gap.hint.value = address(m, draw(m, n + 1));
	if (!draw(m, 3))
		gap.guard = draw(m, 3) * unit;
	if (draw(m, 2)) {
		uint32_t lo, hi;

		draw_range(m, &lo, &hi);
		gap.limits = range_of(m, lo, hi);
	}
	return gap;
}

static bool model_gap(const struct model *m, const struct aspace_gap *gap, uint64_t *answer)
{
	uint64_t lo = gap->limits.start.value, hi = gap->limits.end.value;
	uint64_t hint = gap->hint.value, from = lo, to = hi;

	if (gap->downward && hint && hint < to)
		to = hint < lo ? lo : hint;
	if (!gap->downward && hint > from)
		from = hint > hi ? hi : hint;
	if (brute_force(m, gap, from, to, answer))
		return true;
	return gap->wrap && brute_force(m, gap, lo, hi, answer);
}

/* The backend would not unmap it, so the area is back; or not protect it, and it has its flags again.
 * Runs on whatever thread did that, and
 * the model's waits for it. */
static void bring_back(void *ctx, struct aspace *space, const struct aspace_area *area,
		       enum aspace_status status)
{
	struct model *m = ctx;
	uint32_t lo, hi;

	(void)space;
	expect(m, m->leaves && status != ASPACE_OK, "a deferred change was refused", 0);
	cells_of(m, (struct aspace_range){area->start, area->end}, &lo, &hi);
	m->tally->kept_flags += m->cells[lo].pending != 0;
	for (uint32_t i = lo; i < hi; i++) {
		if (m->cells[i].pending)
			expect(m, area->flags + 1 == m->cells[i].pending,
			       "other flags come back than are held", i);
		else
			expect(m, m->cells[i].state == LEAVING, "what comes back was not leaving",
			       i);
		m->cells[i].state = MAPPED;
		m->cells[i].pending = 0;
		m->cells[i].flags = (uint8_t)area->flags;
	}
	cells_merge(m, lo, hi);
	m->came_back++;
	m->tally->came_back++;
}

/* What is leaving may go at any time, or here at the latest; a model that asks for gaps
 * must know. */
static void let_leave(struct model *m)
{
	enum aspace_status status;

	if (!(m->config.mode & ASPACE_GRACE_UNMAP))
		return;
	part(m); /* what they are at work in would wait for them */
	m->leaving_refused = m->came_back = 0;
	m->leaves = true;
	if (m->holds_leaving)
		aspace_read_end(&m->section);
	status = aspace_quiesce(m->space, 0);
	expect(m, status == (m->came_back ? ASPACE_BAD_STATE : ASPACE_OK),
	       aspace_status_string(status), 0);
	expect(m, m->came_back == m->leaving_refused, "refusals and areas that came back differ",
	       m->came_back);
	m->leaves = false;
	for (uint32_t i = 0; i < m->config.cells; i++) {
		if (m->cells[i].state == LEAVING)
			m->cells[i] = (struct cell){0};
		m->cells[i].pending = 0;
	}
	cells_merge(m, 0, m->config.cells);
	if (m->holds_leaving)
		aspace_read_begin(m->space, &m->section);
}

static void op_find_free(struct model *m, struct aspace_txn *txn)
{
	struct aspace_gap gap = draw_gap(m);
	struct aspace_vaddr start = {0};
	enum aspace_status status, wanted;
	uint64_t answer = 0;

	m->operation = "find_free";
	if (txn && (m->config.mode & ASPACE_GRACE_UNMAP))
		return;
	let_leave(m);
	wanted = model_gap(m, &gap, &answer) ? ASPACE_OK : ASPACE_NO_SPACE;
	status = txn ? aspace_txn_find_free(txn, &gap, &start)
		     : aspace_find_free(m->space, &gap, &start);
	expect(m, status == wanted, aspace_status_string(status), (uint64_t)wanted);
	expect(m, status != ASPACE_OK || start.value == answer, "another gap was wanted", answer);
	m->tally->gap_searches++;
}

static void op_map_anywhere(struct model *m, struct aspace_txn *txn)
{
	struct aspace_gap gap = draw_gap(m);
	struct cell cell = draw_cell(m);
	struct aspace_vaddr start = {0};
	enum aspace_status status, wanted;
	uint64_t answer = 0;
	uint32_t lo;

	m->operation = "map_anywhere";
	if (txn && (m->config.mode & ASPACE_GRACE_UNMAP))
		return;
	let_leave(m);
	wanted = model_gap(m, &gap, &answer) ? ASPACE_OK : ASPACE_NO_SPACE;
	cell.fresh = txn != NULL;
	add_reference(m, &cell, 1);
	status = txn ? aspace_txn_map_anywhere(txn, &gap, cell.flags, backend_of(m, &cell),
					       user_of(&cell), 0, &start)
		     : aspace_map_anywhere(m->space, &gap, cell.flags, backend_of(m, &cell),
					   user_of(&cell), 0, &start);
	if (status != ASPACE_OK)
		add_reference(m, &cell, -1);
	else if (txn)
		give_reference(m, &cell);
	if (!settled(m, status, wanted))
		return;
	expect(m, start.value == answer, "another gap was wanted", answer);
	lo = (uint32_t)((answer - m->config.base) / m->config.unit);
	cells_map(m, lo, lo + (uint32_t)(gap.size / m->config.unit), cell);
}

static void op_move(struct model *m)
{
	uint32_t n = m->config.cells, lo, hi, to;
	enum aspace_status status, wanted = ASPACE_OK;
	unsigned how = 0;

	m->operation = "move";
	draw_range(m, &lo, &hi);
	to = draw(m, n);
	if (to + (hi - lo) > n || (to < hi && lo < to + (hi - lo)))
		wanted = ASPACE_INVALID_PARAM;
	else if (m->config.mode & ASPACE_GRACE_UNMAP)
		wanted = ASPACE_NOT_SUPPORTED;
	if (to + (hi - lo) > n)
		return; /* beyond the model: the limits are its own affair */
	for (uint32_t i = lo; i < hi && wanted == ASPACE_OK; i++) {
		if (m->cells[i].state == MAPPED && m->cells[i].backend == 1)
			wanted = ASPACE_NOT_SUPPORTED;
	}
	if (wanted == ASPACE_OK && !all_mapped(m, lo, hi))
		wanted = ASPACE_NOT_MAPPED;
	if (wanted == ASPACE_OK && any_mapped(m, to, to + (hi - lo)))
		wanted = ASPACE_ALREADY_EXISTS;
	wanted = meet(m, is_met(m, lo, hi), &how, wanted);
	status = aspace_move(m->space, range_of(m, lo, hi), aspace_va(address(m, to)), how);
	go_on(m, true);
	if (!settled(m, status, wanted))
		return;
	for (uint32_t at = lo, end; at < hi; at = end) {
		struct cell cell = m->cells[at];

		end = end_of(m, at) < hi ? end_of(m, at) : hi;
		for (uint32_t i = at; i < end; i++)
			m->cells[to + i - lo] = cell;
		split_off(m, to + at - lo, to + end - lo);
		cells_clear(m, at, end);
	}
	cells_merge(m, to, to + (hi - lo));
}

static void op_resize(struct model *m)
{
	uint32_t n = m->config.cells, lo = draw(m, n), end, size = 1 + draw(m, 16), to;
	bool grace = m->config.mode & ASPACE_GRACE_UNMAP;
	enum aspace_status status, wanted = ASPACE_OK;
	struct cell cell = m->cells[lo];
	unsigned how = 0;
	bool starts = cell.state == MAPPED && (!lo || !same_area(&m->cells[lo - 1], &cell));

	m->operation = "resize";
	if (lo + size > n)
		return;
	end = end_of(m, lo);
	if (!starts)
		wanted = ASPACE_NOT_MAPPED;
	else if (lo + size > end && any_mapped(m, end, lo + size))
		wanted = ASPACE_ALREADY_EXISTS;
	else if (m->holds_leaving && lo + size > end && any_leaving(m, end, lo + size))
		wanted = ASPACE_BUSY;
	else if (lo + size != end && any_pending(m, lo, lo + 1, false))
		wanted = ASPACE_BUSY;
	if (starts && lo + size > end && any_leaving(m, end, lo + size))
		part(m);
	if (lo + size < end)
		part_from_leaving(m, lo + size, end);
	/* Wherever in the area. */
	to = lo + size > end ? lo + size : end;
	wanted = meet(m, !grace && lo + size != end && is_met(m, lo, to), &how, wanted);
	status = aspace_resize(m->space, aspace_va(address(m, lo)), size * m->config.unit, how);
	go_on(m, true);
	if (!settled(m, status, wanted))
		return;
	if (lo + size < end)
		cells_unmap(m, lo + size, end, false);
	for (uint32_t i = end; i < lo + size; i++)
		m->cells[i] = cell;
	if (lo + size > end)
		cells_merge(m, lo + size, lo + size);
}

/* What is to be said before any backend is asked. */
static enum aspace_status first_refusal(const struct model *m, const struct cell *cells,
					uint32_t lo, uint32_t hi, bool strict)
{
	for (; lo < hi; lo++) {
		if (cells[lo].state != MAPPED && strict)
			return ASPACE_NOT_MAPPED;
		if (cells[lo].state == MAPPED && !m->recorders[cells[lo].backend].ops.advise)
			return ASPACE_NOT_SUPPORTED;
	}
	return ASPACE_OK;
}

/* Is a guest at work where advice about the range would be? */
static bool meets_piece(struct model *m, const struct cell *cells, uint32_t lo, uint32_t hi)
{
	bool met[GUESTS] = {false}, any = false;

	for (uint32_t at = lo; at < hi; at++) {
		struct visit visit = {.at = at, .backend = cells[at].backend};
		struct guest guest = {.advises = true, .end = address(m, at + 1)};

		if (cells[at].state != MAPPED)
			continue;
		aim(m, cells, &guest, &visit);
		any |= is_met_at_work(m, visit.work_lo, visit.work_hi);
		for (int i = 0; i < GUESTS; i++)
			met[i] |= m->visits[i].met;
	}
	for (int i = 0; i < GUESTS; i++)
		m->visits[i].met = met[i];
	return any;
}

/* A transaction shows nobody what it is about to do: what is there before it is advised. */
static void op_advise(struct model *m, const struct aspace_txn *txn)
{
	const struct cell *cells = txn ? m->saved : m->cells;
	unsigned how = draw(m, 4) ? 0 : ASPACE_STRICT;
	bool strict = how || (m->config.mode & ASPACE_ALWAYS_STRICT), some = false;
	bool grace = m->config.mode & ASPACE_GRACE_UNMAP;
	enum aspace_advice advice = (enum aspace_advice)(1 + draw(m, ASPACE_ADVICE_NORMAL));
	bool loses = advice == ASPACE_ADVICE_DROP || advice == ASPACE_ADVICE_FREE;
	enum aspace_status status, wanted;
	struct aspace_vaddr reached;
	uint32_t lo, hi, end;

	m->operation = "advise";
	draw_range(m, &lo, &hi);
	m->told_at_once = draw(m, 2) ? m->config.cells : 1 + draw(m, 5);
	memset(m->told, 0, m->config.cells);
	for (uint32_t i = lo; i < hi; i++)
		some |= cells[i].state == MAPPED;
	wanted = first_refusal(m, cells, lo, hi, strict);
	if (wanted == ASPACE_OK && loses && grace && some && (txn || m->holds_leaving))
		wanted = txn ? ASPACE_DEADLOCK : ASPACE_BUSY;
	/* It waits for its place as they do; but who holds the writer lock may not. */
	if (txn && meets_piece(m, cells, lo, hi))
		part(m);
	m->met = wanted == ASPACE_OK && meets_piece(m, cells, lo, hi);
	m->waits = m->met;
	if (m->waits)
		guests_set_mode(&m->guests, GUESTS_YIELD);
	status = aspace_advise_part(m->space, range_of(m, lo, hi), advice, how, &reached);
	end = (uint32_t)((reached.value - m->config.base) / m->config.unit);
	/* Not all that is met is waited for, where it is refused before. */
	go_on(m, status == ASPACE_OK);
	if (m->refused && status != wanted) {
		expect(m, wanted == ASPACE_OK && status == ASPACE_ACCESS_DENIED && end < hi,
		       aspace_status_string(status), end);
		m->tally->advice_stops += end > lo;
	} else {
		expect(m, status == wanted, aspace_status_string(status), (uint64_t)wanted);
		expect(m, end == (wanted == ASPACE_OK ? hi : lo), "advice reached another cell",
		       end);
	}
	for (uint32_t i = 0; i < m->config.cells; i++)
		expect(m, m->told[i] == (cells[i].state == MAPPED && i >= lo && i < end),
		       "a cell was advised too often, or not", i);
}

/* Is a cell one that the question is about? */
static bool is_meant(struct model *m, const struct cell *cell, const struct aspace_match *match)
{
	return cell->state == MAPPED && !((cell->flags ^ match->flags) & match->mask) &&
	       (!match->backend || match->backend == backend_of(m, cell));
}

/* Questions about a range: aspace_check_range(), aspace_bytes() and aspace_bytes_in(). */
static void ask(struct model *m, struct aspace_txn *txn)
{
	uint64_t unit = m->config.unit, bytes, all, meant = 0, mapped = 0;
	struct aspace_match match = {.mask = draw(m, 8), .flags = draw(m, 8)};
	enum aspace_status status, wanted = ASPACE_OK;
	struct aspace_vaddr reached;
	struct aspace_range range;
	struct cell *cells = m->cells;
	uint32_t lo, hi, stop;

	m->operation = "questions";
	draw_range(m, &lo, &hi);
	range = range_of(m, lo, hi);
	if (draw(m, 2))
		match.backend = backend_of(m, &cells[draw(m, m->config.cells)]);
	for (stop = lo; stop < hi && is_meant(m, &cells[stop], &match); stop++)
		;
	if (stop < hi)
		wanted = cells[stop].state == MAPPED ? ASPACE_ACCESS_DENIED : ASPACE_NOT_MAPPED;
	for (uint32_t i = 0; i < m->config.cells; i++) {
		mapped += cells[i].state == MAPPED ? unit : 0;
		meant += i >= lo && i < hi && is_meant(m, &cells[i], &match) ? unit : 0;
	}
	if (txn) {
		status = aspace_txn_check_range(txn, range, &match, &reached);
		expect(m, aspace_txn_bytes(txn, &all) == ASPACE_OK, "bytes", 0);
		expect(m, aspace_txn_bytes_in(txn, range, &match, &bytes) == ASPACE_OK, "bytes", 0);
	} else {
		status = aspace_check_range(m->space, range, &match, &reached);
		all = aspace_bytes(m->space);
		bytes = aspace_bytes_in(m->space, range, &match);
	}
	expect(m, status == wanted && reached.value == address(m, stop), "all of a range", stop);
	expect(m, all == mapped, "bytes of all areas", 0);
	expect(m, bytes == meant, "bytes in a range", lo);
}

static void op_find(struct model *m, struct aspace_txn *txn)
{
	uint32_t n = m->config.cells, lo = draw(m, n), hi;
	struct aspace_area area;
	struct cell *cell = &m->cells[lo];
	uint64_t at = address(m, lo) + draw(m, (uint32_t)m->config.unit);
	enum aspace_status status = txn ? aspace_txn_find(txn, aspace_va(at), &area)
					: aspace_find(m->space, aspace_va(at), &area);

	m->operation = "find";
	expect(m, status == (cell->state == MAPPED ? ASPACE_OK : ASPACE_NOT_MAPPED),
	       aspace_status_string(status), lo);
	if (status == ASPACE_OK)
		expect(m,
		       area.flags == cell->flags && area.user == user_of(cell) &&
			       area.start.value <= at &&
			       area.end.value == address(m, end_of(m, lo)),
		       "another area was found", lo);
	ask(m, txn);
	if (txn)
		return;
	draw_range(m, &lo, &hi);
	if (!any_leaving(m, lo, hi))
		expect(m, aspace_overlaps(m->space, range_of(m, lo, hi)) == any_mapped(m, lo, hi),
		       "overlaps", lo);
}

/* Does the open transaction change the cell now, and not only when readers have gone? */
static bool is_changed(const struct model *m, uint32_t i)
{
	const struct cell *old = &m->saved[i], *new = &m->cells[i];
	uint64_t meanwhile = old->flags;

	if (old->state != MAPPED)
		return false;
	if (new->state != MAPPED || new->fresh)
		return !(m->config.mode & ASPACE_GRACE_UNMAP);
	if (old->flags == new->flags)
		return false;
	return !m->recorders[old->backend].ops.loses ||
	       !lost_by(&m->recorders[old->backend], old->flags, new->flags, &meanwhile) ||
	       meanwhile != old->flags;
}

/* Does it change what a guest is at work in? */
static bool changes_visited(struct model *m)
{
	bool any = false;

	for (int i = 0; i < GUESTS; i++) {
		struct visit *visit = &m->visits[i];

		visit->met = false;
		for (uint32_t at = visit->lo; visit->listed && at < visit->hi; at++)
			visit->met |= is_changed(m, at);
		any |= visit->met;
	}
	return any;
}

static void op_txn(struct model *m)
{
	struct aspace_txn *txn;
	uint32_t count = 1 + draw(m, 6);
	size_t bytes = m->config.cells * sizeof(*m->cells);
	bool abort_it = !draw(m, 5), nowait = draw(m, 2);
	struct cell *before = m->saved;
	enum aspace_status status;

	m->operation = "transaction";
	memcpy(before, m->cells, bytes);
	memcpy(m->saved_copies, m->copies, sizeof(m->copies));
	m->given = (struct given){0};
	do { /* the helper thread may be at work */
		status = aspace_txn_begin(m->space, nowait ? ASPACE_NOWAIT : 0, &txn);
	} while (nowait && status == ASPACE_BUSY);
	expect(m, status == ASPACE_OK, aspace_status_string(status), 0);
	while (count--) {
		if (!draw(m, 16))
			invite(m, before);
		switch (draw(m, 8)) {
		case 0:
		case 1:
			op_map(m, txn);
			break;
		case 2:
			op_unmap(m, txn);
			break;
		case 3:
			op_protect(m, txn);
			break;
		case 4:
			op_find_free(m, txn);
			break;
		case 5:
			op_find(m, txn);
			break;
		case 6:
			op_advise(m, txn);
			break;
		default:
			op_map_anywhere(m, txn);
		}
	}
	m->operation = abort_it ? "abort" : "commit";
	if (abort_it) {
		aspace_txn_abort(txn);
		memcpy(m->cells, before, bytes);
		memcpy(m->copies, m->saved_copies, sizeof(m->copies));
		take_back(m);
		return;
	}
	m->tally->commits++;
	for (uint32_t i = 0; i < m->config.cells; i++) {
		if (before[i].state == MAPPED && m->cells[i].state != MAPPED)
			part_from_leaving(m, i, i + 1);
	}
	m->met = changes_visited(m);
	m->waits = m->met && !nowait;
	if (m->waits)
		guests_set_mode(&m->guests, GUESTS_YIELD);
	if (m->met && nowait) {
		expect(m, aspace_txn_commit(txn) == ASPACE_BUSY, "a commit beside a guest", 0);
		go_on(m, true);
		memcpy(m->cells, before, bytes);
		memcpy(m->copies, m->saved_copies, sizeof(m->copies));
		take_back(m);
		return;
	}
	status = aspace_txn_commit(txn);
	go_on(m, true);
	for (uint32_t i = 0; i < m->config.cells; i++)
		m->cells[i].fresh = 0;
	if (status == ASPACE_OK)
		return;
	expect(m, m->refused, aspace_status_string(status), 0);
	take_back(m);
	memcpy(m->cells, before, bytes);
	memcpy(m->copies, m->saved_copies, sizeof(m->copies));
	if (status == ASPACE_BAD_STATE)
		learn(m);
}

static void op_snapshot(struct model *m)
{
	struct kept *kept = &m->kept[draw(m, SNAPSHOTS)];

	m->operation = "snapshot";
	if (kept->taken) {
		aspace_snapshot_release(&kept->snapshot);
	} else {
		enum aspace_status status = aspace_snapshot_take(m->space, &kept->snapshot);

		expect(m, status == ASPACE_OK, aspace_status_string(status), 0);
		memcpy(kept->cells, m->cells, m->config.cells * sizeof(*m->cells));
		m->tally->snapshots++;
	}
	kept->taken = !kept->taken;
}

static uint64_t draw_wild(struct model *m)
{
	switch (draw(m, 8)) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return UINT64_MAX - draw(m, 4);
	case 3:
		return draw(m, 3);
	case 4:
		return address(m, m->config.cells) + draw(m, 2);
	case 5:
		return address(m, draw(m, m->config.cells)) + draw(m, 2);
	default:
		return ((uint64_t)draw(m, UINT32_MAX) << 32) | draw(m, UINT32_MAX);
	}
}

/* Arguments that make no sense get a status and change nothing. */
static void op_wild(struct model *m)
{
	uint64_t lo = draw_wild(m), hi = draw_wild(m), end = address(m, m->config.cells);
	bool usable =
		lo < hi && lo >= m->config.base && hi <= end && !((lo | hi) & (m->config.unit - 1));
	struct aspace_range range = aspace_range_of(lo, hi);
	struct aspace_backend *backend = &m->recorders[0].backend;
	struct aspace_gap gap = {.size = hi, .align = lo};
	struct aspace_vaddr start;
	enum aspace_status status = ASPACE_INVALID_PARAM;

	m->operation = "wild arguments";
	switch (draw(m, 9)) {
	case 0:
		status = aspace_map(m->space, range_of(m, 0, 1), (uint64_t)FLAGS << draw(m, 60),
				    backend, NULL, ASPACE_REPLACE);
		break;
	case 1:
		if (!usable)
			status = aspace_map(m->space, range, 0, backend, NULL, ASPACE_REPLACE);
		break;
	case 2:
		if (!usable)
			status = aspace_unmap(m->space, range, 0);
		break;
	case 3:
		if (!usable && lo != hi)
			status = aspace_protect(m->space, range, 0, 0);
		break;
	case 4:
		if (!usable)
			status = aspace_move(m->space, range, aspace_va(draw_wild(m)), 0);
		break;
	case 5:
		status = aspace_map(m->space, range_of(m, 0, 1), 0, NULL, NULL, 0);
		break;
	case 6:
		status = aspace_advise(
			m->space, usable ? range_of(m, 0, 1) : range,
			usable ? (enum aspace_advice)(20 + lo % 1000) : ASPACE_ADVICE_DROP, 0);
		break;
	case 7:
		if (lo & (lo - 1))
			status = aspace_find_free(m->space, &gap, &start);
		break;
	default:
		if (lo < m->config.base || lo >= end)
			status = aspace_resize(m->space, aspace_va(lo), hi, 0);
		break;
	}
	if (status == ASPACE_NOT_MAPPED || status == ASPACE_NOT_SUPPORTED)
		status = ASPACE_INVALID_PARAM;
	expect(m, status == ASPACE_INVALID_PARAM, aspace_status_string(status), 0);
	expect(m,
	       aspace_find(m->space, aspace_va(lo < m->config.base || lo >= end ? lo : UINT64_MAX),
			   NULL) == ASPACE_NOT_MAPPED,
	       "something is found outside the limits", 0);
	m->tally->invalid++;
}

/* When nothing is on its way, there are as many references as must be. */
static void count_references(struct model *m)
{
	bool any = false;
	counts live;

	m->operation = "quiesce";
	part(m);
	if (m->config.mode & ASPACE_GRACE_UNMAP)
		let_leave(m);
	else
		expect(m, aspace_quiesce(m->space, 0) == ASPACE_OK, "not ASPACE_OK", 0);
	for (unsigned i = 0; i < SNAPSHOTS; i++)
		any |= m->kept[i].taken;
	m->tally->counted_beside_snapshots += any && m->config.users && !m->renumbered;
	check_references(m, true);
	if (any || !m->renumbered)
		return;
	/* The numbers are right again, and so are clones. What was copied while the truth was
	 * told, nobody knows. */
	m->renumbered = false;
	count_live(m, live);
	for (unsigned b = 0; b < BACKENDS; b++) {
		for (unsigned u = 0; u < USERS && !m->recorders[b].ops.clone; u++)
			m->copies[b][u] = live[b][u] - m->references[b][u];
	}
	check_references(m, true);
}

static void op_clear(struct model *m)
{
	enum aspace_status status, wanted = ASPACE_OK;
	uint32_t n = m->config.cells;
	unsigned how = 0;

	if (any_pending(m, 0, n, false))
		wanted = ASPACE_BUSY;
	part_from_leaving(m, 0, n);
	wanted = meet(m, !(m->config.mode & ASPACE_GRACE_UNMAP) && is_met(m, 0, n), &how, wanted);
	status = aspace_clear(m->space, how);
	go_on(m, true);
	if (settled(m, status, wanted))
		cells_unmap(m, 0, n, false);
}

static void one_operation(struct model *m)
{
	uint32_t which = draw(m, 64);

	part_if_grown(m);
	if (!draw(m, 12)) {
		m->operation = "a guest comes";
		invite(m, m->cells);
	}
	m->refused = false;
	m->refuse_in = m->config.refusals && !draw(m, 3) ? (long)draw(m, 12) : -1;
	if (which < 13)
		op_map(m, NULL);
	else if (which < 26)
		op_unmap(m, NULL);
	else if (which < 28)
		op_advise(m, NULL);
	else if (which < 38)
		op_protect(m, NULL);
	else if (which < 42)
		op_map_anywhere(m, NULL);
	else if (which < 46)
		op_find_free(m, NULL);
	else if (which < 49)
		op_move(m);
	else if (which < 52)
		op_resize(m);
	else if (which < 57)
		op_txn(m);
	else if (which < 59)
		op_find(m, NULL);
	else if (which < 60)
		op_wild(m);
	else if (which < 62)
		op_snapshot(m);
	else if (which < 63)
		aspace_trim(m->space, 0);
	else if (!draw(m, m->config.users ? 2 : 8))
		count_references(m);
	else if (!draw(m, 64)) {
		m->operation = "clear";
		op_clear(m);
	}
	m->refuse_in = -1;
}

static void fill(struct model *m)
{
	for (uint32_t i = 0; i < m->config.cells; i += 2) {
		struct cell cell = {.state = MAPPED, .flags = (uint8_t)(i % FLAGS)};
		enum aspace_status status = aspace_map(m->space, range_of(m, i, i + 1), cell.flags,
						       &m->recorders[0].backend, NULL, 0);

		expect(m, status == ASPACE_OK, aspace_status_string(status), i);
		cells_map(m, i, i + 1, cell);
	}
}

static void note_height(struct model *m)
{
	struct aspace_stats stats = {.size = sizeof(stats)};
	struct tally *tally = m->tally;

	aspace_stats(m->space, &stats, 0);
	if (tally->height < stats.height)
		tally->height = stats.height;
	if (stats.leaving && tally->grace_height < stats.height)
		tally->grace_height = stats.height;
}

static void finish(struct model *m)
{
	enum aspace_status status;

	for (unsigned i = 0; i < SNAPSHOTS; i++) {
		if (m->kept[i].taken)
			aspace_snapshot_release(&m->kept[i].snapshot);
		m->kept[i].taken = false;
		free(m->kept[i].cells);
	}
	count_references(m);
	check(m);
	m->operation = "destroy";
	guests_close(&m->guests);
	if (m->holds_leaving)
		aspace_read_end(&m->section);
	status = aspace_destroy(m->space, 0);
	expect(m, status == ASPACE_OK, aspace_status_string(status), 0);
	memset(m->cells, 0, m->config.cells * sizeof(*m->cells));
	check_references(m, true);
	for (unsigned b = 0; b < BACKENDS; b++) {
		for (uint32_t i = 0; i < m->config.cells; i++)
			expect(m, !m->recorders[b].held[i], "memory is left at the end", i);
		free(m->recorders[b].held);
	}
	free(m->cells);
	free(m->saved);
	free(m->told);
}

void model_run(const struct config *config, struct source *source, const char *label,
	       struct tally *tally)
{
	struct model m = {
		.config = *config,
		.source = source,
		.label = label,
		.tally = tally,
		.refuse_in = -1,
		.operation = "create",
	};
	struct aspace_options options = {
		.size = sizeof(options),
		.granule = config->unit,
		.mode = config->mode,
		.limits =
			aspace_range_of(config->base, config->base + config->cells * config->unit),
		.refused = bring_back,
		.ctx = &m,
	};
	enum aspace_status status = aspace_create(&options, &m.space);

	expect(&m, status == ASPACE_OK, aspace_status_string(status), 0);
	m.cells = calloc(config->cells, sizeof(*m.cells));
	m.saved = calloc(config->cells, sizeof(*m.cells));
	m.told = calloc(config->cells, 1);
	for (unsigned i = 0; i < SNAPSHOTS; i++)
		m.kept[i].cells = calloc(config->cells, sizeof(*m.cells));
	m.holds_leaving = (config->mode & ASPACE_GRACE_UNMAP) && config->refusals;
	for (unsigned i = 0; i < BACKENDS; i++)
		init_recorder(&m, i);
	m.guests.space = m.space;
	m.guests.wrong = wrong;
	m.guests.ctx = &m;
	guests_open(&m.guests);
	if (config->full)
		fill(&m);
	if (m.holds_leaving)
		aspace_read_begin(m.space, &m.section);
	while (config->operations ? m.step < config->operations : !source->dry) {
		m.step++;
		one_operation(&m);
		if (m.step % config->check_every == 0) {
			check(&m);
			note_height(&m);
		}
	}
	tally->operations += m.step;
	finish(&m);
}
