"""The local stack that `fleetwatch up` starts: broker, database, cache, supervisor."""
