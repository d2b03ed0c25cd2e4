#!/bin/bash
# prerequisites.sh -- what `make test` needs beside Go. On Debian as root it
# installs what is missing. Elsewhere it only says which tests are left out and
# what to install for them.
#
# It exits 0 if every test will run, 3 if some are left out, 1 if installing failed.
set -euo pipefail

# command, Debian package, why. The first word of each line is looked for in
# PATH and in the sbin directories; "-" has no command of its own and is looked
# for as a package.
tools() {
	cat <<-'END'
		initdb           postgresql       tests on a database: nearly all of the indexer
		skopeo           skopeo           road test: copies, deletes and retags images
		podman           podman           road test: podman search
		buildah          buildah          road test: builds an image from a Debian package
		docker           docker.io        road test: docker search
		dockerd          docker.io        road test: the daemon that docker search goes through
		containerd       containerd       road test: what that daemon needs
		runc             runc             road test: what that daemon needs
		iptables         iptables         road test: what that daemon needs
		flatpak          flatpak          road test: flatpak remote-ls and install
		dbus-run-session dbus             road test: flatpak install asks for a session bus
		python3          python3          road test: pushes an OCI layout byte for byte
		dpkg-deb         dpkg             road test: unpacks a Debian package
		nginx            nginx            the front proxy's configuration, run for real
		redis-server     redis-server     the registry's configuration with a Redis cache
		openssl          openssl          the handbook's commands (test/operations)
		chromium         chromium         the pages, as people see them (test/browser)
		npm              npm              fetching what looks through the pages
		java             default-jre-headless the checker of HTML
		-                fonts-dejavu-core pages in which letters can be seen
		curl             curl             smoke test of make up
		jq               jq               smoke test of make up
		gcc              gcc              go test -race (make check)
		-                libc6-dev        go test -race (make check)
		-                ca-certificates  fetching Go modules
	END
}

# found COMMAND PACKAGE
found() {
	case $1 in
	-) dpkg -s "$2" >/dev/null 2>&1 ;;
	initdb) command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
	*) PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

debian_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

packages=()
while read -r command package why; do
	found "$command" "$package" && continue
	if debian_root; then
		echo "$package: missing; needed for: $why"
	elif [ "$command" != - ]; then
		echo "$command is not installed (Debian: $package). Left out: $why"
	else
		continue
	fi
	packages+=("$package")
done < <(tools)

[ ${#packages[@]} -gt 0 ] || exit 0
if ! debian_root; then
	echo "To leave nothing out, run as root on Debian, or: apt-get install --no-install-recommends ${packages[*]}"
	exit 3
fi

# No server on port 5432: we want PostgreSQL's programs only. A file that is
# there was somebody's decision.
config=/etc/postgresql-common/createcluster.conf
if [ ! -e $config ]; then
	mkdir -p "${config%/*}"
	printf '%s\n' "# Written by Portbook's make test, which needs the programs only." 'create_main_cluster = false' >$config
fi

# RUNLEVEL=1 keeps packages from starting their services (invoke-rc.d).
apt() {
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
		apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" >/dev/null
}
# The lists may be missing, as in a container, or too old: then once more.
apt install --no-install-recommends "${packages[@]}" || {
	apt update
	apt install --no-install-recommends "${packages[@]}"
}
