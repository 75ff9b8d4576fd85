#!/usr/bin/env bash
# Control script for workers that are Fargate tasks, on the AWS CLI (version 1 or 2).
#
# A worker is the running task whose tag carrierarr:target is its name. A task cannot be stopped and started
# again: "stop" ends it, and "start" runs a new one. Nothing is remembered anywhere but in ECS. The tasks of a
# worker are found by startedBy, which is computed from its name, and then told apart by their tag. AWS itself
# sees to it that one command makes at most one task of a kind (clientToken).
#
#   fargate-worker.sh VERB
#
# Environment:
#   CARRIERARR_TARGET         name of the worker (else EC2_AGENT_TARGET, else "default")
#   CARRIERARR_COMMAND_TOKEN  the same for the same command; without it CARRIERARR_EXECUTION_ID will do
#   FARGATE_WORKER_CONFIG     file to source; else config.sh beside this script or in the current directory
# docs/how-to/control-fargate.md lists the variables of the configuration.
#
# Exit codes: 0 done; 1 it could not be done; 64 wrong use; 128+n ended by signal n.
# Keeps to bash 3.2, the one on macOS.

verb=${1:-}
from=${BASH_SOURCE[0]}
[[ -L $from ]] && from=$(readlink -f -- "$from")
# shellcheck source=lib/aws.sh
. "$(dirname -- "$from")/lib/aws.sh" || exit 1

usage() {
  cat >&2 <<'USAGE'
usage: fargate-worker.sh VERB
  provision   run the task if none runs (-> running)
  start       the same
  stop        end the task (-> absent); "start" runs a new one
  terminate   end it, and any other task that carries the name (-> absent)
  status      describe it; the last line is JSON
  logs        print the last lines of its log in CloudWatch
The worker is named by CARRIERARR_TARGET, else EC2_AGENT_TARGET, else "default".
USAGE
  exit 64
}

# --- what there is ---------------------------------------------------------------------------------

# Tasks of the target that are to run, oldest first; one index over all these lists.
count=0
arns=() statuses=() since=() sizes=() private_ips=() providers=() zones=() healths=() definitions=()

# find_tasks: the tasks that ECS wants to run. One that ends is not among them: it is gone for good.
find_tasks() {
  local arn status when cpu memory private provider zone health definition listed
  count=0 arns=() statuses=() since=() sizes=() private_ips=() providers=() zones=() healths=() definitions=()
  # An error is not an absence: a failed look ends the script.
  cloud ecs list-tasks --cluster "$cluster" --started-by "$started_by" --query 'taskArns[].[@]' ||
    give_up "look for the task of $label"
  # shellcheck disable=SC2206 # a list of words
  listed=($answer)
  ((${#listed[@]} > 0)) || return 0
  # At most 100 may be described at once; a worker has one.
  cloud ecs describe-tasks --cluster "$cluster" --include TAGS --tasks "${listed[@]:0:100}" \
    --query "tasks[?$(tagged_task)] | [?desiredStatus=='RUNNING'].[taskArn, lastStatus, startedAt || createdAt, cpu, memory,
      attachments[].details[] | [?name=='privateIPv4Address'].value | [0], capacityProviderName || launchType,
      availabilityZone, healthStatus, taskDefinitionArn]" || give_up "look at the task of $label"
  while IFS=$'\t' read -r arn status when cpu memory private provider zone health definition; do
    [[ $arn == arn:* ]] || continue
    arns+=("$arn") statuses+=("$status") since+=("$(iso_time "$when")") sizes+=("$(vcpu "$cpu") vCPU / $memory MB")
    private_ips+=("$private") providers+=("$provider") zones+=("$zone") healths+=("$health") definitions+=("$definition")
    count=$((count + 1))
  done <<<"$(printf '%s\n' "$answer" | sort -t $'\t' -k 3,3 -k 1,1)"
}

# ECS writes "key" and "value" small.
tagged_task() {
  local condition
  condition=$(tagged "$target")
  condition=${condition//Tags[/tags[}
  condition=${condition//Key==/key==}
  condition=${condition//Value==\`/value==\`}
  printf '%s' "${condition//Value!=\`/value!=\`}"
}

# vcpu UNITS: ECS counts 1024 units to a virtual CPU.
vcpu() {
  [[ $1 =~ ^[0-9]+$ ]] || {
    printf '?'
    return
  }
  local permille=$(($1 * 1000 / 1024)) text
  text=$((permille / 1000)).$(printf '%03d' $((permille % 1000)))
  while [[ $text == *0 ]]; do text=${text%0}; done
  printf '%s' "${text%.}"
}

id_of() { printf '%s' "${1##*/}"; }

# state_of LASTSTATUS: the word that all workers share.
state_of() {
  case $1 in
    RUNNING) printf running ;;
    PROVISIONING | PENDING | ACTIVATING) printf pending ;;
    *) printf stopping ;;
  esac
}

report_several() {
  local i list=''
  ((count > 1)) || return 0
  for ((i = 0; i < count; i++)); do
    list+="${list:+, }$(id_of "${arns[i]}") (${statuses[i]})"
  done
  warn "[$label] warning: $count tasks carry this target: $list. This acts on the oldest; \"terminate\" ends all."
}

# --- waiting ---------------------------------------------------------------------------------------

ended_because=''
# wait_for ARN STATUS: until the task is RUNNING or STOPPED. Fails, with "ended_because" set, when it stopped instead.
wait_for() {
  local arn=$1 wanted=$2 limit=$((SECONDS + wait_s)) shown='' last_said=$SECONDS now private code reason
  while :; do
    if cloud ecs describe-tasks --cluster "$cluster" --tasks "$arn" --query "tasks[].[lastStatus,
      attachments[].details[] | [?name=='privateIPv4Address'].value | [0], stopCode,
      join('; ', [stoppedReason || '', containers[].reason | [0] || ''])]"; then
      IFS=$'\t' read -r now private code reason <<<"$answer"
      # Stopped tasks are forgotten after an hour.
      [[ -n $now || $wanted != STOPPED ]] || now=STOPPED
      if [[ $now == "$wanted" ]]; then
        [[ $private == None || $wanted == STOPPED ]] && private=''
        say "[$label] $(id_of "$arn") is $now${private:+, private address $private}"
        return
      fi
      if [[ $wanted == RUNNING ]]; then
        case $now in
          STOPPED | STOPPING | DEPROVISIONING | DEACTIVATING)
            [[ $code == None ]] && code=''
            ended_because="${code:+$code: }${reason%; }"
            return 1
            ;;
        esac
      fi
      [[ -n $now ]] || now='not visible yet'
    else
      now='unknown (AWS did not answer, trying on)'
    fi
    if [[ $now != "$shown" ]] || ((SECONDS - last_said >= 15)); then
      say "[$label] waiting for $(id_of "$arn") to be $wanted, it is $now"
      shown=$now last_said=$SECONDS
    fi
    ((SECONDS < limit)) ||
      die 1 "[$label] $(id_of "$arn") is $now, not $wanted, after $wait_s s (FARGATE_WORKER_WAIT_S). AWS goes on; \"status\" shows how far it has got."
    pause "$poll_s"
  done
}

# --- running a task --------------------------------------------------------------------------------

# run_task PROVIDER TOKEN: sets "answer" to the ARN, or "-" and the reason why there is no place for it.
run_task() {
  local key value network overrides='' tags
  # shellcheck disable=SC2086 # lists of words
  network="{\"awsvpcConfiguration\":{\"subnets\":$(json_list $FARGATE_WORKER_SUBNETS),\"securityGroups\":$(json_list ${FARGATE_WORKER_SECURITY_GROUPS:-}),\"assignPublicIp\":\"$public_ip\"}}"
  tags="{\"key\":\"carrierarr:target\",\"value\":$(json_string "$target")}"
  tags+=",{\"key\":\"carrierarr:managed\",\"value\":$(json_string "$installation")}"
  tags+=",{\"key\":\"Name\",\"value\":$(json_string "$target")}"
  while IFS=$'\t' read -r key value; do
    [[ -n $key ]] && tags+=",{\"key\":$(json_string "$key"),\"value\":$(json_string "$value")}"
  done <<<"$extra"
  [[ -n ${FARGATE_WORKER_CPU:-} ]] && overrides+="${overrides:+,}\"cpu\":$(json_string "$FARGATE_WORKER_CPU")"
  [[ -n ${FARGATE_WORKER_MEMORY:-} ]] && overrides+="${overrides:+,}\"memory\":$(json_string "$FARGATE_WORKER_MEMORY")"
  cloud ecs run-task --client-token "$2" --cluster "$cluster" --count 1 --task-definition "$FARGATE_WORKER_TASK_DEFINITION" \
    --capacity-provider-strategy "[{\"capacityProvider\":\"$1\",\"weight\":1}]" --network-configuration "$network" \
    --overrides "{$overrides}" --started-by "$started_by" --propagate-tags TASK_DEFINITION --tags "[$tags]" \
    --query "[tasks[0].taskArn || '-', failures[0].reason]"
}

create() {
  local provider token='' first arn why market
  local -a candidates=()
  need FARGATE_WORKER_TASK_DEFINITION 'the task definition to run' 'my-worker:3'
  need FARGATE_WORKER_SUBNETS 'the subnets it may run in' 'subnet-0123 subnet-4567'
  public_ip=$(choice FARGATE_WORKER_PUBLIC_IP DISABLED DISABLED ENABLED) || exit 1
  market=$(choice FARGATE_WORKER_MARKET on-demand on-demand spot spot-only) || exit 1
  case $market in
    on-demand) candidates=(FARGATE) ;;
    spot) candidates=(FARGATE_SPOT FARGATE) ;;
    spot-only) candidates=(FARGATE_SPOT) ;;
  esac
  extra=$(extra_tags FARGATE_WORKER_TAGS) || exit 1
  first=$(command_token)
  token=$first
  for provider in "${candidates[@]}"; do
    # AWS binds a token to all parameters: each way of running has its own, and the same one next time.
    [[ -n $token ]] || token=$(hash "$first/$provider")
    say "[$label] asking for a task ($FARGATE_WORKER_TASK_DEFINITION, $provider)"
    if run_task "$provider" "$token"; then
      IFS=$'\t' read -r arn why <<<"$answer"
      if [[ $arn == arn:* ]]; then
        say "[$label] $(id_of "$arn") is to run ($provider)"
        wait_for "$arn" RUNNING && return
        # For spot the lack of room shows only here.
        [[ $provider == FARGATE_SPOT && $ended_because == *[Cc]apacity* ]] ||
          die 1 "[$label] $(id_of "$arn") has ended: ${ended_because:-no reason given}. Its log is in CloudWatch. To try again send a new command."
        why=$ended_because
      fi
    else
      case $error_code in
        '')
          # Going on with another token could make a second task.
          warn "[$label] it is unknown whether AWS runs the task. Run the same command again: it cannot make two."
          give_up "run a task for $label"
          ;;
        ConflictException)
          die 1 "[$label] this command has asked for a task before, with another configuration. Send a new command."
          ;;
      esac
      why=$(reason_of "$error_text")
      [[ $error_code == CapacityUnavailable* || $why == *[Cc]apacity\ is\ unavailable* ]] || give_up "run a task for $label ($provider)"
    fi
    token=''
    warn "[$label] not to be had ($provider): $why"
    case $why in
      # Another provider would not help.
      MISSING | INACTIVE | *quota* | *limit*) break ;;
    esac
  done
  die 1 "[$label] no room for the task with any of: ${candidates[*]}. Try later, or add subnets in other zones to FARGATE_WORKER_SUBNETS."
}

# --- verbs -----------------------------------------------------------------------------------------

start() {
  find_tasks
  if ((count == 0)); then
    create
    return
  fi
  report_several
  if [[ ${statuses[0]} == RUNNING ]]; then
    say "[$label] $(id_of "${arns[0]}") is already running (since ${since[0]})"
    return
  fi
  say "[$label] $(id_of "${arns[0]}") exists already (${statuses[0]})"
  wait_for "${arns[0]}" RUNNING ||
    die 1 "[$label] $(id_of "${arns[0]}") has ended: ${ended_because:-no reason given}. To try again send a new command."
}

# end_task ARN
end_task() {
  cloud ecs stop-task --cluster "$cluster" --task "$1" \
    --reason "carrierarr: $verb${CARRIERARR_EXECUTION_ID:+ (execution $CARRIERARR_EXECUTION_ID)}" --query task.desiredStatus ||
    return 1
  say "[$label] stopping $(id_of "$1")"
}

stop() {
  find_tasks
  ((count > 0)) || {
    say "[$label] there is no task, nothing to stop"
    return
  }
  report_several
  local arn=${arns[0]}
  end_task "$arn" || give_up "stop $(id_of "$arn")"
  wait_for "$arn" STOPPED
}

terminate() {
  local i failed=0
  find_tasks
  ((count > 0)) || {
    say "[$label] there is no task, nothing to terminate"
    return
  }
  for ((i = 0; i < count; i++)); do
    end_task "${arns[i]}" || {
      warn "[$label] cannot stop $(id_of "${arns[i]}"): $error_text"
      failed=1
    }
  done
  ((failed == 0)) || give_up "stop all tasks of $label"
  for ((i = 0; i < count; i++)); do
    wait_for "${arns[i]}" STOPPED
  done
}

# The names in the JSON are those of a worker in the status message, so that a poller can pass them on.
status() {
  local rest='' state=absent
  find_tasks
  say "worker: $label"
  if ((count > 0)); then
    report_several
    state=$(state_of "${statuses[0]}")
    rest=$(json_fields id "${arns[0]}" instance_type "${sizes[0]}" private_ip "${private_ips[0]}" \
      launch_time "${since[0]}" availability_zone "${zones[0]}" market "${providers[0]}" health_check "${healths[0]}")
    ((count < 2)) || rest+=",\"instances\":$count"
    say "task:   $(id_of "${arns[0]}"), ${sizes[0]}, ${providers[0]}"
    say "state:  $state (${statuses[0]}), since ${since[0]}"
  else
    say 'task:   none'
  fi
  say "{\"name\":$(json_string "$target"),\"provider\":\"fargate\",\"state\":\"$state\"$rest}"
}

logs() {
  local driver group prefix region container
  find_tasks
  ((count > 0)) || die 1 "[$label] no task runs. Run one with \"start\"; logs of former ones are in CloudWatch."
  report_several
  cloud ecs describe-task-definition --task-definition "${definitions[0]}" --query "taskDefinition.containerDefinitions[0].[name,
    logConfiguration.logDriver, logConfiguration.options.\"awslogs-group\", logConfiguration.options.\"awslogs-stream-prefix\",
    logConfiguration.options.\"awslogs-region\"]" || give_up 'look up where the log is'
  IFS=$'\t' read -r container driver group prefix region <<<"$answer"
  [[ $driver == awslogs && $group != None && $prefix != None ]] ||
    die 1 "[$label] its first container \"$container\" does not log by awslogs with awslogs-group and awslogs-stream-prefix, so its log is not to be found here."
  local -a where=()
  [[ $region == None ]] || where=(--region "$region")
  if ! cloud logs get-log-events --log-group-name "$group" --log-stream-name "$prefix/$container/$(id_of "${arns[0]}")" \
    --limit "$log_lines" ${where[@]+"${where[@]}"} --query 'events[].[message]'; then
    [[ $error_code == ResourceNotFoundException ]] || give_up "read the log of $(id_of "${arns[0]}")"
    answer=''
  fi
  if [[ -n $answer ]]; then say "$answer"; else say "[$label] its log is empty so far"; fi
}

case $verb in
  provision | start | stop | terminate | status | logs)
    shift
    (($# == 0)) || warn "$verb takes no arguments, ignoring: $*"
    check_target
    # ECS is stricter than EC2 with what a tag may hold.
    [[ ${target//[A-Za-z0-9 +=._:\/@$'\x80'-$'\xff'-]/} == '' ]] ||
      die 64 "Expected the name of the worker to have letters, digits, spaces and + - = . _ : / @ only, got \"$label\": ECS does not keep others as a tag."
    load_config FARGATE_WORKER_CONFIG "$(folder "$from")"
    need FARGATE_WORKER_CLUSTER 'the ECS cluster to run tasks in' 'default'
    cluster=$FARGATE_WORKER_CLUSTER
    installation=${FARGATE_WORKER_INSTALLATION:-true}
    # At most 36 characters may be in startedBy, so it is a hash; the tag decides.
    started_by=$(hash "$installation/$target")
    started_by=carrierarr-${started_by:0:25}
    wait_s=$(whole FARGATE_WORKER_WAIT_S 600) && poll_s=$(whole FARGATE_WORKER_POLL_S 5) &&
      log_lines=$(whole FARGATE_WORKER_LOG_LINES 200) || exit 1
    open_scratch
    [[ $verb == provision ]] && verb=start
    "$verb"
    ;;
  '') usage ;;
  *)
    warn "Expected a verb listed below, got \"$verb\"."
    usage
    ;;
esac
