# lookout in an image of its own: one static binary, no shell, no package.
#
#   docker build -t lookout .
#   docker run -p 127.0.0.1:9797:9797 -v lookout:/data lookout

FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /src
COPY . .
# With an explicit target the flags reach the program and not the build scripts, which need a dynamic libc. Packing its
# relocations saves a quarter of a megabyte; outside an image it would ask for a C library of 2022 or later.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs" cargo build --release --locked --bin lookout --target "$target" \
 && install -D -m 0755 "target/$target/release/lookout" /out/lookout \
 && mkdir -p /out/data

FROM scratch
COPY --from=build /out/lookout /lookout
# A volume takes its owner from this directory the first time it is mounted.
COPY --from=build --chown=65532:65532 /out/data /data
ENV LOOKOUT_LISTEN=0.0.0.0:9797 \
    LOOKOUT_STORE__PATH=/data/lookout.db
USER 65532:65532
WORKDIR /data
VOLUME ["/data"]
EXPOSE 9797
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["/lookout", "health"]
ENTRYPOINT ["/lookout"]
