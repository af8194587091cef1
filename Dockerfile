# The image holds one static binary and the system's certificates, and nothing else: no shell, no package manager.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o /out/scimgate ./cmd/scimgate
RUN mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/scimgate /scimgate
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data

# Only /data is written: the trail, the identity map and their key. The root file system may be read-only.
USER 65532:65532
WORKDIR /data
VOLUME /data

# The SCIM listener is reachable from outside. The admin listener stays on loopback inside the container, where the
# health check asks it; to reach it from outside, set SCIMGATE_ADMIN_LISTEN and SCIMGATE_ADMIN_TOKEN_FILE.
ENV SCIMGATE_LISTEN=0.0.0.0:8080 \
    SCIMGATE_DATABASE=/data/scimgate.db
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s --retries=3 CMD ["/scimgate", "health"]
ENTRYPOINT ["/scimgate"]
CMD ["serve"]
