#!/usr/bin/env bash
# Control script for workers that are EC2 instances, on the AWS CLI (version 1 or 2).
#
# A worker is the instance whose tag carrierarr:target is its name. Nothing is remembered anywhere else, so
# every verb may be run again, from any machine: it looks first and does what is left to do. AWS itself
# sees to it that one command makes at most one instance of a kind (ClientToken).
#
#   ec2-worker.sh VERB
#
# Environment:
#   CARRIERARR_TARGET         name of the worker (else EC2_AGENT_TARGET, else "default")
#   CARRIERARR_COMMAND_TOKEN  the same for the same command; without it CARRIERARR_EXECUTION_ID will do
#   EC2_WORKER_CONFIG         file to source; else config.sh beside this script or in the current directory
# docs/how-to/control-ec2.md lists the variables of the configuration.
#
# Exit codes: 0 done; 1 it could not be done; 64 wrong use, or what this instance can never do; 128+n ended by signal n.
# Keeps to bash 3.2, the one on macOS.

verb=${1:-}
from=${BASH_SOURCE[0]}
[[ -L $from ]] && from=$(readlink -f -- "$from")
# shellcheck source=lib/aws.sh
. "$(dirname -- "$from")/lib/aws.sh" || exit 1

usage() {
  cat >&2 <<'USAGE'
usage: ec2-worker.sh VERB
  provision   create the instance if there is none (-> running)
  start       start it, creating it first if there is none (-> running)
  stop        stop it; its disk stays (-> stopped)
  terminate   delete it and its disk (-> absent)
  status      describe it; the last line is JSON
  logs        print what its console shows
The worker is named by CARRIERARR_TARGET, else EC2_AGENT_TARGET, else "default".
USAGE
  exit 64
}

# --- what there is ---------------------------------------------------------------------------------

# Instances of the target, oldest launch first; one index over all these lists.
count=0
ids=() states=() launched=() types=() private_ips=() public_ips=() zones=() lifecycles=()
at=0

find_instances() {
  local id state launch type private public zone lifecycle
  count=0 ids=() states=() launched=() types=() private_ips=() public_ips=() zones=() lifecycles=()
  # An error is not an absence: a failed look ends the script.
  cloud ec2 describe-instances --filters "[
      {\"Name\":\"tag:carrierarr:target\",\"Values\":[$(filter_value "$target")]},
      {\"Name\":\"instance-state-name\",\"Values\":[\"pending\",\"running\",\"stopping\",\"stopped\",\"shutting-down\"]}]" \
    --query "Reservations[].Instances[] | [?$(tagged "$target")].[InstanceId, State.Name, LaunchTime, InstanceType,
      PrivateIpAddress, PublicIpAddress, Placement.AvailabilityZone, InstanceLifecycle]" ||
    give_up "look for the instance of $label"
  while IFS=$'\t' read -r id state launch type private public zone lifecycle; do
    [[ $id == i-* ]] || continue
    ids+=("$id") states+=("$state") launched+=("$launch") types+=("$type") private_ips+=("$private")
    public_ips+=("$public") zones+=("$zone") lifecycles+=("$lifecycle")
    count=$((count + 1))
  done <<<"$(printf '%s\n' "$answer" | sort -t $'\t' -k 3,3 -k 1,1)"
}

# pick STATE...: sets "at" to the oldest instance in the first of these states that any is in.
pick() {
  local state
  for state in "$@"; do
    for ((at = 0; at < count; at++)); do
      [[ ${states[at]} == "$state" ]] && return
    done
  done
  return 1
}

report_several() {
  local i list='' living=0
  for ((i = 0; i < count; i++)); do
    [[ ${states[i]} == shutting-down ]] && continue
    list+="${list:+, }${ids[i]} (${states[i]})" living=$((living + 1))
  done
  ((living < 2)) || warn "[$label] warning: $living instances carry this target: $list. This acts on ${ids[at]}; \"terminate\" ends all."
}

# --- waiting ---------------------------------------------------------------------------------------

# wait_for ID STATE: until the instance is in STATE, or the script ends with the reason why it never will be.
wait_for() {
  local id=$1 wanted=$2 limit=$((SECONDS + wait_s)) shown='' last_said=$SECONDS now private public reason
  while :; do
    # A filter and not --instance-ids: right after it was made EC2 may not know the id yet.
    if cloud ec2 describe-instances --filters "[{\"Name\":\"instance-id\",\"Values\":[\"$id\"]}]" \
      --query 'Reservations[].Instances[].[State.Name, PrivateIpAddress, PublicIpAddress, StateReason.Message]'; then
      IFS=$'\t' read -r now private public reason <<<"$answer"
      [[ -n $now || $wanted != terminated ]] || now=terminated
      if [[ $now == "$wanted" ]]; then
        [[ $private == None || $wanted != running ]] && private=''
        [[ $public == None || $wanted != running ]] && public=''
        say "[$label] $id is $now${private:+, private address $private}${public:+, public address $public}"
        return
      fi
      case $wanted:$now in
        running:shutting-down | running:terminated | stopped:shutting-down | stopped:terminated)
          die 1 "[$label] $id is $now instead of $wanted: ${reason:-no reason given}. Run \"provision\" to get another one."
          ;;
      esac
      [[ -n $now ]] || now='not visible yet'
    else
      now='unknown (AWS did not answer, trying on)'
    fi
    if [[ $now != "$shown" ]] || ((SECONDS - last_said >= 15)); then
      say "[$label] waiting for $id to be $wanted, it is $now"
      shown=$now last_said=$SECONDS
    fi
    ((SECONDS < limit)) ||
      die 1 "[$label] $id is $now, not $wanted, after $wait_s s (EC2_WORKER_WAIT_S). AWS goes on; \"status\" shows how far it has got."
    pause "$poll_s"
  done
}

# --- creating --------------------------------------------------------------------------------------

tags_json() {
  local key value out
  out="{\"Key\":\"carrierarr:target\",\"Value\":$(json_string "$target")}"
  out+=",{\"Key\":\"carrierarr:managed\",\"Value\":$(json_string "$installation")}"
  out+=",{\"Key\":\"Name\",\"Value\":$(json_string "$target")}"
  while IFS=$'\t' read -r key value; do
    [[ -n $key ]] && out+=",{\"Key\":$(json_string "$key"),\"Value\":$(json_string "$value")}"
  done <<<"$1"
  printf '[%s]' "$out"
}

# find_image: sets "image" and "root_device".
find_image() {
  image=$EC2_WORKER_AMI
  image=${image#resolve:}
  if [[ $image == ssm:* ]]; then
    cloud ssm get-parameter --name "${image#ssm:}" --query Parameter.Value || give_up "look up the image \"$image\""
    image=$answer
  fi
  [[ $image =~ ^ami-[0-9a-f]+$ ]] ||
    die 1 "Expected EC2_WORKER_AMI to be ami-... or ssm:/aws/service/..., got \"$EC2_WORKER_AMI\"${answer:+ (which says \"$image\")}."
  root_device=${EC2_WORKER_ROOT_DEVICE:-}
  [[ -n $root_device ]] && return
  cloud ec2 describe-images --image-ids "$image" --query 'Images[].RootDeviceName' || give_up "look up the image $image"
  root_device=$answer
  [[ $root_device == /* ]] || die 1 "The image $image has no root device, or does not exist in this region. Check EC2_WORKER_AMI."
}

# find_subnets: sets "subnets", "-" for the default one; only those of EC2_WORKER_ZONE if that is set.
find_subnets() {
  local zone=${EC2_WORKER_ZONE:-}
  # shellcheck disable=SC2206 # a list of words
  subnets=(${EC2_WORKER_SUBNETS:--})
  [[ -n $zone && ${subnets[0]} != - ]] || return
  cloud ec2 describe-subnets --subnet-ids "${subnets[@]}" \
    --query "Subnets[?AvailabilityZone==\`$(json_string "$zone")\`].[SubnetId]" || give_up 'look up EC2_WORKER_SUBNETS'
  # shellcheck disable=SC2206
  subnets=($answer)
  ((${#subnets[@]} > 0)) || die 1 "None of EC2_WORKER_SUBNETS is in the zone $zone, where this worker has to be. Add one that is."
}

# run_instance MARKET TYPE SUBNET TOKEN: sets "answer" to the new instance's id, or fails as "cloud" does.
run_instance() {
  local market=$1 type=$2 subnet=$3 token=$4 tags ebs spot='' kind specifications=''
  local -a also=()
  tags=$(tags_json "$extra")
  # A spot request is tagged too: that is how one finds it after its instance is gone.
  for kind in instance volume spot-instances-request; do
    [[ $kind == spot* && $market != spot ]] && continue
    specifications+="${specifications:+,}{\"ResourceType\":\"$kind\",\"Tags\":$tags}"
  done
  ebs='"VolumeType":"gp3","Encrypted":true,"DeleteOnTermination":true'
  ((root_gib > 0)) && ebs+=",\"VolumeSize\":$root_gib"
  [[ -n ${EC2_WORKER_KMS_KEY:-} ]] && ebs+=",\"KmsKeyId\":$(json_string "$EC2_WORKER_KMS_KEY")"
  if [[ $market == spot ]]; then
    [[ -n ${EC2_WORKER_SPOT_MAX_PRICE:-} ]] && spot=",\"MaxPrice\":$(json_string "$EC2_WORKER_SPOT_MAX_PRICE")"
    also+=(--instance-market-options "{\"MarketType\":\"spot\",\"SpotOptions\":{\"SpotInstanceType\":\"one-time\"$spot}}")
  fi
  [[ $subnet != - ]] && also+=(--subnet-id "$subnet")
  [[ $subnet == - && -n ${EC2_WORKER_ZONE:-} ]] &&
    also+=(--placement "{\"AvailabilityZone\":$(json_string "$EC2_WORKER_ZONE")}")
  # shellcheck disable=SC2206 # a list of words
  [[ -n ${EC2_WORKER_SECURITY_GROUPS:-} ]] && also+=(--security-group-ids $EC2_WORKER_SECURITY_GROUPS)
  case ${EC2_WORKER_INSTANCE_PROFILE:-} in
    '') ;;
    arn:*) also+=(--iam-instance-profile "{\"Arn\":$(json_string "$EC2_WORKER_INSTANCE_PROFILE")}") ;;
    *) also+=(--iam-instance-profile "{\"Name\":$(json_string "$EC2_WORKER_INSTANCE_PROFILE")}") ;;
  esac
  [[ -n ${EC2_WORKER_KEY_NAME:-} ]] && also+=(--key-name "$EC2_WORKER_KEY_NAME")
  [[ -n ${EC2_WORKER_USER_DATA:-} ]] && also+=(--user-data "fileb://$EC2_WORKER_USER_DATA")
  # Hop limit 1 keeps containers on the instance from its credentials.
  cloud ec2 run-instances --client-token "$token" --count 1 --image-id "$image" --instance-type "$type" \
    --metadata-options '{"HttpEndpoint":"enabled","HttpTokens":"required","HttpPutResponseHopLimit":1}' \
    --block-device-mappings "[{\"DeviceName\":$(json_string "$root_device"),\"Ebs\":{$ebs}}]" \
    --tag-specifications "[$specifications]" ${also[@]+"${also[@]}"} --query 'Instances[0].InstanceId'
}

# already_made CODE: what to do when AWS remembers the token of this command.
already_made() {
  if [[ $1 == IdempotentInstanceTerminated ]]; then
    die 1 "[$label] this command has made an instance before, which has been terminated since. Send a new command."
  fi
  say "[$label] this command has asked for an instance before, with another configuration; looking for that one"
  local limit=$((SECONDS + wait_s))
  until find_instances && pick running pending stopping stopped; do
    ((SECONDS < limit)) ||
      die 1 "[$label] that instance did not appear within $wait_s s. Send a new command to get one with the present configuration."
    pause "$poll_s"
  done
  [[ ${states[at]} == running ]] || wait_for "${ids[at]}" running
}

create() {
  local market type subnet token first='' place
  local -a markets=() kinds=() subnets=()
  need EC2_WORKER_AMI 'the image to start from' 'ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64'
  need EC2_WORKER_INSTANCE_TYPES 'the instance types to try, in this order' 'g5.xlarge g4dn.xlarge'
  if [[ -n ${EC2_WORKER_USER_DATA:-} && ! -r $EC2_WORKER_USER_DATA ]]; then
    die 1 "Expected EC2_WORKER_USER_DATA to name a file that can be read, got \"$EC2_WORKER_USER_DATA\"."
  fi
  market=$(choice EC2_WORKER_MARKET on-demand on-demand spot spot-only) || exit 1
  case $market in
    on-demand) markets=(on-demand) ;;
    spot) markets=(spot on-demand) ;;
    spot-only) markets=(spot) ;;
  esac
  extra=$(extra_tags EC2_WORKER_TAGS) || exit 1
  root_gib=$(whole EC2_WORKER_ROOT_GIB 0) || exit 1
  find_image
  find_subnets
  # shellcheck disable=SC2206 # a list of words
  kinds=($EC2_WORKER_INSTANCE_TYPES)
  first=$(command_token)
  token=$first
  for market in "${markets[@]}"; do
    for type in "${kinds[@]}"; do
      for subnet in "${subnets[@]}"; do
        # AWS binds a token to all parameters: each combination has its own, and the same one next time.
        [[ -n $token ]] || token=$(hash "$first/$market/$type/$subnet")
        place="$type, $market"
        [[ $subnet == - ]] || place+=", $subnet"
        say "[$label] asking for an instance ($place)"
        if run_instance "$market" "$type" "$subnet" "$token"; then
          [[ $answer == i-* ]] || die 1 "[$label] AWS answered without an instance: \"$answer\". Run \"status\" to see what there is."
          say "[$label] created $answer ($place, image $image, encrypted disk, IMDSv2)"
          wait_for "$answer" running
          return
        fi
        token=''
        case $error_code in
          InsufficientInstanceCapacity | InsufficientCapacity | InsufficientHostCapacity | UnfulfillableCapacity | \
            MaxSpotInstanceCountExceeded | SpotMaxPriceTooLow | InstanceLimitExceeded | VcpuLimitExceeded | \
            InsufficientFreeAddressesInSubnet | Unsupported)
            warn "[$label] not to be had ($place): $error_code: $(reason_of "$error_text")"
            ;;
          IdempotentParameterMismatch | IdempotentInstanceTerminated)
            already_made "$error_code"
            return
            ;;
          '')
            # Going on with another token could make a second instance.
            warn "[$label] it is unknown whether AWS has made the instance. Run the same command again: it cannot make two."
            give_up "create an instance for $label"
            ;;
          AuthFailure.ServiceLinkedRoleCreationNotPermitted)
            warn 'This account has never used spot. Once, as its administrator: aws iam create-service-linked-role --aws-service-name spot.amazonaws.com'
            give_up "create an instance for $label"
            ;;
          *) give_up "create an instance for $label ($place)" ;;
        esac
      done
    done
  done
  die 1 "[$label] no instance to be had in any of: ${markets[*]} / ${kinds[*]} / ${subnets[*]}. Try later, or add to EC2_WORKER_INSTANCE_TYPES or EC2_WORKER_SUBNETS."
}

# --- verbs -----------------------------------------------------------------------------------------

provision() {
  find_instances
  if pick running pending stopping stopped; then
    report_several
    say "[$label] ${ids[at]} exists already (${states[at]})"
    [[ ${states[at]} != pending ]] || wait_for "${ids[at]}" running
    return
  fi
  create
}

start() {
  find_instances
  if ! pick running pending stopping stopped; then
    local creates
    creates=$(choice EC2_WORKER_START_CREATES true true false) || exit 1
    [[ $creates == true ]] ||
      die 1 "[$label] there is no instance, and EC2_WORKER_START_CREATES is false. Create it with \"provision\"."
    create
    return
  fi
  report_several
  local id=${ids[at]}
  case ${states[at]} in
    running)
      say "[$label] $id is already running (since ${launched[at]})"
      return
      ;;
    pending) ;;
    *)
      [[ ${states[at]} == stopped ]] || wait_for "$id" stopped
      if ! cloud ec2 start-instances --instance-ids "$id" --query 'StartingInstances[0].CurrentState.Name'; then
        case $error_code in
          InsufficientInstanceCapacity | InsufficientCapacity | InsufficientHostCapacity)
            warn "[$label] there is no ${types[at]} free in ${zones[at]} now. Try later, or \"terminate\" and \"provision\" to take any type and subnet of the configuration."
            ;;
        esac
        give_up "start $id"
      fi
      say "[$label] starting $id"
      ;;
  esac
  wait_for "$id" running
}

stop() {
  find_instances
  if ! pick running pending stopping; then
    if pick stopped; then say "[$label] ${ids[at]} is already stopped"; else say "[$label] there is no instance, nothing to stop"; fi
    return
  fi
  report_several
  local id=${ids[at]}
  [[ ${states[at]} != pending ]] || wait_for "$id" running
  if [[ ${states[at]} != stopping ]]; then
    if ! cloud ec2 stop-instances --instance-ids "$id" --query 'StoppingInstances[0].CurrentState.Name'; then
      if [[ ${lifecycles[at]} == spot && $error_code == UnsupportedOperation ]]; then
        # 64: trying again cannot help, and whoever keeps the worker is to be told so at once.
        die 64 "[$label] $id is a one-time spot instance: it cannot be stopped, only terminated. Run \"terminate\" to give it back (its disk is deleted), or set EC2_WORKER_MARKET=on-demand for workers that are to stop and start."
      fi
      give_up "stop $id"
    fi
    say "[$label] stopping $id"
  fi
  wait_for "$id" stopped
}

terminate() {
  local i failed=0
  find_instances
  ((count > 0)) || {
    say "[$label] there is no instance, nothing to terminate"
    return
  }
  for ((i = 0; i < count; i++)); do
    [[ ${states[i]} == shutting-down ]] && continue
    # One call each: a single bad id fails a whole call.
    if cloud ec2 terminate-instances --instance-ids "${ids[i]}" --query 'TerminatingInstances[0].CurrentState.Name'; then
      say "[$label] terminating ${ids[i]}"
    elif [[ $error_code != InvalidInstanceID.NotFound ]]; then
      warn "[$label] cannot terminate ${ids[i]}: $error_text"
      failed=1
    fi
  done
  ((failed == 0)) || give_up "terminate all instances of $label"
  for ((i = 0; i < count; i++)); do
    wait_for "${ids[i]}" terminated
  done
}

# The names in the JSON are those of a worker in the status message, so that a poller can pass them on.
status() {
  local rest='' state=absent living=0 i
  find_instances
  if pick running pending stopping stopped shutting-down; then
    state=${states[at]}
    report_several
    rest=$(json_fields id "${ids[at]}" instance_type "${types[at]}" private_ip "${private_ips[at]}" \
      public_ip "${public_ips[at]}" launch_time "${launched[at]}" availability_zone "${zones[at]}" market "${lifecycles[at]}")
    for ((i = 0; i < count; i++)); do
      [[ ${states[i]} == shutting-down ]] || living=$((living + 1))
    done
    ((living < 2)) || rest+=",\"instances\":$living"
    say "worker:   $label"
    say "instance: ${ids[at]}, ${types[at]} in ${zones[at]}"
    say "state:    $state, launched ${launched[at]}"
  else
    say "worker:   $label"
    say "instance: none"
  fi
  say "{\"name\":$(json_string "$target"),\"provider\":\"ec2\",\"state\":\"$state\"$rest}"
}

logs() {
  find_instances
  pick running pending stopping stopped shutting-down ||
    die 1 "[$label] there is no instance, so it has no log. Create it with \"provision\" or \"start\"."
  report_several
  # The latest output is to be had of Nitro instances only.
  cloud ec2 get-console-output --instance-id "${ids[at]}" --latest --query Output ||
    cloud ec2 get-console-output --instance-id "${ids[at]}" --query Output || give_up "read the console of ${ids[at]}"
  if [[ -z $answer || $answer == None ]]; then
    say "[$label] the console of ${ids[at]} shows nothing yet; it does some minutes after the boot"
  else
    say "$answer"
  fi
}

case $verb in
  provision | start | stop | terminate | status | logs)
    shift
    (($# == 0)) || warn "$verb takes no arguments, ignoring: $*"
    check_target
    load_config EC2_WORKER_CONFIG "$(folder "$from")"
    installation=${EC2_WORKER_INSTALLATION:-true}
    wait_s=$(whole EC2_WORKER_WAIT_S 600) && poll_s=$(whole EC2_WORKER_POLL_S 5) || exit 1
    open_scratch
    "$verb"
    ;;
  '') usage ;;
  *)
    warn "Expected a verb listed below, got \"$verb\"."
    usage
    ;;
esac
