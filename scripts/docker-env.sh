#!/usr/bin/env bash
# Makes the integration tests' containers possible: a Docker engine that answers and an image of their servers.
#
# What is there is used; what is missing is installed (Debian, as root), started or built. Running it again
# costs a moment. Two at once are fine: the second waits for the first.
#
# stderr tells what is done. stdout carries results, one KEY=VALUE a line:
#   PULSEPOOL_SERVERS_IMAGE        the image to start containers from
#   TESTCONTAINERS_RYUK_DISABLED   true, when testcontainers' clean-up container can't be had
#   DOCKER_HOST                    when the docker client talks to another engine than testcontainers would find
#
# Starting and removing containers is the tests' business.
set -euo pipefail

readonly BASE=debian:bookworm-slim
readonly SUITE=bookworm
readonly REPOSITORY=pulsepool-test-servers
readonly DOCKERD_LOG=/var/log/dockerd.log

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly root
readonly context="$root/test/integration/servers"
readonly temporary="${TMPDIR:-/tmp}"

say() { printf 'containers: %s\n' "$*" >&2; }

fail() {
  say "$*"
  exit 1
}

# For all that keeps the engine from being had. $1 says why, in one line.
fail_engine() {
  printf 'containers: Docker could be neither found nor started: %s\n' "$1" >&2
  # shellcheck disable=SC2016
  printf 'containers: %s\n' \
    'Install and start Docker so that `docker version` shows a server, or run as root on Debian.' \
    'Set PULSEPOOL_TEST_CONTAINERS=off to leave these tests out.' >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# `timeout` and `flock` are not on every system that has Docker.
within() {
  if has timeout; then timeout "$@"; else
    shift
    "$@"
  fi
}

sha256() { if has sha256sum; then sha256sum; else shasum -a 256; fi; }

seconds_since() { printf '%d s' $((SECONDS - $1)); }

# Runs a command whose output matters only when it fails.
quietly() {
  local log status=0
  log=$(mktemp "$temporary/pulsepool-docker-env.XXXXXX")
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [ "$status" -ne 0 ]; then
    say "failed with status $status: $*"
    tail -n 40 "$log" >&2
  fi
  rm -f "$log"
  return "$status"
}

# --- the engine ------------------------------------------------------------------------------------------------

engine_answers() { has docker && within 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

apt_updated=no
apt_install() {
  local begun=$SECONDS
  say "installing $* with apt-get"
  if [ "$apt_updated" = no ]; then
    # One unreachable source of several is no reason to stop: the installation itself will tell.
    quietly apt-get -o DPkg::Lock::Timeout=120 update || say 'apt-get update failed, trying to install all the same'
    apt_updated=yes
  fi
  quietly env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y \
    --no-install-recommends "$@" || return 1
  say "installed $* in $(seconds_since "$begun")"
}

# A machine started without an init system may have no cgroups mounted; dockerd then ends with
# "Devices cgroup isn't mounted".
mount_cgroups() {
  grep -qE '^[^ ]+ [^ ]+ cgroup2? ' /proc/mounts && return 0
  say 'mounting cgroups'
  mountpoint -q /sys/fs/cgroup || mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup || return 0
  local name _hierarchy _count enabled
  while read -r name _hierarchy _count enabled; do
    case "$name" in '#'*) continue ;; esac
    [ "$enabled" = 1 ] || continue
    mkdir -p "/sys/fs/cgroup/$name"
    # A controller that version 2 holds can't be mounted here, and isn't missed.
    mount -t cgroup -o "$name" cgroup "/sys/fs/cgroup/$name" 2>/dev/null || rmdir "/sys/fs/cgroup/$name"
  done </proc/cgroups
}

# A killed engine leaves its pid files, and a new one refuses to start while they name a process. The pid may be
# gone, a zombie that nobody has reaped yet, or by now another program.
remove_stale_pid_file() {
  local file=$1 program=$2 pid state
  [ -f "$file" ] || return 0
  pid=$(cat "$file")
  state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$pid/status" 2>/dev/null || true)
  if [ -z "$state" ] || [ "$state" = Z ] || [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != "$program" ]; then
    say "removing $file: process $pid is no running $program"
    rm -f "$file"
  fi
}

start_dockerd() {
  local begun=$SECONDS pid
  remove_stale_pid_file /var/run/docker.pid dockerd
  remove_stale_pid_file /var/run/docker/containerd/containerd.pid containerd
  say "starting dockerd, its log is $DOCKERD_LOG"
  # All descriptors are its own: it outlives this script, and must hold neither our pipes nor our lock.
  setsid dockerd --pidfile /var/run/docker.pid </dev/null >>"$DOCKERD_LOG" 2>&1 8>&- 9>&- &
  pid=$!
  while [ $((SECONDS - begun)) -lt 60 ]; do
    if engine_answers; then
      say "dockerd answers after $(seconds_since "$begun")"
      return 0
    fi
    kill -0 "$pid" 2>/dev/null || return 1
    sleep 0.1
  done
  kill "$pid" 2>/dev/null || true
  return 1
}

ensure_engine() {
  if engine_answers; then
    say "using Docker engine $(docker version --format '{{.Server.Version}}')"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || fail_engine "DOCKER_HOST is $DOCKER_HOST, and nothing answers there."
  [ "$(uname -s)" = Linux ] || fail_engine 'no engine answers, and this script can start one only on Linux.'
  [ "$(id -u)" = 0 ] || fail_engine \
    'no engine answers (or this user may not talk to it), and only root can install and start one.'
  if ! has dockerd; then
    has apt-get || fail_engine 'no engine answers, and there is no apt-get to install one with.'
    # dockerd needs certificates to pull by. Naming that package when it is there would upgrade it.
    local certificates=ca-certificates
    [ ! -s /etc/ssl/certs/ca-certificates.crt ] || certificates=
    # shellcheck disable=SC2086
    apt_install docker.io $certificates ||
      fail_engine 'apt-get could not install docker.io; its output is above.'
  fi
  if [ -d /run/systemd/system ]; then
    say 'starting the docker service'
    quietly systemctl start docker || true
    if engine_answers; then return; fi
  fi
  mount_cgroups
  # Twice, because the pid file of an engine that died this very moment is only found stale the second time.
  start_dockerd || { sleep 2 && start_dockerd; } || {
    tail -n 20 "$DOCKERD_LOG" >&2 || true
    fail_engine "dockerd ended or did not answer; the end of $DOCKERD_LOG is above."
  }
}

# --- images ----------------------------------------------------------------------------------------------------

image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null; }

registry_reachable=unknown

ensure_base() {
  local begun=$SECONDS scratch="$REPOSITORY-base:import-$$" workspace="$temporary"
  if image_id "$BASE" >/dev/null; then return; fi
  say "pulling $BASE"
  if within 120 docker pull --quiet "$BASE" >/dev/null 2>&1 </dev/null; then
    registry_reachable=yes
    say "pulled $BASE in $(seconds_since "$begun")"
    return
  fi
  registry_reachable=no
  begun=$SECONDS
  { [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && has apt-get; } ||
    fail "The image $BASE could not be pulled. Pull it by hand, or run as root on Debian, where it can be built."
  say "$BASE can't be pulled here, so it is built from Debian's packages"
  has mmdebstrap || apt_install mmdebstrap ||
    fail "The image $BASE could be neither pulled nor built: apt-get could not install mmdebstrap."
  # In memory it takes two thirds of the time, and some 400 MB while it lasts.
  if [ -w /dev/shm ] && [ "$(df -Pm /dev/shm | awk 'NR == 2 { print $4 }')" -gt 1500 ]; then workspace=/dev/shm; fi
  # Imported under another name: a pipe that breaks must not leave half a base under the right one.
  TMPDIR=$workspace mmdebstrap --quiet --variant=apt "$SUITE" - 2>"$temporary/pulsepool-mmdebstrap.log" </dev/null |
    docker import -c 'CMD ["bash"]' - "$scratch" >/dev/null || {
    tail -n 20 "$temporary/pulsepool-mmdebstrap.log" >&2
    docker rmi "$scratch" >/dev/null 2>&1 || true
    fail "The image $BASE could be neither pulled nor built from Debian's packages; the reason is above."
  }
  docker tag "$scratch" "$BASE"
  docker rmi "$scratch" >/dev/null
  say "built $BASE in $(seconds_since "$begun")"
}

# What the image is made of: every file of the context by name and content, and the base.
context_hash() {
  {
    image_id "$BASE"
    cd "$context" && find . -type f | LC_ALL=C sort | while read -r file; do
      printf '%s ' "$file"
      sha256 <"$file"
    done
  } | sha256 | cut -c 1-16
}

ensure_servers() {
  local begun=$SECONDS image old
  image="$REPOSITORY:$(context_hash)"
  if ! image_id "$image" >/dev/null; then
    say "building $image (about half a minute the first time)"
    # Plain `docker build`: where the client has no BuildKit this is the old builder, which needs --force-rm to
    # clean up after a failure. The proxy arguments take their values from the environment, if it has any.
    quietly docker build --force-rm --build-arg "BASE=$BASE" \
      --build-arg http_proxy --build-arg https_proxy --build-arg no_proxy --tag "$image" "$context" ||
      fail 'The image of the test servers could not be built; the end of the output is above.'
    say "built $image in $(seconds_since "$begun")"
    for old in $(docker images --format '{{.Repository}}:{{.Tag}}' "$REPOSITORY"); do
      # An older one may be in use by a run that has not ended.
      [ "$old" = "$image" ] || docker rmi "$old" >/dev/null 2>&1 || true
    done
  fi
  printf 'PULSEPOOL_SERVERS_IMAGE=%s\n' "$image"
}

# --- testcontainers --------------------------------------------------------------------------------------------

# Ryuk removes the containers of a test run that died. Without it the tests' own labels do, a run later.
report_ryuk() {
  local image="${RYUK_CONTAINER_IMAGE:-}" reaper="$root/node_modules/testcontainers/build/reaper/reaper.js"
  # Set by a caller who has asked before, in this run.
  if [ "${TESTCONTAINERS_RYUK_DISABLED:-}" != true ]; then
    [ -n "$image" ] || image=$(grep -oE 'testcontainers/ryuk:[0-9.]+' "$reaper" 2>/dev/null | head -n 1) || true
    # Not installed yet: whoever starts the tests will ask again.
    [ -n "$image" ] || return 0
    if image_id "$image" >/dev/null; then return; fi
    if [ "$registry_reachable" != no ] && within 20 docker pull --quiet "$image" >/dev/null 2>&1 </dev/null; then
      return
    fi
    say "$image can't be pulled here, so the tests clean up by themselves"
  fi
  printf 'TESTCONTAINERS_RYUK_DISABLED=true\n'
}

report_host() {
  [ -z "${DOCKER_HOST:-}" ] || return 0
  local host
  host=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) || return 0
  case "$host" in '' | unix:///var/run/docker.sock) ;; *) printf 'DOCKER_HOST=%s\n' "$host" ;; esac
}

if has flock; then
  exec 9>"$temporary/pulsepool-docker-env-$(id -u).lock"
  flock -n 9 || {
    say 'waiting for another run that prepares containers'
    flock 9
  }
fi

ensure_engine
ensure_base
ensure_servers
report_ryuk
report_host
