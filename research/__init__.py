"""Studies of HAN that its users do not need: trainings compared, drawn photos, what attention does. See README.md."""
