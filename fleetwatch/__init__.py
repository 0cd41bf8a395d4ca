"""fleetwatch: real-time monitoring of sensor and camera fleets. The shared kernel and the command line."""

__version__ = "0.1.0"
