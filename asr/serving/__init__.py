"""`asr serve`: many streams over one model, through a websocket.

    protocol.py    what is said: sherpa-onnx's streaming websocket protocol, and what we add to it
    feed.py        one stream with the audio that waits for it, and when that is due
    scheduler.py   which of them is computed next
    capacity.py    whether one more can be taken without breaking the budgets of the others
    session.py     one client: its limits, what it is told, how it ends
    connection.py  its websocket, without floods of pings
    http.py        who may come in; the page, /healthz and /metrics
    metrics.py     the counters
    server.py      all of it together, and its end

The event loop runs in one thread and never computes. Worker threads compute, one for each CPU that
the process may use: onnxruntime lets go of the interpreter while it runs.

Windows of several streams are not encoded together, though the graphs could. int8 activations are
scaled by the largest value of the whole tensor, so the loudness of one speaker would change the
words of another: beside loud neighbours, the encoder output of a quiet stream was off by 9 % of its
range. What it would have saved was between nothing and half of the encoder's time.
"""
