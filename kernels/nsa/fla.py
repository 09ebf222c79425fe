"""flash-linear-attention's Triton kernel as a peer to compare with, if its package is installed.

`pip install flash-linear-attention`. Only `selected`, causal, with 16, 32, ... query heads a KV
head, as fla's tiles demand. Its result is a tensor of its own: a call here also copies it to `out`.
The first call of a head size tries a dozen schedules, which takes some seconds.
"""

import math

import torch


def selected(q, k, v, block_indices, out, *, block_size, softmax_scale, causal):
    """Each token attends to its selected blocks, one Triton program per token and KV head.

    Raises:
        RuntimeError: fla is not installed, or the device is none of its.
        NotImplementedError: it does not serve such a call.
    """
    # q, out: [B, T, HQ, D]   k, v: [B, T, H, D]   block_indices: [B, T, H, S]
    group = q.shape[2] // k.shape[2]
    if not causal:
        raise NotImplementedError("fla's kernel is causal")
    if group < 16 or group & (group - 1):
        raise NotImplementedError(f"fla takes 16, 32, 64, ... query heads a KV head, not {group}")
    if not q.is_cuda:
        raise RuntimeError(f"fla needs a CUDA device, not {q.device}")
    try:
        from fla.ops.nsa.parallel import parallel_nsa_fwd
    except ImportError as error:
        message = f"fla cannot be imported ({error}): pip install flash-linear-attention"
        raise RuntimeError(message) from error
    result, lse = parallel_nsa_fwd(
        q, k, v, block_indices, block_indices.shape[-1], block_size, softmax_scale
    )
    # A token that selects nothing is 0 / 0 there.
    nothing = (lse == -math.inf).unsqueeze(-1)
    torch.where(nothing, result.new_zeros(()), result, out=out)
