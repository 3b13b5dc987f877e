"""Side-by-side timings: the same work in STEP and in other libraries, measured in one run."""
