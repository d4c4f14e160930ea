# The reference service, from a static binary that was built beforehand:
#   CGO_ENABLED=0 go build -trimpath -o bin/hasvc ./hasvc
# Nothing else is in it, so it needs no registry.
FROM scratch
COPY bin/hasvc /usr/local/bin/hasvc
ENTRYPOINT ["/usr/local/bin/hasvc"]
