/* SPDX-License-Identifier: MIT */
/*
 * A version as text: one line an area, or the tree for Graphviz. Formats by hand,
 * because the core has no printf.
 */
#include "tree/tree.h"

struct line {
	char text[160];
	size_t length;
};

static void put_text(struct line *line, const char *text)
{
	while (*text && line->length < sizeof(line->text))
		line->text[line->length++] = *text++;
}

static void put_hex(struct line *line, uint64_t value, unsigned digits)
{
	char text[17];
	unsigned at = 16;

	text[16] = '\0';
	do {
		text[--at] = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value || 16 - at < digits);
	put_text(line, text + at);
}

static bool flush_line(struct line *line, aspace_write_fn *write, void *ctx)
{
	size_t length = line->length;

	line->length = 0;
	return write(ctx, line->text, length);
}

bool asp_tree_dump_maps(const struct asp_node *root, aspace_write_fn *write, void *ctx)
{
	struct line line = {.length = 0};
	struct asp_cursor cursor;

	for (bool more = asp_cursor_seek(&cursor, root, 0); more; more = asp_cursor_next(&cursor)) {
		struct aspace_area area = asp_cursor_area(&cursor);

		put_hex(&line, area.start.value, 12);
		put_text(&line, "-");
		put_hex(&line, area.end.value, 12);
		put_text(&line, " flags=0x");
		put_hex(&line, area.flags & ~ASPACE_FLAGS_RESERVED, 1);
		put_text(&line, " backend=0x");
		put_hex(&line, (uintptr_t)area.backend, 1);
		put_text(&line, " user=0x");
		put_hex(&line, (uintptr_t)area.user, 1);
		put_text(&line, area.flags & ASP_FLAG_LEAVING ? " leaving\n" : "\n");
		if (!flush_line(&line, write, ctx))
			return false;
	}
	return true;
}

static bool dump_node(const struct asp_node *node, struct line *line, aspace_write_fn *write,
		      void *ctx)
{
	put_text(line, "\tn");
	put_hex(line, (uintptr_t)node, 1);
	put_text(line, " [label=\"level ");
	put_hex(line, node->level, 1);
	put_text(line, ", birth 0x");
	put_hex(line, node->birth, 1);
	if (!flush_line(line, write, ctx))
		return false;
	for (unsigned i = 0; i < node->count; i++) {
		put_text(line, "\\l");
		put_hex(line, node->level ? node->inner.first[i] : node->leaf.start[i], 1);
		put_text(line, "-");
		put_hex(line, node->level ? node->inner.last[i] : node->leaf.slot[i].end, 1);
		if (node->level) {
			put_text(line, " gap 0x");
			put_hex(line, node->inner.gap[i], 1);
		} else if (node->leaf.slot[i].flags & ASP_FLAG_LEAVING) {
			put_text(line, " leaving");
		}
		if (!flush_line(line, write, ctx))
			return false;
	}
	put_text(line, "\\l\"];\n");
	if (!flush_line(line, write, ctx))
		return false;
	if (!node->level)
		return true;
	for (unsigned i = 0; i < node->count; i++) {
		put_text(line, "\tn");
		put_hex(line, (uintptr_t)node, 1);
		put_text(line, " -> n");
		put_hex(line, (uintptr_t)node->inner.child[i], 1);
		put_text(line, ";\n");
		if (!flush_line(line, write, ctx) ||
		    !dump_node(node->inner.child[i], line, write, ctx))
			return false;
	}
	return true;
}

bool asp_tree_dump_dot(const struct asp_node *root, aspace_write_fn *write, void *ctx)
{
	struct line line = {.length = 0};

	put_text(&line, "digraph aspace {\n\tnode [shape=box, fontname=monospace];\n");
	if (!flush_line(&line, write, ctx) || !dump_node(root, &line, write, ctx))
		return false;
	put_text(&line, "}\n");
	return flush_line(&line, write, ctx);
}
