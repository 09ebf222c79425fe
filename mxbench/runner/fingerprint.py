"""Checksums of tensors on their own device, to see whether a kernel wrote to its inputs."""

from __future__ import annotations

import torch

CHUNK = 1 << 24  # int64 words: 128 MiB, and a few temporaries of that size
_WEIGHT_SEED = 0x5EED


class Fingerprint:
    """Checksums in 64-bit wrap-around arithmetic, without a copy of the tensor.

    Every 8-byte word is multiplied by an odd weight of its own and summed up, so any change of a
    single word, and a swap of two, changes the sum. NaN is as good as any other bits.
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = device
        self._weights: torch.Tensor | None = None

    def _odd_weights(self, count: int) -> torch.Tensor:
        if self._weights is None or self._weights.numel() < count:
            source = torch.Generator(self._device).manual_seed(_WEIGHT_SEED)
            limits = (-(2**62), 2**62)
            draw = torch.randint(*limits, (count,), generator=source, device=self._device)
            self._weights = draw * 2 + 1
        return self._weights[:count]

    def __call__(self, tensor: torch.Tensor) -> tuple[object, ...]:
        """Shape, dtype and checksum of a contiguous tensor."""
        data = tensor.detach().reshape(-1).view(torch.uint8)
        words = data.numel() // 8
        whole, rest = data[: words * 8].view(torch.int64), data[words * 8 :]
        sums = []
        for part in whole.split(CHUNK):
            if part.numel():
                sums.append((part * self._odd_weights(part.numel())).sum())
        head = torch.stack(sums).tolist() if sums else []
        return tuple(tensor.shape), tensor.dtype, *head, *rest.tolist()
