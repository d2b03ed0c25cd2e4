# The stock registry as a container image. Build from the root of the clone:
#
#   docker build -f deploy/registry.Dockerfile .
# Pinned by digest, because a tag can move. It is the digest of the index of all
# platforms.
FROM golang:1.26.5@sha256:3aff6657219a4d9c14e27fb1d8976c49c29fddb70ba835014f477e1c70636647 AS build
# Without cgo: the final image has no libc.
ENV CGO_ENABLED=0 GOWORK=off
WORKDIR /src
# Modules first: they change less often than code, so their layer is cached.
COPY registry/go.mod registry/go.sum registry/
RUN go -C registry mod download
COPY registry registry
RUN go -C registry build -trimpath -ldflags '-s -w' -o /out/registry .
COPY deploy/healthcheck/main.go healthcheck/main.go
RUN go build -trimpath -ldflags '-s -w' -o /out/healthcheck healthcheck/main.go
RUN mkdir /out/data /out/tmp

FROM scratch
# CA certificates for TLS to storage and token servers.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/registry /out/healthcheck /bin/
# A new volume gets the owner of the directory that it is mounted on.
COPY --from=build --chown=65532:65532 /out/data /var/lib/registry
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY registry/config/filesystem.yml /etc/portbook/registry.yml
USER 65532:65532
EXPOSE 5000
VOLUME /var/lib/registry
ENTRYPOINT ["/bin/registry"]
CMD ["serve", "/etc/portbook/registry.yml"]
