#!/bin/bash
# What an LLM worker does when it boots for the first time: mounts the volume for models, installs Ollama and
# lets it serve. llm-worker.sh puts "ollama_version" and "port" in front and passes it as user data, so it runs
# as root, by cloud-init, on an instance that has nothing yet. What it says is in the console: verb "logs".

set -u
: "${ollama_version=}" "${port=11434}"
models=/var/lib/carrierarr/models
volume_label=carrierarr-llm
wait_s=900

say() { printf 'carrierarr: %s\n' "$*" | tee /dev/console; }

# whole_disk DISK: true if nothing is on it: no partition, no filesystem, no signature of any kind.
whole_disk() {
  [[ $(lsblk --noheadings --raw --output NAME "$1" | wc -l) -eq 1 ]] && [[ -z $(wipefs --no-act --noheadings "$1") ]]
}

# find_disk: prints the disk that is ours: the one with our label, else an empty EBS volume. Disks that belong to
# the instance type are passed over: what is on them is lost when the instance stops.
find_disk() {
  local disk
  disk=$(blkid --label "$volume_label") && printf '%s' "$disk" && return
  for disk in /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol* /dev/xvdf /dev/sdf; do
    [[ $disk == *-part* || $disk == *-ns-* || $disk == *_1 || ! -b $disk ]] && continue
    whole_disk "$disk" && readlink -f "$disk" && return
  done
  return 1
}

mount_models() {
  local disk limit=$((SECONDS + wait_s))
  # It is attached when the instance runs, which may be after this began.
  until disk=$(find_disk); do
    if ((SECONDS >= limit)); then
      say "no volume for models after $wait_s s: they go to the root disk and are lost with the instance"
      return
    fi
    sleep 2
  done
  if ! blkid --label "$volume_label" >/dev/null; then
    say "formatting the empty volume $disk"
    mkfs.ext4 -q -m 0 -L "$volume_label" "$disk" || return
    udevadm settle
  fi
  grep -q "LABEL=$volume_label" /etc/fstab ||
    printf 'LABEL=%s %s ext4 defaults,nofail,x-systemd.device-timeout=300 0 2\n' "$volume_label" "$models" >>/etc/fstab
  systemctl daemon-reload
  mount "$models" && say "models are on $disk"
}

install_ollama() {
  local attempt
  for attempt in 1 2 3 4 5; do
    curl --fail --silent --show-error --location --retry 5 --output /root/ollama-install.sh https://ollama.com/install.sh &&
      OLLAMA_VERSION=$ollama_version sh /root/ollama-install.sh && return
    say "installing Ollama failed (attempt $attempt of 5)"
    sleep 10
  done
  return 1
}

serve() {
  mkdir -p /etc/systemd/system/ollama.service.d
  # After the mount: otherwise models would be pulled to the disk below it.
  cat >/etc/systemd/system/ollama.service.d/carrierarr.conf <<UNIT
[Unit]
RequiresMountsFor=$models

[Service]
Environment=OLLAMA_HOST=0.0.0.0:$port
Environment=OLLAMA_MODELS=$models
UNIT
  chown ollama:ollama "$models"
  systemctl daemon-reload
  systemctl enable ollama
  systemctl restart ollama
}

mkdir -p "$models"
mount_models || say 'mounting the volume for models failed: they go to the root disk'
if install_ollama && serve; then
  say "Ollama serves on port $port"
else
  say 'Ollama does not run'
fi
