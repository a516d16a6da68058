/* SPDX-License-Identifier: MIT */
/*
 * The functions of a set (vector.h). Included once by the file of each, behind its header.
 */
#include "tree/edit_body.h"
#include "tree/gap_body.h"

#define ASP_STRING_(text) #text
#define ASP_STRING(text)  ASP_STRING_(text)

const struct asp_vector OF_VECTOR(vector) = {
	.name = ASP_STRING(VECTOR),
	.edit = {search_finger, own, own_path, take_out, put_in, inner_gap},
	.find_lowest = OF_VECTOR(find_lowest),
	.find_highest = OF_VECTOR(find_highest),
};
