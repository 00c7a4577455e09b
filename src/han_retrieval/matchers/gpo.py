"""Sets of tokens to one vector each: the mean, the last, the generalised pooling operator.

Legend: B sets of up to t tokens, d the joint size, p numbers a position, U different sizes of sets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean of each set: (B, t, d), zero at padding, (B, t) -> (B, d)."""
    return tokens.sum(1) / mask.sum(1, keepdim=True)


def last(tokens: Tensor, mask: Tensor) -> Tensor:
    """The last token of each set: (B, t, d), (B, t) -> (B, d)."""
    if not len(tokens):
        return tokens.sum(1)
    places = mask.long().cumsum(1).argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), places]


class GPO(nn.Module):
    """The generalised pooling operator (Chen et al., CVPR 2021): v_i = sum_k theta_k max_k({x_ji}_j).

    Each dimension is sorted by itself and weighted by rank; the weights, which sum to 1, are those of the set's size N:
    theta = softmax_k(linear(GRU(codes of positions 1 to N)) / temperature), the GRU's two directions averaged. The mean
    (equal weights) and the greatest (all weight on k = 1) are among what it can learn.
    """

    def __init__(self, position_size: int, *, temperature: float):
        super().__init__()
        self.gru = nn.GRU(position_size, position_size, batch_first=True, bidirectional=True)
        self.logit = nn.Linear(position_size, 1, bias=False)
        self.temperature = temperature

    def weights(self, sizes: Tensor, t: int) -> Tensor:
        """theta of U sets of these sizes, from 1 to t: (U,) -> (U, t), zero from the set's size on."""
        like = self.logit.weight
        codes = position_codes(t, like.shape[1]).to(like).expand(len(sizes), -1, -1)  # (U, t, p)
        packed = pack_padded_sequence(codes, sizes.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=t)
        forward, backward = states.chunk(2, dim=-1)
        logits = self.logit((forward + backward) / 2).squeeze(-1) / self.temperature  # (U, t)
        there = torch.arange(t, device=sizes.device) < sizes.unsqueeze(1)
        return logits.masked_fill(~there, -torch.inf).softmax(1)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(B, t, d), (B, t) -> (B, d)."""
        if not len(tokens):
            return tokens.sum(1)
        sizes = mask.sum(1).clamp(min=1)
        different, which = sizes.unique(return_inverse=True)
        theta = self.weights(different, mask.shape[1])[which]  # (B, t)
        ranked = tokens.masked_fill(~mask.unsqueeze(-1), -torch.inf).sort(1, descending=True).values  # padding last
        there = torch.arange(mask.shape[1], device=mask.device) < sizes.unsqueeze(1)
        return torch.einsum("bt,btd->bd", theta, torch.where(there.unsqueeze(-1), ranked, 0))


def position_codes(count: int, size: int) -> Tensor:
    """Sines and cosines of positions at size / 2 rates from 1 to 1 / 10000: (count, size) float32, in turn."""
    rates = torch.exp(torch.arange(0, size, 2) * (-math.log(10000.0) / size))
    angles = torch.arange(count).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
