#!/bin/bash
# SPDX-License-Identifier: MIT
#
# check.sh SOURCE_ROOT: the API reference is made without a warning. Exit code 77:
# there is no doxygen.
set -euo pipefail

cd "$1"
if ! command -v doxygen >/dev/null; then
	echo "skipped: there is no doxygen"
	exit 77
fi
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

status=0
{
	cat docs/Doxyfile
	echo "OUTPUT_DIRECTORY = $out"
	echo "WARN_AS_ERROR = FAIL_ON_WARNINGS"
} | doxygen - || status=$?
if ((status)); then
	echo "FAIL: doxygen answered $status; its warnings are above"
	exit 1
fi
echo "ok: $(find "$out/html" -name '*.html' | wc -l) pages"
