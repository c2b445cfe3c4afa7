"""What the gateway makes of objects and messages, how much it may ask of the API, who leads. No I/O."""
