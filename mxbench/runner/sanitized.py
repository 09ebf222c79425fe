"""The process that compute-sanitizer watches: one call of one kernel, and nothing else on the GPU.

Inputs are drawn on the CPU and copied, so that hardly any kernels but those under test run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch

from .. import kernel as kernels
from .. import reference
from ..case import Case
from ..device import detect
from .sanitizer import Job
from .worker import use_target


def main(job: Job) -> None:
    """Make the call that the job describes; exceptions end the process."""
    case, folder = Case.decode(job.case), Path(job.kernels)
    device = detect("auto")
    use_target(folder, device)
    module = kernels.load(job.kernel.kernel(), folder)
    function = kernels.function(module, case.spec)
    drawn = reference.make_inputs(case, "cpu")
    inputs: dict[str, Any] = {
        name: value.to(device.torch_device) if isinstance(value, torch.Tensor) else value
        for name, value in drawn.items()
    }
    outputs = reference.make_outputs(case, inputs, device.torch_device)
    tensors = [outputs[n] if n in outputs else inputs[n] for n in case.spec.tensors]
    with torch.no_grad():
        function(*tensors, **{name: inputs[name] for name in case.spec.options})
    if device.torch_device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.stdin.buffer.read(), type=Job))
