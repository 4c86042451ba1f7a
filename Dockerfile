# One machine that scores, without a GPU:
#   docker build --tag starter .
#   docker run --rm --volume "$PWD/submissions:/kit/submissions:ro" starter score
FROM python:3.12-slim-bookworm

# bubblewrap is the strictest lock; a container that may not nest namespaces uses Landlock and seccomp instead.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /kit
COPY . .
# uv takes PyTorch without CUDA from this switch; pip has none.
RUN python -m pip install --no-cache-dir "uv>=0.9" \
    && UV_TORCH_BACKEND=cpu uv pip install --system --no-cache --compile-bytecode --editable .

# An ordinary user: root is not needed to score. --user "$(id -u)" lets `starter train` write the weights.
RUN useradd --uid 1000 --create-home participant
USER 1000
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["starter"]
CMD ["score"]
