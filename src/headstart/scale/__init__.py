"""Work on shards on a Ray cluster: all that imports Ray. The rest knows a pool, see `headstart.core.work`."""
