"""The advisor: QoS classes to pools to cpusets; headroom with printed arithmetic; advice that expires."""
