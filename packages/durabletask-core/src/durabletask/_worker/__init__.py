"""The worker's shell: takes work items, runs user code where it belongs and answers."""
