# lookout in an image of its own: one static binary, no shell, no package.
#
#   docker build -t lookout .
#   docker run -p 127.0.0.1:9797:9797 -v lookout:/data lookout

FROM docker.io/library/rust:1-bookworm AS build
WORKDIR /src
COPY . .
# An image from scratch has no C library: the program brings its own. This is the only flag outside Cargo.toml, and it
# changes how the program is linked, not what it does. With an explicit target it reaches the program alone and not the
# build scripts, which need the C library of this stage.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile dist --locked --bin lookout --target "$target" \
 && install -D -m 0755 "target/$target/dist/lookout" /out/lookout \
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
