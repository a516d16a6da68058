/* SPDX-License-Identifier: MIT */
/*
 * Checks the invariants T1 to T6 of tree/node.h over a whole version.
 */
#include "tree/tree.h"

struct check {
	struct asp_tree_census *census;
	uint64_t end; /* of the area before */
};

static unsigned violation(struct check *check, unsigned invariant, uint64_t at, const char *what)
{
	check->census->at = at;
	check->census->what = what;
	return invariant;
}

static unsigned check_leaf(struct check *check, const struct asp_node *leaf)
{
	for (unsigned i = 0; i < leaf->count; i++) {
		uint64_t start = leaf->leaf.start[i];
		const struct asp_slot *slot = &leaf->leaf.slot[i];

		if (start >= slot->end)
			return violation(check, 2, start, "an area is empty or reversed");
		if (start < check->end)
			return violation(check, 2, start, "areas overlap or do not ascend");
		check->end = slot->end;
		if (slot->flags & ASP_FLAG_LEAVING) {
			check->census->leaving++;
			check->census->leaving_sum += start;
		} else {
			check->census->areas++;
			check->census->bytes += slot->end - start;
		}
	}
	for (unsigned i = leaf->count; i < ASP_LEAF_MAX; i++) {
		if (leaf->leaf.start[i] != ASP_NO_KEY)
			return violation(check, 3, leaf->leaf.start[i], "an unused key is set");
	}
	return 0;
}

static unsigned check_node(struct check *check, const struct asp_node *node, bool spine,
			   bool is_root)
{
	unsigned bad;

	check->census->nodes++;
	if (node->count > asp_node_max(node))
		return violation(check, 1, check->end, "a node is overfull");
	if (!node->count && !(is_root && !node->level))
		return violation(check, 1, check->end, "a node is empty");
	if (!is_root && !spine && node->count < asp_node_min(node))
		return violation(check, 1, check->end, "a node is underfull");
	if (is_root && node->level && node->count < 2)
		return violation(check, 1, check->end, "the root has one child");
	if (!node->level)
		return check_leaf(check, node);

	for (unsigned i = 0; i < node->count; i++) {
		const struct asp_node *child = node->inner.child[i];
		struct asp_bounds bounds;

		if (child->level + 1 != node->level)
			return violation(check, 5, node->inner.first[i], "levels do not match");
		if (child->birth > node->birth)
			return violation(check, 6, node->inner.first[i], "a child is younger");
		bad = check_node(check, child, spine && i + 1 == node->count, false);
		if (bad)
			return bad;
		bounds = asp_node_bounds(child);
		if (bounds.first != node->inner.first[i] || bounds.last != node->inner.last[i])
			return violation(check, 4, bounds.first, "a parent has wrong bounds");
		if (bounds.gap != node->inner.gap[i])
			return violation(check, 4, bounds.first, "a parent has a wrong gap");
	}
	for (unsigned i = node->count; i < ASP_INNER_MAX; i++) {
		if (node->inner.first[i] != ASP_NO_KEY || node->inner.last[i] != ASP_NO_KEY)
			return violation(check, 3, node->inner.first[i], "an unused key is set");
	}
	return 0;
}

unsigned asp_tree_validate(const struct asp_node *root, struct asp_tree_census *census)
{
	struct check check = {.census = census};

	*census = (struct asp_tree_census){0};
	return check_node(&check, root, true, true);
}
