# diffkeeper in a container: make build-dockerized. Recording needs docker run --privileged, or the capabilities of
# docs/permissions.md; reading a trace needs nothing. Both stages are Debian's own, with its Python and its libbpf.

FROM debian:bookworm-slim AS build
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates python3 python3-venv
COPY . /src
# The compiler comes from PyPI; what is built with it goes nowhere else than into this venv.
RUN python3 -m venv /opt/diffkeeper \
    && DIFFKEEPER_COMPILER=zig /opt/diffkeeper/bin/pip install --quiet --no-cache-dir --only-binary :all: --no-binary diffkeeper /src \
    && /opt/diffkeeper/bin/pip uninstall --quiet --yes pip setuptools

FROM debian:bookworm-slim
RUN apt-get update -qq && apt-get install -qq -y --no-install-recommends libbpf1 python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
COPY --from=build /opt/diffkeeper /opt/diffkeeper
ENV PATH=/opt/diffkeeper/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /work
ENTRYPOINT ["diffkeeper"]
CMD ["--help"]
