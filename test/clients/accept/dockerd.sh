# dockerd.sh -- to be sourced: starts a private dockerd, or uses that of DOCKERD_SOCK, and sets DOCKER_HOST.
# dockerd uses the registry HP (host:port) without TLS; with SECURE=1 only if that is its default.
need(){ command -v docker >/dev/null && { [ -n "${DOCKERD_SOCK:-}" ] || { command -v dockerd && command -v containerd; } >/dev/null; }; }
need || {
  [ -n "$(ls /var/lib/apt/lists/*_Packages* 2>/dev/null | head -1)" ] || apt-get -qq -o DPkg::Lock::Timeout=600 update
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=600 install --no-install-recommends docker.io containerd runc iptables >/dev/null || exit 3; }
T=$(mktemp -d /tmp/accept-docker.XXXXXX); PIDS=()
cleanup(){
  for p in "${PIDS[@]:-}"; do [ -n "$p" ] && kill "$p" 2>/dev/null && for i in $(seq 100); do kill -0 "$p" 2>/dev/null || break; sleep .1; done; kill -9 "$p" 2>/dev/null; done
  awk -v t="$T/" 'index($2,t)==1{print $2}' /proc/mounts | sort -r | while read -r m; do umount -l "$m" 2>/dev/null; done
  rm -rf "$T"; }
trap cleanup EXIT; trap 'exit 130' INT TERM
SOCK=${DOCKERD_SOCK:-}
if [ -z "$SOCK" ]; then
  INSEC=(); [ -n "${SECURE:-}" ] || INSEC=("--insecure-registry=$HP")
  SOCK=$T/d.sock; mkdir -p "$T"/{root,exec,c/root,c/state}; echo '{}' > "$T/daemon.json"
  cat > "$T/c.toml" <<E
version = 2
root = "$T/c/root"
state = "$T/c/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$T/c.sock"
[ttrpc]
  address = "$T/ct.sock"
E
  containerd --config "$T/c.toml" --log-level error >"$T/containerd.log" 2>&1 & CPID=$!
  PIDS=("$CPID")
  for i in $(seq 300); do [ -S "$T/c.sock" ] && break; sleep .1; done
  dockerd --iptables=false --ip6tables=false --ip-forward=false --bridge=none --storage-driver=vfs --data-root "$T/root" --exec-root "$T/exec" \
    -H "unix://$SOCK" -p "$T/d.pid" --containerd "$T/c.sock" --config-file "$T/daemon.json" "${INSEC[@]}" >"$T/dockerd.log" 2>&1 & DPID=$!
  PIDS=("$DPID" "$CPID")
  for i in $(seq 600); do DOCKER_HOST=unix://$SOCK docker version >/dev/null 2>&1 && break; kill -0 "$DPID" 2>/dev/null || break; sleep .2; done
  kill -0 "$DPID" 2>/dev/null || { tail -5 "$T/dockerd.log" "$T/containerd.log" >&2; echo "FAIL: dockerd did not start" >&2; exit 3; }
fi
export DOCKER_HOST=unix://$SOCK DOCKER_CONFIG=${DOCKER_CONFIG:-$T/cfg}
echo "# client $(docker version --format '{{.Client.Version}}') server $(docker version --format '{{.Server.Version}}')"
