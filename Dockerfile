# The image of VoicePing: one binary with all roles, and the page. Nothing else: no shell, no package manager.
#
#   docker build -t voiceping .                       builds everything from source
#   docker build -t voiceping --target prebuilt .     copies what `make page` and `cargo build --release` have built here
#
# The arguments in front of the first FROM say what it is built on: images of your own do too. DEBIAN_BASE gives the
# libraries, so it must not be older than what the binary was built on.

ARG RUST_BASE=rust:1.95-bookworm
ARG NODE_BASE=node:22-bookworm-slim
ARG DEBIAN_BASE=debian:bookworm-slim

# ---- The libraries that the binary is linked with, and the authorities for TLS to Redis.
# hadolint ignore=DL3006
FROM ${DEBIAN_BASE} AS libraries
WORKDIR /packages
# status.d is where scanners for vulnerabilities look when there is no package manager.
RUN apt-get update \
    && apt-get download libc6 libgcc-s1 ca-certificates \
    && mkdir -p /rootfs/var/lib/dpkg/status.d /rootfs/etc/ssl/certs /rootfs/tmp \
    && for package in *.deb; do \
        dpkg-deb --extract "$package" /rootfs || exit 1; \
        dpkg-deb --field "$package" > "/rootfs/var/lib/dpkg/status.d/${package%%_*}" || exit 1; \
    done \
    && cat /rootfs/usr/share/ca-certificates/mozilla/*.crt > /rootfs/etc/ssl/certs/ca-certificates.crt \
    && rm -rf /rootfs/usr/lib/*/gconv /rootfs/usr/lib/*/audit /rootfs/usr/sbin /rootfs/etc/ca-certificates \
        /rootfs/usr/share/ca-certificates /rootfs/usr/share/lintian /rootfs/usr/share/man \
    && for folder in lib lib64; do [ -e "/rootfs/$folder" ] || ln -s "usr/$folder" "/rootfs/$folder"; done \
    && printf 'nonroot:x:65532:65532::/nonexistent:/sbin/nologin\n' > /rootfs/etc/passwd \
    && printf 'nonroot:x:65532:\n' > /rootfs/etc/group \
    && printf 'hosts: files dns\n' > /rootfs/etc/nsswitch.conf \
    && chmod 1777 /rootfs/tmp

# ---- What every image of ours is, but for the binary and the page.
FROM scratch AS runtime
COPY --from=libraries /rootfs /
# In a container there is nobody on the loopback address. A role ignores the variables of other roles.
ENV VOICEPING_LISTEN=0.0.0.0:3000 \
    VOICEPING_GRPC_LISTEN=0.0.0.0:50051 \
    VOICEPING_MEDIA_LISTEN=0.0.0.0:40000 \
    VOICEPING_WEB_ROOT=/usr/share/voiceping/page
# A gateway; a media node: calls, media; with VOICEPING_ADMIN_LISTEN metrics and health.
EXPOSE 3000/tcp 50051/tcp 40000/udp 40000/tcp 9464/tcp
# By number, so that an orchestrator can tell that it is not root.
USER 65532:65532
# No HEALTHCHECK: the roles answer on different ports, and nothing in here could ask. Orchestrators ask from outside:
# GET /livez and /readyz on the admin port, a gateway also /live and /ready on its own.
ENTRYPOINT ["/usr/local/bin/voiceping"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="VoicePing" \
      org.opencontainers.image.description="Push-to-talk voice for large teams" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# ---- A binary and a page that were built outside.
FROM runtime AS prebuilt
ARG BINARY=target/release/voiceping
ARG PAGE=client/web/dist
COPY ${PAGE} /usr/share/voiceping/page
COPY --chmod=0755 ${BINARY} /usr/local/bin/voiceping

# ---- From source.
# hadolint ignore=DL3006
FROM ${NODE_BASE} AS page
WORKDIR /source/client
COPY client/package.json client/package-lock.json ./
COPY client/sdk/package.json sdk/
COPY client/web/package.json web/
RUN --mount=type=cache,target=/root/.npm npm ci --no-audit --no-fund
COPY client ./
RUN npm run build

# hadolint ignore=DL3006
FROM ${RUST_BASE} AS build
WORKDIR /source
COPY . .
# Without debug information, but with the names of functions for traces of panics.
ENV CARGO_PROFILE_RELEASE_DEBUG=false \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/source/target \
    cargo build --release --locked --bin voiceping \
    && cp target/release/voiceping /voiceping

FROM runtime AS voiceping
COPY --from=page /source/client/web/dist /usr/share/voiceping/page
COPY --from=build /voiceping /usr/local/bin/voiceping
