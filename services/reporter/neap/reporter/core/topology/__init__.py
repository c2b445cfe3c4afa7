"""From the text of sysfs to a tree of zones. A reader per file; what contradicts itself becomes a warning."""
