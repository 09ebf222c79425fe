"""What a call did to the output tensors it was given: their form, their memory, their class."""

from __future__ import annotations

from typing import Any

import torch

from ..verdict import Status


class Fault(Exception):
    """Ends a case with a status and a reason."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def inspect(
    outputs: dict[str, torch.Tensor],
    memory: dict[str, torch.Tensor],
    inputs: dict[str, Any],
    returned: object,
) -> str:
    """Look at the outputs after a call; a hint in case the caller's memory is unwritten.

    Args:
        outputs: the tensor objects that the kernel was given.
        memory: the caller's own views of what it allocated for them.

    Raises:
        Fault: an output is lazy, aliases an input, or changed its form.
    """
    hint = ""
    if returned is not None:
        hint = f"; the kernel returned a {type(returned).__name__}: write the output arguments"
    for name, tensor in outputs.items():
        _require_plain(name, tensor)  # first: to touch a lazy tensor is to compute it
        _require_own_memory(name, tensor, inputs)
        wanted = memory[name]
        if tensor.dtype != wanted.dtype:
            reason = f"{name} became {tensor.dtype}, it was {wanted.dtype}"
            raise Fault(Status.WRONG_DTYPE, reason.replace("torch.", ""))
        if (tensor.shape, tensor.stride()) != (wanted.shape, wanted.stride()):
            raise Fault(
                Status.WRONG_SHAPE,
                f"{name} became {list(tensor.shape)} with strides {list(tensor.stride())}, it was "
                f"{list(wanted.shape)} with {list(wanted.stride())}",
            )
        if tensor.data_ptr() != wanted.data_ptr():
            hint = f"; the kernel moved {name} to other memory: write the caller's in place"
    return hint


def _require_plain(name: str, tensor: torch.Tensor) -> None:
    if type(tensor) is not torch.Tensor:
        reason = f"{name} became a lazy tensor: its class is now {type(tensor).__name__}"
        raise Fault(Status.INTEGRITY, reason)
    patched = [key for key in vars(tensor) if hasattr(torch.Tensor, key)]
    if patched:
        reason = f"{name} became a lazy tensor: it has {', '.join(patched)} of its own"
        raise Fault(Status.INTEGRITY, reason)


def _require_own_memory(name: str, tensor: torch.Tensor, inputs: dict[str, Any]) -> None:
    place = tensor.untyped_storage().data_ptr()
    for other, value in inputs.items():
        if isinstance(value, torch.Tensor) and value.untyped_storage().data_ptr() == place != 0:
            reason = f"{name} is no longer the caller's memory: it aliases the input {other}"
            raise Fault(Status.INTEGRITY, reason)
