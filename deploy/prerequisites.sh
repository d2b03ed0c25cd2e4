#!/bin/bash
# prerequisites.sh -- installs what `make test` needs besides Go, on Debian as root.
# Elsewhere it only prints which tests are skipped and what to install for them.
#
# It exits 0 if every test will run, 3 if some are skipped, 1 if installing failed.
set -euo pipefail

# Command, Debian package, purpose. Commands are searched in PATH and in the sbin
# directories. "-" means that the package has no command; then the package is searched.
tools() {
	cat <<-'END'
		initdb           postgresql       tests with a database: nearly all of the indexer
		skopeo           skopeo           road test: copies, deletes and retags images
		podman           podman           road test: podman search
		buildah          buildah          road test: builds an image from a Debian package
		docker           docker.io        road test: docker search
		dockerd          docker.io        road test: the daemon for docker search
		containerd       containerd       road test: needed by that daemon
		runc             runc             road test: needed by that daemon
		iptables         iptables         road test: needed by that daemon
		flatpak          flatpak          road test: flatpak remote-ls and install
		dbus-run-session dbus             road test: flatpak install needs a session bus
		python3          python3          road test: pushes an OCI layout unchanged
		dpkg-deb         dpkg             road test: unpacks a Debian package
		nginx            nginx            tests of the front proxy's configuration
		redis-server     redis-server     tests of the registry and of sessions with Redis
		openssl          openssl          tests of the handbook's commands (test/operations)
		chromium         chromium         tests of the pages in a browser (test/browser)
		npm              npm              test/browser: downloads its checkers
		java             default-jre-headless test/browser: the HTML checker
		-                fonts-dejavu-core test/browser: a font
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
		echo "$command is not installed (Debian package $package). Skipped: $why"
	else
		continue
	fi
	packages+=("$package")
done < <(tools)

[ ${#packages[@]} -gt 0 ] || exit 0
if ! debian_root; then
	echo "To run all tests, run this as root on Debian, or: apt-get install --no-install-recommends ${packages[*]}"
	exit 3
fi

# No server on port 5432: only PostgreSQL's programs are needed. An existing file is
# kept.
config=/etc/postgresql-common/createcluster.conf
if [ ! -e $config ]; then
	mkdir -p "${config%/*}"
	printf '%s\n' "# Written by Portbook's make test, which needs only the programs." 'create_main_cluster = false' >$config
fi

# RUNLEVEL=1 keeps packages from starting their services (invoke-rc.d).
apt() {
	RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 \
		apt-get -q -y -o DPkg::Lock::Timeout=600 "$@" >/dev/null
}
# If the package lists are missing, as in a container, or too old, update and retry.
apt install --no-install-recommends "${packages[@]}" || {
	apt update
	apt install --no-install-recommends "${packages[@]}"
}
