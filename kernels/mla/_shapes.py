"""Checks and conversions that every MLA kernel makes before it launches anything."""

import math

MIN_BLOCK_N = 16  # the fewest keys that a matrix product takes


def require_one_kv_head(cache):
    """Raise NotImplementedError unless `cache` [.., .., heads, D] has the one latent head."""
    if cache.shape[2] != 1:
        raise NotImplementedError(f"one latent KV head only, not {cache.shape[2]}")


def fit_page(tiling, page):
    """`tiling` with tiles that do not cross pages of `page` keys.

    Raises:
        NotImplementedError: no tile that a matrix product takes divides the page.
    """
    block_n = math.gcd(tiling["block_n"], page)
    if block_n < MIN_BLOCK_N:
        raise NotImplementedError(f"pages must be a multiple of {MIN_BLOCK_N} keys, not {page}")
    return {**tiling, "block_n": block_n}


def dtype_name(tensor):
    """`float16` of torch.float16."""
    return str(tensor.dtype).removeprefix("torch.")
