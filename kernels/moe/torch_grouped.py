"""torch's own grouped GEMM as a peer to compare with: routing and epilogues are torch operations.

Needs a torch that has `torch.nn.functional.grouped_mm` (or the older `torch._grouped_mm`) and a
CUDA device. No host synchronisation; what torch does not fuse costs passes through memory.
"""

import torch
import torch.nn.functional as F


def routed(
    tokens,  # [R, H]
    gate_w,  # [E, I, H]
    up_w,  # [E, I, H]
    down_w,  # [E, H, I]
    route_w,  # [group_sum]
    group_sizes,  # [E]
    group_offsets,  # [E]
    group_padded_offsets,  # [E]
    group_idx_for_bx,  # [blocks of 128 rows]
    out,  # [R, H]
):
    """Three grouped products over rows sorted by expert, compact or padded."""
    product = _grouped_product(tokens)
    rows = tokens.shape[0]
    if rows == 0:
        return
    if rows == route_w.shape[0]:
        result = _experts(product, tokens, gate_w, up_w, down_w, group_offsets + group_sizes)
        torch.mul(result, route_w[:, None], out=out)
        return
    # Padded: an expert's group reaches to the next expert's first row; its tail is masked below.
    ends = torch.cat([group_padded_offsets[1:], torch.full_like(group_sizes[:1], rows)])
    result = _experts(product, tokens, gate_w, up_w, down_w, ends)
    row = torch.arange(rows, dtype=torch.int32, device=tokens.device)
    expert = torch.searchsorted(group_padded_offsets, row, right=True) - 1
    within = row - group_padded_offsets[expert]
    pair = (group_offsets[expert] + within).clamp(max=max(route_w.shape[0] - 1, 0))
    weight = route_w[pair] if route_w.shape[0] else torch.zeros_like(row, dtype=tokens.dtype)
    valid = within < group_sizes[expert]
    # Selected, not multiplied by 0: the padding rows of `tokens` may hold anything.
    out.copy_(torch.where(valid[:, None], result * weight[:, None], 0))


def layer(
    hidden,  # [T, H]
    router_w,  # [E, H]
    gate_w,  # [E, I, H]
    up_w,  # [E, I, H]
    down_w,  # [E, H, I]
    out,  # [T, H]
    *,
    top_k,
):
    """Router and top-k, sort, grouped products, weighted sum."""
    product = _grouped_product(hidden)
    n_tokens, d_hidden = hidden.shape
    if n_tokens == 0:
        return
    n_experts = router_w.shape[0]
    probs = F.linear(hidden.float(), router_w.float()).softmax(dim=-1)
    weights, ids = probs.topk(top_k, dim=-1)  # [T, top_k]
    # topk does not promise the lower expert on a tie, which only equal logits would show.
    owner, order = ids.flatten().sort(stable=True)
    experts = torch.arange(n_experts, dtype=owner.dtype, device=owner.device)
    ends = torch.searchsorted(owner, experts, right=True).int()
    rows = hidden[order // top_k]
    result = _experts(product, rows, gate_w, up_w, down_w, ends)  # [T * top_k, H]
    by_token = result[order.argsort()].view(n_tokens, top_k, d_hidden)
    out.copy_((by_token * weights[..., None]).sum(dim=1))


def _experts(product, x, gate_w, up_w, down_w, ends):
    """down(silu(gate(x)) * up(x)) [rows, H]; expert e has the rows before ends[e]."""
    ends = ends.int()
    inner = F.silu(product(x, gate_w.transpose(1, 2), offs=ends))
    inner *= product(x, up_w.transpose(1, 2), offs=ends)
    return product(inner, down_w.transpose(1, 2), offs=ends)


def _grouped_product(tensor):
    """torch's grouped matrix product.

    Raises:
        RuntimeError: this torch has none, or not for the tensor's device.
    """
    product = getattr(F, "grouped_mm", None) or getattr(torch, "_grouped_mm", None)
    if product is None:
        raise RuntimeError(
            f"torch_grouped needs torch.nn.functional.grouped_mm, which torch {torch.__version__} "
            "lacks; it came with torch 2.10 (as torch._grouped_mm with 2.8)"
        )
    if not tensor.is_cuda:
        raise RuntimeError(
            f"torch_grouped needs a CUDA device for torch's grouped product, not {tensor.device}"
        )
    return product
