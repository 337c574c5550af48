# The page and the API of `lmmvqa serve` on a CPU: docker build -t lmmvqa . && docker run -p 7860:7860 lmmvqa
FROM python:3.11-slim

# PyTorch without CUDA, which PyPI's own wheel brings along
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# Spaces on the Hub run as this user
RUN useradd --create-home --uid 1000 user
WORKDIR /home/user/checkout

COPY constraints.txt ./
# Alone: what it needs comes from PyPI below, since that index has few versions of others
RUN pip install --no-cache-dir --no-deps --constraint constraints.txt --index-url "$TORCH_INDEX" torch
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt '.[serve]'

USER user
WORKDIR /home/user
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:7860/health', timeout=5)"]
CMD ["lmmvqa", "serve", "--host", "0.0.0.0"]
