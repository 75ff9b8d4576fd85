/**
 * The tiny shell between runner and script, so that no descendant of a script outlives its runner, however the runner
 * ends. (Whoever runs programs is the runner here, and what it runs the script.)
 *
 *   runner --- heartbeat (fd 0) ---> watchdog: bash, leader of a session of its own
 *                                      |- guard: reads heartbeats; on EOF or silence it ends the script
 *                                      `- script: leader of a process group of its own
 *
 * The guard is out of reach of the script's `kill 0` and of signals that the runner sends to the script's group. The
 * watchdog waits for the script, tells the runner its exit code (fd 3), ends what the script left behind and exits with
 * the script's code. "Left behind" is its process group and, where there is a /proc, every other group of the session
 * too (scripts that use `set -m`). What calls `setsid` leaves the session and escapes.
 *
 * Nothing here needs more than bash 3.2 (macOS): `read -t` takes whole seconds there, and returns 1 on a timeout.
 */

/** A watchdog without a heartbeat for this long ends its script, s. */
export const WATCHDOG_SILENCE_S = 5;
/** Between its SIGTERM and its SIGKILL, s. */
export const WATCHDOG_GRACE_S = 2;
/** From the last heartbeat (or the runner's death) until the script is gone, ms, with a margin for a busy machine. */
export const WATCHDOG_ENDS_WITHIN_MS = (WATCHDOG_SILENCE_S + WATCHDOG_GRACE_S + 2) * 1000;

/** How often a heartbeat must be written, ms. */
export const HEARTBEAT_MS = 1000;

/** What bash is started with: it reads the text below from its heartbeat, so that `ps` shows the script, not the text. */
export const WATCHDOG_BOOTSTRAP = `IFS= read -r -d '' text; eval "$text"`;

/**
 * Arguments: silence in s, grace in tenths of a second, then script and its arguments. File descriptors: 0 heartbeat,
 * 1 and 2 the script's, 3 what happens: `started <pid>`, `exited <code>`, `abandoned` (the guard acts).
 */
export const WATCHDOG_SCRIPT = `
unset text
silence=$1 grace=$2
shift 2
signals='TERM INT HUP QUIT PIPE USR1 USR2 ALRM TSTP TTIN TTOU'
# Handled, not ignored: a script would inherit what is ignored.
trap : $signals
# Out of the way, or bash would keep its own copies of the script's output open, and write to it.
exec 4>&1 5>&2 >/dev/null 2>&1
set -m
"$@" </dev/null >&4 2>&5 3>&- 4>&- 5>&- &
script=$!
set +m
exec 4>&- 5>&-
trap '' $signals
echo "started $script" >&3

# Process groups of the script that still have a member. bash's own children are in group $$.
survivors() {
  local stat line
  groups=
  if [ ! -r /proc/$$/stat ]; then
    # Also true for dead ones that nobody has waited for; there is no other way to tell here.
    if kill -0 -- "-$script" 2>/dev/null; then groups=$script; fi
    [ -n "$groups" ]
    return
  fi
  for stat in /proc/[0-9]*/stat; do
    { read -r line <"$stat"; } 2>/dev/null || continue
    # After the name, which may hold anything: state, parent, group, session.
    set -- \${line##*) }
    if [ "$4" = "$$" ] && [ "$3" != "$$" ] && [ "$1" != Z ]; then groups="$groups $3"; fi
  done
  [ -n "$groups" ]
}
signal() {
  local group
  for group in $groups; do kill "-$1" -- "-$group" 2>/dev/null; done
}
end_survivors() {
  local waited=0
  survivors || return 0
  signal TERM
  while survivors && [ "$waited" -lt "$grace" ]; do
    sleep 0.1 || sleep 1
    waited=$((waited + 1))
  done
  # More than once: what forks while it is being killed is found at the next look.
  waited=0
  while survivors && [ "$waited" -lt 20 ]; do
    signal KILL
    sleep 0.1 || sleep 1
    waited=$((waited + 1))
  done
}

{
  while read -r -t "$silence" beat; do :; done
  echo abandoned >&3
  end_survivors
} <&0 &
guard=$!
exec </dev/null

wait "$script"
code=$?
echo "exited $code" >&3
end_survivors
kill -KILL "$guard"
wait "$guard"
exit "$code"
`;
