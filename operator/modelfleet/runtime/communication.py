"""How the processes of a distributed step talk: the backend that suits the nodes, and smaller gradients on demand.

Both are told by the environment, so that a script runs unchanged on CPUs and GPUs. torch is imported on use.

| Variable | Values | Set by |
|---|---|---|
| ``DISTRIBUTED_BACKEND`` | ``nccl``, ``gloo`` | the operator: by node pool and GPUs |
| ``GRADIENT_COMPRESSION`` | ``none``, ``fp16``, ``bf16``, ``powersgd`` | you, in ``trainer.env`` |
| ``POWERSGD_RANK`` | a number, 1 by default | you; more is more exact and more to send |
| ``POWERSGD_START`` | batches before it begins, 1000 by default | you; the first gradients compress badly |
"""

import logging
import os
from typing import Any, Final

logger = logging.getLogger(__name__)

BACKEND_ENV: Final = "DISTRIBUTED_BACKEND"
COMPRESSION_ENV: Final = "GRADIENT_COMPRESSION"
RANK_ENV: Final = "POWERSGD_RANK"
START_ENV: Final = "POWERSGD_START"


def backend() -> str:
    """What to give ``torch.distributed.init_process_group``."""
    if told := os.environ.get(BACKEND_ENV):
        return told
    import torch

    return "nccl" if torch.cuda.is_available() else "gloo"


def compress_gradients(model: Any) -> str:
    """Have a ``DistributedDataParallel`` send its gradients as ``GRADIENT_COMPRESSION`` says; what it says.

    fp16 and bf16 halve what is sent; bf16 keeps the range, and needs NCCL. PowerSGD sends low-rank approximations and
    feeds the error back (Vogels et al., 2019); the result is close to, not equal to, the one without. Raises
    ``ValueError`` for another word.
    """
    wish = os.environ.get(COMPRESSION_ENV, "none")
    if wish == "none":
        return wish
    if wish in ("fp16", "bf16"):
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        hook = default_hooks.fp16_compress_hook if wish == "fp16" else default_hooks.bf16_compress_hook
        model.register_comm_hook(None, hook)
    elif wish == "powersgd":
        from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook

        state = powerSGD_hook.PowerSGDState(
            process_group=None,
            matrix_approximation_rank=_number(RANK_ENV, 1),
            start_powerSGD_iter=_number(START_ENV, 1000),
        )
        model.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    else:
        raise ValueError(f"{COMPRESSION_ENV}={wish}: it must be none, fp16, bf16 or powersgd")
    logger.info("gradients are sent as %s", wish)
    return wish


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{name}={text}: it must be a whole number, 1 or more")
    return int(text)
