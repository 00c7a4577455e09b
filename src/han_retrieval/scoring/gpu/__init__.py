"""One block on a GPU, with a Triton kernel for what follows the large products."""
