#!/usr/bin/env bash
# Control script for LLM workers: an EC2 instance that serves models with Ollama and keeps them on a volume of
# its own, which outlives the instance. It adds to ec2-worker.sh what is special about them and leaves the rest to it.
#
# The volume is found by its tags carrierarr:target and carrierarr:volume=models. It is created once, in the zone
# where the first instance got a place; from then on the worker has to be in that zone.
#
#   llm-worker.sh VERB [MODEL...]
#
# Environment: as for ec2-worker.sh; docs/how-to/control-ec2.md lists the variables of the configuration.
# Exit codes: 0 done; 1 it could not be done; 64 wrong use; 128+n ended by signal n.
# Keeps to bash 3.2, the one on macOS.

verb=${1:-}
from=${BASH_SOURCE[0]}
[[ -L $from ]] && from=$(readlink -f -- "$from")
here=$(dirname -- "$from")
# shellcheck source=lib/aws.sh
. "$here/lib/aws.sh" || exit 1

usage() {
  cat >&2 <<'USAGE'
usage: llm-worker.sh VERB [MODEL...]
  provision       create the instance if there is none, with its volume for models (-> running)
  start           start it, creating it first if there is none (-> running)
  stop            stop it; its disks stay (-> stopped)
  terminate       delete the instance; the volume with the models stays (-> absent)
  status          describe it; the last line is JSON
  logs            print what its console shows
  warm [MODEL...]   pull the models and load them (default: LLM_WORKER_MODELS)
  ready [MODEL...]  exit 0 if the API answers and the models are loaded
The worker is named by CARRIERARR_TARGET, else EC2_AGENT_TARGET, else "default".
USAGE
  exit 64
}

# --- the instance ----------------------------------------------------------------------------------

# instance VERB: what ec2-worker.sh does. The configuration is in the environment by now.
instance() { EC2_WORKER_CONFIG=/dev/null "$here/ec2-worker.sh" "$@"; }

# find_instance: sets "id", "state", "private_ip" and "zone" from the last line of its status.
find_instance() {
  local line
  line=$(instance status) || exit 1
  line=${line##*$'\n'}
  state=$(field state "$line") id=$(field id "$line") private_ip=$(field private_ip "$line")
  zone=$(field availability_zone "$line")
}

# field NAME JSON: a string that holds neither quotes nor backslashes. The name of the worker, which may hold
# anything, comes first and is quoted: what looks like a field in there has backslashes before its quotes.
field() {
  local pattern="[{,]\"$1\":\"([^\"\\\\]*)\""
  [[ $2 =~ $pattern ]] && printf '%s' "${BASH_REMATCH[1]}"
}

# --- the volume ------------------------------------------------------------------------------------

# find_volume: sets "volume" (empty if there is none), "volume_state", "volume_zone" and "attached_to".
find_volume() {
  volume='' volume_state='' volume_zone='' attached_to=''
  cloud ec2 describe-volumes --filters "[
      {\"Name\":\"tag:carrierarr:target\",\"Values\":[$(filter_value "$target")]},
      {\"Name\":\"tag:carrierarr:volume\",\"Values\":[\"models\"]},
      {\"Name\":\"status\",\"Values\":[\"creating\",\"available\",\"in-use\"]}]" \
    --query "Volumes[] | [?$(tagged "$target")].[VolumeId, State, AvailabilityZone, Attachments[0].InstanceId || '-', CreateTime]" ||
    give_up "look for the volume of $label"
  [[ -n $answer ]] || return 0
  if [[ $answer == *$'\n'* ]]; then
    warn "[$label] warning: several volumes carry this target; the oldest is used:"
    warn "$answer"
  fi
  IFS=$'\t' read -r volume volume_state volume_zone attached_to _ <<<"$(printf '%s\n' "$answer" | sort -t $'\t' -k 5,5 -k 1,1)"
  [[ $attached_to == - ]] && attached_to=''
  return 0
}

create_volume() {
  local tags key value ebs=''
  tags="{\"Key\":\"carrierarr:target\",\"Value\":$(json_string "$target")}"
  tags+=",{\"Key\":\"carrierarr:managed\",\"Value\":$(json_string "$installation")}"
  tags+=",{\"Key\":\"carrierarr:volume\",\"Value\":\"models\"},{\"Key\":\"Name\",\"Value\":$(json_string "$target models")}"
  while IFS=$'\t' read -r key value; do
    [[ -n $key ]] && tags+=",{\"Key\":$(json_string "$key"),\"Value\":$(json_string "$value")}"
  done <<<"$extra"
  [[ -n ${EC2_WORKER_KMS_KEY:-} ]] && ebs=$EC2_WORKER_KMS_KEY
  cloud ec2 create-volume --availability-zone "$zone" --size "$volume_gib" --volume-type gp3 --encrypted ${ebs:+--kms-key-id "$ebs"} \
    --client-token "$(hash "$(command_token)/models")" \
    --tag-specifications "[{\"ResourceType\":\"volume\",\"Tags\":[$tags]}]" --query VolumeId ||
    give_up "create the volume for models of $label"
  volume=$answer volume_state=creating volume_zone=$zone attached_to=''
  say "[$label] created $volume for models ($volume_gib GiB in $zone, encrypted)"
}

# attach_volume: until the volume of the target is attached to its instance.
attach_volume() {
  local limit=$((SECONDS + wait_s)) shown=''
  while [[ $attached_to != "$id" || $volume_state != in-use ]]; do
    if [[ $volume_state == available ]]; then
      # The user data looks for an empty disk, so the name is of no account.
      if cloud ec2 attach-volume --volume-id "$volume" --instance-id "$id" --device /dev/sdf --query State; then
        say "[$label] attaching $volume to $id"
      elif [[ $error_code != IncorrectState && $error_code != VolumeInUse ]]; then
        give_up "attach $volume to $id"
      fi
    elif [[ -n $attached_to && $attached_to != "$id" && $attached_to != "$shown" ]]; then
      warn "[$label] $volume is still attached to $attached_to; waiting until that has let it go"
      shown=$attached_to
    fi
    ((SECONDS < limit)) ||
      die 1 "[$label] $volume is $volume_state${attached_to:+ at $attached_to}, not attached to $id, after $wait_s s (EC2_WORKER_WAIT_S). Detach it there, then run \"$verb\" again."
    pause "$poll_s"
    find_volume
    [[ -n $volume ]] || die 1 "[$label] its volume for models is gone. Run \"$verb\" again to create another."
  done
  say "[$label] $volume is attached to $id"
}

# write_user_data: sets EC2_WORKER_USER_DATA to the boot script with this configuration in front. The same
# configuration gives the same bytes: otherwise AWS would not know a repeated command again.
write_user_data() {
  local version=${LLM_WORKER_OLLAMA_VERSION:-} own=${EC2_WORKER_USER_DATA:-}
  [[ $version =~ ^[0-9A-Za-z.-]*$ ]] || die 1 "Expected LLM_WORKER_OLLAMA_VERSION to be such as 0.12.3, got \"$version\"."
  [[ -z $own ]] ||
    die 1 'EC2_WORKER_USER_DATA is written by llm-worker.sh itself. Put your own boot commands into the file that LLM_WORKER_BOOT_EXTRA names.'
  {
    printf '#!/bin/bash\nollama_version=%s\nport=%s\n' "$version" "$port"
    sed -e 1d "$here/lib/llm-boot.sh"
    [[ -z ${LLM_WORKER_BOOT_EXTRA:-} ]] || cat -- "$LLM_WORKER_BOOT_EXTRA"
  } >"$scratch/user-data" || die 1 'Cannot write the boot script. Check LLM_WORKER_BOOT_EXTRA.'
  export EC2_WORKER_USER_DATA=$scratch/user-data
}

bring_up() {
  extra=$(extra_tags EC2_WORKER_TAGS) || exit 1
  find_volume
  if [[ -n $volume ]]; then
    say "[$label] its models are on $volume, so it has to be in $volume_zone"
    export EC2_WORKER_ZONE=$volume_zone
  fi
  write_user_data
  instance "$verb" || exit
  find_instance
  [[ -n $id ]] || die 1 "[$label] the instance is not to be seen. Run \"status\", then \"$verb\" again."
  # A repeated command may find one that another attempt has made.
  [[ -n $volume ]] || find_volume
  [[ -n $volume ]] || create_volume
  attach_volume
}

provision() { bring_up; }
start() { bring_up; }

terminate() {
  instance terminate || exit
  find_volume
  [[ -n $volume ]] || return 0
  say "[$label] its models stay on $volume, which costs money. To delete them: aws ec2 delete-volume --volume-id $volume"
}

# --- models ----------------------------------------------------------------------------------------

# find_api: sets "api", the address of its Ollama.
find_api() {
  command -v curl >/dev/null 2>&1 || die 1 'curl is not on PATH. Install it: Ollama is asked with it.'
  api=${LLM_WORKER_URL:-}
  [[ -n $api ]] && return
  find_instance
  [[ $state == running && -n $private_ip ]] || die 1 "[$label] the instance is $state. Bring it up with \"start\"."
  api=http://$private_ip:$port
}

# ask PATH [JSON]: sets "answer" to the body. No proxy: the address is a private one.
ask() {
  answer=$(curl --silent --show-error --fail-with-body --noproxy '*' --connect-timeout 5 --max-time "$api_s" ${2+--data-binary "$2"} "$api$1" 2>"$scratch/stderr" </dev/null)
}

choose_models() {
  local model
  # shellcheck disable=SC2206 # a list of words
  (($# > 0)) && models=("$@") || models=(${LLM_WORKER_MODELS:-})
  ((${#models[@]} > 0)) ||
    die 64 "Expected models, as in \"$verb llama3.2:3b\", or LLM_WORKER_MODELS in your config.sh; got none."
  for model in "${models[@]}"; do
    [[ $model =~ ^[A-Za-z0-9][A-Za-z0-9._/:-]{0,199}$ ]] ||
      die 64 "Expected the name of a model such as llama3.2:3b, got \"${model//[[:cntrl:]]/?}\"."
  done
}

# tagged_model NAME: Ollama lists a model without a tag as "latest".
tagged_model() {
  case ${1##*/} in *:*) printf '%s' "$1" ;; *) printf '%s:latest' "$1" ;; esac
}

loaded() { [[ $1 == *"\"name\":\"$(tagged_model "$2")\""* ]]; }

ready() {
  local model missing=''
  local -a models=()
  choose_models "$@"
  find_api
  api_s=10
  ask /api/ps || die 1 "[$label] $api does not answer ($(<"$scratch/stderr")). It takes some minutes after the first start; \"logs\" shows how far it is."
  for model in "${models[@]}"; do
    loaded "$answer" "$model" || missing+=" $model"
  done
  [[ -z $missing ]] || die 1 "[$label] not loaded:$missing. Run \"warm\"."
  say "[$label] ready: ${models[*]} at $api"
}

wait_for_api() {
  local limit=$((SECONDS + wait_s)) last_said=-15 api_s=10
  until ask /api/version; do
    ((SECONDS < limit)) || die 1 "[$label] $api does not answer after $wait_s s ($(<"$scratch/stderr")). Its security group must let port $port in from here; \"logs\" shows whether Ollama runs."
    if ((SECONDS - last_said >= 15)); then
      say "[$label] waiting for $api to answer"
      last_said=$SECONDS
    fi
    pause "$poll_s"
  done
}

# pull MODEL: shows each step, and of a download each tenth.
pull() {
  local line last='' step='' percent said='' done_=''
  while IFS= read -r line || [[ -n $line ]]; do
    last=$line
    [[ $line =~ \"error\":\"([^\"]*) ]] && {
      warn "[$label] Ollama could not pull $1: ${BASH_REMATCH[1]}"
      return 1
    }
    [[ $line =~ \"status\":\"([^\"]*)\" ]] || continue
    step=${BASH_REMATCH[1]} percent=''
    [[ $step == success ]] && done_=1
    if [[ $line =~ \"total\":([0-9]+) ]]; then
      local total=${BASH_REMATCH[1]} tenths
      if [[ $line =~ \"completed\":([0-9]+) ]] && ((total > 0)); then
        tenths=$((BASH_REMATCH[1] * 10 / total)) percent=" $((tenths * 10))%"
      fi
    fi
    [[ $step$percent == "$said" ]] && continue
    said=$step$percent
    say "[$label] $1: $said"
  done < <(curl --silent --show-error --fail-with-body --noproxy '*' --connect-timeout 5 --speed-limit 1 --speed-time "$wait_s" \
    --no-buffer --data-binary "{\"model\":$(json_string "$1"),\"stream\":true}" "$api/api/pull" 2>&1 </dev/null)
  [[ -n $done_ ]] || {
    warn "[$label] pulling $1 broke off${last:+: $last}. Run \"warm\" again: what is there already is kept."
    return 1
  }
}

warm() {
  local model keep=${LLM_WORKER_KEEP_ALIVE:--1}
  local -a models=()
  choose_models "$@"
  [[ $keep =~ ^-?[0-9]+[smh]?$ ]] || die 1 "Expected LLM_WORKER_KEEP_ALIVE to be -1 (for ever) or such as 30m, got \"$keep\"."
  [[ $keep =~ ^-?[0-9]+$ ]] || keep=\"$keep\"
  find_api
  wait_for_api
  for model in "${models[@]}"; do
    pull "$model" || exit 1
    say "[$label] $model: loading"
    api_s=$wait_s
    # Without a prompt it only loads.
    ask /api/generate "{\"model\":$(json_string "$model"),\"keep_alive\":$keep,\"stream\":false}" ||
      die 1 "[$label] Ollama could not load $model: ${answer:-$(<"$scratch/stderr")}"
  done
  ready "${models[@]}"
}

case $verb in
  provision | start | stop | terminate | status | logs | warm | ready)
    shift
    case $verb:$# in
      warm:* | ready:* | *:0) ;;
      *) warn "$verb takes no arguments, ignoring: $*" ;;
    esac
    check_target
    load_config EC2_WORKER_CONFIG "$(folder "$from")"
    # Its own child reads them from the environment.
    export CARRIERARR_TARGET=$target
    installation=${EC2_WORKER_INSTALLATION:-true}
    wait_s=$(whole EC2_WORKER_WAIT_S 600) && poll_s=$(whole EC2_WORKER_POLL_S 5) &&
      volume_gib=$(whole LLM_WORKER_VOLUME_GIB 100) && port=$(whole LLM_WORKER_PORT 11434) || exit 1
    case $verb in
      stop | status | logs)
        instance "$verb"
        exit
        ;;
    esac
    open_scratch
    "$verb" "$@"
    ;;
  '') usage ;;
  *)
    warn "Expected a verb listed below, got \"$verb\"."
    usage
    ;;
esac
