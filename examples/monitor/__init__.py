"""The stateful monitoring service that libaiomq's demo runs; see README.md."""
