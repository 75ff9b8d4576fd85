# The images: `docker build --target gateway -t carrierarr-gateway:0.1.0 .`, likewise runner, monitor, agent and all-in-one.
#
# BASE_IMAGE is what they run on: Debian 13, for the uWebSockets.js binaries need glibc 2.38. NODE_IMAGE is where packages
# are installed and node itself is taken from. To start from the same again give both by digest. Nothing here needs
# BuildKit, and with it other targets are not built.

ARG BASE_IMAGE=debian:trixie-slim
ARG NODE_IMAGE=node:24-trixie-slim

# --- what is compiled, with the tools for it ---

FROM ${NODE_IMAGE} AS build
WORKDIR /build
COPY . .
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run --silent build

# The agent is one file, with all that it imports.
FROM build AS agent-file
RUN npm run --silent build:single -w apps/agent -- /carrierarr-agent.mjs

# --- what runs: the files of the programs, and packages that are not in them ---

FROM ${NODE_IMAGE} AS packages
WORKDIR /build
COPY . .
RUN npm ci --omit=dev --ignore-scripts --no-audit --no-fund && node deploy/images/prune.mjs

FROM packages AS app
COPY --from=build /build/apps/cli/dist /compiled/apps/cli/dist
RUN node deploy/images/assemble.mjs /compiled /opt/carrierarr

# --- what all images have ---

FROM ${NODE_IMAGE} AS node

FROM ${BASE_IMAGE} AS base
# tini reaps what scripts leave, and hands signals on. Not every base has apt clean up after itself, as Docker's of Debian does.
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends bash ca-certificates libatomic1 libstdc++6 tini \
  && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/*.log /var/cache/ldconfig/aux-cache \
  && groupadd --gid 10001 carrierarr \
  && useradd --uid 10001 --gid 10001 --home-dir /home/carrierarr --create-home --shell /usr/sbin/nologin carrierarr \
  && install -d -o 10001 -g 10001 /var/lib/carrierarr \
  && ln -s /opt/carrierarr/apps/cli/bin/carrierarr.mjs /usr/local/bin/carrierarr
COPY --from=node /usr/local/bin/node /usr/local/bin/node
ENV NODE_ENV=production
WORKDIR /home/carrierarr
# By number: Kubernetes cannot see that a name is not root.
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--", "carrierarr"]
STOPSIGNAL SIGTERM
# What the labels say of a build. There is no clock here, so that the same source makes the same image: who builds says of when it is.
ARG BASE_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=unknown
ARG URL=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
  org.opencontainers.image.revision="${REVISION}" \
  org.opencontainers.image.created="${CREATED}" \
  org.opencontainers.image.source="${SOURCE}" \
  org.opencontainers.image.url="${URL}" \
  org.opencontainers.image.base.name="${BASE_IMAGE}" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.vendor="carrierarr"

# --- one image a role ---

FROM base AS gateway
LABEL org.opencontainers.image.title="carrierarr-gateway" \
  org.opencontainers.image.description="Clients connect to it: WebSocket, HTTP and the page"
COPY --from=app /opt/carrierarr /opt/carrierarr
EXPOSE 8090
CMD ["gateway"]

FROM base AS monitor
LABEL org.opencontainers.image.title="carrierarr-monitor" \
  org.opencontainers.image.description="Watches the workers and keeps them as they are wanted"
COPY --from=app /opt/carrierarr /opt/carrierarr
ENV CARRIERARR_OPS_ADDR=:9091
EXPOSE 9091
CMD ["monitor"]

# Also the base of images with tools and scripts of your own.
FROM base AS runner
LABEL org.opencontainers.image.title="carrierarr-runner" \
  org.opencontainers.image.description="Executes the control script; with bash, jq, curl, ssh and the AWS CLI"
USER root
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends awscli curl jq openssh-client procps \
  && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/*.log /var/cache/ldconfig/aux-cache
USER 10001:10001
COPY --from=app /opt/carrierarr /opt/carrierarr
ENV CARRIERARR_OPS_ADDR=:9091
EXPOSE 9091
CMD ["runner"]

# For a worker that is itself a container. Flags of the agent are its arguments.
FROM base AS agent
LABEL org.opencontainers.image.title="carrierarr-agent" \
  org.opencontainers.image.description="Runs beside a worker: announces it, says how it is, and carries out commands there"
USER root
# Not the other programs' command: they are not in here.
RUN rm /usr/local/bin/carrierarr && install -d -o 10001 -g 10001 /var/lib/carrierarr-agent
COPY LICENSE /opt/carrierarr/LICENSE
COPY --from=agent-file /carrierarr-agent.mjs /carrierarr-agent.mjs.LEGAL.txt /opt/carrierarr/
USER 10001:10001
# There is no machine to power off: the container ends, and its task with it.
ENV CARRIERARR_SHUTDOWN_COMMAND=exit CARRIERARR_REBOOT_COMMAND=exit
VOLUME /var/lib/carrierarr-agent
EXPOSE 8080
# As the unit for systemd starts it.
ENTRYPOINT ["/usr/bin/tini", "--", "node", "--max-semi-space-size=2", "--single-threaded-gc", "/opt/carrierarr/carrierarr-agent.mjs"]
CMD []

# Everything in one process, with a Valkey of its own; its data is in /var/lib/carrierarr.
FROM runner AS all-in-one
LABEL org.opencontainers.image.title="carrierarr" \
  org.opencontainers.image.description="Gateway, runner, monitor and Redis on one machine"
USER root
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends valkey-server \
  && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/*.log /var/cache/ldconfig/aux-cache
USER 10001:10001
ENV CARRIERARR_STATE_DIR=/var/lib/carrierarr
VOLUME /var/lib/carrierarr
EXPOSE 8090
CMD ["up"]
