"""Programs on several ranks, started with mpiexec as a user does."""
