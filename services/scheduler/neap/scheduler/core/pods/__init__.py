"""What is known of pods before they have a node: their wishes, what they will use, which can never run."""
