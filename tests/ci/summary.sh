#!/bin/bash
# SPDX-License-Identifier: MIT
#
# summary.sh SOURCE_ROOT
#
# The summary of ci/test names each test that was skipped, or a part of which was, and why; and a
# skip without a reason is a failure. ctest is the real one, the tests are one line each; cmake and
# the installer are played.
set -euo pipefail

source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/ci" "$work/fake" "$work/tree/build/release"
cp "$source"/ci/{lib.sh,test} "$work/tree/ci/"
printf '#!/bin/sh\n' | tee "$work/fake/cmake" >"$work/tree/ci/install-packages"
chmod +x "$work/fake/cmake" "$work/tree/ci/install-packages"
tests=$work/tree/build/release/CTestTestfile.cmake

# a_test NAME COMMANDS
a_test() {
	printf 'add_test(%s "sh" "-c" "%s")\nset_tests_properties(%s PROPERTIES SKIP_RETURN_CODE 77)\n' \
		"$1" "$2" "$1" >>"$tests"
}

# expect STATUS LINE...
expect() {
	local want=$1 status=0 line

	shift
	PATH=$work/fake:$PATH "$work/tree/ci/test" release >"$work/out" 2>&1 || status=$?
	for line; do
		grep -qxF -e "$line" "$work/out" || status="$status, and no line '$line'"
	done
	if [[ $status != "$want" ]]; then
		echo "FAIL: $status"
		cat "$work/out"
		exit 1
	fi
}

a_test good "echo fine"
a_test whole "echo noise; echo 'skipped: there is no qemu'; exit 77"
a_test part "echo '[ RUN      ] x'; echo 'skipped: a'; echo 'skipped: b'; echo 'skipped: a'"
expect 0 "skipped:" "    release: whole: there is no qemu" "    release: part, in part: a; b" \
	"2 passed, 0 failed, 1 skipped"
a_test silent "exit 77"
expect 1 "    release: silent: NO REASON GIVEN" "2 passed, 1 failed, 2 skipped"
echo "ok"
