#!/bin/bash
# SPDX-License-Identifier: MIT
#
# fresh.sh SOURCE_ROOT
#
# What ci/fresh, ci/install-packages and what they share say and do where something is wrong, without
# a network and without installing: apt-get, dpkg, debootstrap, sudo and df are played by scripts that
# fail in the ways of the real ones. The tree is a copy with small commands ci/demo and ci/test, in a
# directory with spaces and dollars in its name; the root is made of this machine's shell. Each
# answer is one line of ours; afterwards nothing is left behind, and nothing mounted.
set -euo pipefail

source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree="$work/a \$tree b"
place="$work/the \$place"
fake=$work/fake
failures=0
count=0
mkdir -p "$tree/ci" "$place" "$fake"
cp "$source"/ci/{lib.sh,fresh,install-packages,packages,test} "$tree/ci/"
mv "$tree/ci/test" "$work/real-test"
{
	echo '#!/bin/bash'
	sed -nE 's/^(stage_[a-z]+\(\)).*/\1 { :; }/p' "$work/real-test"
	cat <<'EOT'
behave=$(cat behave)
if [[ $behave == hang-test ]]; then echo here >here; sleep 1000; fi
echo "test: stages: $*"
EOT
} >"$tree/ci/test"
cat >"$tree/ci/demo" <<'EOT'
#!/bin/bash
behave=$(cat behave)
if [[ $behave == hang-demo ]]; then echo here >here; sleep 1000; fi
[[ $behave != fail-demo ]] || exit 1
processes=(/proc/[0-9]*)
echo "demo: $PWD, HOME=$HOME, LEAK=${LEAK-none}, ${#processes[@]} processes"
EOT
chmod +x "$tree"/ci/{demo,test}

# played NAME: a script of that name comes before the real one.
played() {
	cat >"$fake/$1"
	chmod +x "$fake/$1"
}

# run STATUS PATTERN COMMAND...: with the players; its answer has the pattern.
run() {
	local want=$1 pattern=$2 status=0

	shift 2
	count=$((count + 1))
	PATH=$fake:$PATH "$@" </dev/null >"$work/out" 2>&1 || status=$?
	judge "$want" "$status" "$pattern" "$*"
}

judge() {
	if (($1 != $2)); then
		echo "FAIL: $4: exit $2, not $1"
	elif ! grep -q -e "$3" "$work/out"; then
		echo "FAIL: $4: does not say '$3'"
	elif [[ -n $(ls -A "$place") ]]; then
		echo "FAIL: $4: left behind: $(ls -A "$place")"
		rm -rf "${place:?}"/*
	elif grep -q "$work" /proc/self/mountinfo; then
		echo "FAIL: $4: something is mounted: $(grep "$work" /proc/self/mountinfo)"
	else
		return 0
	fi
	sed 's/^/    /' "$work/out"
	failures=$((failures + 1))
}

# ---- Installing.

# A machine without any package but the essential.
played dpkg-query <<<'exit 1'
sed -i '1i #!/bin/sh' "$fake/dpkg-query"
lacking=$(awk '$1 == "build" { print $2 }' "$source/ci/packages" | tr '\n' ' ')
lacking=${lacking% }

# apt_says MESSAGE: and fails.
apt_says() {
	played apt-get <<EOT
#!/bin/sh
echo "E: $1" >&2
exit 100
EOT
}
if ((EUID == 0)); then
	apt_says "Failed to fetch http://deb.debian.org/x  Temporary failure resolving 'deb.debian.org'"
	run 1 "^install-packages: apt cannot reach its mirror: .*missing: $lacking" "$tree/ci/install-packages"
	apt_says "You don't have enough free space in /var/cache/apt/archives/."
	run 1 '^install-packages: the disk is full' "$tree/ci/install-packages"
	apt_says "dpkg was interrupted, you must manually run 'dpkg --configure -a'"
	run 1 '^install-packages: dpkg was interrupted: .*dpkg --configure -a' "$tree/ci/install-packages"
	apt_says "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1"
	run 1 '^install-packages: another apt or dpkg is at work' "$tree/ci/install-packages"
	apt_says "Unable to locate package liburcu-dev"
	run 1 "^install-packages: apt's sources .* do not have all of" "$tree/ci/install-packages"
	apt_says "Packages need to be removed but remove is disabled."
	run 1 '^install-packages: apt-get would have to remove' "$tree/ci/install-packages"
	apt_says "what nobody has seen"
	run 1 '^install-packages: apt-get failed, as said above: .*apt-get install' "$tree/ci/install-packages"
	nobody=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	chmod 755 "$work" "$fake"
else
	nobody=()
fi

# Whoever is no root. sudo wants a password: asked for on a terminal, and nowhere else.
apt_says "never called"
played sudo <<'EOT'
#!/bin/sh
case $1 in
-n) exit 1 ;;
-v) echo "PASSWORD?"; exit 1 ;;
esac
EOT
paste="sudo apt-get update && sudo apt-get install --yes --no-install-recommends $lacking\$"
run 1 "^install-packages: only root can install packages: $paste" \
	"${nobody[@]}" "$tree/ci/install-packages"
if grep -q PASSWORD "$work/out"; then
	echo "FAIL: a password is asked for without a terminal"
	failures=$((failures + 1))
fi
line=$(printf '%q ' "${nobody[@]}" "$tree/ci/install-packages")
run 1 'PASSWORD?' script -qec "$line" /dev/null
# shellcheck disable=SC2016 # the dollars are in the names
run 1 'only root can make a root directory: sudo env .*/a\\ \\\$tree\\ b/ci/fresh .*/the\\ \\\$place -- shellcheck$' \
	"${nobody[@]}" "$tree/ci/fresh" --dir "$place" -- shellcheck
rm "$fake/sudo"

# ---- ci/fresh.

if ((EUID != 0)) || ! unshare --mount --pid --fork --propagation private true 2>/dev/null; then
	((failures == 0)) || exit 1
	echo "$count answers are right; ci/fresh itself is not tried: that takes root and namespaces"
	exit 0
fi

played dpkg-query <<'EOT'
#!/bin/sh
echo "all installed"
EOT
# A root from this machine's own commands. It says so, and what it is told to is in "behave".
played debootstrap <<'EOT'
#!/bin/bash
args=("$@")
target=${args[-2]}
mirror=${args[-1]}
echo "I: Retrieving InRelease from $mirror"
case $(cat "$BEHAVE") in
hang-debootstrap) mkdir -p "$target/proc"; mount -t proc proc "$target/proc"; touch "$BEHAVE.here"; exec sleep 1000 ;;
offline) echo "E: Failed getting release file $mirror/dists/bookworm/Release"; exit 1 ;;
full) echo "tar: write error: No space left on device"; exit 1 ;;
nodev) echo "E: Cannot install into target '$target' mounted with noexec or nodev"; exit 1 ;;
esac
mkdir -p "$target"/{proc,sys,dev,tmp,root,etc/apt/{trusted.gpg.d,apt.conf.d},bin}
for command in bash sh cat nproc realpath basename dirname sleep touch df tail tr mkdir dpkg; do
	path=$(type -P $command)
	cp -L "$path" "$target/bin/"
	ldd "$path" | grep -oE '/[^ ]+' | while read -r library; do
		mkdir -p "$target$(dirname "$library")"
		cp -Ln "$library" "$target$library"
	done
done
echo 12.99 >"$target/etc/debian_version"
EOT
export BEHAVE=$tree/behave LEAK=yes

behave() {
	echo "$1" >"$BEHAVE"
	rm -f "$BEHAVE.here"
}
fresh=("$tree/ci/fresh" --dir "$place" --need 1 --mirror http://mirror.invalid/debian)

behave well
run 0 '^==> a fresh Debian 12.99 built and passed it all' "${fresh[@]}" -- shellcheck format
grep -q '^demo: /root/libaspace, HOME=/root, LEAK=none, [1-5] processes$' "$work/out" || {
	echo "FAIL: what ci/demo sees"
	cat "$work/out"
	failures=$((failures + 1))
}
grep -q '^test: stages: shellcheck format$' "$work/out" || {
	echo "FAIL: the stages are not passed on"
	failures=$((failures + 1))
}
if grep -q $'\r' "$work/out"; then
	echo "FAIL: output for a terminal, in a pipe"
	failures=$((failures + 1))
fi
run 2 'ci/test has no stage nonsense' "${fresh[@]}" -- nonsense
behave fail-demo
run 1 '^fresh: ci/demo, in the fresh root .* --keep' "${fresh[@]}"
behave offline
run 1 '^fresh: debootstrap.* http://mirror.invalid/debian cannot be reached' "${fresh[@]}"
behave full
run 1 '^fresh: debootstrap.* the disk is full' "${fresh[@]}"
behave nodev
run 1 '^fresh: debootstrap.* noexec or nodev: --dir' "${fresh[@]}"
behave well
run 1 'MiB left, a fresh root wants 99999999: make room, or --dir' "${fresh[@]}" --need 99999999
run 1 '^fresh: cannot write to .*nowhere: --dir' "${fresh[@]}" --dir "$place/nowhere"
# A disk that is really full: a file system of 1 MiB. It is mounted for ci/fresh alone.
# shellcheck disable=SC2016 # for the shell inside
run 1 '^fresh: .*the disk is full ([01] MiB left' unshare --mount --propagation private \
	bash -c 'mount -t tmpfs -o size=1m small "$1" && shift && "$@"' sh "$place" "${fresh[@]}" --need 0
# A source that cannot be written to: ci/fresh does not mind; the others say where to build.
# shellcheck disable=SC2016
read_only=(unshare --mount --propagation private bash -c
	'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && "$@"' sh "$tree")
run 0 '^==> a fresh Debian' "${read_only[@]}" "${fresh[@]}"
mv "$tree/ci/test" "$work/small-test"
cp "$work/real-test" "$tree/ci/test"
run 1 '^test: cannot write to .*/build: ASPACE_BUILD=DIRECTORY' "${read_only[@]}" "$tree/ci/test" format
cp "$work/small-test" "$tree/ci/test"
cp "$source/ci/demo" "$tree/ci/real-demo"
run 1 '^real-demo: cannot write to .*/build: ASPACE_BUILD=DIRECTORY' "${read_only[@]}" "$tree/ci/real-demo"
# A build that fails for want of room, whatever the build itself says of it.
played cmake <<<'#!/bin/sh
exit 1'
# shellcheck disable=SC2016
run 1 '^real-demo: the disk is full' unshare --mount --propagation private \
	bash -c 'mount -t tmpfs -o size=1m small "$1" && shift && "$@"' sh "$place" \
	env ASPACE_BUILD="$place/build" "$tree/ci/real-demo"
rm "$tree/ci/real-demo" "$fake/cmake"

# ^C, and the other ways to be ended, in each phase.
for phase in hang-debootstrap hang-demo hang-test; do
	for signal in INT TERM HUP; do
		behave $phase
		count=$((count + 1))
		# In the background bash has SIGINT ignored, which a terminal has not.
		PATH=$fake:$PATH env --default-signal=INT "${fresh[@]}" </dev/null >"$work/out" 2>&1 &
		pid=$!
		until [[ -e $BEHAVE.here ]] || compgen -G "$place/*/root/root/libaspace/here" >/dev/null; do
			kill -0 $pid 2>/dev/null || break
			sleep 0.05
		done
		kill -$signal $pid
		status=0
		wait $pid || status=$?
		judge $((128 + $(kill -l $signal))) $status '^fresh: interrupted: nothing is left' "$phase, SIG$signal"
		# Whoever is still in there still has it as his root, or as his directory.
		for process in /proc/[0-9]*; do
			if [[ $(readlink "$process/root" "$process/cwd" 2>/dev/null) == *"$place"* ]]; then
				echo "FAIL: $phase, SIG$signal: $process is still there"
				failures=$((failures + 1))
			fi
		done
	done
done

((failures == 0)) || exit 1
echo "ok: $count answers, each with nothing left behind"
