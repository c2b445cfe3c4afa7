"""What containers should ask for: sized from the record, said, applied on wish, and taken back if it did harm."""
