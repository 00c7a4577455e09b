"""The processes that train one model together, each a rank: who takes which items, and what passes between them.

All ranks know the same global batch, and each computes its own rows of it. They then hold the same loss, and each the
gradient of that loss by way of its own rows; summed over the ranks it is the gradient of one process.

Legend: R ranks, K items of the global batch, k of them this rank's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

T = TypeVar("T")

WAIT = timedelta(days=1)  # for work that one rank does while the others wait, such as an evaluation


class RankLost(Exception):
    """Another rank no longer answers; ``training.distributed`` finds out which, and says so.

    Attributes:
        waiting: Whether this rank waited for work of the first.
    """

    def __init__(self, message: str, *, waiting: bool = False) -> None:
        super().__init__(message)
        self.waiting = waiting


class Ranks:
    """This process among those that train together; without arguments, one that trains alone.

    Collective calls (all that pass something on) must be made by every rank, in one order. Tensors that are passed on
    are on the device that the process group has a backend for: the CPU, or the rank's GPU.

    Args:
        rank: This one's number, from 0.
        count: R. With more than one, ``torch.distributed`` must be initialised.
        local_rank: This one's number on its machine, from 0.

    Raises:
        RankLost: By collective calls: another rank has ended.
    """

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0) -> None:
        self.rank, self.count, self.local_rank = rank, count, local_rank
        self._waiting: Any = None
        if count > 1:
            import torch.distributed as dist

            self._waiting = dist.new_group(backend="gloo", timeout=WAIT)

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes, shows and evaluates."""
        return self.rank == 0

    def rows(self, size: int) -> slice:
        """This rank's rows of a batch of ``size``: consecutive, and as many on each rank as can be.

        All of them where there are fewer items than ranks: each rank then computes the whole batch.
        """
        return self._rows(size)[self.rank] if size >= self.count else slice(0, size)

    def of(self, size: int) -> Ranks:
        """Those that share a batch of ``size``: these, or this one alone where there are fewer items than ranks."""
        return self if size >= self.count else ALONE

    def gather(self, values: Tensor, size: int) -> Tensor:
        """The rows (K, ...) of every rank from this rank's (k, ...), in the order of the batch, differentiable.

        Args:
            values: Of one shape on all ranks, but for k.
            size: K.
        """
        return values if self.count == 1 else _Gather.apply(values, self, size)

    def total(self, values: Tensor) -> Tensor:
        """The sum over ranks of a tensor of one shape, for what becomes part of the loss in the same way on each.

        The gradient is this rank's part: that of the loss with respect to its own values.
        """
        return values if self.count == 1 else _Total.apply(values, self)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks of a tensor of one shape, for what each rank goes on to use for rows of its own.

        The gradients that come back from all ranks are summed.
        """
        return values if self.count == 1 else _Sum.apply(values, self)

    def largest(self, values: Tensor) -> Tensor:
        """The elementwise maximum over ranks, without gradient; inf where there is a NaN, so that it is not lost."""
        if self.count == 1:
            return values.detach()
        return self._reduced(values.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf), "MAX")

    def any(self, *flags: bool) -> list[bool]:
        """Whether a flag is set on any rank, for each of some flags."""
        if self.count == 1:
            return list(flags)
        return [bool(each) for each in self._reduced(torch.tensor(flags, dtype=torch.int32), "MAX")]

    def reduce_gradients(self, parameters: Sequence[nn.Parameter], *, shared: bool) -> None:
        """Sum the parameters' gradients over the ranks.

        Where the batch was not ``shared``, each has computed the whole gradient, and all take that of the first.
        A parameter without a gradient on any rank stays without.
        """
        if self.count == 1 or not parameters:
            return
        kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in parameters:
            kinds.setdefault((parameter.dtype, parameter.device), []).append(parameter)
        for some in kinds.values():
            there = some[0].new_tensor([each.grad is not None for each in some])
            parts = [torch.zeros_like(each) if each.grad is None else each.grad for each in some]
            flat = torch.cat([there, *(part.flatten() for part in parts)])
            if shared:
                flat = self._reduced(flat, "SUM")
            else:
                self._call("broadcast", flat, 0)
            found, *summed = flat.split([len(some), *(part.numel() for part in parts)])
            for each, is_there, gradient in zip(some, found.tolist(), summed, strict=True):
                each.grad = gradient.view_as(each) if is_there else None

    def wait(self) -> None:
        """Go on when all ranks are here; they may take as long as an evaluation does."""
        if self.count > 1:
            self._call("barrier", group=self._waiting)

    @contextmanager
    def one_a_machine_first(self) -> Iterator[None]:
        """Let one rank of each machine run the block, then the others: what it keeps there need not be made twice."""
        if self.local_rank:
            self.wait()
        yield
        if not self.local_rank:
            self.wait()

    def gather_objects(self, value: T) -> list[T]:
        """What can be pickled, from all ranks."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        self._call("all_gather_object", found, value, group=self._waiting)
        return found

    def share(self, value: T) -> T:
        """What the first rank has."""
        if self.count == 1:
            return value
        found = [value]
        self._call("broadcast_object_list", found, src=0, group=self._waiting)
        return found[0]

    def share_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Overwrite tensors, of the same names and shapes on all ranks, with those of the first."""
        if self.count > 1:
            for name in sorted(tensors):
                value = tensors[name].detach()
                passed = value.contiguous()
                self._call("broadcast", passed, 0)
                if passed is not value:
                    value.copy_(passed)

    def _rows(self, size: int) -> list[slice]:
        each, more = divmod(size, self.count)
        starts = [rank * each + min(rank, more) for rank in range(self.count + 1)]
        return [slice(*both) for both in pairwise(starts)]

    def _reduced(self, values: Tensor, operation: str) -> Tensor:
        import torch.distributed as dist

        result = values.detach().clone(memory_format=torch.contiguous_format)
        self._call("all_reduce", result, getattr(dist.ReduceOp, operation))
        return result

    def _gathered(self, values: Tensor, size: int) -> Tensor:
        rows = self._rows(size)
        most = rows[0].stop  # the first rank has as many as any
        padded = values.new_zeros(most, *values.shape[1:])
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in rows]
        self._call("all_gather", found, padded)
        return torch.cat([of_rank[: some.stop - some.start] for of_rank, some in zip(found, rows, strict=True)])

    def _call(self, name: str, *given: Any, **options: Any) -> None:
        import torch.distributed as dist

        call = cast(Callable[..., object], getattr(dist, name))
        try:
            call(*given, **options)
        except RuntimeError as error:  # what all backends raise, and their subclasses of it
            raise RankLost(str(error), waiting=name == "barrier") from error


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks, size: int) -> Tensor:
        ctx.ranks, ctx.rows = ranks, ranks.rows(size)
        return ranks._gathered(values.detach(), size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        exact = gradient.to(
            torch.promote_types(gradient.dtype, torch.float32)
        )  # sums are not rounded to half precision
        return ctx.ranks._reduced(exact, "SUM")[ctx.rows].to(gradient.dtype), None, None


class _Total(Function):
    @staticmethod
    def forward(_: Any, values: Tensor, ranks: Ranks) -> Tensor:
        return ranks._reduced(values, "SUM")

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks._reduced(values, "SUM")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks._reduced(gradients[0], "SUM"), None


ALONE = Ranks()
