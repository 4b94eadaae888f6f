"""`asr bench`: time, latency, memory and size, on this machine or another."""
