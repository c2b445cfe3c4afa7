"""Keys and certificates for a cluster without any."""
