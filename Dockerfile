# rora on a CPU, for CI: runs as a user without rights, and needs no network once it is built.
#   docker build -t rora .                               everything, with the CPU build of torch
#   docker build -t rora-gate --build-arg PARTS=gate .   check, verify and diagnose alone
#   docker run --rm --network none --read-only --tmpfs /tmp -v "$PWD/models:/models:ro" rora check /models/suspect
ARG PYTHON=3.12-slim
FROM python:${PYTHON} AS built
ARG PARTS=all
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY rora_cli rora_cli
# torch first, from the index of its CPU builds: the one on PyPI brings CUDA.
RUN python -m venv /rora \
 && if [ "$PARTS" = gate ]; then \
      /rora/bin/pip install --no-cache-dir --no-deps . \
      && /rora/bin/pip install --no-cache-dir --constraint constraints.txt typer rich picklescan filelock numpy jinja2 google-re2 pyyaml; \
    else \
      /rora/bin/pip install --no-cache-dir --index-url "$TORCH_INDEX" --constraint constraints.txt torch \
      && /rora/bin/pip install --no-cache-dir --constraint constraints.txt .; \
    fi

FROM python:${PYTHON}
COPY --from=built /rora /rora
RUN useradd --create-home --uid 10001 rora
USER 10001:10001
WORKDIR /home/rora
ENV PATH=/rora/bin:$PATH HF_HUB_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["rora"]
CMD ["--help"]
