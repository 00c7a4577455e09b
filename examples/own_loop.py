"""Train a HAN in a loop of your own, on made-up photos: python examples/own_loop.py

Each photo shows five things, and its sentence names them; a region is a thing's feature vector with noise. In place of
``make_pairs``, take your own tensors, or those of a region store: ``RegionStore.open("features").batch(ids)``.
Expect a loss of about 1 at first and below 0.1 at step 60, in a few seconds.
"""

import torch

from han_retrieval import HAN, HANConfig
from han_retrieval.losses import soft_max_triplet_loss

FIRST_WORD, THINGS = 4, 40  # ids 0 to 3 are <pad>, <start>, <end> and <unk>


def make_pairs(looks: torch.Tensor, pairs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Regions (B, m, D), their mask (B, m), word ids (B, n) and their mask (B, n)."""
    things = torch.stack([torch.randperm(THINGS)[:5] for _ in range(pairs)])  # (B, 5)
    regions = looks[things] + 0.3 * torch.randn(pairs, 5, looks.shape[1])
    everywhere = torch.ones(pairs, 5, dtype=torch.bool)  # false at padding, of which there is none here
    return regions, everywhere, things + FIRST_WORD, everywhere


def main(steps: int = 60) -> tuple[list[float], float]:
    """The loss of each step, and the share of new sentences whose photo comes first among 64."""
    torch.manual_seed(0)
    looks = torch.randn(THINGS, 32)
    model = HAN(HANConfig(region_size=32, vocabulary_size=FIRST_WORD + THINGS, word_size=32, joint_size=64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for step in range(steps):
        scores = model(*make_pairs(looks, 32))  # (I, T), the matching pairs on the diagonal
        loss = soft_max_triplet_loss(scores, margin=0.2, power=4.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 9:
            print(f"step {step + 1}: loss {loss.item():.3f}")

    model.eval()
    with torch.no_grad():
        scores = model(*make_pairs(looks, 64))
    found = (scores.argmax(0) == torch.arange(64)).float().mean().item()
    print(f"{found:.0%} of 64 new sentences find their photo first")
    return losses, found


if __name__ == "__main__":
    main()
