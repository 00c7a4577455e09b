"""The compiled engine for the CPU: imported when pairs are first scored, since it loads Numba."""
