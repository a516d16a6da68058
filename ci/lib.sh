# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the commands in ci/ share: to be sourced, first thing.
#
# Whatever ends a command is said in one line of ours, with how to go on: what a command knows to
# be wrong, by die; an interruption, a directory that cannot be written to and a full disk, of
# which any step can die, by at_end. A command that has something to take away redefines clean_up;
# it is called once, however the command ends.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is built lies below here; ASPACE_BUILD moves it elsewhere.
build=$(realpath -m "${ASPACE_BUILD:-$root/build}")
jobs=$(nproc)
name_of_command=$(basename "$0")

say() {
	printf '==> %s\n' "$*"
}

complain() {
	printf '%s: %s\n' "$name_of_command" "$*" >&2
}

explained= # why it ends, if that has been said
die() {
	complain "$@"
	explained="$*"
	exit 1
}

# quoted WORD...: as a shell would read them, ready to paste.
quoted() {
	local words

	printf -v words '%q ' "$@"
	echo "${words% }"
}

# ---- How it ends.

clean_up() { :; }
after_interruption="run it again, it goes on from what is done"

# mib_free PATH: of the file system that it is on, or would be made on; a lot, if df cannot tell.
mib_free() {
	local path free

	path=$(realpath -m "$1")
	while [[ ! -e $path ]]; do
		path=$(dirname "$path")
	done
	free=$(df --output=avail --block-size=1M "$path" 2>/dev/null | tail -n 1 | tr -dc 0-9) || true
	echo "${free:-1000000}"
}

# is_full PATH: less than any step of ours needs is left.
is_full() {
	(($(mib_free "$1") < 64))
}

can_build() {
	mkdir -p "$build" 2>/dev/null && [[ -w $build ]]
}

at_end() {
	local status=$? path

	trap '' INT TERM HUP
	if ((status > 128)) && [[ $interrupted ]]; then
		complain "interrupted: $after_interruption"
	elif ((status && status != 2 && status != 77)); then
		if [[ ! $explained ]] && ! can_build; then
			complain "cannot write to $build: ASPACE_BUILD=DIRECTORY builds elsewhere"
		elif [[ $explained != *"disk is full"* ]]; then # "the build failed" does not say it
			for path in "$build" "${TMPDIR:-/tmp}"; do
				if is_full "$path"; then
					complain "the disk is full ($(mib_free "$path") MiB left for $path):" \
						"make room; or ASPACE_BUILD and TMPDIR name other places"
					break
				fi
			done
		fi
	fi
	clean_up
	exit "$status"
}

interrupted=
trap at_end EXIT
trap 'interrupted=yes; exit 130' INT
trap 'interrupted=yes; exit 143' TERM
trap 'interrupted=yes; exit 129' HUP

# need_build: what is built has a place.
need_build() {
	can_build || die "cannot write to $build: ASPACE_BUILD=DIRECTORY builds elsewhere"
}

# ---- Being root.

# become_root WHAT_FOR: from then on, "${as_root[@]}" COMMAND runs as root. Where sudo wants a
# password it is asked for, if there is somebody to answer.
# optional: sudo, for whoever is no root
as_root=()
become_root() {
	if ((EUID == 0)) || ((${#as_root[@]})); then
		return 0
	fi
	command -v sudo >/dev/null || return 1
	if ! sudo -n true 2>/dev/null; then
		[[ -t 0 && -t 2 ]] || return 1
		say "sudo may ask for your password, $1"
		sudo -v || return 1
	fi
	as_root=(sudo)
}

# root_line COMMAND...: what to type, to have root do it. "&&" between commands is a word here.
root_line() {
	local line=() word sudo=sudo

	command -v sudo >/dev/null || sudo=
	for word in '&&' "$@"; do
		if [[ $word == '&&' ]]; then
			line+=('&&' ${sudo:+"$sudo"})
		else
			line+=("$(quoted "$word")")
		fi
	done
	word="${line[*]:1}"
	if [[ $sudo ]]; then
		echo "$word"
	else
		echo "su -c ${word@Q}"
	fi
}

# ---- The tree.

# tree_files: the tree's files, none of them built, separated by NUL.
# optional: git, without which they are all that lies around
tree_files() {
	local file

	(cd "$root" && {
		# The tree's owner may be another than the one who asks.
		git -c safe.directory='*' ls-files -z --cached --others --exclude-standard 2>/dev/null ||
			find . \( -path ./build -o -path ./.git \) -prune -o \( -type f -o -type l \) -printf '%P\0'
	}) | sort -z -u | while IFS= read -r -d '' file; do
		[[ ! -f $root/$file ]] || printf '%s\0' "$file" # deleted, but not in git's eyes
	done
}

# seconds_since SECONDS_THEN: "1 min 5 s"
seconds_since() {
	local s=$((SECONDS - $1))

	if ((s >= 60)); then
		printf '%d min %d s' $((s / 60)) $((s % 60))
	else
		printf '%d s' "$s"
	fi
}

# configure_and_build PRESET [CMAKE_ARGUMENT...]
configure_and_build() {
	local preset=$1

	shift
	(cd "$root" && cmake --preset "$preset" -B "$build/$preset" "$@") &&
		cmake --build "$build/$preset" --parallel "$jobs"
}
