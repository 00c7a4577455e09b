# `han` on a CPU. Without arguments it serves the index at /index on port 8080:
#
#   docker build -t han .
#   docker run --rm --user "$(id -u)" -v ~/photos:/photos:ro -v ~/index:/index han index /photos --out /index
#   docker run --rm -e HAN_TOKEN=... -p 8080:8080 -v ~/photos:/photos:ro -v ~/index:/index:ro han

FROM python:3.12-slim AS build
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
# The index's torch is for the CPU; PyPI's would bring CUDA along.
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu "/src[serve]"

FROM python:3.12-slim
# Owned by nobody in particular, so that the container also runs with --user. Scoring kernels are compiled for the
# processor at the first start and kept here; mount a volume to keep them for the next container.
RUN useradd --create-home --uid 10001 han \
    && mkdir --mode=1777 /kernels
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    USER=han \
    NUMBA_CACHE_DIR=/kernels
USER 10001
WORKDIR /home/han
EXPOSE 8080
# /health needs no token.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --start-interval=2s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health', timeout=4)"]
ENTRYPOINT ["han"]
CMD ["serve", "/index", "--host", "0.0.0.0", "--port", "8080"]
