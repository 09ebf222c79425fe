"""FlashMLA as a peer to compare with, if its package is installed.

From https://github.com/deepseek-ai/FlashMLA. Only `paged`, for it takes no cache in two tensors,
with pages of 64 keys. Planning (`get_mla_metadata`; since late 2025 the first call that is given
its result) is part of every call here, and so is copying its results, which are tensors of its own,
to `out` and `lse`.
"""

import math

PAGE = 64


def paged(q, kv_cache, block_table, cache_seqlens, out, lse, *, softmax_scale, causal):
    """A few queries a sequence over a paged cache.

    Raises:
        RuntimeError: flash_mla is not installed, or the device is none of its.
        NotImplementedError: it does not serve such a call.
    """
    # q: [B, Sq, Hq, 576]   kv_cache: [pages, 64, 1, 576]   out: [B, Sq, Hq, 512]   lse: [B, Hq, Sq]
    _, q_len, heads, qk_dim = q.shape
    kv_heads, dim = kv_cache.shape[2], out.shape[-1]
    if (qk_dim, dim) != (576, 512):
        raise NotImplementedError(f"FlashMLA takes 576 and 512 columns, not {qk_dim} and {dim}")
    if kv_cache.shape[1] != PAGE:
        raise NotImplementedError(f"FlashMLA takes pages of {PAGE} keys, not {kv_cache.shape[1]}")
    if not q.is_cuda:
        raise RuntimeError(f"FlashMLA needs a CUDA device, not {q.device}")
    try:
        from flash_mla import flash_mla_with_kvcache, get_mla_metadata
    except ImportError as error:
        message = (
            f"flash_mla cannot be imported ({error}): "
            "pip install git+https://github.com/deepseek-ai/FlashMLA"
        )
        raise RuntimeError(message) from error
    metadata, num_splits = get_mla_metadata(cache_seqlens, q_len * heads // kv_heads, kv_heads)
    result, result_lse = flash_mla_with_kvcache(
        q, kv_cache, block_table, cache_seqlens, dim, metadata, num_splits,
        softmax_scale=softmax_scale, causal=bool(causal),
    )  # fmt: skip
    out.copy_(result)
    # For a query that sees no key it says +inf.
    lse.copy_(result_lse.masked_fill(result_lse == math.inf, -math.inf))
