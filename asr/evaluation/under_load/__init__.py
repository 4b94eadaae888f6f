"""`asr bench --stress`: a stream with a budget beside processes that compute."""
