"""Late interaction, as in ColBERT (Khattab and Zaharia, SIGIR 2020): each word with the region that is most like it.

    r_j = max_i cos(s_i, g_j)

so one product of all words with all regions, and a maximum over the regions of each image, give all pairs.

Legend: I images, T texts, m regions, n words, N words of some texts together, d the joint size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from han_retrieval.scoring.alignment import unit_tokens
from han_retrieval.scoring.matching import Items, Matching

TEXTS_A_CHUNK = 512


def scores(items: Items, *, matching: Matching, factors: torch.dtype, chunk_elements: int) -> Tensor:
    """Scores (I, T) of all pairs, in plain torch, differentiable.

    Args:
        items: The tokens; those of padding mean nothing.
        matching: Pools the matches of the words.
        factors: What the product's factors are rounded to.
        chunk_elements: Upper bound on the cosines that are computed at once, where one image has no more.
    """
    image_tokens, region_mask, text_tokens, word_mask = items
    images, _ = unit_tokens(image_tokens.masked_fill(~region_mask.unsqueeze(2), 0))
    images, everywhere = images.to(factors), bool(region_mask.all())
    order = word_mask.sum(1).argsort(stable=True)
    columns: list[Tensor] = []
    for texts in order.split(TEXTS_A_CHUNK):
        mask = word_mask[texts]
        words = unit_tokens(text_tokens[texts][mask])[0].to(factors)  # (N, d)
        some = max(1, chunk_elements // (len(words) * images.shape[1]))
        rows: list[Tensor] = []
        for part, there in zip(images.split(some), region_mask.split(some), strict=True):
            left, right = part.flatten(0, 1), words.mT
            dtype = image_tokens.dtype
            cosines = left @ right if factors == dtype else torch.mm(left, right, out_dtype=dtype)
            cosines = cosines.view(*there.shape, -1)  # (i, m, N)
            if not everywhere:
                cosines = cosines.masked_fill(~there.unsqueeze(2), -torch.inf)
            found = cosines.new_zeros(*mask.shape, len(part))  # (t, n, i)
            found[mask] = cosines.amax(1).mT
            rows.append(matching.scores({"words": found.mT}, region_mask=there, word_mask=mask.unsqueeze(1)).mT)
        columns.append(torch.cat(rows))
    return torch.cat(columns, dim=1)[:, order.argsort()]
