"""Recipe -> Plan: what would be done, from headers and the stat memo alone."""
