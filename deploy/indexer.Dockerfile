# The indexer as a container image. Build from the root of the clone:
#
#   docker build -f deploy/indexer.Dockerfile --build-arg VERSION=1.2.3 .
# Pinned by digest, because a tag can move. It is the digest of the index of all
# platforms.
FROM golang:1.26.5@sha256:3aff6657219a4d9c14e27fb1d8976c49c29fddb70ba835014f477e1c70636647 AS build
# Without cgo: the final image has no libc.
ENV CGO_ENABLED=0 GOWORK=off
WORKDIR /src
# Modules first: they change less often than code, so their layer is cached. The
# indexer's go.mod names registry, which its tests use.
COPY schema/go.mod schema/go.sum schema/
COPY registry/go.mod registry/go.sum registry/
COPY indexer/go.mod indexer/go.sum indexer/
RUN go -C indexer mod download
COPY schema schema
COPY indexer indexer
# What `portbook version` prints; "devel" if it is empty.
ARG VERSION=
RUN go -C indexer build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /out/portbook ./cmd/portbook
# The earlier name of the program, for entry points that use it.
RUN ln -s portbook /out/indexer
COPY deploy/healthcheck/main.go healthcheck/main.go
RUN go build -trimpath -ldflags '-s -w' -o /out/healthcheck healthcheck/main.go

# With git, which a registry of packages needs (packages.enabled):
#
#   docker build -f deploy/indexer.Dockerfile --target with-git .
# The image that builds has git already, and its digest is known; so this one is large.
FROM golang:1.26.5@sha256:3aff6657219a4d9c14e27fb1d8976c49c29fddb70ba835014f477e1c70636647 AS with-git
COPY --from=build /out/ /bin/
# The folder data_dir, a cache of the index: the database has all of it.
RUN mkdir /data && chown 65532:65532 /data
USER 65532:65532
ENV PORTBOOK_HTTP_ADDRESS=:8080 PORTBOOK_HTTP_OPERATIONS_ADDRESS=:8081 PORTBOOK_DATA_DIR=/data
EXPOSE 8080 8081
ENTRYPOINT ["/bin/portbook"]
CMD ["serve"]

# Without git, and the default: the last stage.
FROM scratch
# CA certificates for TLS to the registry and the database.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
# The directory, since COPY of a link would copy its target.
COPY --from=build /out/ /bin/
USER 65532:65532
# 8080 serves clients and the registry's events, 8081 is for probes and metrics.
ENV PORTBOOK_HTTP_ADDRESS=:8080 PORTBOOK_HTTP_OPERATIONS_ADDRESS=:8081
EXPOSE 8080 8081
ENTRYPOINT ["/bin/portbook"]
CMD ["serve"]
