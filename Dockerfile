# syntax=docker/dockerfile:1
# What is needed to install stays behind in its stage; what runs has no compiler, no npm and no way to become root.

FROM python:3.11.13-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/pacs
WORKDIR /source
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY storage storage
COPY pacs pacs
COPY dicomweb dicomweb
RUN /opt/pacs/bin/pip install --constraint constraints.txt '.[research]'
# The archive runs without a viewer, but an image that lost its viewer to a network fault should not be built quietly.
RUN /opt/pacs/bin/pacs fetch-viewer --to /opt/viewer && test -f /opt/viewer/index.html
# A named volume takes over the owner of the folder that it covers.
RUN install -d -o 10001 -g 10001 /data

FROM python:3.11.13-slim-bookworm AS base
# ffmpeg makes videos, as a program of its own; the font has the Latin and Arabic letters of names burnt into pictures,
# which fribidi joins. The archive runs without any of them, and then says what it cannot do.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ffmpeg fonts-dejavu-core libfribidi0 \
    && rm -rf /var/lib/apt/lists/*

FROM base
LABEL org.opencontainers.image.title="pacs" org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 pacs && useradd --uid 10001 --gid pacs --no-create-home --shell /usr/sbin/nologin pacs
COPY --from=build /opt/pacs /opt/pacs
COPY --from=build /opt/viewer /opt/viewer
COPY --from=build --chown=10001:10001 /data /data
# Inside a container every interface is the container's own; what is published outside is compose's decision.
ENV PATH=/opt/pacs/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PACS_DATA_DIR=/data \
    PACS_HTTP__HOST=0.0.0.0 \
    PACS_HTTP__VIEWER_DIR=/opt/viewer \
    PACS_DIMSE__HOST=0.0.0.0
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 11112
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
ENTRYPOINT ["pacs"]
CMD ["serve"]
