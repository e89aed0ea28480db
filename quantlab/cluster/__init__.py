"""Work on more than one process or machine: shards are computed by an Executor, and merged."""
