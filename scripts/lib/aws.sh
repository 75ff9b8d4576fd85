# shellcheck shell=bash
# What the control scripts for AWS share: names, configuration, calls of the AWS CLI, waiting.
#
# It is sourced, never run. A name from outside (the target above all) is data: it reaches the CLI only
# inside JSON, because the CLI reads a bare value such as "file:///etc/passwd" as the name of a file, and
# EC2 reads "*" in a filter as "anything". Keeps to bash 3.2, the one on macOS.

set -u
: "${verb=}" # the script's, which it sets before it sources this
installation=true

# Bytes, not characters: names are encoded byte by byte. The CLI gets the caller's locale back, as it
# decodes its arguments by it.
caller_locale=${LC_ALL:-}
LC_ALL=C
umask 077

export PYTHONUTF8=1 AWS_PAGER='' AWS_CLI_AUTO_PROMPT=off
export AWS_RETRY_MODE=${AWS_RETRY_MODE:-standard} AWS_MAX_ATTEMPTS=${AWS_MAX_ATTEMPTS:-5}

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
die() {
  warn "$2"
  exit "$1"
}

# --- names -----------------------------------------------------------------------------------------

target=${CARRIERARR_TARGET:-${EC2_AGENT_TARGET:-default}}
label=${target//[[:cntrl:]]/?}

# check_target: refuses what cannot be the value of a tag.
check_target() {
  [[ $label == "$target" ]] ||
    die 64 "Expected the name of the worker without control characters, got \"$label\": AWS would not keep it as a tag."
  # Characters: bytes that do not continue one.
  local leading=${target//[$'\x80'-$'\xbf']/}
  ((${#leading} <= 256)) ||
    die 64 "Expected the name of the worker to have at most 256 characters, got ${#leading}: AWS would not keep it as a tag."
}

# json_string TEXT: TEXT as a string of JSON. Backticks are escaped too, because JMESPath ends a literal at one.
json_string() {
  local text=$1 out='' char code i
  for ((i = 0; i < ${#text}; i++)); do
    char=${text:i:1}
    case $char in
      '"' | \\) out+=\\$char ;;
      '`' | [[:cntrl:]])
        printf -v code '%d' "'$char"
        printf -v code '\\u%04x' $((code & 255))
        out+=$code
        ;;
      *) out+=$char ;;
    esac
  done
  printf '"%s"' "$out"
}

# json_list TEXT...: a list of strings.
json_list() {
  local text out=''
  for text in "$@"; do
    out+=${out:+,}$(json_string "$text")
  done
  printf '[%s]' "$out"
}

# filter_value TEXT: a filter that matches TEXT and perhaps more, whatever wildcards TEXT holds. The query
# that goes with it decides exactly.
filter_value() {
  local text=$1
  text=${text//[*?\\]/?}
  json_string "${text//[][]/?}"
}

# tagged TARGET: a condition of JMESPath: has this target's tag and is no other installation's.
tagged() {
  printf '%s' "Tags[?Key=='carrierarr:target' && Value==\`$(json_string "$1")\`]" \
    " && !(Tags[?Key=='carrierarr:managed' && Value!=\`$(json_string "$installation")\`])"
}

# hash TEXT: 64 hexadecimal digits.
hash() {
  local sum
  if command -v sha256sum >/dev/null 2>&1; then
    sum=$(printf '%s' "$1" | sha256sum)
  elif command -v shasum >/dev/null 2>&1; then
    sum=$(printf '%s' "$1" | shasum -a 256)
  else
    sum=$(printf '%s' "$1" | openssl dgst -sha256 -r) ||
      die 1 'Found none of sha256sum, shasum and openssl on PATH. Install one of them.'
  fi
  printf '%s' "${sum%%[^0-9a-f]*}"
}

# command_token: the same for the same command, however often it is run. AWS gives one machine for it.
command_token() {
  local token=${CARRIERARR_COMMAND_TOKEN:-}
  [[ $token =~ ^[0-9A-Za-z-]{16,64}$ ]] && printf '%s' "$token" && return
  [[ -n $token ]] && hash "command:$token" && return
  [[ -n ${CARRIERARR_EXECUTION_ID:-} ]] && hash "execution:$CARRIERARR_EXECUTION_ID" && return
  hash "$(od -An -N32 -tx1 /dev/urandom)"
}

# --- configuration ---------------------------------------------------------------------------------

# folder FILE: where FILE is, symbolic links followed.
folder() {
  local file=$1 to
  while [[ -L $file ]]; do
    to=$(readlink "$file")
    case $to in
      /*) file=$to ;;
      *) file=$(dirname -- "$file")/$to ;;
    esac
  done
  (cd -- "$(dirname -- "$file")" && pwd)
}

config_source='the environment (no config.sh was found)'
# load_config VARIABLE FOLDER: sources the file named by VARIABLE, else config.sh in FOLDER, else here.
# Everything it sets is exported, so that AWS_PROFILE and the like reach the CLI.
load_config() {
  local file=${!1:-} place
  if [[ -n $file ]]; then
    [[ -r $file && ! -d $file ]] || die 1 "Expected $1 to name a configuration file that can be read, got \"$file\"."
  else
    for place in "$2" .; do
      [[ -r $place/config.sh ]] && file=$place/config.sh && break
    done
    [[ -n $file ]] || return 0
  fi
  # Without a slash "." would look along PATH.
  case $file in */*) ;; *) file=./$file ;; esac
  [[ $file == /dev/null ]] || config_source="\"$file\""
  set -a
  # shellcheck disable=SC1090 # it is the user's
  . "$file" || die 1 "The configuration file $config_source failed; its own message is above."
  set +a
  # The file may have changed what is ours.
  set -u
  LC_ALL=C
}

# need VARIABLE WHAT EXAMPLE
need() {
  [[ -n ${!1:-} ]] ||
    die 1 "$1 is not set: $2. Set it in your config.sh, for example $1='$3' (read: $config_source)."
}

# whole VARIABLE DEFAULT: prints a whole number of the configuration.
whole() {
  local value=${!1:-$2}
  [[ $value =~ ^[0-9]{1,7}$ ]] || die 1 "Expected $1 to be a whole number, got \"$value\"."
  printf '%d' "$((10#$value))"
}

# choice VARIABLE DEFAULT ALLOWED...: prints a word of the configuration.
choice() {
  local name=$1 value=${!1:-$2} allowed
  shift 2
  for allowed in "$@"; do
    [[ $value == "$allowed" ]] && printf '%s' "$value" && return
  done
  die 1 "Expected $name to be one of: $*; got \"$value\"."
}

# extra_tags VARIABLE: prints "Key<tab>Value" lines of a variable with one Key=Value a line.
extra_tags() {
  local line
  while IFS= read -r line; do
    line=${line#"${line%%[![:space:]]*}"}
    line=${line%"${line##*[![:space:]]}"}
    [[ -z $line ]] && continue
    case $line in
      carrierarr:* | Name=*) die 1 "Expected $1 without tags of carrierarr's own (Name, carrierarr:...), got \"$line\"." ;;
      ?*=*) printf '%s\t%s\n' "${line%%=*}" "${line#*=}" ;;
      *) die 1 "Expected each line of $1 to be Key=Value, got \"$line\"." ;;
    esac
  done <<<"${!1:-}"
}

# --- calls -----------------------------------------------------------------------------------------

scratch=
# open_scratch: a private directory that goes when the script ends.
open_scratch() {
  command -v aws >/dev/null 2>&1 ||
    die 1 'The AWS CLI (aws) is not on PATH. Install it: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html'
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/carrierarr.XXXXXX") || die 1 'Cannot make a temporary directory. Set TMPDIR to one of yours.'
  trap 'rm -rf -- "$scratch"' EXIT
}

# shellcheck disable=SC2034 # read by the scripts
answer='' error_text='' error_code=''
# cloud SERVICE OPERATION ARGS...: asks AWS. Sets "answer"; on failure "error_text" and "error_code", which is
# empty when it is unknown whether AWS has done what it was asked.
cloud() {
  error_text='' error_code=''
  # shellcheck disable=SC2034
  answer=$(LC_ALL=$caller_locale aws "$@" --output text 2>"$scratch/stderr" </dev/null) && return
  error_text=$(<"$scratch/stderr")
  [[ $error_text =~ An\ error\ occurred\ \(([A-Za-z0-9._]+)\) ]] && error_code=${BASH_REMATCH[1]}
  return 1
}

# reason_of TEXT: what AWS said, without what the CLI says before it.
reason_of() {
  local text=$1
  text=${text#*An error occurred (*operation}
  text=${text#*(reached max retries*): }
  text=${text#: }
  printf '%s' "${text//$'\n'/ }"
}

# give_up WHAT: ends the script after a failed call.
give_up() {
  local text
  text=$(printf '%s' "$error_text" | sed -e '/^$/d')
  warn "Could not $1: ${text:-the AWS CLI said nothing}"
  case $error_code:$error_text in
    UnauthorizedOperation:* | AccessDenied*:* )
      warn 'The credentials may not do this. Compare their policy with the ones in deploy/iam.' ;;
    ExpiredToken*:* | RequestExpired:* | AuthFailure:* | InvalidClientTokenId:* | UnrecognizedClient*:*)
      warn 'The credentials are not valid (any more). Renew them, or name others with AWS_PROFILE.' ;;
    RequestLimitExceeded:* | Throttling*:*) warn 'AWS limits the rate of these calls. Try again later.' ;;
    :*[Uu]nable\ to\ locate\ credentials*)
      warn 'Give the runner a role, or set AWS_PROFILE in your config.sh.' ;;
    :*[Ss]pecify\ a\ region*) warn "Set AWS_REGION in your config.sh, for example AWS_REGION='eu-central-1'." ;;
  esac
  exit 1
}

# --- waiting ---------------------------------------------------------------------------------------

sleeper=
# pause SECONDS: in the background, because bash holds a trap back until a foreground program ends.
pause() {
  [[ $1 == 0 ]] && return
  sleep "$1" >/dev/null 2>&1 &
  sleeper=$!
  wait "$sleeper"
  sleeper=
}

interrupted() {
  [[ -n $sleeper ]] && kill "$sleeper" 2>/dev/null
  warn "$verb of $label interrupted by SIG$1. What AWS was asked to do goes on there; \"status\" shows how far it has got."
  exit "$2"
}
trap 'interrupted HUP 129' HUP
trap 'interrupted INT 130' INT
trap 'interrupted TERM 143' TERM

# iso_time TIME: as RFC 3339. Version 1 of the CLI gives seconds since 1970 for some services.
iso_time() {
  [[ $1 =~ ^([0-9]+)(\.[0-9]+)?$ ]] || {
    printf '%s' "$1"
    return
  }
  local format=+%Y-%m-%dT%H:%M:%SZ
  # GNU and BSD.
  date -u -d "@${BASH_REMATCH[1]}" "$format" 2>/dev/null || date -u -r "${BASH_REMATCH[1]}" "$format"
}

# json_fields NAME VALUE...: fields of a JSON object, each with a comma before it; those that AWS left out are too.
json_fields() {
  while (($# > 1)); do
    case $2 in
      '' | None) ;;
      *) printf ',"%s":%s' "$1" "$(json_string "$2")" ;;
    esac
    shift 2
  done
}
