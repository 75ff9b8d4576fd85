#!/usr/bin/env bash
# A pretend worker: the control script of the demo and of the tests.
#
# It behaves as a real control script does. A worker is absent until it is provisioned, then stopped
# or running; verbs take a while, talk on both streams and end with an exit code. Nothing outside the
# state directory changes, so any number of pretend workers cost a few bytes each.
#
#   mock-worker.sh VERB [ARGS]
#
# Environment:
#   CARRIERARR_TARGET      name of the worker (else EC2_AGENT_TARGET, else "default")
#   MOCK_WORKER_SPEED      1 is real time, 10 is ten times faster, 0 never waits
#   MOCK_WORKER_STATE_DIR  private directory, made with mode 700
#                          (default ${XDG_STATE_HOME:-~/.local/state}/carrierarr/mock-worker)
#
# Exit codes: 0 done; 1 the worker could not do it; 64 wrong use; 128+n ended by signal n.
# Keeps to bash 3.2, the one on macOS.

set -u
# Bytes, not characters: names are encoded byte by byte, and [a-z] means exactly that.
export LC_ALL=C
umask 077

target=${CARRIERARR_TARGET:-${EC2_AGENT_TARGET:-default}}
speed=${MOCK_WORKER_SPEED:-1}
state_dir=${MOCK_WORKER_STATE_DIR:-${XDG_STATE_HOME:-${HOME:-/nonexistent}/.local/state}/carrierarr/mock-worker}
label=${target//[[:cntrl:]]/?}
verb=${1:-}

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
  warn "$2"
  exit "$1"
}

usage() {
  cat >&2 <<'USAGE'
usage: mock-worker.sh VERB [ARGS]
  provision   create the worker (absent -> stopped)
  start       boot it, creating it first if need be (-> running)
  stop        shut it down (running -> stopped)
  terminate   delete it (-> absent)
  status      describe it; the last line is JSON
  logs        print its recent log
  stream      write to both streams for 30 s
  flood N     write N numbered lines as fast as possible
  error       fail with exit code 1
The worker is named by CARRIERARR_TARGET, else EC2_AGENT_TARGET, else "default".
USAGE
  exit 64
}

now() { date -u +%Y-%m-%dT%H:%M:%SZ; }

# --- waiting ---------------------------------------------------------------------------------------

number='^[0-9]{1,6}(\.[0-9]{1,3})?$'
[[ $speed =~ $number ]] ||
  die 64 "Expected MOCK_WORKER_SPEED to be a number such as 1, 0.5 or 10 (0 = never wait), got \"$speed\"."
fraction=000
[[ $speed == *.* ]] && fraction=${speed#*.}000
speed_permille=$((10#${speed%.*} * 1000 + 10#${fraction:0:3}))

sleeper=
# pause MS: waits MS milliseconds at speed 1. The sleep runs in the background because bash holds a trap
# back until a foreground program ends, and away from our streams so that it cannot keep them open.
pause() {
  [[ $speed_permille -eq 0 ]] && return
  local us=$(($1 * 1000000 / speed_permille))
  sleep "$((us / 1000000)).$(printf '%06d' $((us % 1000000)))" >/dev/null 2>&1 &
  sleeper=$!
  wait "$sleeper"
  sleeper=
}

# step MS TEXT: one line, then the time it takes.
step() {
  say "$2"
  pause "$1"
}

# --- state -----------------------------------------------------------------------------------------
# One file a worker, "STATE SINCE BOOTS", replaced by rename: a verb that is interrupted leaves what
# was there before it, never half a file.

# file_name TEXT: a file name no name can escape from. Capitals are encoded too, for file systems
# that fold case.
file_name() {
  local text=$1 encoded='' byte code i
  for ((i = 0; i < ${#text} && i < 1000; i++)); do
    byte=${text:i:1}
    case $byte in
      [a-z0-9_-]) encoded+=$byte ;;
      *)
        printf -v code '%d' "'$byte"
        # bash gives bytes above 127 as negative numbers
        printf -v code '%%%02x' $((code & 255))
        encoded+=$code
        ;;
    esac
  done
  # File names end at 255 bytes; "~" never comes out of the encoding, so the two forms cannot meet.
  if ((${#encoded} > 200)); then
    encoded=${encoded:0:180}~$(printf '%s' "$text" | cksum | tr ' ' '-')
  fi
  printf '%s' "$encoded"
}

open_state() {
  if ! { mkdir -p -- "$state_dir" && chmod 700 "$state_dir"; }; then
    die 1 "Cannot use the state directory \"$state_dir\". Set MOCK_WORKER_STATE_DIR to one of yours."
  fi
  state_file=$state_dir/$(file_name "$target").state
  state=absent since='' boots=0
  [[ -e $state_file ]] || return 0
  read -r state since boots <"$state_file"
  case $state:$boots in
    running:[0-9]* | stopped:[0-9]*) ;;
    *) die 1 "The state file \"$state_file\" is damaged. Delete it to make the worker absent." ;;
  esac
}

new_file=
# keep STATE: the worker is now STATE.
keep() {
  since=$(now)
  if ! { new_file=$(mktemp "$state_dir/.new.XXXXXX") &&
    printf '%s %s %s\n' "$1" "$since" "$boots" >"$new_file" &&
    mv -f -- "$new_file" "$state_file"; }; then
    die 1 "Cannot write the state of $label in \"$state_dir\"."
  fi
  state=$1
}

json_string() {
  local text=$1 out='' char code i
  for ((i = 0; i < ${#text}; i++)); do
    char=${text:i:1}
    case $char in
      '"' | \\) out+=\\$char ;;
      [[:cntrl:]])
        printf -v code '%d' "'$char"
        printf -v code '\\u%04x' $((code & 255))
        out+=$code
        ;;
      *) out+=$char ;;
    esac
  done
  printf '"%s"' "$out"
}

# --- signals ---------------------------------------------------------------------------------------

interrupted() {
  [[ -n $sleeper ]] && kill "$sleeper" 2>/dev/null
  [[ -n $new_file ]] && rm -f -- "$new_file"
  [[ -n ${state_file:-} ]] && open_state
  warn "$verb interrupted by SIG$1; $label is ${state:-as it was}"
  exit "$2"
}
trap 'interrupted HUP 129' HUP
trap 'interrupted INT 130' INT
trap 'interrupted TERM 143' TERM

# --- verbs -----------------------------------------------------------------------------------------

create() {
  step 300 "[$label] requesting a mock.gpu machine"
  step 700 "[$label] capacity found in zone mock-1a"
  warn "[$label] warning: no spot capacity, using on-demand"
  step 500 "[$label] attaching volume (100 GiB)"
  step 400 "[$label] installing agent"
  keep stopped
  say "[$label] provisioned"
}

provision() {
  [[ $state == absent ]] || {
    say "$label is already provisioned ($state since $since)"
    return
  }
  create
}

start() {
  local percent
  [[ $state == running ]] && {
    say "$label is already running (since $since)"
    return
  }
  [[ $state == absent ]] && create
  step 400 "[$label] booting..."
  step 600 "[$label] kernel up, network up"
  say "[$label] pulling image registry.example/llm:latest"
  for percent in 20 40 60 80 100; do
    step 250 "[$label] pulling image... $percent%"
  done
  warn "[$label] warning: image has no signature, continuing"
  step 500 "[$label] starting container"
  step 300 "[$label] waiting for the health check"
  boots=$((boots + 1))
  keep running
  say "[$label] running"
}

stop() {
  [[ $state == running ]] || {
    say "$label is not running ($state)"
    return
  }
  step 400 "[$label] draining requests"
  step 500 "[$label] stopping container"
  warn "[$label] warning: 1 request was still open after the drain"
  step 400 "[$label] powering off"
  keep stopped
  say "[$label] stopped"
}

terminate() {
  [[ $state == absent ]] && {
    say "$label does not exist, nothing to terminate"
    return
  }
  [[ $state == running ]] && stop
  step 500 "[$label] releasing the machine"
  warn "[$label] warning: its volume is deleted with it"
  step 300 "[$label] deleting volume"
  rm -f -- "$state_file" || die 1 "Cannot delete \"$state_file\"."
  state=absent
  say "[$label] terminated"
}

# The names in the JSON are those of a worker in the status message, so that a poller can pass them on.
status() {
  local launched='' kind=''
  say "worker: $label"
  say "state:  $state${since:+ since $since}"
  [[ $state == absent ]] || kind=',"instance_type":"mock.gpu"'
  [[ $state == running ]] && launched=",\"launch_time\":\"$since\""
  say "{\"name\":$(json_string "$target"),\"state\":\"$state\"$kind$launched}"
}

logs() {
  [[ $state == absent ]] &&
    die 1 "$label does not exist, so it has no log. Create it with \"provision\" or \"start\"."
  say "$since boot #$boots of $label"
  [[ $state == stopped ]] && {
    say "$since llm-server: stopped"
    return
  }
  step 50 "$since llm-server: listening on :11434"
  step 50 "$since llm-server: loading model mock-7b"
  warn "$since llm-server: warning: falling back to 4-bit weights"
  step 50 "$since llm-server: model ready, 5.1 GiB of GPU memory used"
  say "$since llm-server: idle"
}

stream() {
  local i lines=150
  for ((i = 1; i <= lines; i++)); do
    if ((i % 3 == 0)); then
      warn "[$label] stream $i of $lines: queue depth $((i * 7 % 11))"
    else
      say "[$label] stream $i of $lines: $((40 + i * 13 % 25)) tokens/s"
    fi
    pause 200
  done
}

flood() {
  [[ $# -eq 1 && $1 =~ ^[0-9]{1,9}$ ]] ||
    die 64 "Expected \"flood N\" with N a whole number up to 999999999, got \"flood $*\"."
  # awk takes our place, so that a signal ends it at once.
  exec awk -v n="$((10#$1))" 'BEGIN { for (i = 1; i <= n; i++) print "flood " i " of " n }'
}

error() {
  step 200 "[$label] checking quota"
  step 300 "[$label] launching"
  warn "[$label] launch refused: quota of 0 mock.gpu machines reached"
  warn "[$label] this verb always fails; it is here to show what a failure looks like"
  exit 1
}

case $verb in
  flood)
    shift
    flood "$@"
    ;;
  start | stop | status | logs | provision | terminate | stream | error)
    shift
    [[ $# -eq 0 ]] || warn "$verb takes no arguments, ignoring: $*"
    open_state
    "$verb"
    ;;
  '') usage ;;
  *)
    warn "Expected a verb listed below, got \"$verb\"."
    usage
    ;;
esac
