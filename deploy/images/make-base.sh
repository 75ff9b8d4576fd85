#!/usr/bin/env bash
# Makes the two images that the Dockerfile starts from out of Debian's and npm's packages, where no container registry
# can be reached. Needs root, debootstrap, npm and a Docker daemon.
#
#   make-base.sh [SUITE]            Debian's suite, trixie by default
#
# makes carrierarr-base/debian:SUITE and carrierarr-base/node:SUITE, and for compose.yaml carrierarr-base/redis:SUITE,
# carrierarr-base/rabbitmq:SUITE and carrierarr-base/proxy:SUITE; build with
#
#   docker build --build-arg BASE_IMAGE=carrierarr-base/debian:trixie --build-arg NODE_IMAGE=carrierarr-base/node:trixie ...
#
# They trust the certificate authorities that this machine trusts.

set -euo pipefail

suite=${1:-trixie}
node_version=${NODE_VERSION:-24.9.0}
npm_version=${NPM_VERSION:-11.6.0}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
case $(uname -m) in
  x86_64) node_arch=x64 ;;
  aarch64) node_arch=arm64 ;;
  *)
    echo "make-base.sh knows x86_64 and aarch64, got $(uname -m)." >&2
    exit 1
    ;;
esac

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

debootstrap --variant=minbase --include=ca-certificates "$suite" "$folder/root" "$mirror" >"$folder/log" 2>&1 || {
  tail -20 "$folder/log" >&2
  exit 1
}
root=$folder/root
rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,locale}/*
# A proxy between here and the packages may have an authority of its own.
authorities=/etc/ssl/certs/ca-certificates.crt
[[ ! -e $authorities ]] || cp "$authorities" "$root$authorities"
tar -C "$root" -c . | docker import - "carrierarr-base/debian:$suite" >/dev/null

# npm carries node itself, and npm.
(cd "$folder" && npm pack --silent "node-linux-$node_arch@$node_version" "npm@$npm_version") >/dev/null
tar -xzf "$folder/node-linux-$node_arch-$node_version.tgz" -C "$folder"
install -D -m 755 "$folder/package/bin/node" "$root/usr/local/bin/node"
rm -rf "$folder/package"
tar -xzf "$folder/npm-$npm_version.tgz" -C "$folder"
mkdir -p "$root/usr/local/lib/node_modules"
mv "$folder/package" "$root/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$root/usr/local/bin/npm"
chmod 755 "$root/usr/local/lib/node_modules/npm/bin/npm-cli.js"
tar -C "$root" -c . | docker import --change "ENV NODE_EXTRA_CA_CERTS=$authorities" - "carrierarr-base/node:$suite" >/dev/null

# package_image NAME LINE...: an image of Debian's packages. Users have the numbers that they have in the official images.
package_image() {
  local name=$1
  shift
  printf '%s\n' "FROM carrierarr-base/debian:$suite" "$@" | docker build --network host --tag "carrierarr-base/$name:$suite" - >"$folder/log" 2>&1 || {
    tail -20 "$folder/log" >&2
    exit 1
  }
}
install='apt-get update && apt-get install -y --no-install-recommends'
package_image redis "RUN $install valkey-server && groupmod -g 999 valkey && usermod -u 999 valkey && install -d -o 999 -g 999 /data"
# The server itself: Debian's wrapper of it writes to /var/log.
package_image rabbitmq "RUN $install rabbitmq-server && groupmod -g 999 rabbitmq && usermod -u 999 rabbitmq && chown -R 999:999 /var/lib/rabbitmq /var/log/rabbitmq /etc/rabbitmq" \
  'ENV PATH=/usr/lib/rabbitmq/bin:/usr/local/bin:/usr/bin:/bin'
package_image proxy "RUN $install haproxy" 'USER haproxy'
echo "made carrierarr-base/{debian,node,redis,rabbitmq,proxy}:$suite"
